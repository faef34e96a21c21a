"""The command line, and the tables of what it found."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from podweave.synth.yosys import yosys_version
from tests.mutants.campaign import CampaignError
from tests.mutants.targets import TARGETS

COUNT, SEED = 22, 1
Rows = dict[str, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parsed(arguments)
    kinds = {kind: name for name, target in TARGETS.items() for kind in target.kinds}
    unknown = [block for block in given.block if block not in kinds and block not in TARGETS]
    if unknown:
        sys.exit(f"there is no block {unknown[0]}; there are {', '.join(sorted({*kinds, *TARGETS}))}")
    wanted = list(dict.fromkeys(block if block in TARGETS else kinds[block] for block in given.block)) or list(TARGETS)
    result: dict[str, Any] = {"seed": given.seed, "count": given.count, "yosys": yosys_version(), "blocks": {}}
    if given.json and given.json.exists() and given.block:
        known = json.loads(given.json.read_text(encoding="utf-8"))
        result["blocks"] = known["blocks"]
    # NumPy must not start threads: there is a process for each core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    failed = []
    for number, name in enumerate(wanted, 1):
        began = time.perf_counter()
        # In a process of its own: what tests keep in memory is for their own blocks.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                rows: Rows = pool.submit(_judged, name, given, f"{number}/{len(wanted)} {name}").result()
            except CampaignError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
                continue
        result["blocks"] = dict(sorted({**result["blocks"], **rows}.items()))
        print(f"{number}/{len(wanted)} {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(result["blocks"])))
    if failed:
        sys.exit(f"no result of {', '.join(failed)}")


def _judged(name: str, given: argparse.Namespace, title: str) -> Rows:
    from tests.mutants.judge import judge

    last = ""

    def progress(text: str) -> None:
        nonlocal last
        # In a file, as the count of mutants goes on by tens, and the first and last of anything else.
        if text != last and (sys.stderr.isatty() or not re.match(r"\d*[1-9] of ", text)):
            print(f"{title}: {text}", file=sys.stderr, flush=True)
            last = text

    return judge(name, count=given.count, seed=given.seed, processes=given.processes, progress=progress)


def table(blocks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: each block, what became of its mutants, blocks that have not been judged, and all together."""
    lines = ["| block | mutants | equivalent | killed | survived | killed of the others |", "|---|---|---|---|---|---|"]
    total = dict.fromkeys(("mutants", "equivalent", "killed", "survived"), 0)
    for kind, row in sorted(blocks.items()):
        counts = {**row, "killed": row["killed"] + row["hung"]}
        for name in total:
            total[name] += counts[name]
        lines.append(_line(f"`{kind}`", counts))
    missing = [kind for target in TARGETS.values() for kind in target.kinds if kind not in blocks]
    lines += [f"| `{kind}` | not judged yet | | | | |" for kind in sorted(missing)]
    return [*lines, _line("all", total)]


def _line(name: str, counts: Mapping[str, int]) -> str:
    share = counts["killed"] / max(1, counts["mutants"] - counts["equivalent"])
    figures = [str(counts[each]) for each in ("mutants", "equivalent", "killed", "survived")]
    return f"| {' | '.join([name, *figures, f'{100 * share:.1f}%'])} |"


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Put small faults into each block, and run its tests."
    )
    parser.add_argument(
        "--block", action="append", default=[], metavar="KIND", help="only this block, or group of blocks; again for more"
    )
    parser.add_argument("--count", type=int, default=COUNT, help=f"mutants of each block (default: {COUNT})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"decides which (default: {SEED})")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="mutants at a time (default: as many as there are cores)"
    )
    parser.add_argument("--json", type=Path, help="a file for all figures; with --block, those of other blocks in it stay")
    return parser.parse_args(arguments)
