"""docs/evidence.md, made of docs/evidence.json: ``python -m tests.evidence_page`` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
KINDS = {
    "unbounded proof": "for all states and inputs, by a solver",
    "bounded proof": "for all inputs, up to so many cycles from reset, by a solver",
    "RTL simulation": "the emitted Verilog in Verilator, held against models that know nothing of it",
    "comparison with onnxruntime": "beside a program that nobody here wrote",
    "synthesis": "Yosys; nothing is placed or routed",
    "model": "by the cycle model, or the golden model, of which the rows of RTL say how far they are the hardware",
    "analytical": "a closed form",
}
"""Of claims, the strongest first."""
HEAD = """\
# Evidence

What is claimed here, how it is known, and what is known of its limits. Made of [evidence.json](evidence.json) by
`python -m tests.evidence_page`; a test holds the two together, and each figure against the page that has it; dates are those on
which that page took it. How each part is tested is in [verification.md](verification.md), all figures are in
[figures.md](figures.md), what is refused or not there in [limits.md](limits.md).
"""


def claims() -> list[dict[str, str]]:
    found: dict[str, Any] = json.loads((DOCS / "evidence.json").read_text(encoding="utf-8"))
    return found["claims"]


def page(rows: list[dict[str, str]]) -> str:
    parts = [HEAD]
    for kind, meaning in KINDS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if not mine:
            continue
        parts += [f"\n## {kind[0].upper()}{kind[1:]}\n", f"{meaning[0].upper()}{meaning[1:]}.\n"]
        parts += ["| claim | figure | command | date | limits |", "|---|---|---|---|---|"]
        parts += [f"| {r['claim']} | {r['figure']} | `{r['command']}` | {r['date']} | {r['limits']} |" for r in mine]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (DOCS / "evidence.md").write_text(page(claims()), encoding="utf-8")
