"""Reports of answers of language models, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import print_verdict, say, table

_MOST_STEPS = 60
"""That a table shows."""


def print_chat(console: Console, report: dict[str, Any]) -> None:
    """Cycles of the runs, and the verdict."""
    asked, answered = len(report["prompt_tokens"]), len(report["answer_tokens"])
    say(
        console,
        f"{_where(report)}: {asked} tokens asked, {answered} answered{', where the text ends' if report['ended'] else ''}",
    )
    _print_runs(console, report, "for a token")


def print_chats(console: Console, report: dict[str, Any]) -> None:
    """The answers to several prompts, cycles of the runs, and the verdict."""
    for number, text in enumerate(report["texts"]):
        say(console, f"{number}: {text['answer']}")
    asked, answered = (sum(len(text[name]) for text in report["texts"]) for name in ("prompt_tokens", "answer_tokens"))
    ended = sum(text["ended"] for text in report["texts"])
    say(
        console,
        f"{_where(report)}: {len(report['texts'])} texts, {asked} tokens asked, {answered} answered; {ended} texts have ended",
    )
    _print_runs(console, report, "for a token of one of them", several=True)


def _where(report: dict[str, Any]) -> str:
    """Which model ran on what."""
    chips = f"{report['chips']} chips of " if report["chips"] > 1 else ""
    return f"{report['model']} on {chips}{report['config']}"


def _print_runs(console: Console, report: dict[str, Any], what: str, *, several: bool = False) -> None:
    """``what``: the cycles of a token are for. ``several``: there are several texts."""
    steps, way = report["steps"], report["way"]
    if way == "golden":
        return
    if len(steps) <= _MOST_STEPS:
        console.print(table("", _columns(way, report["chips"] > 1), [_row(step, way, several) for step in steps]))
    decoding = [step for step in steps if step["logits"]]
    total = sum(step["predicted_cycles"] for step in steps)
    cycles, tokens = (sum(step[name] for step in decoding) for name in ("predicted_cycles", "count"))
    useful = [step["memory_useful"] for step in decoding]
    shares = [step["collectives"] for step in decoding]
    if report["chips"] > 1:
        say(console, f"cycles are those of the slowest chip, of which {sum(shares) / len(shares):.1%} are collectives {what}")
    say(
        console,
        f"cycles: {total:,} predicted, {cycles // tokens:,} {what}, in which "
        f"weights, keys and values, each once, are {sum(useful) / len(useful):.1%} of what the memory can send",
    )
    if way == "rtl":
        wrong, compared = (sum(step[name] for step in steps) for name in ("mismatches", "compared"))
        difference = sum(step["cycles"] - step["predicted_cycles"] for step in steps)
        say(
            console,
            f"in RTL: {sum(step['cycles'] for step in steps):,} cycles, difference {difference}; {compared:,} logits and residuals "
            f"compared, {wrong} wrong; {report['caches_differing']} of keys and values wrong",
        )
        print_verdict(console, report, "bit-exact, cycle-exact, counters exact", f"seed {report['seed']}, over AXI")


def _columns(way: str, ring: bool) -> list[str]:
    """Names of what `_row` gives; ``ring``: there are several chips."""
    measured, collectives = ["cycles"] * (way == "rtl"), ["collectives"] * ring
    return ["tokens", "rows", *measured, "predicted", *collectives, "memory useful", "pods busy", "seconds"]


def _row(step: dict[str, Any], way: str, several: bool) -> list[str]:
    cycles = [f"{step['cycles']:,}"] if way == "rtl" else []
    collectives = [f"{step['collectives']:.1%}"] if step["collectives"] is not None else []
    return [
        *(_place(step, several), str(step["rows"]), *cycles, f"{step['predicted_cycles']:,}", *collectives),
        *(f"{step['memory_useful']:.1%}", f"{step['busy']:.1%}", f"{step['wall_s']:.1f}"),
    ]


def _place(step: dict[str, Any], several: bool) -> str:
    """Positions of tokens, and in which texts, if there are several."""
    found = []
    for text in step["texts"]:
        last = text["position"] + text["count"] - 1
        place = f"{text['position']}" if text["count"] == 1 else f"{text['position']} to {last}"
        found.append(f"{place} of {text['text']}" if several else place)
    return ", ".join(found)
