"""The command line, and the table of what it found."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.python_mutants.equivalent import EQUIVALENT
from tests.python_mutants.judge import LEVEL_SECONDS, judge, preload
from tests.python_mutants.mutant import SHARES

COUNT, SEED = 100, 1
VERDICTS = ("killed", "equivalent", "survived")


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parsed(arguments)
    # NumPy must not start threads: processes are forked.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Others need no Cosmic Ray.
    from tests.python_mutants.sample import draw

    print("drawing mutants", file=sys.stderr, flush=True)
    drawn = draw(given.count, given.seed)
    result: dict[str, Any] = {"seed": given.seed, "count": given.count, "cosmic_ray": version("cosmic-ray"), "mutants": {}}
    if given.json and given.json.exists():
        known = json.loads(given.json.read_text(encoding="utf-8"))
        if (known["seed"], known["count"]) != (given.seed, given.count):
            sys.exit(f"{given.json} has {known['count']} mutants of seed {known['seed']}: give another file, or remove it")
        result["mutants"] = {m.name: known["mutants"][m.name] for m in drawn if m.name in known["mutants"]}
    preload()
    for seconds in given.level_seconds:
        pending = [mutant for mutant in drawn if undecided(mutant.name, result["mutants"].get(mutant.name), seconds)][: given.most]
        with multiprocessing.get_context("fork").Pool(given.processes, maxtasksperchild=1) as pool:
            for number, row in enumerate(pool.imap_unordered(partial(judge, seconds=seconds), pending), 1):
                result["mutants"][row.pop("name")] = row
                print(f"{seconds:g} s a level: {number}/{len(pending)} {row['verdict']}", file=sys.stderr, flush=True)
                if given.json:
                    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(result)))


def undecided(name: str, row: Mapping[str, Any] | None, seconds: float) -> bool:
    """Not judged, or not in fewer seconds, and not known to be equivalent."""
    return row is None or (row["verdict"] == "stopped" and row["seconds"] < seconds and name not in EQUIVALENT)


def verdict(name: str, row: Mapping[str, Any]) -> str:
    """Killed, equivalent (by hand), or survived: also what took too long to be decided."""
    if row["verdict"] in ("killed", "hung"):
        return "killed"
    return "equivalent" if name in EQUIVALENT else "survived"


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown: what became of the mutants of each room, and of all."""
    lines = ["| room | mutants | equivalent | killed | survived | killed of the others |", "|---|---|---|---|---|---|"]
    total = dict.fromkeys(VERDICTS, 0)
    for room in (*SHARES, "all"):
        counts = dict.fromkeys(VERDICTS, 0)
        for name, row in result["mutants"].items():
            counts[verdict(name, row)] += row["room"] == room
        for each in VERDICTS:
            total[each] += counts[each]
        counts = total if room == "all" else counts
        number, score = sum(counts.values()), counts["killed"] / max(1, counts["killed"] + counts["survived"])
        figures = f"{number} | {counts['equivalent']} | {counts['killed']} | {counts['survived']} | {100 * score:.1f}%"
        lines.append(f"| {room} | {figures} |")
    return lines


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.python_mutants",
        description="Put small faults into the Python of some rooms, and run tests near them.",
    )
    parser.add_argument("--count", type=int, default=COUNT, help=f"mutants in all (default: {COUNT})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"decides which (default: {SEED})")
    parser.add_argument("--most", type=int, help="judge at most so many now; the next run goes on")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="mutants at a time (default: as many as there are cores)"
    )
    parser.add_argument(
        "--level-seconds",
        type=float,
        nargs="+",
        default=LEVEL_SECONDS,
        help=f"CPU time for each level of tests, and for what is not decided then (default: {LEVEL_SECONDS})",
    )
    parser.add_argument("--json", type=Path, help="a file for all results; what is in it is not judged again")
    return parser.parse_args(arguments)
