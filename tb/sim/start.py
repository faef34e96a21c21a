"""Where Python begins in a simulator (`PYGPI_USERS`, tb/build/simulate.py): starts cocotb as it does itself, without pytest.

cocotb imports all of pytest for three classes of exceptions and for a rewriter of asserts. That takes longer than Python, NumPy and
most simulations together, and nothing here is a test of pytest's.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace


class Outcome(BaseException):
    """What a test of pytest's raises; nothing raises it here."""


def start() -> None:
    """Run the tests that the environment names."""
    pytest = ModuleType("pytest", "What cocotb reads of pytest: see podweave.tb.sim.start.")
    for name in ("raises", "skip", "xfail"):
        setattr(pytest, name, SimpleNamespace(Exception=type(name, (Outcome,), {})))
    sys.modules.setdefault("pytest", pytest)

    import cocotb._init
    import cocotb.logging
    import cocotb.regression

    cocotb.regression.RegressionManager.setup_pytest_assertion_rewriting = staticmethod(lambda: None)
    cocotb.logging._configure()
    cocotb._init.init_package_from_simulation()
    cocotb.regression._run_regression()
