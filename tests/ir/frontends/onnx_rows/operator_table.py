"""The tables of operators of docs/transformers.md: `python -m tests.ir.frontends.onnx_rows.operator_table` prints them."""

from __future__ import annotations

from podweave.ir.frontends.onnx_rows import host
from podweave.ir.frontends.onnx_rows.operators import operator_rows


def table() -> str:
    rows = [f"| `{name}` | {what} |" for name, what in operator_rows()]
    return "\n".join(["| operator | what of it |", "|---|---|", *rows])


def host_operators() -> str:
    return ", ".join(f"`{name}`" for name in sorted(host.OPERATORS))


if __name__ == "__main__":
    print(table(), host_operators(), sep="\n\n")
