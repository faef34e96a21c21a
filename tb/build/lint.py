"""Lint with the Verilator of the simulations."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .toolchain import find_toolchain


def lint(folder: Path, files: Sequence[str], top: str) -> tuple[int, str]:
    """Exit code and what Verilator says of ``files`` of a folder, control files first, with all its warnings on."""
    toolchain = find_toolchain()
    return lint_with(str(toolchain.verilator), toolchain.environment(), folder, files, top)


def lint_with(command: str, environment: Mapping[str, str], folder: Path, files: Sequence[str], top: str) -> tuple[int, str]:
    """The same with another Verilator."""
    result = subprocess.run(
        [command, "--lint-only", "-Wall", "--top-module", top, *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    return result.returncode, result.stderr
