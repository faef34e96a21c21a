"""What each operation on rows becomes: tiles for pods, passes for post-processors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.row_operations import Format, RmsNorm, Rope, RowLinear, SiluProduct
from podweave.spec.jobs import Accumulate, Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate, Scalar, Statistic

from .compile_rows import Home, RowCompiler
from .epoch import Done, Ints, LaneSet, Pass
from .layout import RowLayout

_SCRATCH = 4
"""Of a P bank, one part in so many is for sums that wait for their pass; of a W bank, for the weights of one sum."""
_SATURATE = {Format.INT8: Saturate.INT8, Format.INT16: Saturate.INT16, Format.WIDE: Saturate.WIDE}


Step = tuple[dict[int, int], int, int]
"""By pod, the first word of a tile of weights in its W bank; the X bank and the first word of what is multiplied by it."""


class When:
    """A cycle of an epoch; in any later epoch, it is over."""

    def __init__(self, compiler: RowCompiler, cycle: int = 0):
        self.compiler, self.epoch, self.cycle = compiler, compiler.epoch.number, cycle

    def now(self) -> int:
        """As a cycle of the epoch that is on."""
        return self.cycle if self.epoch == self.compiler.epoch.number else 0


def lane_set(held: Parameters, channels: Ints) -> LaneSet:
    """Bias, multiplier and shift of the channels of a word; 0 where there is none."""
    there = channels >= 0
    return tuple(np.where(there, part[channels], 0).astype(np.int64) for part in (held.bias, held.multiplier, held.shift))  # type: ignore[return-value]


def uniform(lanes: int, multiplier: int = 1, shift: int = 0, bias: Ints | None = None) -> LaneSet:
    """The same for all lanes."""
    zero = np.zeros(lanes, np.int64)
    return (zero if bias is None else bias), zero + multiplier, zero + shift


def alike(nodes: Iterable[int], one: LaneSet) -> dict[int, list[LaneSet]]:
    """The same for all words of a row, in each of some nodes."""
    return {node: [one] for node in nodes}


def destination_of(kind: str, form: Format, *, adds: bool = False) -> Destination:
    if adds:
        return Destination.ADD
    if kind == "p":
        return Destination.STORE
    return Destination.PLANES if form is Format.INT16 else Destination.X


def result_words(kind: str, form: Format) -> int:
    """Words of a row in a bank."""
    return 2 if kind == "x" and form is Format.INT16 else 1


def chunks(rows: int, most: int) -> list[tuple[int, int]]:
    """(first row, rows) of pieces of at most ``most`` rows, as even as can be."""
    count = -(-rows // most)
    edges = [rows * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def most_streamed(compiler: RowCompiler, steps: int) -> int:
    """Rows whose sums a pod can hold."""
    depth = compiler.config.pod.accumulator_rows if steps > 1 else 2**compiler.config.pod.count_width - 1
    return max(1, depth // 2)


def weight_bytes(weights: NDArray[np.int8], inputs: Ints, outputs: Ints) -> NDArray[np.uint8]:
    """(rows, cols) bytes of a tile: weights (inputs, outputs) of the channels in its lanes, 0 where there is none."""
    there = (inputs >= 0)[:, None] & (outputs >= 0)[None, :]
    return np.where(there, weights[inputs[:, None], outputs[None, :]], 0).astype(np.int8).view(np.uint8)


def lower_linear(compiler: RowCompiler, index: int, operation: RowLinear) -> None:
    """Tiles of all its outputs, slot by slot; then the passes that scale them."""
    held, source = compiler.constants[operation.name], compiler.home(operation.source, "x")
    layout = compiler.layout_of(operation.name, operation.rows, operation.outputs, 1)
    targets = _targets(compiler, operation, layout)
    units = [(tile, part) for tile in range(source.layout.tiles) for part in range(source.layout.parts)]
    sums = layout.parts * 2 * operation.rows
    most = max(1, (compiler.config.memory.p_words // _SCRATCH) // sums)
    for first in range(0, layout.slots, most):
        slots = range(first, min(first + most, layout.slots))
        base, cycle = compiler.scratch(operation.name, len(slots) * sums)
        free, ready = When(compiler, cycle), When(compiler)
        for slot in slots:
            for part in range(layout.parts):
                where = base + (slot - first) * sums + part * 2 * operation.rows

                for begin, count in chunks(len(units), compiler.config.memory.w_words // _SCRATCH // compiler.lanes):
                    some = units[begin : begin + count]

                    def stream(
                        slot: int = slot,
                        part: int = part,
                        where: int = where,
                        some: list[tuple[int, int]] = some,
                        adds: bool = begin > 0,
                        free: When = free,
                    ) -> None:
                        nonlocal ready
                        tiles = layout.tiles_of(slot)
                        steps = []
                        for tile, of in some:
                            inputs = source.layout.channel[tile, of]
                            weights = {
                                layout.node(t): compiler.epoch.weights(
                                    layout.node(t), weight_bytes(held.weights[0], inputs, layout.channel[t, part])
                                )
                                for t in tiles
                            }
                            steps.append((weights, source.layout.node(tile), source.base + source.layout.offset(tile, of)))
                        into = dict.fromkeys(map(layout.node, tiles), where)
                        there = When(compiler, source.ready_in(compiler.epoch.number))
                        ready = multiply(compiler, index, steps, operation.rows, into, there, free, adds=adds)

                    compiler.attempt(stream)
        source.used = compiler.epoch.pods_free
        read = When(compiler)
        for part in range(layout.parts):
            for kind, (home, home_free) in targets.items():
                done = _scale(compiler, index, operation, layout, home, kind, slots, part, base, ready, home_free)
                read = When(compiler, done.read)
        compiler.pools["p"].give(base, len(slots) * sums, read.now())


def multiply(
    compiler: RowCompiler,
    index: int,
    steps: Sequence[Step],
    rows: int,
    into: dict[int, int],
    ready: When,
    free: When,
    *,
    adds: bool = False,
) -> When:
    """Sums over all steps, of as many rows at a time as pods can hold sums of; weights are loaded from memory once.

    ``into``: by pod, the first P word. ``adds``: to what is there. Returns when all sums may be read.
    """
    end = 0
    for row, count in chunks(rows, most_streamed(compiler, len(steps))):
        for number, (weights, bank, base) in enumerate(steps):
            last = number == len(steps) - 1
            end = compiler.epoch.tile(
                index,
                weights,
                compiler.lanes,
                (bank, base + 2 * row, 2 * count),
                accumulate=accumulate_code(number, len(steps)),
                into={pod: word + 2 * row for pod, word in into.items()} if last else None,
                adds=adds and last,
                ready=ready.now(),
                free=free.now(),
            )
    return When(compiler, end)


def accumulate_code(number: int, count: int) -> Accumulate:
    """Of the tile with that number of the sums of ``count`` tiles."""
    if count == 1:
        return Accumulate.BYPASS
    return Accumulate.ADD if number else Accumulate.INIT


def _targets(compiler: RowCompiler, operation: RowLinear, layout: RowLayout) -> dict[str, tuple[Home, When]]:
    """Where results go, by kind of bank, and from when on they may be written."""
    if operation.add:
        home = compiler.homes.pop((operation.add, "p"))
        compiler.homes[operation.name, "p"] = home
        return {"p": (home, When(compiler, home.ready_in(compiler.epoch.number)))}
    targets = {}
    for kind in compiler.homes_of(operation):
        spread = RowLayout(layout.rows, layout.nodes, result_words(kind, operation.format), layout.channel)
        home, free = compiler.place(operation.name, kind, spread)
        targets[kind] = home, When(compiler, free)
    return targets


def _scale(
    compiler: RowCompiler,
    index: int,
    operation: RowLinear,
    layout: RowLayout,
    home: Home,
    kind: str,
    slots: range,
    part: int,
    base: int,
    ready: When,
    free: When,
) -> Done:
    """A pass over the sums of some slots of a part."""
    held, target = compiler.constants[operation.name], home.layout
    count = tiles_of_nodes(layout, slots)
    nodes = [node for node, tiles in count.items() if tiles]
    to = home.base + slots.start * target.tile_words + part * target.part_words
    work = Pass(
        operation=index,
        counts=(2, max(count.values()), operation.rows),
        counts_of=count,
        bases=dict.fromkeys(nodes, (base + part * 2 * operation.rows, to)),
        strides=(1, layout.parts * 2 * operation.rows, 2),
        written=(target.tile_words, target.words),
        sets={
            node: [lane_set(held, layout.channel[slot * layout.nodes + node, part]) for slot in slots[: count[node]]]
            for node in nodes
        },
        saturate=_SATURATE[operation.format],
        destination=destination_of(kind, operation.format, adds=operation.add is not None),
    )
    return place(compiler, work, home, ready, free)


def place(
    compiler: RowCompiler,
    work: Pass,
    home: Home | None,
    ready: When,
    free: When | None = None,
    registers: tuple[When, Ints] | None = None,
) -> Done:
    """A pass in this epoch or the next; ``home``: of the tensor that it gives."""
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


def tiles_of_nodes(layout: RowLayout, slots: range | None = None) -> dict[int, int]:
    """How many tiles, of some slots or all, each node has."""
    chosen = range(layout.slots) if slots is None else slots
    return {node: sum(slot * layout.nodes + node < layout.tiles for slot in chosen) for node in range(layout.nodes)}


def lower_rms_norm(compiler: RowCompiler, index: int, operation: RmsNorm) -> None:
    """As many rows at a time as there are registers."""
    post, source = compiler.config.post, compiler.home(operation.source, "p")
    assert post is not None
    (kind,) = compiler.homes_of(operation)
    target = RowLayout(operation.rows, source.layout.nodes, result_words(kind, operation.format), source.layout.channel)
    home, cycle = compiler.place(operation.name, kind, target)
    free = When(compiler, cycle)
    for first, rows in chunks(operation.rows, post.row_registers):
        _norm_rows(compiler, index, operation, source, (kind, home, free), first, rows)


def _norm_rows(
    compiler: RowCompiler, index: int, operation: RmsNorm, source: Home, to: tuple[str, Home, When], first: int, rows: int
) -> None:
    """Values in 16 bits; their squares, summed up; values times the root of that."""
    lanes, nodes, layout = compiler.lanes, range(compiler.nodes), source.layout
    held, (kind, home, free) = compiler.constants[operation.name], to
    small, cycle = compiler.scratch(operation.name, layout.slots * rows)
    every, count = (layout.slots, rows), tiles_of_nodes(layout)
    done = place(
        compiler,
        Pass(
            operation=index,
            counts=(1, *every),
            strides=(0, layout.tile_words, 1),
            bases=dict.fromkeys(nodes, (source.base + first, small)),
            written=(rows, 1),
            sets=alike(nodes, uniform(lanes, 1, operation.scale_shift)),
            saturate=Saturate.INT16,
            destination=Destination.STORE,
        ),
        None,
        When(compiler, source.ready_in(compiler.epoch.number)),
        When(compiler, cycle),
    )
    length = compiler.length(("channels", operation.width), None, np.zeros(0, np.int64), np.array([operation.width]))
    epsilon = np.zeros(lanes, np.int64)
    epsilon[0] = operation.epsilon
    squares = place(
        compiler,
        Pass(
            operation=index,
            counts=(2, *every),
            strides=(0, rows, 1),
            bases=dict.fromkeys(nodes, (small, 0)),
            # One of the nodes adds epsilon, once.
            sets={node: [uniform(lanes, bias=None if node else epsilon)] for node in nodes},
            reduce=Reduce.PAIR,
            combine=Combine.PRODUCT,
            statistic=Statistic.SUM,
            scalar=Scalar.RSQRT,
            length=length,
            lanes=lanes,
        ),
        None,
        When(compiler, done.written),
    )
    roots = When(compiler), squares.registers
    compiler.pools["p"].give(small, layout.slots * rows, squares.read)
    shifts = Parameters((), held.bias, held.multiplier, held.shift + operation.scale_shift)
    target = home.layout
    last = place(
        compiler,
        Pass(
            operation=index,
            counts=(1, *every),
            counts_of=count,
            strides=(0, layout.tile_words, 1),
            bases={node: (source.base + first, home.base + first * target.words) for node in nodes if count[node]},
            written=(target.tile_words, target.words),
            sets={
                node: [lane_set(shifts, layout.channel[slot * layout.nodes + node, 0]) for slot in range(count[node])]
                for node in nodes
            },
            saturate=Saturate.INT16,
            destination=destination_of(kind, operation.format),
            row_scale=True,
        ),
        home,
        When(compiler, source.ready_in(compiler.epoch.number)),
        free,
        roots,
    )
    source.used = last.read


def lower_rope(compiler: RowCompiler, index: int, operation: Rope) -> None:
    """Pairs of an angle and a value, a slot and a part at a time."""
    held, source, angles = (
        compiler.constants[operation.name],
        compiler.home(operation.source, "p"),
        compiler.home(operation.angles, "p"),
    )
    layout = source.layout
    for kind in compiler.homes_of(operation):
        target = RowLayout(operation.rows, layout.nodes, result_words(kind, operation.format), layout.channel)
        home, free = compiler.place(operation.name, kind, target)
        for slot in range(layout.slots):
            nodes = [layout.node(tile) for tile in layout.tiles_of(slot)]
            for part in range(layout.parts):
                value = source.base + slot * layout.tile_words + part * layout.part_words
                angle = angles.base + slot * angles.layout.tile_words
                to = home.base + slot * target.tile_words + part * target.part_words
                work = Pass(
                    operation=index,
                    counts=(2, 1, operation.rows),
                    strides=(value - angle, 0, 1),
                    bases=dict.fromkeys(nodes, (angle, to)),
                    written=(0, target.words),
                    sets={node: [lane_set(held, layout.channel[slot * layout.nodes + node, part])] for node in nodes},
                    reduce=Reduce.PAIR,
                    combine=Combine.ROTATE,
                    saturate=_SATURATE[operation.format],
                    destination=destination_of(kind, operation.format),
                )
                ready = max(source.ready_in(compiler.epoch.number), angles.ready_in(compiler.epoch.number))
                done = place(compiler, work, home, When(compiler, ready), When(compiler, free))
        source.used = angles.used = done.read


def lower_silu_product(compiler: RowCompiler, index: int, operation: SiluProduct) -> None:
    """The sigmoid of the gate, the gate times that, and the product of both."""
    lanes, nodes, held = compiler.lanes, range(compiler.nodes), compiler.constants[operation.name]
    gate, up = compiler.home(operation.gate, "p"), compiler.home(operation.up, "p")
    layout = gate.layout
    sigmoid, cycle = compiler.scratch(operation.name, layout.node_words)
    count = tiles_of_nodes(layout)
    some = [node for node in nodes if count[node]]

    def work(first: int, second: int | None, to: int, **what: object) -> Pass:
        return Pass(
            operation=index,
            counts=(1 if second is None else 2, layout.slots, operation.rows),
            counts_of=count,
            strides=(0 if second is None else second - first, layout.tile_words, 1),
            bases=dict.fromkeys(some, (first, to)),
            reduce=Reduce.MAX if second is None else Reduce.PAIR,
            combine=Combine.VALUE if second is None else Combine.PRODUCT,
            **what,  # type: ignore[arg-type]
        )

    own: dict[str, object] = {"destination": Destination.STORE, "written": (layout.tile_words, 1)}
    sets = alike(some, uniform(lanes, 1, operation.fraction - 4))
    table = compiler.constants.table_of[operation.name]
    first = work(gate.base, None, sigmoid, sets=sets, saturate=Saturate.INT8, table=table, **own)
    done = place(compiler, first, None, When(compiler, gate.ready_in(compiler.epoch.number)), When(compiler, cycle))
    sets = alike(some, uniform(lanes, 1, 15))
    second = work(gate.base, sigmoid, sigmoid, sets=sets, saturate=Saturate.INT16, **own)
    done = place(compiler, second, None, When(compiler, done.written))
    ready = When(compiler, done.written)
    for kind in compiler.homes_of(operation):
        target = RowLayout(operation.rows, layout.nodes, result_words(kind, operation.format), layout.channel)
        home, free = compiler.place(operation.name, kind, target)
        scale = {
            node: [lane_set(held, layout.channel[slot * layout.nodes + node, 0]) for slot in range(count[node])] for node in some
        }
        where = {"written": (target.tile_words, target.words), "destination": destination_of(kind, operation.format)}
        last = work(sigmoid, up.base, home.base, sets=scale, saturate=Saturate.INT16, **where)
        later = max(ready.now(), up.ready_in(compiler.epoch.number))
        done = place(compiler, last, home, When(compiler, later), When(compiler, free))
    gate.used = up.used = done.read
    compiler.pools["p"].give(sigmoid, layout.node_words, done.read)
