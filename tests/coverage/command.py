"""The command line, and the table of what it found."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.coverage.judge import CoverageError, judge
from tests.coverage.points import KINDS
from tests.coverage.waivers import waived
from tests.mutants.targets import TARGETS


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parsed(arguments)
    kinds = {kind: name for name, target in TARGETS.items() for kind in target.kinds}
    unknown = [block for block in given.block if block not in kinds and block not in TARGETS]
    if unknown:
        sys.exit(f"there is no block {unknown[0]}; there are {', '.join(sorted({*kinds, *TARGETS}))}")
    wanted = list(dict.fromkeys(block if block in TARGETS else kinds[block] for block in given.block)) or list(TARGETS)
    blocks: dict[str, Any] = {}
    if given.json and given.json.exists() and given.block:
        blocks = json.loads(given.json.read_text(encoding="utf-8"))["blocks"]
    failed = []
    for number, name in enumerate(wanted, 1):
        began = time.perf_counter()
        print(f"{number}/{len(wanted)} {name}", file=sys.stderr, flush=True)
        # In a process of its own: benches that tests keep in memory are built for coverage.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                blocks = dict(sorted({**blocks, **pool.submit(judge, name).result()}.items()))
            except CoverageError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
                continue
        print(f"{number}/{len(wanted)} {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps({"blocks": blocks}, indent=1) + "\n", encoding="utf-8")
    try:
        print("\n".join(table(blocks)))
    except ValueError as error:
        sys.exit(str(error))
    if failed:
        sys.exit(f"no result of {', '.join(failed)}")


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
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description="What of each block its own tests reach.")
    parser.add_argument(
        "--block", action="append", default=[], metavar="KIND", help="only this block, or group of blocks; again for more"
    )
    parser.add_argument("--json", type=Path, help="a file for all figures; with --block, those of other blocks in it stay")
    return parser.parse_args(arguments)
