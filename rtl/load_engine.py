"""Load engine: fetches the rows of a weight tile at the time its job says."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from .blocks import Block, struct
from .config import ChipConfig
from .layouts import load_job_layout


class LoadEngine(Block):
    """Issues one W request per cycle, for ``rows`` cycles from the start time of a job.

    Members
    -------
    ``head_valid``, ``head``, ``pop``: the load queue. ``run``, ``next_time``: the epoch is on, and the epoch time of the next
    cycle. ``halted``: start no job.
    ``request_valid``, ``request_bank``, ``request_plane``, ``request_address``: the W request; bank, plane and address keep
    their last value while there is none. ``request_first``: this cycle is that of weight row 0, requested or not.
    ``swapping``: a stream job that swaps begins in the next cycle. ``weights_ready``: the weights it would swap in are complete by
    then. ``busy``: a job is in progress.
    ``late``, ``illegal``, ``out_of_range``, ``overwrites``: errors, in the cycle they happen.
    """

    kind = "load_engine"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.layout = load_job_layout(config)
        widths = {field.name: field.width for field in self.layout.fields}
        super().__init__(
            {
                "head_valid": In(1),
                "head": In(struct(self.layout)),
                "pop": Out(1),
                "run": In(1),
                "next_time": In(config.pod.time_width),
                "halted": In(1),
                "swapping": In(1),
                "request_valid": Out(1),
                "request_bank": Out(widths["w_bank"]),
                "request_plane": Out(widths["w_plane"]),
                "request_address": Out(widths["w_base"]),
                "request_first": Out(1),
                "weights_ready": Out(1),
                "busy": Out(1),
                "late": Out(1),
                "illegal": Out(1),
                "out_of_range": Out(1),
                "overwrites": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, head = self.config, self.head
        m = Module()

        remaining = Signal(range(config.array.rows + 1))
        # One guard bit for the sign and one for overflow: a single step from an address in range stays representable.
        address = Signal(signed(len(head.w_base) + 2), reset_less=True)
        step = Signal(head.w_step.shape(), reset_less=True)
        bank = Signal.like(head.w_bank, reset_less=True)
        plane = Signal.like(head.w_plane, reset_less=True)
        active, last, in_range, due, legal, begin = (
            Signal(name=n) for n in ("active", "last", "in_range", "due", "legal", "begin")
        )
        m.d.comb += [
            active.eq(remaining != 0),
            last.eq(remaining == 1),
            in_range.eq((address >= 0) & (address < config.memory.w_words)),
            self.request_valid.eq(active & in_range),
            self.request_address.eq(address),
            self.request_bank.eq(bank),
            self.request_plane.eq(plane),
            self.out_of_range.eq(active & ~in_range),
            self.busy.eq(active),
        ]

        # `fresh`: the shadow weights are complete and not yet swapped in.
        fresh = Signal()
        m.d.comb += self.weights_ready.eq(fresh | last)
        m.d.sync += fresh.eq(self.weights_ready & ~self.swapping)

        m.d.comb += [
            legal.eq(
                (head.rows != 0)
                & (head.rows <= config.array.rows)
                & (head.w_bank < config.memory.banks)
                & (head.w_plane < config.memory.planes)
            ),
            due.eq(self.head_valid & self.run & ~self.halted & (head.start == self.next_time) & (~active | last)),
            begin.eq(due & legal),
            self.illegal.eq(due & ~legal),
            self.late.eq(self.head_valid & self.run & ~self.halted & (head.start < self.next_time)),
            self.overwrites.eq(begin & self.weights_ready & ~self.swapping),
            self.pop.eq(begin),
        ]
        m.d.sync += self.request_first.eq(begin)
        with m.If(begin):
            m.d.sync += [
                remaining.eq(head.rows),
                address.eq(head.w_base),
                step.eq(head.w_step),
                bank.eq(head.w_bank),
                plane.eq(head.w_plane),
            ]
        with m.Elif(active):
            m.d.sync += remaining.eq(remaining - 1)
            with m.If(~last):
                m.d.sync += address.eq(address + step)
        return m
