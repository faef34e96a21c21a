"""Norms: statistics of rows, and what they make of rows; passes of post-processors alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from podweave.ir.constants import Parameters
from podweave.ir.mean_norms import mean_shifts
from podweave.ir.row_operations import LayerNorm, Norm, RmsNorm
from podweave.spec.jobs import Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate, Scalar, Statistic

from ..chip.bank_words import zero_word
from .compile_rows import Home, RowCompiler
from .epoch import Done, LaneSet, Pass
from .passes import (
    SCRATCH,
    Registers,
    Targets,
    When,
    alike,
    chunks,
    destination_of,
    lane_sets,
    place,
    targets_of,
    tiles_of_nodes,
    uniform,
)

Place = tuple[int, int]
"""The first of the words of rows, and how far those of the next slot are from those of a slot."""


def lower_rms_norm(compiler: RowCompiler, index: int, operation: RmsNorm) -> None:
    """Values in 16 bits; their squares, summed up; values times the root of that."""
    held = compiler.constants[operation.name]
    shifts = Parameters((), held.bias, held.multiplier, held.shift + operation.scale_shift)
    targets = targets_of(compiler, operation, compiler.home(operation.source, "p").layout)
    for rows in _pieces(compiler, index, operation, operation.rows):
        roots = rows.roots(rows.in_16_bits(rows.source, operation.scale_shift, rows.there()))
        rows.results(rows.source, targets, shifts, rows.there(), roots, row_scale=True)
        rows.over()


def lower_layer_norm(compiler: RowCompiler, index: int, operation: LayerNorm) -> None:
    """Rows, summed up; values times the number of channels; the sum without those, which is so many times the mean less the value.
    Then as for a norm by squares, but that gain and bias are taken by a pass of their own: one that scales by row has no multiplier
    left. It subtracts from 0, which gives the sign back.

    What the sum leaves is computed twice, in 16 bits for the squares and as it is: neither waits for the other, and zeros are made
    while the first of both waits for its words.
    """
    held, lanes = compiler.constants[operation.name], compiler.lanes
    before, behind = mean_shifts(operation.width, operation.scale_shift)
    one, channels = uniform(lanes), uniform(lanes, operation.width)
    targets = targets_of(compiler, operation, compiler.home(operation.source, "p").layout)
    # What is left of them, and the same in 16 bits; each row has two registers.
    words = 2 * compiler.home(operation.source, "p").layout.slots
    most = min(compiler.config.memory.p_words // SCRATCH // words, compiler.config.post.row_registers // 2)
    signed = bool((held.multiplier < 0).any())
    for rows in _pieces(compiler, index, operation, max(1, most)):
        base, cycle = rows.scratch()
        wide, free = (base, rows.rows), When(compiler, cycle)
        source, ready = rows.source, rows.there()
        if before:
            done = rows.own(source, wide, uniform(lanes, 1, before), ready, free)
            rows.over()
            source, ready = wide, When(compiler, done.written)
        summed = rows.everywhere(source, None, one, ready, statistic=Statistic.SUM)
        sums = When(compiler), summed.registers
        done = rows.own(source, wide, channels, ready, free)
        if not before:
            rows.over()
        zeros = None if signed else rows.zeros()
        times = When(compiler, done.written)
        left: dict[str, Any] = {"registers": sums, "subtract": True}
        small = rows.in_16_bits(wide, behind, times, **left)
        done = rows.own(wide, wide, one, times, free, **left)
        roots = rows.roots(small)
        work: dict[str, Any] = {"saturate": Saturate.INT16, "row_scale": True}
        done = rows.own(wide, wide, uniform(lanes, 1, behind), When(compiler, done.written), free, roots, **work)
        there = When(compiler, done.written)
        if signed:
            last = rows.signed_results(wide, targets, held, there)
        else:
            last = rows.results(wide, targets, held, there, zeros, subtract=True, row=rows.rows)
        compiler.pools["p"].give(base, rows.words, last.read)


def _pieces(compiler: RowCompiler, index: int, operation: Norm, most: int) -> Iterator[_Rows]:
    """At most so many rows at a time, and as many as there are registers."""
    post = compiler.config.post
    for first, rows in chunks(operation.rows, min(most, post.row_registers)):
        yield _Rows(compiler, index, operation, first, rows)


class _Rows:
    """``rows`` rows of a norm, from ``first`` on."""

    def __init__(self, compiler: RowCompiler, index: int, operation: Norm, first: int, rows: int):
        self.compiler, self.index, self.operation, self.first, self.rows = compiler, index, operation, first, rows
        self.home = compiler.home(operation.source, "p")
        self.layout = self.home.layout
        self.source: Place = self.home.base + first, self.layout.tile_words
        self.words = self.layout.slots * rows
        self.nodes, self.count = range(compiler.nodes), tiles_of_nodes(self.layout)
        self.length = compiler.length(operation.width)
        self.read = 0

    def there(self) -> When:
        """When all of the source may be read."""
        return When(self.compiler, self.home.ready_in(self.compiler.epoch.number))

    def over(self) -> None:
        """Passes up to the last one have read the source."""
        self.home.read_until(self.compiler.epoch.number, self.read)

    def scratch(self) -> tuple[int, int]:
        """Room for a word of each, and the cycle from which it may be written."""
        return self.compiler.scratch(self.operation.name, self.words)

    def own(
        self, words: Place, to: Place, lanes: LaneSet, ready: When, free: When, registers: Registers | None = None, **what: Any
    ) -> Done:
        """A pass that leaves a word for each in the own P bank, where there are channels."""
        bases = dict.fromkeys(self.count, (words[0], to[0]))
        what |= {"counts_of": self.count, "destination": Destination.STORE, "written": (to[1], 1), "sets": alike(self.count, lanes)}
        return self._placed(words, bases, None, ready, free, registers, **what)

    def everywhere(
        self, words: Place, to: Place | None, lanes: LaneSet, ready: When, free: When | None = None, **what: Any
    ) -> Done:
        """A pass in all nodes: where there are no channels, nobody may have written anything, and nothing is made of it."""
        if to:
            what |= {"destination": Destination.STORE, "written": (to[1], 1)}
        what |= {"length": self.length, "lanes": self.compiler.lanes}
        bases = dict.fromkeys(self.nodes, (words[0], to[0] if to else 0))
        return self._placed(words, bases, None, ready, free, **({"sets": alike(self.nodes, lanes)} | what))

    def zeros(self) -> Registers:
        """A statistic of 0 for each row, in the registers behind theirs."""
        zero: dict[str, Any] = {"counts": (1, 1, self.rows), "strides": (0, 0, 0), "row": self.rows, "statistic": Statistic.SUM}
        bases = dict.fromkeys(self.nodes, (zero_word(self.compiler.config), 0))
        sets = alike(self.nodes, uniform(self.compiler.lanes))
        done = self._placed((0, 0), bases, None, When(self.compiler), sets=sets, **zero)
        return When(self.compiler), done.registers

    def in_16_bits(self, words: Place, shift: int, ready: When, **what: Any) -> tuple[int, When]:
        """What is to be squared: the first of its words, and when they may be read."""
        base, cycle = self.scratch()
        free, scale = When(self.compiler, cycle), uniform(self.compiler.lanes, 1, shift)
        done = self.everywhere(words, (base, self.rows), scale, ready, free, saturate=Saturate.INT16, **what)
        return base, When(self.compiler, done.written)

    def roots(self, small: tuple[int, When]) -> Registers:
        """The root of the sum of squares of each row, in its register; nobody needs what is squared any more."""
        compiler, lanes, (base, ready) = self.compiler, self.compiler.lanes, small
        epsilon = np.zeros(lanes, np.int64)
        epsilon[0] = self.operation.epsilon
        # One of the nodes adds epsilon, once.
        sets = {node: [uniform(lanes, bias=None if node else epsilon)] for node in self.nodes}
        work: dict[str, Any] = {"reduce": Reduce.PAIR, "combine": Combine.PRODUCT, "sets": sets}
        work |= {"statistic": Statistic.SUM, "scalar": Scalar.RSQRT, "window": 2}
        squares = self.everywhere((base, self.rows), None, uniform(lanes), ready, **work)
        compiler.pools["p"].give(base, self.words, squares.read)
        return When(compiler), squares.registers

    def signed_results(self, words: Place, targets: Targets, held: Parameters, ready: When) -> Done:
        """The same of negative values, and multipliers of either sign: values times a sign, which stands beside each of them."""
        compiler, sign = self.compiler, np.where(held.multiplier < 0, -1, 1).astype(np.int32)
        base, cycle = self.scratch()
        # A sign is the bias of what is always 0.
        signs = Parameters((), -sign, np.ones_like(sign), np.zeros_like(sign))
        work: dict[str, Any] = {"counts_of": self.count, "destination": Destination.STORE, "written": (self.rows, 1)}
        bases = dict.fromkeys(self.count, (zero_word(compiler.config), base))
        zero: dict[str, Any] = {"strides": (0, 0, 0), "sets": lane_sets(signs, self.layout)}
        done = self._placed((0, 0), bases, None, When(compiler), When(compiler, cycle), **zero, **work)
        positive = Parameters((), held.bias * sign, np.abs(held.multiplier), held.shift)
        later = When(compiler, max(ready.now(), done.written))
        pair: dict[str, Any] = {"window": 2, "reduce": Reduce.PAIR, "combine": Combine.PRODUCT}
        last = self.results(words, targets, positive, later, **pair, strides=(base - words[0], words[1], 1))
        compiler.pools["p"].give(base, self.words, last.read)
        return last

    def results(
        self, words: Place, targets: Targets, held: Parameters, ready: When, registers: Registers | None = None, **what: Any
    ) -> Done:
        """Passes that scale by channel, or by row with a shift by channel, into all banks where results go."""
        for home, free in targets.values():
            target = home.layout
            to = home.base + self.first * target.words
            last = self._placed(
                words,
                dict.fromkeys(self.count, (words[0], to)),
                home,
                ready,
                free,
                registers,
                counts_of=self.count,
                written=(target.tile_words, target.words),
                sets=lane_sets(held, self.layout),
                saturate=Saturate.INT16,
                destination=destination_of(home.kind, self.operation.format),
                **what,
            )
        return last

    def _placed(
        self,
        words: Place,
        bases: dict[int, Place],
        home: Home | None,
        ready: When,
        free: When | None = None,
        registers: Registers | None = None,
        *,
        window: int = 1,
        **what: Any,
    ) -> Done:
        walk: dict[str, Any] = {"counts": (window, self.layout.slots, self.rows), "strides": (0, words[1], 1), "bases": bases}
        done = place(self.compiler, Pass(operation=self.index, **(walk | what)), home, ready, free, registers)
        self.read = done.read
        return done
