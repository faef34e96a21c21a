"""Rotations, and products of what is there with functions of it: passes of post-processors alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from podweave.ir.row_operations import GatedRows, Rope, RowLinear
from podweave.spec.jobs import Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate

from .compile_rows import Home, RowCompiler
from .epoch import Pass
from .linear import linear_slots
from .passes import (
    SATURATE,
    SCRATCH,
    When,
    destination_of,
    lane_set,
    of_tiles,
    place,
    result_words,
    tiles_of_nodes,
    uniform,
)


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


def lower_gated_rows(compiler: RowCompiler, index: int, operation: GatedRows) -> None:
    """As many slots at a time as P banks have room for, if its factors are computed for it; else all."""
    targets = {}
    layout = compiler.layout_of(operation.gate)
    for kind in compiler.homes_of(operation):
        home, cycle = compiler.place(operation.name, kind, layout.with_words(result_words(kind, operation.format)))
        targets[kind] = home, When(compiler, cycle)
    if operation.gate not in compiler.waiting:
        homes = [compiler.home(name, "p") for name in operation.factors]
        _gated_slots(compiler, index, operation, homes, range(layout.slots), targets)
        return
    # Sums, factors, and what becomes of the gate.
    most = max(1, compiler.config.memory.p_words // SCRATCH // ((3 + len(operation.factors)) * layout.tile_words))
    linears = [(compiler.waiting.pop(name), compiler.graph.operations) for name in operation.factors]
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
        _gated_slots(compiler, index, operation, homes, slots, targets)
        for home in homes:
            compiler.pools["p"].give(home.base + first * layout.tile_words, words, home.used_in(compiler.epoch.number))
    for number, operations in linears:
        linear = operations[number]
        assert isinstance(linear, RowLinear)
        compiler.release(linear.source)


def _gated_slots(
    compiler: RowCompiler,
    index: int,
    operation: GatedRows,
    homes: Sequence[Home],
    slots: range,
    targets: dict[str, tuple[Home, When]],
) -> None:
    """The function of the gate, and the product of all factors and that, from the first on; ``homes``: of the factors."""
    lanes, held = compiler.lanes, compiler.constants[operation.name]
    gate, layout = homes[0], homes[0].layout
    skipped, words = slots.start * layout.tile_words, len(slots) * layout.tile_words
    so_far, cycle = compiler.scratch(operation.name, words)
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
    function = work(gate.base + skipped, None, so_far, layout.tile_words, sets=sets, saturate=Saturate.INT8, table=table, **own)
    done = place(compiler, function, None, When(compiler, gate.ready_in(compiler.epoch.number)), When(compiler, cycle))
    sets = of_tiles(layout, slots, uniform(lanes, 1, 15))
    for factor in homes[:-1]:
        product = work(factor.base + skipped, so_far, so_far, layout.tile_words, sets=sets, saturate=Saturate.INT16, **own)
        done = place(compiler, product, None, When(compiler, max(done.written, factor.ready_in(compiler.epoch.number))))
    ready, factor = When(compiler, done.written), homes[-1]
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
        factors_at = so_far + part_of, factor.base + skipped + part_of
        last = work(*factors_at, to, operation.rows, sets=scale, saturate=Saturate.INT16, **where)
        later = max(ready.now(), factor.ready_in(compiler.epoch.number))
        done = place(compiler, last, home, When(compiler, later), free)
    for home in homes:
        home.read_until(compiler.epoch.number, done.read)
    compiler.pools["p"].give(so_far, words, done.read)
