"""Post-processor engine: walks the windows of partial sums that become words of activations."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import post_job_layout
from podweave.spec.layout import bits_for_index

from ..parts.blocks import struct
from ..parts.job_engine import TimedEngine


def output_layout(config: ChipConfig) -> data.StructLayout:
    """What travels beside a P word and the word of outputs that it becomes a part of."""
    assert config.post is not None
    names = ("slice", "reduce", "parameters", "activate", "table", "slot", "x_bank", "x_plane")
    widths = {field.name: field.width for field in post_job_layout(config).fields}
    return data.StructLayout({name: widths[name] for name in names} | {"x_address": bits_for_index(config.memory.x_words)})


class PostEngine(TimedEngine):
    """Reads one P word per cycle for ``n0 * n1 * n2 * n3`` cycles from the start time of a job; loop 0 is innermost.

    Loops 0 and 1 are the window of one output word. When loop i advances (all loops inside it wrap), the P address grows by
    ``p_step<i>``, and the X address by ``x_step<i>`` if i is 2 or 3. A word out of range is not read; an output word out of range,
    or with a word out of range in its window, is not emitted.

    Parameters
    ----------
    config : ChipConfig
        P and X memories and layout of post jobs.

    Members
    -------
    Beside those of `TimedEngine`:

    read_enable : Out(1)
        A P word is read.
    read_address : Out(bits_for_index(p_words))
        That word; keeps its last value while there is none.
    first : Out(1)
        This word is the first of its window.
    emit : Out(1)
        This word is the last of its window, and the output word is to be written.
    word : Out(output_layout(config))
        What accompanies both.
    p_out_of_range : Out(1)
        Error: the P address of this word.
    x_out_of_range : Out(1)
        Error: the X address, at the last word of a window.
    """

    kind = "post_engine"

    def __init__(self, config: ChipConfig):
        super().__init__(
            config,
            post_job_layout(config),
            {
                "read_enable": Out(1),
                "read_address": Out(bits_for_index(config.memory.p_words)),
                "first": Out(1),
                "emit": Out(1),
                "word": Out(output_layout(config)),
                "p_out_of_range": Out(1),
                "x_out_of_range": Out(1),
            },
        )

    def elaborate(self, platform: object) -> Module:
        config, memory, array, post, head = self.config, self.config.memory, self.config.array, self.config.post, self.head
        assert post is not None
        m = Module()

        active = Signal()
        job = Signal(struct(self.layout), reset_less=True)
        left = [Signal.like(head[f"n{i}"], name=f"left_{i}", reset_less=True) for i in range(4)]
        # One guard bit for the sign and one for overflow: a single step from an address in range stays representable.
        p_address = Signal(signed(len(job.p_base) + 2), reset_less=True)
        x_address = Signal(signed(len(job.x_base) + 2), reset_less=True)
        first, spoilt = Signal(reset_less=True), Signal(reset_less=True)

        ends = [Signal(name=f"end_{i}") for i in range(4)]
        window_end, last, p_fits, x_fits, whole = (Signal(name=n) for n in ("window_end", "last", "p_fits", "x_fits", "whole"))
        m.d.comb += [
            *(end.eq(count == 1) for end, count in zip(ends, left, strict=True)),
            window_end.eq(ends[0] & ends[1]),
            last.eq(active & window_end & ends[2] & ends[3]),
            p_fits.eq((p_address >= 0) & (p_address < memory.p_words)),
            x_fits.eq((x_address >= 0) & (x_address < memory.x_words)),
            whole.eq(p_fits & (first | ~spoilt)),
            self.busy.eq(active),
            self.read_enable.eq(active & p_fits),
            self.read_address.eq(p_address),
            self.first.eq(first),
            self.emit.eq(active & window_end & whole & x_fits),
            self.p_out_of_range.eq(active & ~p_fits),
            self.x_out_of_range.eq(active & window_end & ~x_fits),
            *(field.eq(x_address if name == "x_address" else job[name]) for name, field in self._word()),
        ]

        lanes = config.post_lanes
        legal = (
            (head.n0 != 0)
            & (head.n1 != 0)
            & (head.n2 != 0)
            & (head.n3 != 0)
            & (head.parameters < post.parameter_sets)
            & (head.table < post.tables)
            & (head.slice < array.cols // lanes)
            & (head.slot < array.rows // lanes)
            & (head.x_bank < memory.banks)
            & (head.x_plane < memory.planes)
        )
        begin = self.start(m, free=~active | last, legal=legal)
        with m.If(begin):
            m.d.sync += [
                active.eq(1),
                job.eq(head),
                p_address.eq(head.p_base),
                x_address.eq(head.x_base),
                first.eq(1),
                *(count.eq(head[f"n{i}"]) for i, count in enumerate(left)),
            ]
        with m.Elif(last):
            m.d.sync += active.eq(0)
        with m.Elif(active):
            outer_p = Mux(ends[2], job.p_step3, job.p_step2)
            m.d.sync += [
                p_address.eq(p_address + Mux(ends[0], Mux(ends[1], outer_p, job.p_step1), job.p_step0)),
                left[0].eq(Mux(ends[0], job.n0, left[0] - 1)),
                first.eq(window_end),
                spoilt.eq(~whole),
            ]
            with m.If(ends[0]):
                m.d.sync += left[1].eq(Mux(ends[1], job.n1, left[1] - 1))
            with m.If(window_end):
                m.d.sync += [
                    x_address.eq(x_address + Mux(ends[2], job.x_step3, job.x_step2)),
                    left[2].eq(Mux(ends[2], job.n2, left[2] - 1)),
                ]
                with m.If(ends[2]):
                    m.d.sync += left[3].eq(left[3] - 1)
        return m

    def _word(self) -> list[tuple[str, Signal]]:
        return [(name, self.word[name]) for name, _ in self.word.shape()]
