"""Reports for people: tables of what the JSON holds."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def say(console: Console, text: str) -> None:
    """A sentence as it is, on a line as long as it needs."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def counted(count: int, what: str) -> str:
    """
    >>> counted(1, "pod"), counted(4, "pod")
    ('1 pod', '4 pods')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def print_presets(console: Console, report: dict[str, Any]) -> None:
    rows = []
    for name, config in report["presets"].items():
        pod, memory = config["pod"], config["memory"]
        array = pod["array"]
        rows.append(
            [
                name,
                str(config["pods"]),
                f"{array['rows']}x{array['cols']}",
                f"{array['group_rows']}x{array['group_cols']}",
                str(pod["accumulator_rows"]),
                f"{memory['banks']} x {memory['x_words']}",
            ]
        )
    columns = ["preset", "pods", "array", "group", "accumulators", "banks x words"]
    console.print(table("", columns, rows))


def print_bench(console: Console, report: dict[str, Any]) -> None:
    for name, rows in report["benches"].items():
        if isinstance(rows, dict):
            _print_tables(console, name, rows)
            continue
        # One row per figure, one column per what was measured: a preset, or a command.
        what, *figures = rows[0]
        cells = [[figure, *(_figure(row[figure]) for row in rows)] for figure in figures]
        console.print(table(f"{name} (medians of {report['repeat']})", ["", *(row[what] for row in rows)], cells))
        console.print()


def _print_tables(console: Console, name: str, report: dict[str, Any]) -> None:
    """A benchmark with tables of its own, each a list of rows."""
    single = {key: value for key, value in report.items() if not isinstance(value, list)}
    console.print(f"{name}: {', '.join(f'{key} {value}' for key, value in single.items())}", highlight=False)
    for key, rows in report.items():
        if isinstance(rows, list) and rows:
            columns = list(rows[0])
            console.print(table(key, columns, [[_share(column, row[column]) for column in columns] for row in rows]))


def _share(column: str, value: Any) -> str:
    return f"{value:.1%}" if column.startswith("share") else _figure(value)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
    return str(value)


def print_verdict(console: Console, report: dict[str, Any], exact: str, how: str) -> None:
    """The last line of a run. ``exact``: what it means to pass; ``how`` it was run."""
    about = f"config {report['config']}, {how}"
    lines = {"pass": f"verdict: pass ({exact}; {about})", "fail": f"verdict: fail (NOT exact; {about})"}
    if report["verdict"] == "none":
        reason = report["failure"].partition("\n")[0].rstrip(":")
        lines["none"] = f"no verdict: {reason} ({about})"
    style = "green" if report["verdict"] == "pass" else "bold red"
    console.print(lines[report["verdict"]], style=style, highlight=False, markup=False)


def print_checked(console: Console, report: dict[str, Any]) -> None:
    """Whether the compiler's programs were held against the rules of the hardware before they ran."""
    done = "held against" if report["checked"] else "not held against (--check rules does)"
    console.print(f"programs: {done} the rules of the hardware", highlight=False)


def print_wall(console: Console, report: dict[str, Any]) -> None:
    wall = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in report["wall_s"].items())
    console.print(f"wall seconds: {wall}", highlight=False)
