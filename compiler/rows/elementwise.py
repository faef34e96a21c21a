"""Rotations, products, and largest channels: passes of post-processors alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from podweave.ir.constants import Parameters
from podweave.ir.row_operations import Argmax, GatedRows, Product, Rope, RowLinear
from podweave.spec.jobs import Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate, Statistic

from ..chip.bank_words import zero_word
from .compile_rows import Home, RowCompiler
from .epoch import Pass
from .linear import linear_slots
from .passes import (
    SATURATE,
    SCRATCH,
    Targets,
    When,
    alike,
    chunks,
    destination_of,
    lane_set,
    lane_sets,
    of_tiles,
    place,
    result_words,
    targets_of,
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
    layout = compiler.layout_of(operation.gate)
    targets = targets_of(compiler, operation, layout)
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
    targets: Targets,
) -> None:
    """The function of the gate, and the product of all factors and that, from the first on; ``homes``: of the factors."""
    lanes, held = compiler.lanes, compiler.constants[operation.name]
    gate, layout = homes[0], homes[0].layout
    skipped, words = slots.start * layout.tile_words, len(slots) * layout.tile_words
    so_far, cycle = compiler.scratch(operation.name, words)
    count = tiles_of_nodes(layout, slots)

    def work(first: int, second: int | None, to: int, rows: int, **what: Any) -> Pass:
        return Pass(
            operation=index,
            counts=(1 if second is None else 2, len(slots), rows),
            counts_of=count,
            strides=(0 if second is None else second - first, layout.tile_words, 1),
            bases=dict.fromkeys(count, (first, to)),
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
        where: dict[str, Any] = {
            "written": (target.tile_words, target.words),
            "destination": destination_of(kind, operation.format),
        }
        to = home.base + slots.start * target.tile_words + part * target.part_words
        factors_at = so_far + part_of, factor.base + skipped + part_of
        last = work(*factors_at, to, operation.rows, sets=lane_sets(held, layout, slots, part), saturate=Saturate.INT16, **where)
        later = max(ready.now(), factor.ready_in(compiler.epoch.number))
        done = place(compiler, last, home, When(compiler, later), free)
    for home in homes:
        home.read_until(compiler.epoch.number, done.read)
    compiler.pools["p"].give(so_far, words, done.read)


def lower_product(compiler: RowCompiler, index: int, operation: Product) -> None:
    """Pairs, a part at a time; one row by which all are multiplied is written out for each of them first."""
    held = compiler.constants[operation.name]
    left, right = (compiler.home(name, "p") for name in (operation.left, operation.right))
    layout, right_base = left.layout, right.base
    targets = targets_of(compiler, operation, layout)
    count = tiles_of_nodes(layout)
    ready, copied = When(compiler, right.ready_in(compiler.epoch.number)), operation.right_rows < operation.rows
    walk: dict[str, Any] = {"operation": index, "counts_of": count}
    if copied:
        right_base, cycle = compiler.scratch(operation.name, layout.node_words)
        there, free = ready, When(compiler, cycle)
        for part in range(layout.parts):
            row = Pass(
                **walk,
                counts=(1, layout.slots, operation.rows),
                strides=(0, right.layout.tile_words, 0),
                bases=dict.fromkeys(count, (right.base + part, right_base + part * layout.part_words)),
                written=(layout.tile_words, 1),
                sets=of_tiles(layout, range(layout.slots), uniform(compiler.lanes)),
                destination=Destination.STORE,
            )
            done = place(compiler, row, None, there, free)
            ready = When(compiler, done.written)
        right.read_until(compiler.epoch.number, done.read)
    for part, (kind, (home, free)) in itertools.product(range(layout.parts), targets.items()):
        target, first = home.layout, left.base + part * layout.part_words
        to = home.base + part * target.part_words
        work = Pass(
            **walk,
            counts=(2, layout.slots, operation.rows),
            strides=(right_base - left.base, layout.tile_words, 1),
            bases=dict.fromkeys(count, (first, to)),
            written=(target.tile_words, target.words),
            sets=lane_sets(held, layout, part=part),
            reduce=Reduce.PAIR,
            combine=Combine.PRODUCT,
            saturate=Saturate.INT16,
            destination=destination_of(kind, operation.format),
        )
        both = max(ready.now(), left.ready_in(compiler.epoch.number))
        done = place(compiler, work, home, When(compiler, both), free)
    left.read_until(compiler.epoch.number, done.read)
    if copied:
        compiler.pools["p"].give(right_base, layout.node_words, done.read)
    else:
        right.read_until(compiler.epoch.number, done.read)


def lower_argmax(compiler: RowCompiler, index: int, operation: Argmax) -> None:
    """The number of the largest channel in the register of each row, as many rows at a time as there are registers; then that
    less the word that is always 0."""
    post, source = compiler.config.post, compiler.home(operation.source, "p")
    lanes, layout, nodes = compiler.lanes, source.layout, range(compiler.nodes)
    home, cycle = compiler.place(operation.name, "p", compiler.layout_of(operation.name))
    free, length = When(compiler, cycle), compiler.length(operation.width)
    (channels,) = home.layout.channel[0]
    ones = np.ones(1, np.int32)
    one = Parameters((), 0 * ones, ones, 0 * ones)
    for first, rows in chunks(operation.rows, post.row_registers):
        largest = Pass(
            operation=index,
            counts=(1, layout.slots, rows),
            strides=(0, layout.tile_words, 1),
            bases=dict.fromkeys(nodes, (source.base + first, 0)),
            sets=alike(nodes, uniform(lanes)),
            statistic=Statistic.ARGMAX,
            length=length,
            lanes=lanes,
        )
        found = place(compiler, largest, None, When(compiler, source.ready_in(compiler.epoch.number)))
        registers = When(compiler), found.registers
        source.read_until(compiler.epoch.number, found.read)
        number = Pass(
            operation=index,
            counts=(1, 1, rows),
            strides=(0, 0, 0),
            bases={0: (zero_word(compiler.config), home.base + first)},
            written=(0, 1),
            sets={0: [lane_set(one, channels)]},
            destination=Destination.STORE,
            subtract=True,
        )
        place(compiler, number, home, When(compiler), free, registers)
