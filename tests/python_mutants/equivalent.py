"""Mutants that change nothing of what a program says, with the reason: judged by hand."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "compiler/lower/layer.py: slices = -(-together * in_group // (array.rows // (taps[0] * taps[1]))) -> "
    "slices = -(-together / in_group // (array.rows // (taps[0] * taps[1])))": (
        "Wherever there are several packings to choose from, channels of a group fit into the rows: there is one slice, both ways."
    ),
    "compiler/collective/ring.py: Received(_pieces(words, chips, own + chips, chips - 1)), -> "
    "Received(_pieces(words, chips, own - chips, chips - 1)),": "Pieces are numbered modulo chips.",
}
"""By `Mutant.name`."""
