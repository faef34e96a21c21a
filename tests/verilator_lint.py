"""Lint with the Verilators that are there: that of the simulations, and an older one of the system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from podweave.tb.build.lint import lint as of_the_simulations
from podweave.tb.build.lint import lint_with

VERILATORS = ("of the simulations", "of the system")
OLDEST = (5, 6)
"""The one of Debian 12."""


def lint(which: str, folder: Path, files: Sequence[str], top: str) -> tuple[int, str]:
    """Exit code and what Verilator says of ``files``, control files first, with all its warnings on."""
    if which == "of the simulations":
        return of_the_simulations(folder, files, top)
    return lint_with(*_of_the_system(), folder, files, top)


def _of_the_system() -> tuple[str, dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if name != "VERILATOR_ROOT"}
    command = shutil.which("verilator")
    if command is None:
        pytest.skip("needs a Verilator on PATH")
    version = subprocess.run([command, "--version"], env=environment, capture_output=True, text=True).stdout
    match = re.match(r"Verilator (\d+)\.(\d+)", version)
    if not match or (int(match[1]), int(match[2])) < OLDEST:
        pytest.skip(f"needs a Verilator of {OLDEST[0]}.{OLDEST[1]:03} or later on PATH, found {version.strip()!r}")
    return command, environment
