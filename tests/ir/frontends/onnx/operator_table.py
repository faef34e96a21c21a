"""The table of operators of docs/onnx.md: `python -m tests.ir.frontends.onnx.operator_table` prints it."""

from __future__ import annotations

from podweave.ir.frontends.onnx.read import operator_rows


def table() -> str:
    rows = [f"| `{name}` | {what} |" for name, what in operator_rows()]
    return "\n".join(["| operator | what of it |", "|---|---|", *rows])


if __name__ == "__main__":
    print(table())
