"""Reports of `podweave fuzz`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import table

_COLUMNS = ("cases", "refused", "fail", "hangs", "networks", "jobs", "transfers", "cycles", "compared", "configurations")


def print_campaign(console: Console, report: dict[str, Any]) -> None:
    kinds = report["kinds"]
    cells = [
        [name, *(f"{row[column]:,}" for column in _COLUMNS), f"{row['seconds']:,.0f}", f"{row['jobs_per_s']:,.0f}"]
        for name, row in kinds.items()
    ]
    took = f"{report['new_cases']} new cases in {report['seconds']:.0f} s on {report['processes']} processes"
    title = f"seed {report['seed']}, {took}"
    console.print(table(title, ["kind", *_COLUMNS, "s", "jobs and transfers/s"], cells))
    for each in report["failures"]:
        where = each["file"] or "no file: it cannot be made small"
        size = f"{each['decisions']} decisions" + (f", {each['decisions_left']} left" if each["decisions_left"] is not None else "")
        console.print(f"{each['kind']} {each['index']}: {each['sentence']} ({size}; {where})", style="bold red", highlight=False)
    lines = {
        "pass": ("green", f"verdict: pass (nothing differs; folder {report['folder']})"),
        "fail": ("bold red", f"verdict: fail ({len(report['failures'])} cases; podweave fuzz --replay FILE runs one again)"),
        "none": ("bold red", "no verdict: nothing ran"),
    }
    style, line = lines[report["verdict"]]
    console.print(line, style=style, highlight=False)


def print_replay(console: Console, report: dict[str, Any]) -> None:
    for line in report["text"]:
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"before: {report['before']}", highlight=False, soft_wrap=True)
    if not report["same_sources"]:
        console.print("sources have changed since: what the file decides may be another case", style="yellow", highlight=False)
    if report["verdict"] == "pass":
        console.print("verdict: pass (nothing differs now)", style="green", highlight=False)
    elif report["verdict"] == "fail":
        style = "fail, as before" if report["same"] else "fail, in another way"
        console.print(f"verdict: {style}: {report['sentence']}", style="bold red", highlight=False, soft_wrap=True)
    else:
        console.print(f"no verdict: {report['sentence'] or 'nothing ran'}", style="bold red", highlight=False, soft_wrap=True)
