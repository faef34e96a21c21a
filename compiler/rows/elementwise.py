"""Norms, rotations and products: passes of post-processors alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from podweave.ir.constants import Parameters
from podweave.ir.row_operations import RmsNorm, Rope, RowLinear, SiluProduct
from podweave.spec.jobs import Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate, Scalar, Statistic

from .compile_rows import Home, RowCompiler
from .epoch import Pass
from .linear import linear_slots
from .passes import (
    SATURATE,
    SCRATCH,
    When,
    alike,
    chunks,
    destination_of,
    lane_set,
    of_tiles,
    place,
    result_words,
    tiles_of_nodes,
    uniform,
)


def lower_rms_norm(compiler: RowCompiler, index: int, operation: RmsNorm) -> None:
    """As many rows at a time as there are registers."""
    post, source = compiler.config.post, compiler.home(operation.source, "p")
    assert post is not None
    targets = {}
    for kind in compiler.homes_of(operation):
        home, cycle = compiler.place(operation.name, kind, source.layout.with_words(result_words(kind, operation.format)))
        targets[kind] = home, When(compiler, cycle)
    for first, rows in chunks(operation.rows, post.row_registers):
        _norm_rows(compiler, index, operation, source, targets, first, rows)


def _norm_rows(
    compiler: RowCompiler, index: int, operation: RmsNorm, source: Home, to: dict[str, tuple[Home, When]], first: int, rows: int
) -> None:
    """Values in 16 bits; their squares, summed up; values times the root of that."""
    lanes, nodes, layout = compiler.lanes, range(compiler.nodes), source.layout
    held = compiler.constants[operation.name]
    length = compiler.length(("channels", operation.width), None, np.zeros(0, np.int64), np.array([operation.width]))
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
            # Where there are no channels, nobody may have written anything.
            length=length,
            lanes=lanes,
        ),
        None,
        When(compiler, source.ready_in(compiler.epoch.number)),
        When(compiler, cycle),
    )
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
    for kind, (home, free) in to.items():
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
    source.read_until(compiler.epoch.number, last.read)


def lower_rope(compiler: RowCompiler, index: int, operation: Rope) -> None:
    """Pairs of an angle and a value, a slot and a part at a time."""
    held, source, angles = (
        compiler.constants[operation.name],
        compiler.home(operation.source, "p"),
        compiler.angles[operation.name],
    )
    layout = source.layout
    for kind in compiler.homes_of(operation):
        target = layout.with_words(result_words(kind, operation.format))
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
                    saturate=SATURATE[operation.format],
                    destination=destination_of(kind, operation.format),
                )
                ready = max(source.ready_in(compiler.epoch.number), angles.ready_in(compiler.epoch.number))
                done = place(compiler, work, home, When(compiler, ready), When(compiler, free))
        source.read_until(compiler.epoch.number, done.read)
        angles.read_until(compiler.epoch.number, done.read)


def lower_silu_product(compiler: RowCompiler, index: int, operation: SiluProduct) -> None:
    """As many slots at a time as P banks have room for, if its factors are computed for it; else all."""
    targets = {}
    layout = compiler.layout_of(operation.gate)
    for kind in compiler.homes_of(operation):
        home, cycle = compiler.place(operation.name, kind, layout.with_words(result_words(kind, operation.format)))
        targets[kind] = home, When(compiler, cycle)
    factors = operation.gate, operation.up
    if operation.gate not in compiler.waiting:
        homes = [compiler.home(name, "p") for name in factors]
        _product_slots(compiler, index, operation, (homes[0], homes[1]), range(layout.slots), targets)
        return
    # Sums, both factors, and what becomes of the gate.
    most = max(1, compiler.config.memory.p_words // SCRATCH // (5 * layout.tile_words))
    linears = [(compiler.waiting.pop(name), compiler.graph.operations) for name in factors]
    for first in range(0, layout.slots, most):
        slots = range(first, min(first + most, layout.slots))
        homes, words = [], len(slots) * layout.tile_words
        for number, operations in linears:
            linear = operations[number]
            assert isinstance(linear, RowLinear)
            base, cycle = compiler.scratch(linear.name, words)
            # As if all slots were there.
            home = Home("p", layout, base - first * layout.tile_words, compiler.epoch.number)
            linear_slots(compiler, number, linear, layout, slots, {"p": (home, When(compiler, cycle))})
            homes.append(home)
        _product_slots(compiler, index, operation, (homes[0], homes[1]), slots, targets)
        for home in homes:
            compiler.pools["p"].give(home.base + first * layout.tile_words, words, home.used_in(compiler.epoch.number))
    for number, operations in linears:
        linear = operations[number]
        assert isinstance(linear, RowLinear)
        compiler.release(linear.source)


def _product_slots(
    compiler: RowCompiler,
    index: int,
    operation: SiluProduct,
    factors: tuple[Home, Home],
    slots: range,
    targets: dict[str, tuple[Home, When]],
) -> None:
    """The sigmoid of the gate, the gate times that, and the product of both."""
    lanes, held, (gate, up) = compiler.lanes, compiler.constants[operation.name], factors
    layout = gate.layout
    skipped, words = slots.start * layout.tile_words, len(slots) * layout.tile_words
    sigmoid, cycle = compiler.scratch(operation.name, words)
    count = tiles_of_nodes(layout, slots)
    some = [node for node, tiles in count.items() if tiles]

    def work(first: int, second: int | None, to: int, rows: int, **what: Any) -> Pass:
        return Pass(
            operation=index,
            counts=(1 if second is None else 2, len(slots), rows),
            counts_of=count,
            strides=(0 if second is None else second - first, layout.tile_words, 1),
            bases=dict.fromkeys(some, (first, to)),
            reduce=Reduce.MAX if second is None else Reduce.PAIR,
            combine=Combine.VALUE if second is None else Combine.PRODUCT,
            **what,
        )

    own: dict[str, Any] = {"destination": Destination.STORE, "written": (layout.tile_words, 1)}
    sets = of_tiles(layout, slots, uniform(lanes, 1, operation.fraction - 4))
    table = compiler.constants.table_of[operation.name]
    first = work(gate.base + skipped, None, sigmoid, layout.tile_words, sets=sets, saturate=Saturate.INT8, table=table, **own)
    done = place(compiler, first, None, When(compiler, gate.ready_in(compiler.epoch.number)), When(compiler, cycle))
    sets = of_tiles(layout, slots, uniform(lanes, 1, 15))
    ready = When(compiler, done.written)
    second = work(gate.base + skipped, sigmoid, sigmoid, layout.tile_words, sets=sets, saturate=Saturate.INT16, **own)
    done = place(compiler, second, None, ready)
    ready = When(compiler, done.written)
    for part, (kind, (home, free)) in itertools.product(range(layout.parts), targets.items()):
        target, part_of = home.layout, part * layout.part_words
        scale = {
            node: [lane_set(held, layout.channel[slot * layout.nodes + node, part]) for slot in slots[: count[node]]]
            for node in some
        }
        where: dict[str, Any] = {
            "written": (target.tile_words, target.words),
            "destination": destination_of(kind, operation.format),
        }
        to = home.base + slots.start * target.tile_words + part * target.part_words
        factors_at = sigmoid + part_of, up.base + skipped + part_of
        last = work(*factors_at, to, operation.rows, sets=scale, saturate=Saturate.INT16, **where)
        later = max(ready.now(), up.ready_in(compiler.epoch.number))
        done = place(compiler, last, home, When(compiler, later), free)
    gate.read_until(compiler.epoch.number, done.read)
    up.read_until(compiler.epoch.number, done.read)
    compiler.pools["p"].give(sigmoid, words, done.read)
