"""What operations on rows need in memory: words of weights, sets and inputs, and rows of caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.epoch_program import EpochProgram
from ..rows.program import CachePlace, ChipEpoch, RowProgram, Words
from .ahead import limited
from .tensors import InputPlaces
from .words import Runs, joined_runs, joined_words, packed_sets, runs, strided

Piece = tuple[HostSelect, int, int, NDArray[np.uint8], NDArray[np.int64] | None, str | None]


def row_pieces(program: RowProgram, inputs: InputPlaces, ratios: Mapping[str, float]) -> Iterator[Piece]:
    """(select, node, first word, content, numbers if it is of an input, operation if not all its weights may be ahead) of words of
    row operations but those of caches, runs joined."""
    config = program.config
    kinds: dict[tuple[HostSelect, str | None, str | None], list[Words]] = {}
    for words in program.words:
        if words.place is None:
            kinds.setdefault((words.select, words.tensor, limited(ratios, words.operation)), []).append(words)
    for (select, tensor, operation), found in kinds.items():
        pieces = []
        for words in found:
            bytes_of = packed_sets(config, words.content) if select == HostSelect.PARAMETERS else words.content
            content = strided(bytes_of, memory_stride(config, select))
            if tensor is not None:
                assert words.numbers is not None
                numbers = np.zeros(content.shape, np.int64)
                numbers[:, : words.numbers.shape[1]] = inputs.number(tensor, words.numbers)
                content = np.stack([content.astype(np.int64), numbers])
            pieces.append((words.node, words.base, content))
        for node, base, joined in runs(iter(pieces)):
            if tensor is None:
                yield select, node, base, joined, None, operation
            else:
                yield select, node, base, joined[0].astype(np.uint8), joined[1], operation


def cached_pieces(
    program: RowProgram,
    inputs: InputPlaces,
    ratios: Mapping[str, float],
    address_of: Callable[[str, int, CachePlace], int],
    chunk_bytes: int,
    *,
    late: bool,
) -> list[tuple[Runs, str | None]]:
    """Words of caches, in as few loads as there can be; with the cache, if not all of it may be ahead.

    ``inputs``: is told where they lie. ``address_of``: the first byte of a place in a cache, by tensor, node and place.
    """
    config, stride = program.config, memory_stride(program.config, HostSelect.W)
    found: dict[str | None, list[Runs]] = {}
    for words in program.words:
        if words.place is None or words.late != late:
            continue
        assert words.tensor is not None
        assert words.numbers is not None
        address = address_of(words.tensor, words.node, words.place)
        piece = Runs(words.node, words.base, len(words.numbers), address)
        found.setdefault(None if late else limited(ratios, words.tensor), []).append(piece)
        numbers = np.zeros((len(words.numbers), stride), np.int64)
        numbers[:, : words.numbers.shape[1]] = inputs.number(words.tensor, words.numbers)
        inputs.add(words.node // config.nodes_per_manager, address, numbers)
    most = chunk_bytes // stride
    return [(one, name) for name, pieces in found.items() for one in joined_runs(joined_words(pieces, stride), most)]


def first_tables(programs: Sequence[ChipEpoch]) -> dict[int, int]:
    """Activation tables that are loaded in the beginning, by slot: those that operations on rows look up, which are the first ones,
    each in the slot of its number, and those of layers that stay in their slots."""
    posts = [program.posts for program in programs if isinstance(program, RowProgram)]
    count = max((int(((each["table"] + each["wide_table"] + 1) * each["activate"]).max(initial=0)) for each in posts), default=0)
    found = {number: {number} for number in range(count)}
    for program in programs:
        if isinstance(program, EpochProgram):
            for slot, number in program.tables.items():
                found.setdefault(slot, set()).add(number)
    return {slot: min(numbers) for slot, numbers in sorted(found.items()) if len(numbers) == 1}
