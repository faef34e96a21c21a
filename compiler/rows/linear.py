"""Rows times weights: tiles for pods, and the passes that scale their sums."""

from __future__ import annotations

import itertools

import numpy as np

from podweave.ir.row_operations import RowLinear

from ..collective.walks import BankWords
from .compile_rows import Home, RowCompiler
from .epoch import Done, Pass
from .layout import RowLayout
from .passes import (
    SATURATE,
    SCRATCH,
    Targets,
    When,
    chunks,
    destination_of,
    lane_sets,
    multiply,
    place,
    targets_of,
    tiles_of_nodes,
    weight_bytes,
)


def lower_linear(compiler: RowCompiler, index: int, operation: RowLinear) -> None:
    """All slots; but what is only read by a product is computed where that is, some slots at a time."""
    if compiler.waits_for_product(operation):
        compiler.waiting[operation.name] = index
        return
    layout = compiler.layout_of(operation.name)
    linear_slots(compiler, index, operation, layout, range(layout.slots), _targets(compiler, operation, layout))
    compiler.release(operation.source)


def linear_slots(
    compiler: RowCompiler, index: int, operation: RowLinear, layout: RowLayout, chosen: range, targets: Targets
) -> None:
    """Tiles of the outputs in some slots, slot by slot; then the passes that scale them, behind the collective of reduced sums."""
    source = compiler.home(operation.source, "x")
    planes = source.layout.words
    sums = layout.parts * planes * operation.rows
    post, p = compiler.config.post, compiler.pools["p"]
    # A pass has a parameter set for each of its slots.
    scaled = max(1, post.parameter_sets // SCRATCH)
    if operation.reduced:
        # In as few collectives as there can be, the same on all chips, wherever words are free.
        most = max(1, int((~p.taken).sum()) // 2 // sums)
    else:
        most = max(1, min(compiler.config.memory.p_words // SCRATCH // sums, scaled))
    for slots in _some(chosen, most):
        base, cycle = compiler.scratch(operation.name, len(slots) * sums)
        ready = _sums(compiler, index, operation, layout, slots, base, When(compiler, cycle))
        source.read_until(compiler.epoch.number, compiler.epoch.pods_free)
        if operation.reduced:
            compiler.reduce(operation.name, _words(layout, slots, base, sums))
            ready = When(compiler)
        read = When(compiler)
        for some in _some(slots, scaled):
            first = base + (some.start - slots.start) * sums
            for part in range(layout.parts):
                for kind, (home, home_free) in targets.items():
                    done = _scale(compiler, index, operation, planes, layout, home, kind, some, part, first, ready, home_free)
                    read = When(compiler, done.read)
        p.give(base, len(slots) * sums, read.now())


def _some(slots: range, most: int) -> list[range]:
    """Pieces of at most so many slots."""
    return [range(first, min(first + most, slots.stop)) for first in range(slots.start, slots.stop, most)]


def _words(layout: RowLayout, slots: range, base: int, sums: int) -> BankWords:
    """P words of the sums of some slots, which lie from ``base`` on in every node."""
    return BankWords.of_runs(
        (layout.node(tile), base + (slot - slots.start) * sums, sums) for slot in slots for tile in layout.tiles_of(slot)
    )


def _sums(compiler: RowCompiler, index: int, operation: RowLinear, layout: RowLayout, slots: range, base: int, free: When) -> When:
    """Tiles of some slots, whose sums lie from ``base`` on. Returns when they may be read."""
    held, source = compiler.constants[operation.name], compiler.home(operation.source, "x")
    units = [(tile, part) for tile in range(source.layout.lead, source.layout.tiles) for part in range(source.layout.parts)]
    planes = source.layout.words
    most_tiles = max(1, compiler.config.memory.w_words // SCRATCH // compiler.lanes)
    ready = When(compiler)
    for slot, part in itertools.product(slots, range(layout.parts)):
        where = base + ((slot - slots.start) * layout.parts + part) * planes * operation.rows
        for begin, count in chunks(len(units), most_tiles):
            some = units[begin : begin + count]

            def stream(
                slot: int = slot,
                part: int = part,
                where: int = where,
                some: list[tuple[int, int]] = some,
                adds: bool = begin > 0,
            ) -> None:
                nonlocal ready
                tiles = layout.tiles_of(slot)
                pods = [layout.node(tile) for tile in tiles]
                inputs = np.stack([source.layout.channel[tile, of] for tile, of in some])
                content = weight_bytes(held.weights[0], inputs, layout.channel[tiles.start : tiles.stop, part])
                name = operation.name
                bases = [compiler.epoch.weight_tiles(pod, own, name) for pod, own in zip(pods, content, strict=True)]
                steps = [
                    (dict(zip(pods, own, strict=True)), source.layout.node(tile), source.base + source.layout.offset(tile, of))
                    for (tile, of), own in zip(some, zip(*bases, strict=True), strict=True)
                ]
                into = dict.fromkeys(pods, where)
                there = When(compiler, source.ready_in(compiler.epoch.number))
                ready = multiply(compiler, index, steps, operation.rows, into, there, free, planes=planes, adds=adds)

            compiler.attempt(stream)
    return ready


def _targets(compiler: RowCompiler, operation: RowLinear, layout: RowLayout) -> Targets:
    """Where results go; with what they are added to."""
    if operation.add:
        home = compiler.homes.pop((operation.add, "p"))
        compiler.homes[operation.name, "p"] = home
        return {"p": (home, When(compiler, home.ready_in(compiler.epoch.number)))}
    return targets_of(compiler, operation, layout)


def _scale(
    compiler: RowCompiler,
    index: int,
    operation: RowLinear,
    planes: int,
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
    to = home.base + slots.start * target.tile_words + part * target.part_words
    work = Pass(
        operation=index,
        counts=(planes, max(count.values()), operation.rows),
        counts_of=count,
        bases=dict.fromkeys(count, (base + part * planes * operation.rows, to)),
        strides=(planes - 1, layout.parts * planes * operation.rows, planes),
        written=(target.tile_words, target.words),
        sets=lane_sets(held, layout, slots, part),
        saturate=SATURATE[operation.format],
        destination=destination_of(kind, operation.format, adds=operation.add is not None),
    )
    return place(compiler, work, home, ready, free)
