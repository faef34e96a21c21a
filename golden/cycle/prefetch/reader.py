"""What fetches descriptors ahead and checks them, in a prefetch engine: a `golden.cycle.prefetch.engine.EngineModel` has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .agenda import Agenda
from .words import (
    BEYOND_MEMORY,
    DEMAND,
    DESCRIPTOR_BYTES,
    MISALIGNED,
    PREFETCH,
    Descriptor,
    DescriptorCheck,
    EngineGeometry,
    Inputs,
)

CHECK_CYCLES = 12
TO_CHECK = 4
"""Cycles from the last beat of a descriptor on R to its check."""
TO_HEAD = 2
"""Cycles from the end of a check to the head of a ring."""


@dataclass(slots=True)
class Head:
    """A checked descriptor that is in its ring from cycle ``valid`` on; ``code``: why it is refused, or 0."""

    valid: int
    descriptor: Descriptor
    code: int
    tag: int
    address: int


@dataclass(slots=True)
class Request:
    """Descriptor ``index`` of a ring is wanted."""

    ring: int
    index: int
    address: int


def place(index: int, size: int, body: tuple[int, int], passes: int) -> int:
    """Where in a ring the descriptor is that is published as number ``index``.

    >>> [place(index, 6, (2, 4), 3) for index in range(12)]
    [0, 1, 2, 3, 2, 3, 4, 5, 0, 1, 4, 5]
    """
    begin, end = body
    if not begin:
        return index % size
    length, more = end - begin, (passes - 1) * (end - begin)
    if begin <= index < begin + more:
        return begin + (index - begin) % length
    # What follows is as if there were no body.
    rest = (index if index < begin else index - more) % (size - length)
    return rest if rest < begin else rest + length


class ReaderModel:
    """``rings``: descriptors in the order in which they are published, index i at base + 64 * `place` of i."""

    def __init__(
        self,
        geometry: EngineGeometry,
        agenda: Agenda,
        rings: Sequence[Sequence[Descriptor]],
        sizes: Sequence[int],
        inputs: Inputs,
    ):
        self.geometry, self.agenda, self.rings, self.sizes = geometry, agenda, rings, sizes
        self.base, self.memory_bytes, self.bases = inputs.base, inputs.memory_bytes, inputs.bases
        self.passes, self.bodies = inputs.passes, inputs.bodies
        self.turn = inputs.pass_epochs, inputs.pass_stride
        self.turns = [0, 0]
        """Of each ring, up to what is checked."""
        self.checker = DescriptorCheck(geometry)
        self.index, self.held = [0, 0], [0, 0]
        """Descriptors decided on, and of these, those that are not taken."""
        self.broken = [0, 0]
        """Why a ring ended, or 0."""
        self.request: Request | None = None
        self.unchecked = 0
        self._check_free = 0
        self._heads: tuple[deque[Head], deque[Head]] = (deque(), deque())
        self._popped = [-1, -1]

    def address(self, ring: int, index: int) -> int:
        return self.base[ring] + DESCRIPTOR_BYTES * place(index, self.sizes[ring], self.bodies[ring], self.passes)

    def chosen(self, inputs: Inputs) -> int | None:
        """The ring that is looked at next, with no request pending."""
        for ring in (DEMAND, PREFETCH):
            full = self.held[ring] == self.geometry.descriptors
            if not self.broken[ring] and self.index[ring] != inputs.tail[ring] and not full:
                return ring
        return None

    def fetch(self, ring: int) -> None:
        """Requests the next descriptor of a ring, or ends the ring there."""
        index = self.index[ring]
        address = self.address(ring, index)
        if address % DESCRIPTOR_BYTES or address + DESCRIPTOR_BYTES > self.memory_bytes:
            self.broken[ring] = MISALIGNED if address % DESCRIPTOR_BYTES else BEYOND_MEMORY
            return
        self.request = Request(ring, index, address)
        self.index[ring] += 1
        self.held[ring] += 1
        self.unchecked += 1

    def arrive(self, last: int, request: Request, *, failed: bool) -> None:
        """The last beat of a descriptor is on R in cycle ``last``; ``failed``: with an error, or one before."""
        begin = max(last + TO_CHECK, self._check_free)
        self._check_free = begin + CHECK_CYCLES
        self.agenda.at(begin + CHECK_CYCLES - 1, self._check, (begin + CHECK_CYCLES - 1 + TO_HEAD, request, failed))
        self.agenda.at(begin + CHECK_CYCLES, self._checked)

    def _check(self, value: tuple[int, Request, bool]) -> None:
        valid, request, failed = value
        descriptor = self.rings[request.ring][request.index].based(self.bases).turned(self.turns[request.ring], *self.turn)
        before = self.checker.previous_tag(request.ring)
        code = self.checker.check(request.ring, descriptor, self.memory_bytes, unreadable=failed)
        tag = before if failed else descriptor.tag
        self.turns[request.ring] += descriptor.turns and not failed and self.geometry.passes
        self._heads[request.ring].append(Head(valid, descriptor, code, tag, request.address))
        self.agenda.wake(valid)

    def _checked(self, _: None) -> None:
        self.unchecked -= 1

    def head(self, ring: int, t: int) -> Head | None:
        heads = self._heads[ring]
        return heads[0] if heads and heads[0].valid <= t and self._popped[ring] < t else None

    def pop(self, ring: int, t: int) -> None:
        self._heads[ring].popleft()
        self._popped[ring] = t
        self.held[ring] -= 1

    def ended(self, ring: int) -> bool:
        """Whether a broken ring has no descriptors left."""
        return self.broken[ring] != 0 and self.held[ring] == 0
