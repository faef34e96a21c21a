"""What engines share: a job leaves its queue at the time it carries, or an error says why not."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout

from .blocks import Block, struct


class TimedEngine(Block):
    """An engine that executes one job after the other, each from its start time on.

    Parameters
    ----------
    config : ChipConfig
        ``time_width`` of its pod.
    layout : Layout
        Of a job.
    ports : dict[str, Any]
        Members that the engine has beside those below.

    Members
    -------
    head_valid : In(1)
        There is a job at the head of the queue.
    head : In(struct(layout))
        That job.
    pop : Out(1)
        Takes it from the queue.
    run : In(1)
        The epoch is on.
    next_time : In(time_width)
        The epoch time of the next cycle.
    halted : In(1)
        Start no job.
    busy : Out(1)
        A job is in progress.
    late : Out(1)
        The start time of the head has passed; in the cycle it happens; the job stays in the queue.
    illegal : Out(1)
        The head is due, but its fields are not legal; in the cycle it happens; the job stays in the queue.
    """

    def __init__(self, config: ChipConfig, layout: Layout, ports: dict[str, Any]):
        self.config, self.layout = config, layout
        super().__init__(
            {
                "head_valid": In(1),
                "head": In(struct(layout)),
                "pop": Out(1),
                "run": In(1),
                "next_time": In(config.pod.time_width),
                "halted": In(1),
                "busy": Out(1),
                "late": Out(1),
                "illegal": Out(1),
                **ports,
            }
        )

    def start(self, m: Module, *, free: Value, legal: Value, late: Value | None = None) -> Signal:
        """Whether a job begins: its first request is in the next cycle. ``free``: the engine can take one in this cycle.

        ``late``: what is late beside the head.
        """
        waiting, due, begin, is_legal = (Signal(name=name) for name in ("waiting", "due", "begin", "legal"))
        m.d.comb += [
            is_legal.eq(legal),
            waiting.eq(self.head_valid & self.run & ~self.halted),
            due.eq(waiting & (self.head.start == self.next_time) & free),
            begin.eq(due & is_legal),
            self.illegal.eq(due & ~is_legal),
            self.late.eq(waiting & (self.head.start < self.next_time) | (Const(0) if late is None else late)),
            self.pop.eq(begin),
        ]
        return begin


class JobEngine(TimedEngine):
    """An engine that issues read requests to a memory of the chip, for one weight tile after the other.

    The first request of a tile comes ``period`` cycles after that of the one before. A tile that may not begin then, because words
    of the one before are left, is late; after an error none begins, and the job stays.

    Parameters
    ----------
    config : ChipConfig
        As of a `TimedEngine`.
    layout : Layout
        Of a job; its fields ``<memory>_bank``, ``<memory>_base`` and ``<memory>_plane``, which it need not have, give the widths of
        requests.
    memory : str
        "x" or "w".
    ports : dict[str, Any]
        Members that the engine has beside those below.

    Members
    -------
    Beside those of `TimedEngine`:

    request_valid : Out(1)
        A read request.
    request_bank : Out(width of <memory>_bank)
        Bank; keeps its last value while there is no request.
    request_plane : Out(width of <memory>_plane)
        Only if the network has several planes: which one; keeps its last value while there is no request.
    request_address : Out(width of <memory>_base)
        Word in the bank; keeps its last value while there is no request.
    """

    def __init__(self, config: ChipConfig, layout: Layout, memory: str, ports: dict[str, Any]):
        widths = {field.name: field.width for field in layout.fields}
        super().__init__(
            config,
            layout,
            {
                "request_valid": Out(1),
                "request_bank": Out(widths[f"{memory}_bank"]),
                "request_address": Out(widths[f"{memory}_base"]),
                **({"request_plane": Out(widths[f"{memory}_plane"])} if f"{memory}_plane" in widths else {}),
                **ports,
            },
        )

    def start_tile(self, m: Module, *, free: Value, legal: Value) -> tuple[Value, Value, Value]:
        """(a job begins, with its first tile; the next tile of the job begins; the job has tiles that have not begun).

        The first request of a tile that begins is in the next cycle. ``free``: no words of a tile are left after this cycle.
        """
        pod, head = self.config.pod, self.head
        if not pod.tile_width:
            return self.start(m, free=free, legal=legal), Const(0), Const(0)
        left, until = Signal(pod.tile_width), Signal(pod.count_width, reset_less=True)
        period = Signal.like(until, reset_less=True)
        more, due, again = (Signal(name=name) for name in ("more", "tile_due", "again"))
        m.d.comb += [
            more.eq(left != 0),
            due.eq(more & (until == 1) & ~self.halted),
            again.eq(due & free),
        ]
        counted = (head.tiles != 0) & ((head.tiles == 1) | (head.period != 0))
        begin = self.start(m, free=free & ~more, legal=legal & counted, late=due & ~free)
        with m.If(begin):
            m.d.sync += [left.eq(head.tiles - 1), until.eq(head.period), period.eq(head.period)]
        with m.Elif(again):
            m.d.sync += [left.eq(left - 1), until.eq(period)]
        with m.Elif(more & (until != 1)):
            m.d.sync += until.eq(until - 1)
        return begin, again, more
