"""The command line, and the tables of what it found."""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tests.coverage import python_code
from tests.coverage.functional.report import points_table
from tests.coverage.judge import MORE, CoverageError, judge
from tests.coverage.points import KINDS
from tests.coverage.waivers import waived
from tests.mutants.targets import TARGETS


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parsed(arguments)
    result: dict[str, Any] = {"blocks": {}, "points": {}}
    if given.json and given.json.exists():
        result |= json.loads(given.json.read_text(encoding="utf-8"))
    if given.python:
        result["python"] = _python(given)
        lines, failed = python_code.table(result["python"]["rooms"]), []
    else:
        wanted = _wanted(given.block)
        if not given.block:
            result |= {"points": {}} if given.points else {"blocks": {}, "points": {}}
        failed = _judged(wanted, result, given)
        lines = _tables(result)
    _store(result, given.json)
    print("\n".join(lines))
    if failed:
        sys.exit(f"no result of {', '.join(failed)}")


def _wanted(blocks: Sequence[str]) -> list[str]:
    kinds = {kind: name for name, target in TARGETS.items() for kind in target.kinds}
    unknown = [block for block in blocks if block not in kinds and block not in TARGETS]
    if unknown:
        sys.exit(f"there is no block {unknown[0]}; there are {', '.join(sorted({*kinds, *TARGETS}))}")
    return list(dict.fromkeys(block if block in TARGETS else kinds[block] for block in blocks)) or list(TARGETS)


def _judged(wanted: Sequence[str], result: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """Judge targets, some at a time, and put what was found into ``result`` and the file; returns those that failed."""
    failed = []
    # Those with the most tests first: no core waits long for the last.
    ordered = sorted(wanted, key=lambda name: -len(MORE.get(name, ())))
    with ThreadPoolExecutor(given.processes) as pool:
        under_way = {pool.submit(_alone, name, verilog=not given.points): name for name in ordered}
        for number, done in enumerate(as_completed(under_way), 1):
            name = under_way[done]
            try:
                seconds, (blocks, points) = done.result()
            except (CoverageError, BrokenProcessPool) as error:
                print(f"{number}/{len(wanted)} {name}: {error}", file=sys.stderr, flush=True)
                failed.append(name)
                continue
            result["blocks"] = dict(sorted({**result["blocks"], **blocks}.items()))
            result["points"] = dict(sorted({**result["points"], name: points}.items()))
            print(f"{number}/{len(wanted)} {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
            _store(result, given.json)
    return failed


def _alone(name: str, *, verilog: bool) -> tuple[float, tuple[dict[str, dict[str, Any]], dict[str, dict[str, int]]]]:
    """Seconds it took, and what was found, in a process of its own: benches that tests keep in memory are built for coverage."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(judge, name, verilog=verilog).result()
    return time.perf_counter() - began, found


def _python(given: argparse.Namespace) -> dict[str, Any]:
    there = python_code.folders()
    unknown = [folder for folder in given.tests if folder not in there]
    if unknown:
        sys.exit(f"there is no folder of tests {unknown[0]}; there are {', '.join(there)}")
    wanted = given.tests or there
    found = python_code.measured(wanted, given.data, lambda text: print(text, file=sys.stderr, flush=True), given.processes)
    if not found:
        sys.exit("no folder of tests has been measured")
    try:
        rooms = python_code.figures(python_code.report(found, given.data))
    except ValueError as error:
        sys.exit(str(error))
    judged = {room: rooms[room] for room in python_code.judged(found)}
    return {"date": datetime.date.today().isoformat(), "folders": found, "rooms": judged}


def _store(result: Mapping[str, Any], file: Path | None) -> None:
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _tables(result: Mapping[str, Any]) -> list[str]:
    try:
        return [*table(result["blocks"]), "", *points_table(result["points"])]
    except ValueError as error:
        sys.exit(str(error))


def table(blocks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: of each block and all of them, the share of lines, branches and toggles that is reached, after waivers."""
    lines = ["| block | lines | branches | toggles |", "|---|---|---|---|"]
    less = waived(blocks)
    total = {kind: [0, 0] for kind in KINDS}
    for name, row in sorted(blocks.items()):
        cells = []
        for kind in KINDS:
            points = row[kind]["points"] - less.get(name, {}).get(kind, 0)
            reached = row[kind]["points"] - row[kind]["missed"]
            total[kind][0] += reached
            total[kind][1] += points
            cells.append(_share(reached, points))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return [*lines, f"| all | {' | '.join(_share(*total[kind]) for kind in KINDS)} |"]


def _share(reached: int, points: int) -> str:
    return f"{reached} of {points}, {100 * reached / points:.1f}%" if points else "-"


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.coverage", description="What of each block its own tests reach; with --python, what of the Python."
    )
    parser.add_argument(
        "--block", action="append", default=[], metavar="KIND", help="only this block, or group of blocks; again for more"
    )
    parser.add_argument("--points", action="store_true", help="points alone, with the simulators that tests have anyway: faster")
    parser.add_argument(
        "--python", action="store_true", help="measure the Python of every room, in the fast tests, folder by folder"
    )
    parser.add_argument(
        "--tests", action="append", default=[], metavar="FOLDER", help="with --python: only this folder of tests; again for more"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".coverage_data"),
        help="with --python: where what a folder's tests reach is kept; what is there is not measured again (default: %(default)s)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count(),
        help="groups of blocks, or folders, at a time (default: as many as there are cores)",
    )
    parser.add_argument("--json", type=Path, help="a file for all figures; those that are not measured now stay in it")
    return parser.parse_args(arguments)
