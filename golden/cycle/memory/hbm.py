"""Cycle model of a channel of HBM behind AXI4: when bursts are accepted and beats come, from when they are asked for.

Everything is decided when a burst is accepted, so a burst costs one step per row that it touches, and nothing per cycle or beat.
Time 0 is the first cycle after a reset or restart of the channel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

OKAY, SLVERR, DECERR = 0, 2, 3
PAGE = 4096


class Timing(Protocol):
    """Parameters of a channel, in cycles but for ``beat_sixteenths``: sixteenths of a cycle that a beat takes on the data bus.

    ``latency``: from the acceptance of a burst to its first beat, in an open row. ``row_bytes``, ``banks``: powers of two; rows
    side by side in memory lie in successive banks. ``row_miss``: what another row of a bank takes longer, at the soonest from the
    last beat of the one before. ``refresh_interval`` (0: never), ``refresh_cycles``: all rows are closed meanwhile. ``queue``:
    bursts of either direction under way. ``jitter``: most cycles that a burst takes longer, drawn from a xorshift32 that begins
    with ``seed``.
    """

    @property
    def latency(self) -> int: ...
    @property
    def beat_sixteenths(self) -> int: ...
    @property
    def row_bytes(self) -> int: ...
    @property
    def banks(self) -> int: ...
    @property
    def row_miss(self) -> int: ...
    @property
    def refresh_interval(self) -> int: ...
    @property
    def refresh_cycles(self) -> int: ...
    @property
    def queue(self) -> int: ...
    @property
    def jitter(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Piece(NamedTuple):
    """Part of a burst in one row: its first beat on the data bus, in sixteenths of a cycle, and its beats."""

    start16: int
    beats: int


class ErrorRange(NamedTuple):
    """Beats that touch [begin, end) are answered with ``response``."""

    begin: int
    end: int
    response: int


class HbmChannel:
    """Bursts in order of acceptance. ``base``, ``end``: bytes that the channel serves; of ``errors``, the first that fits counts.

    >>> from types import SimpleNamespace
    >>> timing = SimpleNamespace(latency=10, beat_sixteenths=24, row_bytes=256, banks=2, row_miss=7, refresh_interval=100,
    ...                          refresh_cycles=20, queue=4, jitter=0, seed=1)
    >>> channel = HbmChannel(timing, beat_bytes=64, end=1 << 20)

    Two beats in a closed row, then two that cross into the next row, in the other bank:

    >>> channel.serve(3, 128, 2), channel.serve(4, 192, 2)
    ([Piece(start16=320, beats=2)], [Piece(start16=368, beats=1), Piece(start16=392, beats=1)])

    After the refresh from 100 to 120, a row has to be opened again:

    >>> channel.serve(95, 256, 1)
    [Piece(start16=2032, beats=1)]
    """

    def __init__(self, timing: Timing, *, beat_bytes: int, end: int, base: int = 0, errors: Sequence[ErrorRange] = ()):
        self.timing, self.beat_bytes, self.base, self.end, self.errors = timing, beat_bytes, base, end, tuple(errors)
        self.end16 = 0
        """End of the last piece."""
        self.closed = 0
        self.refreshed = 0
        self.random = timing.seed
        # By bank: row, cycle in which it was opened, cycle after its last data.
        self.banks: dict[int, tuple[int, int, int]] = {}
        # Cycles in which the last reads that the queue holds left it.
        self.reads_left: deque[int] = deque([-1] * timing.queue, maxlen=timing.queue)
        self.answers: list[int] = []
        """Cycles of B of all writes so far."""

    def serve(self, cycle: int, address: int, beats: int, *, refused: bool = False) -> list[Piece]:
        """Pieces of a burst that is accepted in ``cycle``: a read with its AR, a write with its last W.

        To be called in order of acceptance; of two in one cycle, first the read.
        """
        timing, beat = self.timing, self.beat_bytes
        extra = 0
        if timing.jitter:
            x = self.random
            x ^= x << 13 & 0xFFFFFFFF
            x ^= x >> 17
            x ^= x << 5 & 0xFFFFFFFF
            self.random = x
            extra = x * (timing.jitter + 1) >> 32
        arrives = cycle + timing.latency
        at = address - address % beat
        pieces = []
        while beats:
            row, within = divmod(at, timing.row_bytes)
            count = beats if refused else min(beats, (timing.row_bytes - within) // beat)
            bank = row % timing.banks
            known = self.banks.get(bank)
            if known is None:
                opened = max(arrives, self.closed) + timing.row_miss
            elif known[0] != row:
                opened = max(arrives, known[2]) + timing.row_miss
            else:
                opened = known[1]
            start16 = max(self.end16, 16 * (max(arrives, opened) + extra))
            if timing.refresh_interval:
                due = start16 // (16 * timing.refresh_interval)
                if due > self.refreshed:
                    self.refreshed = due
                    self.closed = max(due * timing.refresh_interval, -(-self.end16 // 16)) + timing.refresh_cycles
                    self.banks.clear()
                    opened = max(arrives, self.closed) + timing.row_miss
                    start16 = 16 * (opened + extra)
            self.end16 = start16 + count * timing.beat_sixteenths
            self.banks[bank] = row, opened, -(-self.end16 // 16)
            pieces.append(Piece(start16, count))
            beats -= count
            at += count * beat
        return pieces

    def read(self, valid: int, address: int, beats: int) -> tuple[int, list[Piece]]:
        """Acceptance of a read that is on AR from ``valid`` on, and its pieces, for a manager that is always ready for R."""
        accepted = max(valid, self.reads_left[0] + 1)
        pieces = self.serve(accepted, address, beats)
        self.reads_left.append(self.last_cycle(pieces))
        return accepted, pieces

    def write_ready(self, number: int) -> int | None:
        """First cycle in which write ``number``, from 0, can be accepted on AW; None if that is not known yet.

        Its first beat may be accepted one cycle later.
        """
        before = number - self.timing.queue
        if before < 0:
            return 0
        return self.answers[before] + 1 if before < len(self.answers) else None

    def write(self, last_beat: int, address: int, beats: int) -> int:
        """Cycle of B for a write whose last beat is accepted in ``last_beat``, for a manager that is always ready for B."""
        self.serve(last_beat, address, beats)
        answered = max(-(-self.end16 // 16), self.answers[-1] + 1 if self.answers else 0)
        self.answers.append(answered)
        return answered

    def first_cycle(self, piece: Piece) -> int:
        """Cycle in which R shows the first beat of a piece."""
        return -(-piece.start16 // 16)

    def last_cycle(self, pieces: Sequence[Piece]) -> int:
        """Cycle in which R shows the last beat of a burst."""
        start16, beats = pieces[-1]
        return -(-(start16 + (beats - 1) * self.timing.beat_sixteenths) // 16)

    def beat_cycle(self, pieces: Sequence[Piece], number: int) -> int:
        """Cycle in which R shows beat ``number`` of a burst."""
        for start16, beats in pieces:
            if number < beats:
                return -(-(start16 + number * self.timing.beat_sixteenths) // 16)
            number -= beats
        raise IndexError(f"the burst has {number + 1} beats too few")

    def failing(self, address: int, beats: int) -> list[tuple[int, int]]:
        """Beats of a burst at ``address``, a multiple of a beat, that are answered with an error: (number, response)."""
        if not self.errors and self.base <= address and address + beats * self.beat_bytes <= self.end:
            return []
        answers = [(i, self.response(address + i * self.beat_bytes)) for i in range(beats)]
        return [(i, answer) for i, answer in answers if answer != OKAY]

    def response(self, address: int) -> int:
        """Answer to the beat at ``address``, which is a multiple of a beat."""
        if not self.base <= address < self.end:
            return DECERR
        for begin, end, answer in self.errors:
            if begin < address + self.beat_bytes and address < end:
                return answer
        return OKAY

    def crosses_page(self, address: int, beats: int) -> bool:
        """Such a burst, against the rules of AXI, is refused."""
        first = address - address % self.beat_bytes
        return (first + (beats - 1) * self.beat_bytes) // PAGE != address // PAGE
