"""Reports of networks of ONNX files, printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from .tables import counted, say, table


def _nodes(names: Sequence[str]) -> str:
    """Operators and names of nodes; those that only quantise are left out, where there are others."""
    others = [name for name in names if name.split()[0] not in ("QuantizeLinear", "DequantizeLinear")]
    return ", ".join(others or names)


def _same(row: dict[str, Any]) -> str:
    """Images with the same largest numbers; of several positions, those and texts, too."""
    told = f"in {row['same_top']} of {row['images']}"
    if "positions" in row:
        told = f"at {row['same_positions']:,} of {row['positions']:,} positions, at all of them {told}"
    return told + (f", the same text in {row['same_text']} of {row['images']}" if "same_text" in row else "")


def print_comparison(console: Console, report: dict[str, Any]) -> None:
    """What a configuration changes of a file's numbers; onnxruntime layer by layer."""
    for change in report["numbers"]:
        say(console, f"numbers are not those of the file: {change}")
    if report["on_host"]:
        say(console, f"left to the host, behind the network: {_nodes(report['on_host'])}")
    for row in report.get("agreement", ()):
        told = []
        if "same_top" in row:
            cosine = "all 0" if row["cosine"] is None else f"cosine {row['cosine']:.5f}"
            told.append(f"same largest as in floating point {_same(row)}, {cosine}")
        if "right" in row:
            plain = f" ({row['right_float']} in floating point)" if "right_float" in row else ""
            told.append(f"{row['right']} of {row['images']} right{plain}")
        say(console, f"output {row['output']}: {'; '.join(told)}")
    found = report.get("onnxruntime")
    if not found:
        return
    rows = [
        [
            row["operation"],
            row["operator"],
            f"{row['values']:,}",
            f"{row['differing']:,}",
            f"{row['ties']:,}",
            f"{row['within']:,}",
            str(row["largest"]),
            "equal" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}",
        ]
        for row in found["layers"]
    ]
    title = f"onnxruntime {found['onnxruntime']}, {found['optimisation']}: each layer on what onnxruntime has in front of it"
    console.print(
        table(title, ["operation", "operator", "values", "differing", "of them ties", "within bounds", "largest", "SQNR dB"], rows)
    )
    for row in found["outputs"]:
        top = f"; same largest {_same(row)}" if "same_top" in row else ""
        say(
            console,
            f"output {row['output']} of the whole network: {row['differing']:,} of {row['values']:,} differ, by up to "
            f"{row['largest']} steps{top}",
        )


def print_quantised_file(console: Console, report: dict[str, Any]) -> None:
    """What `podweave quantise` made of an ONNX file, and how near it is to floating point."""
    found = report["accuracy"]
    if "equalised" in report:
        moved = report["equalised"]
        told = f", not of {counted(moved['limited'], 'other')} with a limit behind them (Clip)" if moved["limited"] else ""
        sets = f"{counted(moved['tensors'], 'tensor')} in {counted(moved['sets'], 'set')}"
        say(console, f"channels scaled in {sets}{told}; floating point is bit for bit the same")
    if "corrected_biases" in report:
        say(console, f"biases of {counted(report['corrected_biases'], 'convolution')} corrected")
    if report.get("int16_inputs"):
        say(console, f"16 bits are read by {', '.join(report['int16_inputs'])}")
    if found:
        rows = [[row["operation"], f"{row['sqnr_db']:.1f}", *_own(row)] for row in found["worst"]]
        columns = ["operation", "SQNR dB", *(["on its own"] if rows and len(rows[0]) > 2 else [])]
        console.print(table("layers farthest from floating point", columns, rows))
        for row in found["outputs"]:
            cosine = "all 0" if row["cosine"] is None else f"cosine {row['cosine']:.5f}"
            top = f"; same largest {_same(row)}" if "same_top" in row else ""
            each = (
                f"; of a text {row['mean_cosine']:.5f} in the mean, at least {row['least_cosine']:.5f}"
                if "least_cosine" in row
                else ""
            )
            say(console, f"output {row['output']} beside floating point, {found['batches']} batches: {cosine}{each}{top}")
    if report.get("on_host"):
        say(console, f"left to the host: {_nodes(report['on_host'])}")
    say(
        console,
        f"{report['model']}: {report['operations']} operations, {report['macs']:,} MAC, {report['bytes']:,} bytes in "
        f"{report['file']}, {report['calibration_batches']} batches of calibration"
        + (f", {report['method']}" if "method" in report else ""),
    )


def _own(row: dict[str, Any]) -> list[str]:
    """SQNR of an operation by itself, where that is known."""
    if "own_sqnr_db" not in row:
        return []
    return ["exact" if row["own_sqnr_db"] is None else f"{row['own_sqnr_db']:.1f}"]
