"""Post-processor engine: walks the windows of partial sums that become words of activations."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Out

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import post_job_layout
from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import ELEMENT_WIDTH, GAP_WIDTH, Combine, Destination

from ..parts.blocks import struct
from ..parts.job_engine import TimedEngine


def output_layout(config: ChipConfig) -> data.StructLayout:
    """What travels beside a P word and the word of outputs that it becomes a part of."""
    names = ["slice", "reduce", "parameters", "activate", "table", "slot", "x_bank"]
    if config.memory.y_planes > 1:
        names.append("x_plane")
    own = {"x_address": "x_base"}
    if config.has_rows:
        names += ["combine", "subtract", "row_scale", "saturate", "wide_table", "destination", "statistic", "scalar", "level"]
        names += ["row", "masked", "length", "element"]
    widths = {field.name: field.width for field in post_job_layout(config).fields}
    flags = {"row_first": 1, "row_last": 1} if config.has_rows else {}
    return data.StructLayout({name: widths[name] for name in names} | {to: widths[of] for to, of in own.items()} | flags)


class PostEngine(TimedEngine):
    """Reads the P words of ``n2 * n3`` output words from the start time of a job on; loop 0 is innermost.

    Loops 0 and 1 are the window of one output word, a P word per cycle; then the engine waits for `ChipConfig.post_beats` - 1
    cycles, `ChipConfig.post_beats` more if words are rotated, and the ``gap`` of the job. When loop i advances (all loops
    inside it wrap), the P address grows by ``p_step<i>``, and the X address by ``x_step<i>`` if i is 2 or 3. A word out of
    range is not read; an output word out of range, or with a word out of range in its window, is not emitted. With row
    functions, loop 2 walks over the words of a row and loop 3 over rows: parameter set, element, row register and length
    advance as the job says, and the X address is one of the own P bank where results go there.

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
        config, memory, head = self.config, self.config.memory, self.head
        m = Module()

        active = Signal()
        job = self._job = Signal(struct(self.layout), reset_less=True)
        left = [Signal.like(head[f"n{i}"], name=f"left_{i}", reset_less=True) for i in range(4)]
        # One guard bit for the sign and one for overflow: a single step from an address in range stays representable.
        p_address = Signal(signed(len(job.p_base) + 2), reset_less=True)
        x_address = self._x_address = Signal(signed(len(job.x_base) + 2), reset_less=True)
        first, spoilt = Signal(reset_less=True), Signal(reset_less=True)

        ends = [Signal(name=f"end_{i}") for i in range(4)]
        window_end, last, p_fits, x_fits, whole = (Signal(name=n) for n in ("window_end", "last", "p_fits", "x_fits", "whole"))
        reads, steps, finishes = self._pace(m, active, window_end)
        m.d.comb += [
            *(end.eq(count == 1) for end, count in zip(ends, left, strict=True)),
            window_end.eq(ends[0] & ends[1]),
            last.eq(finishes & window_end & ends[2] & ends[3]),
            p_fits.eq((p_address >= 0) & (p_address < memory.p_words)),
            x_fits.eq(self._fits()),
            whole.eq(p_fits & (first | ~spoilt)),
            self.busy.eq(active),
            self.read_enable.eq(reads & p_fits),
            self.read_address.eq(p_address),
            self.first.eq(first),
            self.emit.eq(reads & window_end & whole & x_fits),
            self.p_out_of_range.eq(reads & ~p_fits),
            self.x_out_of_range.eq(reads & window_end & ~x_fits),
        ]

        begin = self.start(m, free=~active | last, legal=self._legal())
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
        with m.Elif(steps):
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
        moving: dict[str, Value] = {"x_address": x_address}
        if config.has_rows:
            moving |= self._row(m, begin, steps & ~last & window_end, ends[2], left[2])
        m.d.comb += [field.eq(moving.get(name, job[name] if name in job.shape().members else 0)) for name, field in self._word()]
        return m

    def _pace(self, m: Module, active: Signal, window_end: Signal) -> tuple[Value, Value, Value]:
        """Cycles in which a word is read, in which the walk goes on, and in which an output word is over."""
        beats = self.config.post_beats
        if beats == 1 and not self.config.has_rows:
            return active, active, active
        # Behind a window, as many cycles as are left of the time of an output word.
        pause = Signal(range(2 * beats + (1 << GAP_WIDTH) if self.config.has_rows else beats + 1), name="pause")
        rest = Signal.like(pause, name="rest")
        reads, steps = Signal(name="reads"), Signal(name="steps")
        more: Value = Const(0, 1)
        if self.config.has_rows:
            more = Mux(self._job.combine == Combine.ROTATE, beats, 0) + self._job.gap
        m.d.comb += [
            pause.eq(beats - 1 + more),
            reads.eq(active & (rest == 0)),
            steps.eq(active & ((rest == 1) | (reads & (~window_end | (pause == 0))))),
        ]
        with m.If(reads & window_end):
            m.d.sync += rest.eq(pause)
        with m.Elif(rest != 0):
            m.d.sync += rest.eq(rest - 1)
        return reads, steps, steps

    def _fits(self) -> Value:
        """Whether the output word is inside of what it goes into."""
        memory, address, job = self.config.memory, self._x_address, self._job
        inside = (address >= 0) & (address < memory.x_words)
        if not self.config.has_rows:
            return inside
        own = (job.destination == Destination.STORE) | (job.destination == Destination.ADD)
        planes = (address >= 0) & (address < memory.x_words - 1)
        into_x = Mux(job.destination == Destination.PLANES, planes, inside)
        return Mux(own, (address >= 0) & (address < memory.p_words), into_x | (job.destination == Destination.NONE))

    def _legal(self) -> Value:
        config, head, lanes = self.config, self.head, self.config.post_lanes
        post, array, memory = config.post, config.array, config.memory
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
        )
        if not config.has_rows:
            return legal
        # A second word goes out before the word of another job can.
        single = (head.n0 == 1) & (head.n1 == 1) & (head.gap == 0) & (config.post_beats == 1)
        return (
            legal
            & (head.combine <= max(Combine))
            & (head.destination <= max(Destination))
            & (head.scalar != 3)
            & ~(head.wide_table & head.table[0])
            & ~((head.destination == Destination.PLANES) & single)
            & (head.level <= config.network_stages)
            & (head.parameters + Mux(head.parameters_step, head.n2 - 1, 0) < post.parameter_sets)
            & (~(head.subtract | head.row_scale | (head.statistic != 0)) | (head.row + head.n3 <= post.row_registers))
            & (~head.masked | (head.length + Mux(head.length_step, head.n3 - 1, 0) < post.row_registers))
        )

    def _row(self, m: Module, begin: Value, advances: Value, row_end: Value, words_left: Signal) -> dict[str, Value]:
        """What moves along a row, and from row to row."""
        head, job = self.head, self._job
        parameters, row, length = (Signal(len(job[n]), name=f"{n}_now", reset_less=True) for n in ("parameters", "row", "length"))
        element = Signal(ELEMENT_WIDTH, name="element_now", reset_less=True)
        with m.If(begin):
            m.d.sync += [now.eq(head[n]) for n, now in self._named(parameters, row, length, element)]
        with m.Elif(advances):
            m.d.sync += [
                parameters.eq(Mux(row_end, job.parameters, parameters + job.parameters_step)),
                element.eq(Mux(row_end, job.element, element + job.element_step)),
            ]
            with m.If(row_end):
                m.d.sync += [row.eq(row + 1), length.eq(length + job.length_step)]
        flags: dict[str, Value] = {"row_first": words_left == job.n2, "row_last": row_end}
        return dict(self._named(parameters, row, length, element)) | flags

    @staticmethod
    def _named(parameters: Signal, row: Signal, length: Signal, element: Signal) -> list[tuple[str, Signal]]:
        return [("parameters", parameters), ("row", row), ("length", length), ("element", element)]

    def _word(self) -> list[tuple[str, Signal]]:
        return [(name, self.word[name]) for name, _ in self.word.shape()]
