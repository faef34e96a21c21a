"""Load engine: fetches the rows of weight tiles at the time their job says."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import load_job_layout

from ..parts.job_engine import JobEngine


class LoadEngine(JobEngine):
    """Issues one W request per cycle, for ``rows`` cycles from the start time of a job, and again for each further tile.

    The W address advances by ``w_step`` from row to row, and from the last row of a tile to the first of the next.

    Parameters
    ----------
    config : ChipConfig
        Rows of the array, W memory and layout of load jobs.

    Members
    -------
    Beside those of `JobEngine`:

    swapping : In(1)
        A stream job that swaps begins in the next cycle.
    request_first : Out(1)
        This cycle is that of weight row 0, requested or not.
    weights_ready : Out(1)
        The weights that a swap would take are complete by the next cycle.
    out_of_range : Out(1)
        Error, in the cycle it happens.
    overwrites : Out(1)
        Error, in the cycle it happens.
    """

    kind = "load_engine"

    def __init__(self, config: ChipConfig):
        super().__init__(
            config,
            load_job_layout(config),
            "w",
            {
                "swapping": In(1),
                "request_first": Out(1),
                "weights_ready": Out(1),
                "out_of_range": Out(1),
                "overwrites": Out(1),
            },
        )

    def elaborate(self, platform: object) -> Module:
        config, head = self.config, self.head
        m = Module()

        remaining = Signal(range(config.array.rows + 1))
        # One guard bit for the sign and one for overflow: a single step from an address in range stays representable.
        address = Signal(signed(len(head.w_base) + 2), reset_less=True)
        step = Signal(head.w_step.shape(), reset_less=True)
        rows = Signal.like(head.rows, reset_less=True)
        bank = Signal.like(head.w_bank, reset_less=True)
        active, last, in_range = (Signal(name=n) for n in ("active", "last", "in_range"))
        m.d.comb += [
            active.eq(remaining != 0),
            last.eq(remaining == 1),
            in_range.eq((address >= 0) & (address < config.memory.w_words)),
            self.request_valid.eq(active & in_range),
            self.request_address.eq(address),
            self.request_bank.eq(bank),
            self.out_of_range.eq(active & ~in_range),
        ]

        # `fresh`: the shadow weights are complete and not yet swapped in.
        fresh = Signal()
        m.d.comb += self.weights_ready.eq(fresh | last)
        m.d.sync += fresh.eq(self.weights_ready & ~self.swapping)

        legal = (head.rows != 0) & (head.rows <= config.array.rows) & (head.w_bank < config.memory.banks)
        several = config.memory.w_planes > 1
        if several:
            legal &= head.w_plane < config.memory.w_planes
        begin, again, more = self.start_tile(m, free=~active | last, legal=legal)
        m.d.comb += [
            self.busy.eq(active | more),
            self.overwrites.eq((begin | again) & self.weights_ready & ~self.swapping),
        ]
        m.d.sync += self.request_first.eq(begin | again)
        if several:
            plane = Signal.like(head.w_plane, reset_less=True)
            m.d.comb += self.request_plane.eq(plane)
            with m.If(begin):
                m.d.sync += plane.eq(head.w_plane)
        with m.If(begin):
            m.d.sync += [
                remaining.eq(head.rows),
                address.eq(head.w_base),
                step.eq(head.w_step),
                rows.eq(head.rows),
                bank.eq(head.w_bank),
            ]
        with m.Elif(again):
            m.d.sync += [remaining.eq(rows), address.eq(address + step)]
        with m.Elif(active):
            m.d.sync += remaining.eq(remaining - 1)
            with m.If(~last):
                m.d.sync += address.eq(address + step)
        return m
