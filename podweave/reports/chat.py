"""Reports of answers of language models, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import print_verdict, table

_MOST_STEPS = 60
"""That a table shows."""


def print_chat(console: Console, report: dict[str, Any]) -> None:
    """Cycles of the runs, and the verdict."""
    steps, way = report["steps"], report["way"]
    asked, answered = len(report["prompt_tokens"]), len(report["answer_tokens"])
    console.print(
        f"{report['model']} on {report['config']}: {asked} tokens asked, {answered} answered"
        f"{', where the text ends' if report['ended'] else ''}",
        highlight=False,
        soft_wrap=True,
    )
    if way == "golden":
        return
    if len(steps) <= _MOST_STEPS:
        columns = ["tokens", "rows", "cycles", "predicted", "memory useful", "pods busy", "seconds"]
        console.print(
            table("", columns if way == "rtl" else [c for c in columns if c != "cycles"], [_row(step, way) for step in steps])
        )
    total = sum(step["predicted_cycles"] for step in steps)
    single = [step["predicted_cycles"] for step in steps if step["rows"] == 1]
    useful = [step["memory_useful"] for step in steps if step["rows"] == 1]
    console.print(
        f"cycles: {total:,} predicted, {sum(single) // len(single):,} for a token, in which "
        f"weights, keys and values, each once, are {sum(useful) / len(useful):.1%} of what the memory can send",
        highlight=False,
        soft_wrap=True,
    )
    if way == "rtl":
        wrong, compared = (sum(step[name] for step in steps) for name in ("mismatches", "compared"))
        difference = sum(step["cycles"] - step["predicted_cycles"] for step in steps)
        console.print(
            f"in RTL: {sum(step['cycles'] for step in steps):,} cycles, difference {difference}; {compared:,} logits and residuals "
            f"compared, {wrong} wrong; {report['caches_differing']} of keys and values wrong",
            highlight=False,
            soft_wrap=True,
        )
        print_verdict(console, report, "bit-exact, cycle-exact, counters exact", f"seed {report['seed']}, over AXI")


def _row(step: dict[str, Any], way: str) -> list[str]:
    last = step["position"] + step["count"] - 1
    place = f"{step['position']}" if step["count"] == 1 else f"{step['position']} to {last}"
    cycles = [f"{step['cycles']:,}"] if way == "rtl" else []
    return [
        *(place, str(step["rows"]), *cycles, f"{step['predicted_cycles']:,}", f"{step['memory_useful']:.1%}"),
        *(f"{step['busy']:.1%}", f"{step['wall_s']:.1f}"),
    ]
