"""Mutants that change nothing of what a program says, with the reason: judged by hand."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "golden/cycle/prefetch/gate.py: if ring == PREFETCH and head.descriptor.kind == LOAD and head.tag > inputs.epochs_done: -> "
    "if ring == PREFETCH and head.descriptor.kind == LOAD and head.tag != inputs.epochs_done:": (
        "Tags of a ring and epochs that are done count up, epochs by one: behind a tag nothing is counted, and it leaves at once."
    ),
    "golden/layers/fixed_point.py: tie = (by > 0) & (magnitude - ((magnitude >> by) << by) == half) -> "
    "tie = (by > 0) * (magnitude - ((magnitude >> by) << by) == half)": "A product of booleans is true where both are.",
    "compiler/chip/check/networks.py: cluster = np.concatenate([[0], np.cumsum(begins[1:] >= latest[:-1])]) -> "
    "cluster = np.concatenate([[0], np.cumsum(begins[1:] > latest[:-1])])": (
        "Words that may meet are looked at one by one: those of intervals that only touch are found not to."
    ),
    "golden/cycle/pod/pod.py: return w_data[np.minimum(arrival, len(w_data) - 1)], True -> "
    "return w_data[np.minimum(arrival, len(w_data) - 2)], True": (
        "Sums that leave within the trace are of weights that came cycles before its end; others are not kept."
    ),
    "compiler/rows/check/history.py: @dataclass(frozen=True) -> @dataclass(frozen=False)": "Nothing assigns to its fields.",
    "compiler/chip/gangs.py: if mapping.abreast > 1: -> if mapping.abreast != 1:": "There is at least one.",
    "golden/cycle/prefetch/delivery.py: if target.stride % size: -> if target.stride * size:": (
        "A short cut for words of whole pieces: counted beat by beat, there are as many."
    ),
    "compiler/chip/check/parts.py: here, found = set(program.operations), np.full(len(number), -1, np.int64) -> "
    "here, found = set(program.operations), np.full(len(number), - 2, np.int64)": (
        "All operations of the program get a number of their own, and no others are looked up."
    ),
    "compiler/lower/operation.py: read_with: int = 0 -> read_with: int = 1": "Read in one place, where it counts as at least 1.",
    "compiler/collective/ring.py: Received(_pieces(words, chips, own + chips, chips - 1)), -> "
    "Received(_pieces(words, chips, own - chips, chips - 1)),": "Pieces are numbered around the ring: modulo the number of chips.",
    "compiler/lower/layer.py: slices = -(-together * in_group // (array.rows // (taps[0] * taps[1]))) -> "
    "slices = -(-together / in_group // (array.rows // (taps[0] * taps[1])))": (
        "There is one slice, but for groups of more channels than the array has rows: of those there is one packing to choose."
    ),
}
"""By `Mutant.name`."""
