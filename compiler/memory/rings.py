"""Rings of descriptors: loads and stores of a prefetch engine, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import DescriptorKind, descriptor_layout
from podweave.spec.load_port import HostSelect

from ..jobs import Jobs, pack_jobs


@dataclass(frozen=True)
class Ring:
    """Descriptors from byte ``base`` on; ``fields``: one value per descriptor for each field of `descriptor_layout`.

    ``body``: the first descriptor of those that a run of several passes goes over for each pass but the first, and the first one
    behind them; a run of one pass leaves them out. (0, 0): there are none.
    """

    base: int
    fields: Jobs
    body: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.fields["kind"])

    def order(self, passes: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the descriptors in the order in which a run goes over them, and how many turns come before each.

        >>> ring = Ring(0, {"kind": np.zeros(5)}, body=(2, 4))
        >>> [column.tolist() for column in ring.order(3)]
        [[0, 1, 2, 3, 2, 3, 4], [0, 0, 0, 0, 1, 1, 2]]
        """
        (begin, end), count = self.body, len(self)
        if not begin:
            return np.arange(count), np.zeros(count, np.int64)
        pieces = [np.arange(begin), *[np.arange(begin, end)] * (passes - 1), np.arange(end, count)]
        turns = np.repeat([0, *range(passes)], [len(piece) for piece in pieces])
        return np.concatenate(pieces), turns

    def packed(self) -> NDArray[np.uint8]:
        """Its bytes in memory."""
        return pack_jobs(descriptor_layout(), self.fields).reshape(-1)


@dataclass
class RingBuilder:
    """Descriptors of a ring, as dictionaries of their fields; ``tag``: that of those to come, which begin at ``tag_begin``.

    ``body``: as of a `Ring`.
    """

    descriptors: list[dict[str, int]] = field(default_factory=list)
    tag: int = 0
    tag_begin: int = 0
    body: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.descriptors)

    def add(
        self,
        select: HostSelect,
        unit: int,
        base: int,
        words: int,
        address: int,
        *,
        after: int = 0,
        broadcast: int = 0,
        kind: DescriptorKind = DescriptorKind.LOAD,
        beside: int = 0,
    ) -> None:
        """Move ``words`` words from word ``base`` of a unit on, from or to byte ``address`` of the channel on.

        ``after``: epochs that must be done before. ``beside``: an epoch may be on that uses none of these parts of an X bank.
        """
        self.descriptors.append(
            {"kind": int(kind), "select": int(select), "unit": unit, "tag": self.tag, "after": after, "address": address}
            | {"n0": words, "n1": 1, "n2": 1, "base": base, "step0": 1, "broadcast": broadcast, "beside": beside}
        )

    def end_tag(self) -> None:
        """Mark the last descriptor of the tag, and begin the next; what may begin first comes first."""
        ring, begin = self.descriptors, self.tag_begin
        ring[begin:] = sorted(ring[begin:], key=lambda descriptor: descriptor["after"])
        if begin == len(ring):
            ring.append({"kind": int(DescriptorKind.NOP), "tag": self.tag})
        ring[-1]["last"] = 1
        self.tag, self.tag_begin = self.tag + 1, len(ring)

    def end_body(self, begin: int, tag: int) -> None:
        """All from descriptor ``begin`` on is the body; ``tag``: of those to come."""
        self.descriptors[-1]["turns"] = 1
        self.body, self.tag = (begin, len(self)), tag

    def build(self, base: int, offset: int) -> Ring:
        """The ring at byte ``base`` of a channel that begins at byte ``offset`` of the memory; addresses count from there on."""
        fields = {
            f.name: np.array([descriptor.get(f.name, 0) for descriptor in self.descriptors], np.int64)
            for f in descriptor_layout().fields
        }
        fields["address"] += np.where(fields["kind"] == DescriptorKind.NOP, 0, offset)
        return Ring(offset + base, fields, self.body)
