"""What a collective engine is told: jobs, and where their words are; sizes of links; the CRC of flits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

P, X = 0, 1
WORD, HEAD, FAULT = 0, 1, 2
NO_COLLECTIVE = 0xFFFF
HEAD_ID, HEAD_KIND = 7, 1
"""Bits of the fields of a head, from the least significant; above is the number of words."""


@dataclass(frozen=True, kw_only=True)
class LinkGeometry:
    """Sizes of a chip that matter to its link.

    Parameters
    ----------
    flits : tuple
        Flits of a P word, and of an X word.
    buffer_words : int
        Credits that a receiver gives at the start of a run.
    read_latency : int
        Cycles from an access of the collective engine to the word read.
    """

    flits: tuple[int, int]
    buffer_words: int
    read_latency: int

    @property
    def words_ahead(self) -> int:
        """Words that the sender reads ahead."""
        return 1 << (-(-(self.read_latency + 3) // min(self.flits))).bit_length()


@dataclass(frozen=True, kw_only=True)
class Job:
    """``n0`` * ``n1`` * ``n2`` words, the first at ``address`` in bank ``unit``.

    Loop 0 is the innermost. ``step<i>`` (``unit<i>``) is added to the address (bank) of the word before when loop i advances.

    ``id``, ``kind``, ``words``: of the collective. ``add``: of a receiver. ``follows``, ``needs``, ``next``: of a sender.
    """

    unit: int = 0
    address: int = 0
    n0: int = 1
    n1: int = 1
    n2: int = 1
    step0: int = 0
    step1: int = 0
    step2: int = 0
    unit1: int = 0
    unit2: int = 0
    id: int = 0
    kind: int = P
    words: int = 0
    last: int = 0
    add: int = 0
    follows: int = 0
    needs: int = 0
    next: int = NO_COLLECTIVE

    @property
    def count(self) -> int:
        return self.n0 * self.n1 * self.n2

    def places(self, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Banks and addresses of the first ``most`` words, or of all if they are fewer."""
        number = np.arange(min(self.count, most))
        inner, middle = number // self.n0, number // (self.n0 * self.n1)
        # How often each loop has advanced: an outer one in place of those inside of it.
        outermost, second, first = middle, inner - middle, number - inner
        address = self.address + first * self.step0 + second * self.step1 + outermost * self.step2
        return self.unit + second * self.unit1 + outermost * self.unit2, address


def flit_crc(data: NDArray[np.uint8], user: NDArray[np.int64]) -> NDArray[np.int64]:
    """CRC-16/CCITT-FALSE of flits: ``data`` (flits, bytes), least significant byte first, and a byte with ``user``.

    >>> hex(flit_crc(np.frombuffer(b"12345678", np.uint8).reshape(1, 8), np.array([ord("9")]))[0])
    '0x29b1'
    """
    table = np.arange(256, dtype=np.int64) << 8
    for _ in range(8):
        table = np.where(table & 0x8000, table << 1 ^ 0x11021, table << 1)
    crc = np.full(len(data), 0xFFFF, np.int64)
    for byte in (*data.T.astype(np.int64), user):
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ byte]
    return crc
