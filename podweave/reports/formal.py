"""Reports of proofs."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import table


def print_proofs(console: Console, report: dict[str, Any]) -> None:
    rows = []
    for row in report["properties"]:
        found = sum(fault["found"] for fault in row["faults"])
        rows.append(
            [
                row["name"],
                row["kind"],
                row["engine"],
                f"{row['seconds']:.1f}",
                f"{row['covers'] - row['covers_missed']} of {row['covers']}",
                f"{found} of {len(row['faults'])}",
                row["verdict"],
            ]
        )
    columns = ["property", "kind", "engine", "seconds", "covers", "planted faults found", "verdict"]
    console.print(table("", columns, rows))
    if report["equivalences"]:
        rows = [
            [
                row["block"],
                row["flow"],
                f"{row['compared'] - row['unproven']} of {row['compared']}",
                f"{row['seconds']:.1f}",
                row["verdict"],
            ]
            for row in report["equivalences"]
        ]
        console.print(table("\nemitted and synthesised", ["block", "flow", "registers and outputs", "seconds", "verdict"], rows))
    for row in [*report["properties"], *report["equivalences"]]:
        for fault in row["faults"]:
            if not fault["found"]:
                console.print(f"{row['name']} did not find a planted fault: {fault['fault']}", highlight=False)
    console.print(
        f"{report['verdict'].upper()}: {report['unbounded']} properties proven for any time, {report['bounded']} for a stated one; "
        f"{report['equivalent']} blocks equivalent; "
        f"{report['faults_found']} of {report['faults']} planted faults found; {report['seconds']:.0f} s "
        f"({report['processor_seconds']:.0f} of processors)",
        highlight=False,
    )


def proofs_page(report: dict[str, Any]) -> str:
    """The tables of docs/proofs.md, in Markdown."""
    lines = ["| property | rule | sizes | kind | engine | seconds | planted faults found |", "|---|---|---|---|---|---|---|"]
    for row in report["properties"]:
        found = sum(fault["found"] for fault in row["faults"])
        cells = [f"`{row['name']}`", row["rule"], row["sizes"], row["kind"], row["engine"], f"{row['seconds']:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{found} of {len(row['faults'])}"]) + " |")
    lines += ["", "| block | registers and outputs equal | seconds | planted fault told apart |", "|---|---|---|---|"]
    for row in report["equivalences"]:
        equal = f"{row['compared'] - row['unproven']} of {row['compared']}"
        apart = "yes" if all(fault["found"] for fault in row["faults"]) else "no"
        lines.append(f"| `{row['name']}` | {equal} | {row['seconds']:.0f} | {apart} |")
    return "\n".join([*lines, ""])
