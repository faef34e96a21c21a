"""One target: what of its blocks is reached while its tests run, and which points are seen."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from podweave.tb.build.instrument import Instrument, instrumented
from tests.coverage.functional.tally import Tally
from tests.coverage.functional.watch import TABLES, watching
from tests.coverage.points import KINDS, Point, merged
from tests.mutants.targets import TARGETS

FLAGS = ("--coverage-line", "--coverage-toggle")
MORE: Mapping[str, Sequence[str]] = {
    "collective_engine": [
        *("tests/rtl/link/test_collective_engine.py", "tests/rtl/link/test_link_port.py"),
        *("-k", "(lockstep and (4_1 or 4_2)) or by_hand or error or illegal"),
    ],
    "node": ["tests/rtl/chip/test_chip.py", "-k", "accumulate or planes_keep"],
    "networks": ["tests/rtl/network/test_network.py", "-k", "many_runs"],
    "pod": ["tests/rtl/pod/test_pod.py", "tests/rtl/pod/test_errors_by_state.py"],
    "post": ["tests/rtl/post/test_post_processor.py", "-k", "every_error or pooling or three_slices or jobs and rows_8x4"],
    "prefetch": [
        *("tests/rtl/prefetch/test_prefetch_lockstep.py", "tests/rtl/prefetch/test_passes.py"),
        *("tests/rtl/prefetch/test_base_registers.py", "tests/rtl/prefetch/test_column_stores.py"),
        *("tests/rtl/prefetch/test_errors_by_ring.py", "tests/rtl/prefetch/test_seldom_descriptors.py", "-k"),
        "test_lockstep or beside or bodies or counts or tags or codes or reserved or 64_bases or of_wide_words",
    ],
    "rows": ["tests/rtl/post/test_row_registers.py", "tests/rtl/post/test_errors_by_job.py"],
}
"""Tests of targets that look at more states of a block than mutants need."""
FOR_POINTS: Mapping[str, Sequence[str]] = {
    "prefetch": ["tests/rtl/prefetch/test_errors_by_ring.py", "tests/rtl/prefetch/test_seldom_descriptors.py"],
    "run_control": ["tests/rtl/control/test_run_control.py", "-k", "(links or collective) and not ends_in"],
    "statistics": ["tests/rtl/network/test_statistics.py", "-k", "16 and by_hand"],
}
"""Tests of other variants of a block, in which it has points that it has nowhere else. Their Verilog, whose modules may have the
same names, is not looked at."""
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


def judge(name: str, *, verilog: bool = True) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, int]]]:
    """What a target's tests reach, JSON-ready.

    By kind of block: for each kind of point, how many ``points``, how many of them ``missed``, and ``names`` of these: signals with
    how many of their bits and directions, or what follows which line of the module. And how often each point of `TABLES` that was
    seen was seen, by its group. Without ``verilog`` these alone, with the simulators that tests have anyway.
    """
    target, tally = TARGETS[name], Tally(*TABLES)
    with tempfile.TemporaryDirectory(prefix="podweave-coverage-") as directory:
        recorder = Recorder(Path(directory))
        with watching(tally):
            with instrumented(Instrument(flags=FLAGS, start=recorder.start) if verilog else Instrument()):
                _run(target.tests, MORE.get(name))
            recorder.collect()
            _run(FOR_POINTS.get(name))
    rows = {}
    for kind, pattern in target.kinds.items() if verilog else ():
        points = {point: count for point, count in recorder.points.items() if re.fullmatch(pattern, point.module)}
        if not points:
            raise CoverageError(f"no test of {name} simulates a block of kind {kind}")
        rows[kind] = {"target": name, **{each: _summary(points, each) for each in KINDS}}
    return rows, tally.seen()


def _run(*suites: Sequence[str] | None) -> None:
    for tests in filter(None, suites):
        code = pytest.main([*tests, "-m", "not campaign", *_OPTIONS])
        if code != pytest.ExitCode.OK:
            raise CoverageError(f"pytest {' '.join(tests)} has ended with {code!r}")


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
