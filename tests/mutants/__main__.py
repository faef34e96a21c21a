"""`python -m tests.mutants`: how many small faults in each block its own tests find."""

from __future__ import annotations

from tests.mutants.command import main

if __name__ == "__main__":
    main()
