"""Stream engine: walks the affine address generators of a stream job from its start time on."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit, stream_job_layout
from podweave.spec.layout import bits_for_index

from ..parts.blocks import struct
from ..parts.job_engine import JobEngine


def word_layout(config: ChipConfig) -> data.StructLayout:
    """What travels beside one word of activations until its partial sums leave the pod."""
    memory = config.memory
    return data.StructLayout(
        {
            "accumulate": 2,
            "accumulator": bits_for_index(config.pod.accumulator_rows),
            "emit": 2,
            "p_bank": bits_for_index(memory.banks),
            "p_address": bits_for_index(memory.p_words),
        }
        | ({"p_plane": bits_for_index(memory.p_planes)} if memory.p_planes > 1 else {})
    )


class StreamEngine(JobEngine):
    """Issues one X request per cycle for ``n0 * n1 * n2`` cycles from the start time of a job on, and again for each further
    tile; loop 0 is innermost.

    When loop i advances (all loops inside it wrap), the X address grows by ``x_step<i>`` and the P address by ``p_step<i>``;
    the accumulator row grows by 1 per word. A word out of range is not requested and leaves no trace. P addresses and accumulator
    rows of every tile are those of the first; `stream_job_layout` says how X banks and addresses and the two codes change.

    Parameters
    ----------
    config : ChipConfig
        X and P memories, accumulators and layout of stream jobs.

    Members
    -------
    Beside those of `JobEngine`:

    weights_ready : In(1)
        Weights may be swapped in by the next cycle.
    swapping : Out(1)
        A tile with weights of its own begins in the next cycle.
    request_swap : Out(1)
        This cycle is that of the first word of such a tile.
    word : Out(word_layout(config))
        What accompanies the requested word.
    x_out_of_range, p_out_of_range, accumulator_out_of_range : Out(1)
        Errors, in the cycle they happen.
    unloaded : Out(1)
        Error, in the cycle it happens.
    """

    kind = "stream_engine"

    def __init__(self, config: ChipConfig):
        super().__init__(
            config,
            stream_job_layout(config),
            "x",
            {
                "weights_ready": In(1),
                "swapping": Out(1),
                "request_swap": Out(1),
                "word": Out(word_layout(config)),
                "x_out_of_range": Out(1),
                "p_out_of_range": Out(1),
                "accumulator_out_of_range": Out(1),
                "unloaded": Out(1),
            },
        )

    def elaborate(self, platform: object) -> Module:
        config, memory, head = self.config, self.config.memory, self.head
        m = Module()

        active = Signal()
        job = Signal(struct(self.layout), reset_less=True)
        left = [Signal(config.pod.count_width, name=f"left_{i}", reset_less=True) for i in range(3)]
        x_address = Signal(signed(len(job.x_base) + 2), reset_less=True)
        p_address = Signal(signed(len(job.p_base) + 2), reset_less=True)
        accumulator = Signal(len(job.accumulator_base) + 1, reset_less=True)
        more = Signal(name="more_tiles")

        ends = [Signal(name=f"end_{i}") for i in range(3)]
        last = Signal()
        m.d.comb += [end.eq(count == 1) for end, count in zip(ends, left, strict=False)]
        m.d.comb += last.eq(active & ends[0] & ends[1] & ends[2])

        emits, accumulates = Signal(), Signal()
        x_fits, p_fits, accumulator_fits, fits = (Signal(name=n) for n in ("x_fits", "p_fits", "accumulator_fits", "fits"))
        m.d.comb += [
            accumulates.eq(job.accumulate != Accumulate.BYPASS),
            emits.eq((job.emit != Emit.NONE) & ~(accumulates & more)),
            x_fits.eq((x_address >= 0) & (x_address < memory.x_words)),
            p_fits.eq(~emits | ((p_address >= 0) & (p_address < memory.p_words))),
            accumulator_fits.eq(~accumulates | (accumulator < config.pod.accumulator_rows)),
            fits.eq(x_fits & p_fits & accumulator_fits),
            self.x_out_of_range.eq(active & ~x_fits),
            self.p_out_of_range.eq(active & ~p_fits),
            self.accumulator_out_of_range.eq(active & ~accumulator_fits),
            self.request_valid.eq(active & fits),
            self.request_bank.eq(job.x_bank),
            self.request_address.eq(x_address),
            self.word.accumulate.eq(job.accumulate),
            self.word.accumulator.eq(accumulator),
            self.word.emit.eq(Mux(emits, job.emit, Emit.NONE)),
            self.word.p_bank.eq(job.p_bank),
            self.word.p_address.eq(p_address),
            self.busy.eq(active | more),
        ]
        x_plane_fits: Value = Const(1)
        p_plane_fits: Value = Const(1)
        if memory.x_planes > 1:
            m.d.comb += self.request_plane.eq(job.x_plane)
            x_plane_fits = head.x_plane < memory.x_planes
        if memory.p_planes > 1:
            m.d.comb += self.word.p_plane.eq(job.p_plane)
            p_plane_fits = head.p_plane < memory.p_planes

        legal = (
            (head.n0 != 0)
            & (head.n1 != 0)
            & (head.n2 != 0)
            & (head.x_bank | self._turn_mask(head) < memory.banks)
            & self._swaps_enough(head)
            & x_plane_fits
            & (head.accumulate <= (Accumulate.ADD if config.pod.accumulator_rows else Accumulate.BYPASS))
            & (head.emit <= Emit.ACCUMULATE)
            & ((head.emit == Emit.NONE) | ((head.p_bank < memory.banks) & p_plane_fits))
        )
        begin, again, left_over = self.start_tile(m, free=~active | last, legal=legal)
        m.d.comb += [
            more.eq(left_over),
            self.swapping.eq(begin & head.swap | again),
            self.unloaded.eq(self.swapping & ~self.weights_ready),
        ]
        m.d.sync += self.request_swap.eq(self.swapping)
        with m.If(begin):
            m.d.sync += [
                active.eq(1),
                job.eq(head),
                x_address.eq(head.x_base),
                p_address.eq(head.p_base),
                accumulator.eq(head.accumulator_base),
                *(count.eq(head[f"n{i}"]) for i, count in enumerate(left)),
            ]
        with m.Elif(again):
            m.d.sync += [
                active.eq(1),
                p_address.eq(job.p_base),
                accumulator.eq(job.accumulator_base),
                *(count.eq(job[f"n{i}"]) for i, count in enumerate(left)),
            ]
        with m.Elif(last):
            m.d.sync += active.eq(0)
        with m.Elif(active):
            x_step = Mux(ends[0], Mux(ends[1], job.x_step2, job.x_step1), job.x_step0)
            p_step = Mux(ends[0], Mux(ends[1], job.p_step2, job.p_step1), job.p_step0)
            m.d.sync += [
                x_address.eq(x_address + x_step),
                p_address.eq(p_address + p_step),
                left[0].eq(Mux(ends[0], job.n0, left[0] - 1)),
            ]
            # The row counter must not wrap back into range: once outside, it stays there.
            with m.If(accumulator_fits):
                m.d.sync += accumulator.eq(accumulator + 1)
            with m.If(ends[0]):
                m.d.sync += left[1].eq(Mux(ends[1], job.n1, left[1] - 1))
                with m.If(ends[1]):
                    m.d.sync += left[2].eq(left[2] - 1)
        if config.pod.tile_width:
            self._advance_tile(m, begin, again, job, x_address)
        return m

    def _advance_tile(self, m: Module, begin: Value, again: Value, job: Any, x_address: Signal) -> None:
        """What differs from tile to tile: X bank and address, and codes."""
        first_address = Signal.like(x_address)
        turned, next_address = Signal.like(job.x_bank), Signal.like(x_address)
        mask = self._turn_mask(job)[: len(turned)]
        m.d.comb += [
            turned.eq((job.x_bank & ~mask) | ((job.x_bank + 1) & mask)),
            next_address.eq(first_address + Mux((turned & mask) == 0, job.x_tile_step, 0)),
        ]
        with m.If(begin):
            m.d.sync += first_address.eq(self.head.x_base)
        with m.If(again):
            m.d.sync += [first_address.eq(next_address), x_address.eq(next_address), job.x_bank.eq(turned)]
            with m.If(job.accumulate == Accumulate.INIT):
                m.d.sync += job.accumulate.eq(Accumulate.ADD)
            with m.If((job.accumulate == Accumulate.BYPASS) & (job.emit == Emit.STORE)):
                m.d.sync += job.emit.eq(Emit.ACCUMULATE)

    def _turn_mask(self, job: Any) -> Value:
        """The bits of an X bank that turn."""
        if not self.config.pod.tile_width:
            return Const(0)
        return Cat(job.x_turn > bit for bit in range(max(2 ** len(job.x_turn) - 1, len(job.x_bank))))

    def _swaps_enough(self, job: Any) -> Value:
        """Several tiles have weights of their own each."""
        return (job.tiles == 1) | job.swap if self.config.pod.tile_width else Const(1)
