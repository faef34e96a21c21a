"""An operation on its way through the compiler: which of its steps all column tiles share, and what of their sources they read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from podweave.ir.operations import Linear

from ..lower.boxes import Box
from ..lower.layer import Region, Step, Unit
from ..lower.operation import LoweredOperation

Reference = tuple[int, int]
"""(operand, step) of an operation: a K step of any of its column tiles."""


@dataclass
class OperationPlan:
    """An operation on its way through the compiler.

    ``shared``: the K steps whose activations all column tiles share. ``own``: the other steps of each column tile. ``reach``: per
    operand and unit, how far beyond the first its steps read, in rows and columns. ``few_jobs``: steps are in the order that takes
    fewer jobs, and not in that in which units are sent.
    """

    index: int
    operation: Linear
    lowering: LoweredOperation
    shared: list[Reference]
    own: list[list[Reference]]
    reach: list[dict[int, tuple[int, int]]]
    few_jobs: bool = True
    _parts: dict[int, list[list[Reference]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, index: int, operation: Linear, lowering: LoweredOperation, *, few_jobs: bool = True) -> OperationPlan:
        shared: list[Reference] = []
        own: list[list[Reference]] = [[] for _ in lowering.tiles]
        reach: list[dict[int, tuple[int, int]]] = []
        for number, lowered in enumerate(lowering.operands):
            walks = [[(s.unit, s.dh, s.dw) for s in tile.steps] for tile in lowered.tiles]
            if all(walk == walks[0] for walk in walks):
                shared += [(number, i) for i in range(len(walks[0]))]
            else:
                for steps, walk in zip(own, walks, strict=True):
                    steps += [(number, i) for i in range(len(walk))]
            reaches: dict[int, tuple[int, int]] = {}
            for unit, dh, dw in itertools.chain.from_iterable(walks):
                high, wide = reaches.get(unit, (0, 0))
                reaches[unit] = (max(high, dh), max(wide, dw))
            reach.append(reaches)
        return cls(index, operation, lowering, shared, own, reach, few_jobs)

    @property
    def shared_units(self) -> list[Unit]:
        """Units that the shared steps read, each once."""
        numbers = dict.fromkeys((operand, self.step(0, (operand, index)).unit) for operand, index in self.shared)
        return [self.lowering.operands[operand].units[unit] for operand, unit in numbers]

    def parts(self, split: int) -> list[list[Reference]]:
        """The shared steps in so many parts. If each can have as much of what was stored as of all else, it has: or the X banks of
        some are filled by the memory, those of the others by post-processors, and one of both is full first."""
        if split not in self._parts:
            self._parts[split] = self._cut(split)
        return self._parts[split]

    def _cut(self, split: int) -> list[list[Reference]]:
        kinds: tuple[list[Reference], ...] = ([], [])
        units = set[tuple[bool, int, int]]()
        for operand, index in self.shared:
            unit = self.step(0, (operand, index)).unit
            is_stored = self.lowering.operands[operand].units[unit].is_stored
            kinds[not is_stored].append((operand, index))
            units.add((is_stored, operand, unit))
        counts = (*map(len, kinds), sum(is_stored for is_stored, *_ in units), len(units))
        even = not any(count % split for count in counts)
        cut = kinds if even else (self.shared,)
        ends = [[len(kind) * k // split for k in range(split + 1)] for kind in cut]
        return [
            [step for kind, at in zip(cut, ends, strict=True) for step in self._in_few_jobs(kind[at[k] : at[k + 1]])]
            for k in range(split)
        ]

    def _in_few_jobs(self, steps: list[Reference]) -> list[Reference]:
        """The steps of a part, in the order that takes fewer jobs: word by word, a job for each row of its taps, or tap by tap, a
        job over all words, which lie in banks by turns."""
        read = [(operand, self.step(0, (operand, index))) for operand, index in steps]
        taps = [(operand, step.dh, step.dw) for operand, step in read]
        if not self.few_jobs or len(set(taps)) >= len({(operand, step.unit, step.dh) for operand, step in read}):
            return steps
        return [steps[at] for at in sorted(range(len(steps)), key=taps.__getitem__)]

    def step(self, tile: int, reference: Reference) -> Step:
        operand, index = reference
        return self.lowering.operands[operand].tiles[tile].steps[index]

    def streamed(self, patch: Box) -> Box:
        """The box of accumulators that a patch of outputs needs."""
        if self.operation.window is None:
            return patch
        (kh, kw), (sh, sw) = self.operation.window.kernel, self.operation.window.stride
        images, (row, rows), (column, columns) = patch
        return images, (row * sh, (rows - 1) * sh + kh), (column * sw, (columns - 1) * sw + kw)

    def region(self, operand: int, unit: int, patch: Box) -> Region:
        """Padded input positions, of those that have words of a unit, that it must hold for a patch."""
        (image, images), (row, rows), (column, columns) = self.streamed(patch)
        (sh, sw), (high, wide) = self.lowering.operands[operand].stride(unit), self.reach[operand][unit]
        return Region(image, images, row * sh, (rows - 1) * sh + high + 1, column * sw, (columns - 1) * sw + wide + 1)
