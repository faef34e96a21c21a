"""`python -m tests.coverage`: what of the Verilog of each block its own tests reach."""

from __future__ import annotations

from tests.coverage.command import main

if __name__ == "__main__":
    main()
