"""The environment of compilers and simulators: the shell's, without what would change what they do."""

from __future__ import annotations

import os

# Of cocotb and its layers, and of Verilator: a shell in which other test benches are run has them set.
_PREFIXES = ("COCOTB_", "GPI_", "PYGPI_", "VERILATOR_")
# What cocotb called its variables before, and reads or warns of still; what make takes for its own; what changes Python.
_NAMES = {
    *("MODULE", "TESTCASE", "TOPLEVEL", "TOPLEVEL_LANG", "RANDOM_SEED", "COVERAGE", "PLUSARGS", "SIM", "SIM_ARGS", "WAVES"),
    *("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKELEVEL", "MAKEFILES", "OBJCACHE"),
    # What a simulator is told by who starts it.
    *("PODWEAVE_CIRCUIT", "PODWEAVE_DESIGN"),
    *("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONDEVMODE"),
}


def clean_environment() -> dict[str, str]:
    """The variables of this process that a compiler or simulator may have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES) and name not in _NAMES}
    # Files and logs are UTF-8, whatever the locale.
    return kept | {"PYTHONUTF8": "1"}
