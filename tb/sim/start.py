"""Where Python begins in a simulator (`PYGPI_USERS`, tb/build/simulate.py): starts cocotb as it does itself, without pytest.

cocotb imports all of pytest for three classes of exceptions and for a rewriter of asserts. That takes longer than Python, NumPy and
most simulations together, and nothing here is a test of pytest's.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from pygpi.entry import load_entry


class Outcome(BaseException):
    """What a test of pytest's raises; nothing raises it here."""


def start() -> None:
    """Run the tests that the environment names."""
    pytest = ModuleType("pytest", "What cocotb reads of pytest: see podweave.tb.sim.start.")
    for name in ("raises", "skip", "xfail"):
        setattr(pytest, name, SimpleNamespace(Exception=type(name, (Outcome,), {})))
    sys.modules.setdefault("pytest", pytest)

    import cocotb.regression

    # It imports the rewriter before it looks whether any file is to be rewritten.
    manager: Any = cocotb.regression.RegressionManager
    manager.setup_pytest_assertion_rewriting = staticmethod(lambda: None)
    # From here on as cocotb does it.
    os.environ.pop("PYGPI_USERS")
    load_entry()
