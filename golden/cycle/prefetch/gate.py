"""What decides which descriptor begins, in a prefetch engine: a `golden.cycle.prefetch.engine.EngineModel` has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from .reader import Head, ReaderModel
from .words import CANCELLED, DEMAND, LOAD, NOP, PREFETCH, STORE, EngineGeometry, Inputs

COUNTED_TAGS = 16
COUNT_LIMIT = 1 << 32


class Decision(IntEnum):
    """What may happen to the head of a ring."""

    NOTHING = 0
    BEGIN = 1
    REFUSE = 2
    CANCEL = 3
    SKIP = 4


@dataclass(slots=True)
class Room:
    """What the rest of the engine is at: ``walking``: over the runs of a descriptor; ``level``: items begun and not ended."""

    walking: bool
    level: int
    storing: bool
    stopped: bool


Stalls = tuple[bool, bool, bool]
"""Whether a head waits for its gate, the gap, the cap."""


class GateModel:
    """``begin`` (ring, head), ``refuse`` (ring, code, tag, address): what it does to heads."""

    def __init__(
        self,
        geometry: EngineGeometry,
        reader: ReaderModel,
        begin: Callable[[int, Head], None],
        refuse: Callable[[int, int, int, int], None],
    ):
        self.geometry, self.reader, self.begin, self.refuse = geometry, reader, begin, refuse
        self.failed = [False, False]
        """Something of the ring was refused: nothing that begins completes a tag."""
        self.fault_tag: list[int | None] = [None, None]
        self.cancelled: int | None = None
        self.unconsumed = 0
        self._refused_tag: list[int | None] = [None, None]
        self._reported = [False, False]
        self._decision, self._seen = [Decision.NOTHING, Decision.NOTHING], [False, False]
        # Tag and words, oldest first.
        self._counted: deque[list[int]] = deque()
        self.stalls: Stalls = (False, False, False)

    def cycle(self, t: int, inputs: Inputs, room: Room) -> tuple[bool, bool]:
        """Whether anything changes at the end of cycle ``t``, and whether anything waits to be looked at or to be taken."""
        held = tuple(self.reader.held)
        looks, heads = self._look(t, inputs)
        taken = self._take(t, heads, inputs, room)
        changed = taken is not None
        if self._counted and self._counted[0][0] <= inputs.epochs_done:
            self.unconsumed -= self._counted.popleft()[1]
            changed = True
        waiting = False
        for ring in (DEMAND, PREFETCH):
            decision, seen = self._decision[ring], self._seen[ring]
            waiting = waiting or bool(decision) or bool(looks[ring]) or (held[ring] > 0 and not seen)
            self._decision[ring] = Decision.NOTHING if taken == ring else looks[ring]
            self._seen[ring] = heads[ring] is not None and taken != ring
            changed = changed or self._decision[ring] != decision or self._seen[ring] != seen
        return changed, waiting

    def _look(self, t: int, inputs: Inputs) -> tuple[list[Decision], list[Head | None]]:
        looks, heads = [Decision.NOTHING, Decision.NOTHING], [self.reader.head(ring, t) for ring in (DEMAND, PREFETCH)]
        for_gate = for_gap = for_cap = False
        for ring, head in enumerate(heads):
            if head is None:
                if self.reader.ended(ring) and not self._reported[ring]:
                    looks[ring] = Decision.REFUSE
                continue
            if not head.code:
                gate, gap, fits = self._conditions(ring, head, inputs)
                for_gate, for_gap, for_cap = (
                    for_gate or not gate,
                    for_gap or (gate and not gap),
                    for_cap or (gate and gap and not fits),
                )
                looks[ring] = Decision.BEGIN if gate and gap and fits else Decision.NOTHING
            else:
                looks[ring] = Decision.REFUSE
            if head.tag in (self.fault_tag[ring], self._refused_tag[ring]):
                looks[ring] = Decision.SKIP
            elif head.tag == self.cancelled:
                looks[ring] = Decision.CANCEL
        self.stalls = for_gate, for_gap, for_cap
        return looks, heads

    def _conditions(self, ring: int, head: Head, inputs: Inputs) -> tuple[bool, bool, bool]:
        """Whether gate, gap and cap let a legal head begin."""
        descriptor = head.descriptor
        due = inputs.epochs_done >= head.tag
        banks = descriptor.kind != NOP and descriptor.select in self.geometry.epoch_banks and not descriptor.beside
        gate = inputs.epochs_done >= descriptor.after and (due or not banks)
        fits = True
        if ring == PREFETCH and not due:
            gate = gate and inputs.enable
            room = len(self._counted) < COUNTED_TAGS or self._counted[-1][0] == head.tag
            fits = room and (not inputs.cap or self.unconsumed + min(descriptor.words, COUNT_LIMIT) <= inputs.cap)
            fits = fits or descriptor.kind == STORE
        return gate, inputs.gap or not banks, fits

    def _take(self, t: int, heads: list[Head | None], inputs: Inputs, room: Room) -> int | None:
        """The ring whose head is taken, if one is."""
        ring = DEMAND if self._decision[DEMAND] else PREFETCH
        decision, head = self._decision[ring], heads[ring]
        if not decision or room.storing or room.stopped:
            return None
        if decision == Decision.BEGIN:
            assert head
            if not self._has_room(head, room):
                return None
            self.begin(ring, head)
            if ring == PREFETCH and head.descriptor.kind == LOAD and head.tag > inputs.epochs_done:
                self._count(head.tag, min(head.descriptor.words, COUNT_LIMIT))
        elif decision != Decision.SKIP:
            self._refuse(ring, head, decision)
        if head:
            self.reader.pop(ring, t)
        return ring

    def _has_room(self, head: Head, room: Room) -> bool:
        kind = head.descriptor.kind
        if kind == STORE:
            return room.level == 0
        return room.level < 2 * self.geometry.descriptors and not (kind == LOAD and room.walking)

    def _refuse(self, ring: int, head: Head | None, decision: Decision) -> None:
        if head:
            code, tag, address = head.code, head.tag, head.address
        else:
            self._reported[ring] = True
            code, tag = self.reader.broken[ring], self.reader.checker.previous_tag(ring)
            address = self.reader.address(ring, self.reader.index[ring]) % (1 << self.geometry.address_width)
        self.failed[ring], self._refused_tag[ring] = True, tag
        self.refuse(ring, CANCELLED if decision == Decision.CANCEL else code, tag, address)

    def _count(self, tag: int, words: int) -> None:
        """Words of a prefetch load whose epoch is not the next one."""
        self.unconsumed += words
        if self._counted and self._counted[-1][0] == tag:
            self._counted[-1][1] += words
        else:
            self._counted.append([tag, words])
