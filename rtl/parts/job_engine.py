"""What engines share: a job leaves its queue at the time it carries, or an error says why not."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout

from .blocks import Block, struct


class TimedEngine(Block):
    """An engine that executes one job after the other, each from its start time on.

    Members
    -------
    ``head_valid``, ``head``, ``pop``: the queue. ``run``, ``next_time``: the epoch is on, and the epoch time of the next cycle.
    ``halted``: start no job. ``busy``: a job is in progress.
    ``late``: the start time of the head has passed. ``illegal``: the head is due, but its fields are not legal. Both in the cycle
    it happens; the job stays in the queue.
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

    def start(self, m: Module, *, free: Value, legal: Value) -> Signal:
        """Whether a job begins: its first request is in the next cycle. ``free``: the engine can take one in this cycle."""
        waiting, due, begin, is_legal = (Signal(name=name) for name in ("waiting", "due", "begin", "legal"))
        m.d.comb += [
            is_legal.eq(legal),
            waiting.eq(self.head_valid & self.run & ~self.halted),
            due.eq(waiting & (self.head.start == self.next_time) & free),
            begin.eq(due & is_legal),
            self.illegal.eq(due & ~is_legal),
            self.late.eq(waiting & (self.head.start < self.next_time)),
            self.pop.eq(begin),
        ]
        return begin


class JobEngine(TimedEngine):
    """An engine that issues read requests to a memory of the chip.

    Members beside those of `TimedEngine`
    -------------------------------------
    ``request_valid``, ``request_bank``, ``request_plane``, ``request_address``: a read request; bank, plane and address keep
    their last value while there is none.
    """

    def __init__(self, config: ChipConfig, layout: Layout, memory: str, ports: dict[str, Any]):
        widths = {field.name: field.width for field in layout.fields}
        super().__init__(
            config,
            layout,
            {
                "request_valid": Out(1),
                "request_bank": Out(widths[f"{memory}_bank"]),
                "request_plane": Out(widths[f"{memory}_plane"]),
                "request_address": Out(widths[f"{memory}_base"]),
                **ports,
            },
        )
