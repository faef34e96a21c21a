"""Operations whose reduction is too long for an epoch become several, each with a part of it, which add to the same sums."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from podweave.ir.constants import Parameters
from podweave.ir.graph import Graph
from podweave.ir.operations import Linear, Operand, Shape
from podweave.ir.rewrites import fresh_name, narrowed
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig

from ..lower.boxes import pieces
from ..lower.layer import pack_layer
from ..lower.operation import words_of_operand
from .policy import BankPolicy

_X_FILL, _X_SHARE = 0.9, 0.5
"""Of all X banks, what an operation may read for an output position that is not split, and what each of its parts then may: an
epoch holds copies, and what others read."""
_PART = 0.25
"""Of all W banks, what a part may need that is not made for want of room."""
_W_FILL, _P_FILL = 0.8, 0.9
"""Of all W and P banks, what is used of them: words do not spread evenly."""


@dataclass(frozen=True)
class Taken:
    """What a part takes of an operand of the whole: ``channels`` of it (None: all), and ``rows`` and ``columns`` of its kernel,
    [begin, end) each."""

    operand: int
    channels: tuple[int, int] | None
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class PartOfSums:
    """An operation with a part of a reduction. ``last``: it has the bias, the scales and the table as well."""

    name: str
    takes: tuple[Taken, ...]
    last: bool

    def constants(self, whole: Parameters) -> Parameters:
        weights = []
        for each in self.takes:
            channels = slice(*each.channels) if each.channels else slice(None)
            weights.append(whole.weights[each.operand][slice(*each.rows), slice(*each.columns), channels])
        if self.last:
            return replace(whole, weights=tuple(weights))
        none = np.zeros_like(whole.bias)
        return Parameters(tuple(weights), none, none, none)


def tile_steps(operation: Linear, shapes: Mapping[str, Shape], inputs: Collection[str], array: ArrayConfig) -> list[int]:
    """Of each operand, the K steps of a column tile, at most. ``inputs``: of the graph, which may have several taps in a word."""
    found = []
    layer = operation.operands[0].layer
    if len(operation.operands) == layer.groups == 1 and all(source in inputs for source in operation.sources):
        return [len(pack_layer(layer, array).tiles[0].steps)]
    for operand in operation.operands:
        layer = operand.layer
        blocks = len(words_of_operand(shapes, operand, array.rows))
        if layer.groups > 1:
            # A tile may begin and end inside of a group, and those inside of a word.
            groups = min(layer.groups, -(-array.cols // (layer.outputs // layer.groups)) + 1)
            blocks = min(blocks, -(-groups * (layer.channels // layer.groups) // array.rows) + len(operand.sources))
        found.append(blocks * prod(layer.kernel))
    return found


def least_bank_words(
    operation: Linear, tiles: int, shapes: Mapping[str, Shape], inputs: Collection[str], config: ChipConfig
) -> int:
    """Words of weights of some column tiles that the fullest W bank has, however they are spread; for the rest see `tile_steps`."""
    steps = tile_steps(operation, shapes, inputs, config.array)
    shared = sum(count for operand, count in zip(operation.operands, steps, strict=True) if operand.layer.groups == 1)
    own = sum(steps) - shared
    # Windows are over whole sums.
    splits = [1 << i for i in range(1 if operation.window else config.pods.bit_length())]
    rounds = [(split, -(-tiles // (config.pods // split))) for split in splits]
    return min(count * (-(-shared // split) + own) * config.array.rows for split, count in rounds)


def words_read(
    operation: Linear, output: tuple[int, int, int], shapes: Mapping[str, Shape], inputs: Collection[str], array: ArrayConfig
) -> int:
    """Words of activations that so many images, rows and columns of outputs read, about; for the rest see `tile_steps`."""
    kernel, step = (operation.window.kernel, operation.window.stride) if operation.window else ((1, 1), (1, 1))
    found = 0
    for operand, steps in zip(operation.operands, tile_steps(operation, shapes, inputs, array), strict=True):
        layer, spans = operand.layer, []
        for axis, count in enumerate(output[1:]):
            summed = (count - 1) * step[axis] + kernel[axis]
            spans.append((summed - 1) * layer.stride[axis] + layer.kernel_extent[axis])
        found += output[0] * prod(spans) * max(1, steps // prod(layer.kernel))
    return found


def tiles_of_sums(operation: Linear, config: ChipConfig) -> int:
    """Column tiles of which P banks hold the sums of all positions."""
    return int(_P_FILL * config.memory.p_words * config.memory.banks / prod(operation.accumulated[:3]))


def keeps_sums(operation: Linear, tiles: int, shapes: Mapping[str, Shape], inputs: Collection[str], config: ChipConfig) -> bool:
    """Whether so many column tiles of it load less in parts of the reduction, of all positions, than in bands of positions.

    That is, where X banks do not hold what all positions read, and W banks not the weights, which each band would load again, but P
    banks all of the sums; a part then has a word of channels, with all taps, or several. For the rest see `tile_steps`.
    """
    if operation.window or tiles > tiles_of_sums(operation, config):
        return False
    memory, array = config.memory, config.array
    steps, taps = tile_steps(operation, shapes, inputs, array), [prod(operand.layer.kernel) for operand in operation.operands]
    read = words_read(operation, operation.output[:3], shapes, inputs, array)
    x_words, w_words = memory.x_words * memory.banks, memory.w_words * memory.banks
    most, of_tile = max(read * each // sum(steps) for each in taps), tiles * array.rows
    parts = most <= _X_SHARE * x_words and max(taps) * of_tile <= _PART * w_words
    return parts and read > _X_FILL * x_words and sum(steps) * of_tile > _W_FILL * w_words


def split_sums(graph: Graph, config: ChipConfig, policy: BankPolicy) -> tuple[Graph, dict[str, tuple[PartOfSums, ...]]]:
    """Split operations of which the weights of one column tile, or what one output position reads, is more than all banks hold, or
    which load less so (`keeps_sums`).

    Parts have whole words of activations and all taps of the kernel, as many as an epoch's share of the W banks holds, or, if those
    of one word are too many, some of the taps. The last part has the name of the operation, and is all that others see.
    Returns the graph, and the parts of each operation that was split.
    """
    return _Splitter(graph, config, policy).run()


class _Splitter:
    def __init__(self, graph: Graph, config: ChipConfig, policy: BankPolicy):
        self.graph, self.config, self.policy = graph, config, policy
        self.shapes = graph.inputs | {operation.name: operation.output for operation in graph.operations}
        self.taken = set(self.shapes)
        self.rows = config.array.rows

    def run(self) -> tuple[Graph, dict[str, tuple[PartOfSums, ...]]]:
        operations: list[Linear] = []
        found: dict[str, tuple[PartOfSums, ...]] = {}
        for whole in self.graph.operations:
            takes = self._parts(whole)
            if len(takes) < 2:
                operations.append(whole)
                continue
            parts: list[PartOfSums] = []
            for number, of_part in enumerate(takes):
                last = number == len(takes) - 1
                name = whole.name if last else fresh_name(f"{whole.name}/k{number}", self.taken)
                self.taken.add(name)
                operands = tuple(self._operand(whole, each, name) for each in of_part)
                before = parts[-1].name if parts else ""
                after = () if parts else whole.after
                operations.append(replace(whole, name=name, operands=operands, after=after, adds_to=before))
                parts.append(PartOfSums(name, of_part, last))
            found[whole.name] = tuple(parts)
        return (replace(self.graph, operations=tuple(operations)) if found else self.graph), found

    def _parts(self, operation: Linear) -> list[tuple[Taken, ...]]:
        """What each part takes; one part if it stays whole."""
        memory, array = self.config.memory, self.config.array
        tiles, banks = -(-operation.output[3] // array.cols), memory.x_words * memory.banks
        shapes, inputs = self.shapes, self.graph.inputs
        position = words_read(operation, (1, 1, 1), shapes, inputs, array)
        at_once = keeps_sums(operation, tiles, shapes, inputs, self.config)
        least = least_bank_words(operation, tiles, shapes, inputs, self.config)
        if least <= memory.w_words and position <= _X_FILL * banks and not at_once:
            return [()]
        steps = tile_steps(operation, shapes, inputs, array)
        own = sum(count for operand, count in zip(operation.operands, steps, strict=True) if operand.layer.groups > 1)
        # In steps of each pod: with few column tiles, several pods have parts of K of one, but for groups.
        together = 1 if operation.window or own * self.rows > memory.w_words else max(1, self.config.pods // tiles)
        share = int(self.policy.bank_share * memory.w_words * min(tiles * together, memory.banks))
        room = max(1, share // (tiles * together * self.rows)) * together
        read = words_read(operation, operation.output[:3], shapes, inputs, array) if at_once else position
        if read > _X_SHARE * banks:
            room = min(room, max(1, int(banks * _X_SHARE / read * sum(steps))))
        pieces_of = [piece for number in range(len(steps)) for piece in self._pieces(operation, number, steps[number], room)]
        return _packed(pieces_of, room)

    def _pieces(self, operation: Linear, number: int, steps: int, room: int) -> Iterator[tuple[int, Taken]]:
        """An operand, of so many K steps, in pieces of at most ``room`` of them, with how many each has; those of a word, or of all
        of a group, and a tap stay together."""
        operand = operation.operands[number]
        layer, (high, wide), taps = operand.layer, operand.layer.kernel, prod(operand.layer.kernel)
        words: list[tuple[int, int] | None] = [None]
        if layer.groups == 1:
            words = [(begin, end) for begin, end, *_ in words_of_operand(self.shapes, operand, self.rows)]
        of_tap = max(1, steps // taps // len(words))
        if taps * of_tap <= room:
            for first, count in pieces(len(words), max(1, room // (taps * of_tap))):
                begin, end = words[first], words[first + count - 1]
                channels = (begin[0], end[1]) if begin and end else None
                yield count * taps * of_tap, Taken(number, channels, (0, high), (0, wide))
            return
        most = max(1, room // of_tap)
        for channels in words:
            for rows in self._taps(operation, operand, 0, max(1, most // wide)):
                count = rows[1] - rows[0]
                for columns in self._taps(operation, operand, 1, max(1, min(wide, most // count))):
                    yield count * (columns[1] - columns[0]) * of_tap, Taken(number, channels, rows, columns)

    def _taps(self, operation: Linear, operand: Operand, axis: int, each: int) -> list[tuple[int, int]]:
        """The taps of an axis in pieces [begin, end) of ``each``; those that read padding alone are with one beside them that does
        not."""
        layer, seen = operand.layer, list[int]()
        taps = layer.kernel[axis]
        for tap in range(taps):
            begin, end = self._span(operation, operand, axis, (tap, tap + 1))
            if max(begin, 0) < min(end, (layer.height, layer.width)[axis]):
                seen.append(tap)
        begin = seen[0] + 1 if seen and seen[0] else 0
        end = seen[-1] if seen and seen[-1] < taps - 1 else taps
        if not seen or begin > end:
            return [(0, taps)]
        between = pieces(end - begin, each) if begin < end else ()
        ends = {0, begin, *(begin + first for first, _ in between), end, taps}
        return list(itertools.pairwise(sorted(ends)))

    @staticmethod
    def _span(operation: Linear, operand: Operand, axis: int, taps: tuple[int, int]) -> tuple[int, int]:
        """Rows, or columns, of the image that some taps read, padding included."""
        layer, outputs = operand.layer, operation.accumulated[1 + axis]
        first = taps[0] * layer.dilation[axis] - layer.padding[axis][0]
        return first, first + (outputs - 1) * layer.stride[axis] + (taps[1] - 1 - taps[0]) * layer.dilation[axis] + 1

    def _operand(self, operation: Linear, taken: Taken, name: str) -> Operand:
        whole = operation.operands[taken.operand]
        layer, operand = replace(whole.layer, name=name), whole
        if taken.channels:
            layer = replace(layer, channels=taken.channels[1] - taken.channels[0])
            operand = narrowed(whole, *taken.channels, layer, self.shapes)
        if (taken.rows, taken.columns) == ((0, layer.kernel[0]), (0, layer.kernel[1])):
            return replace(operand, layer=layer)
        inner, padding = [], []
        for axis, (size, taps) in enumerate(zip((layer.height, layer.width), (taken.rows, taken.columns), strict=True)):
            begin, end = self._span(operation, operand, axis, taps)
            inner.append((max(begin, 0), min(end, size)))
            padding.append((inner[-1][0] - begin, end - inner[-1][1]))
        (top, bottom), (left, right) = inner
        corners = operand.corners or ((0, 0),) * len(operand.sources)
        return replace(
            operand,
            corners=tuple((row + top, column + left) for row, column in corners),
            layer=replace(
                layer,
                height=bottom - top,
                width=right - left,
                kernel=(taken.rows[1] - taken.rows[0], taken.columns[1] - taken.columns[0]),
                padding=(padding[0], padding[1]),
                is_gemm=False,
            ),
        )


def _packed(pieces_of: Sequence[tuple[int, Taken]], room: int) -> list[tuple[Taken, ...]]:
    """Pieces, in their order, in parts of at most ``room`` K steps."""
    parts: list[list[Taken]] = []
    left = 0
    for steps, taken in pieces_of:
        if not parts or steps > left:
            parts.append([])
            left = room
        parts[-1].append(taken)
        left -= steps
    return [tuple(part) for part in parts]
