"""One target: what of its blocks is reached while its tests run."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from podweave.tb.build.instrument import Instrument, instrumented
from tests.coverage.points import KINDS, Point, merged
from tests.mutants.targets import TARGETS

FLAGS = ("--coverage-line", "--coverage-toggle")
_OPTIONS = ["-s", "-o", "addopts=--import-mode=importlib --strict-markers", "-p", "no:terminal", "-p", "no:cacheprovider"]


class CoverageError(RuntimeError):
    """There is nothing to say: a test fails, or none simulates a block."""


class Recorder:
    """Adds up the points of all simulators that are started."""

    def __init__(self, directory: Path):
        self.points: Counter[Point] = Counter()
        self._directory, self._runs = directory, 0

    def start(self, command: list[str], *, changed: bool, **options: Any) -> subprocess.Popen[bytes]:
        self.collect()
        file = self._directory / f"{self._runs}.dat"
        self._runs += 1
        return subprocess.Popen([*command, f"+verilator+coverage+file+{file}"], **options)

    def collect(self) -> None:
        """Read what simulators that have ended have written."""
        files = sorted(self._directory.glob("*.dat"))
        self.points.update(merged(files))
        for file in files:
            file.unlink()


def judge(name: str) -> dict[str, dict[str, Any]]:
    """By kind of block of a target, JSON-ready: for each kind of point, how many ``points``, how many of them ``missed``, and
    ``names`` of these: signals with how many of their bits and directions, or what follows which line of the module.
    """
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="podweave-coverage-") as directory:
        recorder = Recorder(Path(directory))
        with instrumented(Instrument(flags=FLAGS, start=recorder.start)):
            code = pytest.main([*target.tests, "-m", "not campaign", *_OPTIONS])
        recorder.collect()
    if code != pytest.ExitCode.OK:
        raise CoverageError(f"pytest {' '.join(target.tests)} has ended with {code!r}")
    rows = {}
    for kind, pattern in target.kinds.items():
        points = {point: count for point, count in recorder.points.items() if re.fullmatch(pattern, point.module)}
        if not points:
            raise CoverageError(f"no test of {name} simulates a block of kind {kind}")
        rows[kind] = {"target": name, **{each: _summary(points, each) for each in KINDS}}
    return rows


def _summary(points: dict[Point, int], kind: str) -> dict[str, Any]:
    some = {point: count for point, count in points.items() if point.kind == kind and not _is_reset_or_clock(point)}
    missed = Counter(_group(point) for point, count in some.items() if not count)
    return {"points": len(some), "missed": sum(missed.values()), "names": dict(sorted(missed.items()))}


def _is_reset_or_clock(point: Point) -> bool:
    return point.kind == "toggle" and point.name.split(":")[0] in ("clk", "rst")


def _group(point: Point) -> str:
    if point.kind == "toggle":
        return re.sub(r"(\[\d+\])*:.*", "", point.name)
    return f"{point.module}+{point.line}:{point.name}"
