"""`python -m tests.python_mutants`: how many small faults in the Python of compiler, golden models and predictions tests find."""

from __future__ import annotations

from tests.python_mutants.command import main

if __name__ == "__main__":
    main()
