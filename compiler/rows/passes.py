"""What lowerings of operations on rows have in common: sets of lanes, tiles that are multiplied by, passes that are placed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Format, RowOperation
from podweave.spec.jobs import Accumulate
from podweave.spec.row_functions import Destination, Saturate

from .compile_rows import Home, RowCompiler
from .epoch import Done, Ints, LaneSet, Pass
from .layout import RowLayout
from .tables import TileStep

SCRATCH = 4
"""Of a P bank, one part in so many is for sums that wait for their pass; of a W bank, for the weights of one sum."""
SATURATE = {Format.INT8: Saturate.INT8, Format.INT16: Saturate.INT16, Format.WIDE: Saturate.WIDE}


Step = tuple[dict[int, int], int, int]
"""By pod, the first word of a tile of weights in its W bank; the X bank and the first word of what is multiplied by it."""


class When:
    """A cycle of an epoch; in any later epoch, it is over."""

    def __init__(self, compiler: RowCompiler, cycle: int = 0):
        self.compiler, self.epoch, self.cycle = compiler, compiler.epoch.number, cycle

    def now(self) -> int:
        """As a cycle of the epoch that is on."""
        return self.cycle if self.epoch == self.compiler.epoch.number else 0


Registers = tuple[When, Ints]
"""An epoch, and by row of it the cycle as of `Done`."""
Targets = dict[str, tuple[Home, When]]
"""By kind of bank, where results go, and from when on they may be written."""


def targets_of(compiler: RowCompiler, operation: RowOperation, layout: RowLayout) -> Targets:
    """Room for what an operation gives, in all kinds of banks that it goes into; ``layout``: whatever the words of a row."""
    targets: Targets = {}
    for kind in compiler.homes_of(operation):
        home, cycle = compiler.place(operation.name, kind, layout.with_words(result_words(kind, operation.format)))
        targets[kind] = home, When(compiler, cycle)
    return targets


def lane_set(held: Parameters, channels: Ints) -> LaneSet:
    """Bias, multiplier and shift of the channels of a word; 0 where there is none."""
    there = channels >= 0
    return tuple(np.where(there, part[channels], 0).astype(np.int64) for part in (held.bias, held.multiplier, held.shift))  # type: ignore[return-value]


def lane_sets(held: Parameters, layout: RowLayout, slots: range | None = None, part: int = 0) -> dict[int, list[LaneSet]]:
    """Those of a part of the tiles in some slots or all, by node that has any."""
    chosen = range(layout.slots) if slots is None else slots
    return {
        node: [lane_set(held, layout.channel[slot * layout.nodes + node, part]) for slot in chosen[:count]]
        for node, count in tiles_of_nodes(layout, slots).items()
    }


def uniform(lanes: int, multiplier: int = 1, shift: int = 0, bias: Ints | None = None) -> LaneSet:
    """The same for all lanes."""
    zero = np.zeros(lanes, np.int64)
    return (zero if bias is None else bias), zero + multiplier, zero + shift


def alike(nodes: Iterable[int], one: LaneSet) -> dict[int, list[LaneSet]]:
    """The same for all words of a row, in each of some nodes."""
    return {node: [one] for node in nodes}


def of_tiles(layout: RowLayout, slots: range, one: LaneSet) -> dict[int, list[LaneSet]]:
    """The same for all tiles in some slots, by node; for empty ones, in which nobody may have written anything, what gives 0."""
    counts = tiles_of_nodes(layout, slots)
    if not layout.lead:
        return alike(counts, one)
    nothing = uniform(layout.lanes, 0)
    return {
        node: [one if slot * layout.nodes + node >= layout.lead else nothing for slot in slots[:count]]
        for node, count in counts.items()
    }


def destination_of(kind: str, form: Format, *, adds: bool = False) -> Destination:
    if adds:
        return Destination.ADD
    if kind == "p":
        return Destination.STORE
    return Destination.PLANES if form is Format.INT16 else Destination.X


def result_words(kind: str, form: Format) -> int:
    """Words of a row in a bank."""
    return 2 if kind == "x" and form is Format.INT16 else 1


def tiles_of_nodes(layout: RowLayout, slots: range | None = None) -> dict[int, int]:
    """How many tiles, of some slots or all, each node has that has any which is not empty; with empty ones before it."""
    chosen = range(layout.slots) if slots is None else slots
    found = {node: [slot for slot in chosen if slot * layout.nodes + node < layout.tiles] for node in range(layout.nodes)}
    return {node: len(of) for node, of in found.items() if of and of[-1] * layout.nodes + node >= layout.lead}


def chunks(rows: int, most: int) -> list[tuple[int, int]]:
    """(first row, rows) of pieces of at most ``most`` rows, as even as can be."""
    count = -(-rows // most)
    edges = [rows * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def most_streamed(compiler: RowCompiler, steps: int, planes: int) -> int:
    """Rows whose sums a pod can hold."""
    pod = compiler.config.pod
    most = 2**pod.count_width - 1
    return (min(most, pod.accumulator_rows) if steps > 1 else most) // planes


def weight_bytes(weights: NDArray[np.int8], inputs: Ints, outputs: Ints) -> NDArray[np.uint8]:
    """(columns of tiles, rows of tiles, rows, cols) bytes of tiles: weights of the channels ``inputs`` (rows of tiles, rows) and
    ``outputs`` (columns of tiles, cols) in their lanes, 0 where there is none."""
    rows, columns = inputs.reshape(-1), outputs.reshape(-1)
    found = weights[rows[:, None], columns]
    found[rows < 0] = 0
    found[:, columns < 0] = 0
    tiles = found.view(np.uint8).reshape(*inputs.shape, *outputs.shape).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(tiles)


def multiply(
    compiler: RowCompiler,
    index: int,
    steps: Sequence[Step],
    rows: int,
    into: dict[int, int],
    ready: When,
    free: When,
    *,
    planes: int = 2,
    adds: bool = False,
    parts: int = 1,
    apart: int = 0,
) -> When:
    """Sums over all steps, of as many rows at a time as pods can hold sums of; weights are loaded from memory once.

    ``into``: by pod, the first P word. ``planes``: words, and sums, of a row. ``adds``: to what is there. ``parts``: in as many
    equal parts the rows lie, ``apart`` words from one to the next; sums lie side by side. Returns when all sums may be read.
    """
    end = 0
    for part, some, row, count in _blocks(parts, rows // parts, most_streamed(compiler, len(steps), planes)):
        first = part * (rows // parts) + row
        for number, (weights, bank, base) in enumerate(steps):
            last = number == len(steps) - 1
            step = TileStep(
                index,
                weights,
                compiler.lanes,
                (bank, base + part * apart + planes * row, planes * some * count),
                accumulate=accumulate_code(number, len(steps)),
                into={pod: word + planes * first for pod, word in into.items()} if last else None,
                adds=adds and last,
                parts=(some, apart),
            )
            end = compiler.epoch.tile(step, ready=ready.now(), free=free.now())
    return When(compiler, end)


def _blocks(parts: int, rows: int, most: int) -> Iterator[tuple[int, int, int, int]]:
    """(first part, parts, first row, rows of each part) of pieces of at most ``most`` rows: some parts, or rows of one."""
    if rows > most:
        yield from ((part, 1, row, count) for part in range(parts) for row, count in chunks(rows, most))
    else:
        yield from ((part, some, 0, rows) for part, some in chunks(parts, most // rows))


def accumulate_code(number: int, count: int) -> Accumulate:
    """Of the tile with that number of the sums of ``count`` tiles."""
    if count == 1:
        return Accumulate.BYPASS
    return Accumulate.ADD if number else Accumulate.INIT


def place(
    compiler: RowCompiler,
    work: Pass,
    home: Home | None,
    ready: When,
    free: When | None = None,
    registers: Registers | None = None,
) -> Done:
    """A pass in this epoch or the next; ``home``: of the tensor that it gives. Raises `WorkloadError` for a multiplier of too
    many bits."""
    _require_scales_fit(compiler, work)
    done: Done | None = None

    def step() -> None:
        nonlocal done
        waits = registers[1] if registers and registers[0].epoch == compiler.epoch.number else None
        done = compiler.epoch.post(work, ready.now(), waits, free.now() if free else 0)

    compiler.attempt(step)
    assert done is not None
    if home:
        home.ready = max(home.ready_in(compiler.epoch.number), done.written)
        home.epoch = compiler.epoch.number
    return done


def _require_scales_fit(compiler: RowCompiler, work: Pass) -> None:
    """Those of constants have been looked at before; what a lowering makes must fit as well."""
    most = max(int(multipliers.max(initial=0)) for sets in work.sets.values() for _, multipliers, _ in sets)
    bits = compiler.config.scale_bits
    if most >= 1 << bits:
        name = compiler.graph.operations[work.operation].name
        raise WorkloadError(
            f"{name}: a pass of it multiplies by {most}, which has {most.bit_length()} bits, more than scale_bits ({bits}) of "
            f"{compiler.config.name}"
        )
