"""Post-processor: partial sums become activations: pooling, bias, requantisation, activation function; and functions of rows."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import PostError
from podweave.spec.jobs import Reduce, post_job_layout, post_parameters_layout
from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import Combine

from ..parts.blocks import Block, delay_line, place, register
from ..parts.job_queue import JobQueue
from ..parts.lookup_table import LookupTable
from ..parts.sram import Sram
from .beats import Beats
from .post_engine import PostEngine
from .requantizer import Requantizer
from .row_path import RowPath, row_members

_STAGE = {"bias": 0, "multiplier": 1, "shift": 2, "zero_point": 2}
"""The stage of the requantiser that takes a field of its parameters."""


class PostProcessor(Block):
    """The post-processor of one P bank, time-triggered: every job starts at the epoch time it carries.

    Epoch time counts cycles while ``run`` is high; time 0 is the cycle after the first one with ``run`` high. A job that starts
    at time s reads its first P word at time s, and the words of a window one per cycle.

    Each lane of a slice of ``post_lanes`` lanes: the words of a window, sign-extended to 32 bits, are reduced (`Reduce`: to their
    largest, or modulo 2**32); with row functions, combined (`Combine`), and taken from the value of the row's statistic; then
    ``saturate(round((sum + bias) * multiplier / 2**shift) + zero_point)``, 0 unless there are ``zero_points``; then, if the job
    says so, the entry of the activation table for that byte, int8 or with row functions int16. With row functions, multiplier and
    shift may be those of the row, and results go into one or two X words, into the own P bank, or nowhere, and into a statistic
    of the row (`Destination`, `Statistic`); elements that are not there (at or beyond the length of the row) count as 0, and not
    in a maximum; in a row with a statistic, a bias is only added in its first word.

    An output word is requantised in ``post_beats`` beats of as many lanes each, one per cycle; of a rotated one, a beat takes two
    cycles, so that what is said below of beat b comes 1 + b cycles later, and of the whole word ``post_beats``. With its last P
    word read in cycle t, f = 2 with row functions, else 0, the bias is read in cycle t + 1 + f, multiplier and shift (with the
    zero point) one and two cycles later, and for beat b the table in cycle t + 5 + f + b; values, mantissas and shifts of row
    registers in cycles t + 2, t + 4 and t + 5, lengths in cycle t + 7. One written in that very cycle makes the output word
    undefined. A register that is not ready in cycle t + 2 is an error, and the output word undefined; a job with a statistic
    takes the register in that cycle of the last word of a row, so it may read what was there before.

    Latency: `ChipConfig.post_latency` cycles from the read of the last P word of an output word to that word on the port;
    9 + post_beats from the last P word of a row to its statistic on the port, and `ChipConfig.network_stages` from there to the
    total.

    Parameters
    ----------
    config : ChipConfig
        Its ``post``, array, pod and memory, which give the widths below.

    Members
    -------
    run : In(1)
        The epoch is on. Jobs may be pushed before; a job still queued when ``run`` falls belongs to the next epoch.
    job_valid : In(1)
        A push. A push while ready is low is an error.
    job : In(post_job_layout(config).width)
        The job, laid out by `post_job_layout`.
    job_ready : Out(1)
        The queue takes a push.
    p_read_enable : Out(1)
        A word of the P bank is read.
    p_read_address : Out(bits_for_index(p_words))
        That word; keeps its last value while there is none.
    p_data : In(psum_width * cols)
        The word, expected in the cycle after its read.
    y_valid : Out(1)
        An output word. All of ``y_*`` but this keep their last value between words. The second of two planes comes one cycle later.
    y_bank, y_plane, y_slot, y_address : Out(bits_for_index(banks, y_planes, rows // post_lanes, x_words))
        X bank, plane of the network (only if there are several), slot of the X word, and X word that it is for.
    y_data : Out(8 * post_lanes)
        ``post_lanes`` int8 lanes.
    parameter_write : In(1)
        Writes a parameter set.
    parameter_address : In(bits_for_index(parameter_sets))
        That set.
    parameter_data : In(post_parameters_layout(config).width * cols)
        One word of `post_parameters_layout` for each of the ``cols`` lanes.
    table_write : In(1)
        Writes an entry of a table.
    table_address : In(bits_for_index(256 * tables))
        256 times the table plus the index.
    table_data : In(8)
        The entry.
    busy : Out(1)
        A job is queued or in progress, or a word or a statistic is under way.
    errors : Out(len(PostError))
        One bit per `PostError`, sticky until reset. With any bit set no further job starts; words under way still complete,
        words out of range leave no trace.
    error_time : Out(time_width)
        The epoch time at which ``errors`` was first seen to be set.
    own_valid : Out(1)
        This and all below only with row functions. A word for the own P bank; all of ``own_*`` but this keep their last value
        between words.
    own_accumulate : Out(1)
        It is added.
    own_address : Out(bits_for_index(p_words))
        Its row.
    own_data : Out(psum_width * cols)
        The word.
    sent, sent_statistic, sent_level, sent_value, sent_element : Out(as of a RowStatistic)
        To the statistics network.
    total, place : In(signed(STATISTIC_WIDTH)), In(ELEMENT_WIDTH)
        Of the statistic sent ``network_stages`` cycles before.
    length_write, length_address, length_data : In(as of RowRegisters)
        Writes a length.
    value_read, value_row : In(1), In(bits_for_index(row_registers))
        Reads the value of a register, while no job is on.
    value : Out(signed(STATISTIC_WIDTH))
        The value of the register read last, one cycle after its read.
    """

    kind = "post_processor"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.layout, self.parameters = post_job_layout(config), post_parameters_layout(config)
        memory, array, post, lanes = config.memory, config.array, config.post, config.post_lanes
        self.lanes = lanes // config.post_beats
        super().__init__(
            {
                "run": In(1),
                "job_valid": In(1),
                "job": In(self.layout.width),
                "job_ready": Out(1),
                "p_read_enable": Out(1),
                "p_read_address": Out(bits_for_index(memory.p_words)),
                "p_data": In(array.psum_width * array.cols),
                "y_valid": Out(1),
                "y_bank": Out(bits_for_index(memory.banks)),
                **({"y_plane": Out(bits_for_index(memory.y_planes))} if memory.y_planes > 1 else {}),
                "y_slot": Out(bits_for_index(array.rows // lanes)),
                "y_address": Out(bits_for_index(memory.x_words)),
                "y_data": Out(8 * lanes),
                "parameter_write": In(1),
                "parameter_address": In(bits_for_index(post.parameter_sets)),
                "parameter_data": In(self.parameters.width * array.cols),
                "table_write": In(1),
                "table_address": In(bits_for_index(256 * post.tables)),
                "table_data": In(8),
                "busy": Out(1),
                "errors": Out(len(PostError)),
                "error_time": Out(config.pod.time_width),
                **(row_members(config) if config.has_rows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, post = self.config, self.config.post
        m = Module()

        queue = place(m, "queue", JobQueue(self.layout, post.queue_depth))
        engine = place(m, "engine", PostEngine(config))

        next_time = Signal(config.pod.time_width)
        m.d.sync += next_time.eq(Mux(self.run, next_time + 1, 0))
        m.d.comb += [
            queue["push_valid"].eq(self.job_valid),
            queue["push_job"].eq(self.job),
            self.job_ready.eq(queue["ready"]),
            engine["head_valid"].eq(queue["head_valid"]),
            Value.cast(engine["head"]).eq(Value.cast(queue["head"])),
            queue["pop"].eq(engine["pop"]),
            engine["run"].eq(self.run),
            engine["next_time"].eq(next_time),
            engine["halted"].eq(self.errors.any()),
            self.p_read_enable.eq(engine["read_enable"]),
            self.p_read_address.eq(engine["read_address"]),
        ]

        extra = 2 if config.has_rows else 0
        emits = delay_line(m, engine["emit"], 6 + extra, name="emit", reset_less=False)
        word = self._words(m, engine["word"], emits)
        beats = Beats(m, config.post_beats, emits, 6 + extra, word[1].combine == Combine.ROTATE if config.has_rows else None)

        sums: list[Value] = list(self._reduced(m, engine))
        sums = beats.chosen(m, 2, sums, "sum")
        rows = RowPath(m, self, emits, word, beats) if config.has_rows else None
        if rows:
            sums = rows.combined(sums)
        bias, multiplier, shift, *zero_points = (
            beats.chosen(m, 2 + extra + _STAGE[name], values, name)
            for name, values in self._parameters(m, emits[extra:], word[extra:]).items()
        )
        results = []
        requantizer = Requantizer(config)
        for lane, (lane_bias, lane_multiplier, lane_shift) in enumerate(zip(bias, multiplier, shift, strict=True)):
            ports = place(m, f"requantizer_{lane}", requantizer)
            scale = rows.scale(lane_bias, lane_multiplier, lane_shift) if rows else (lane_bias, lane_multiplier, lane_shift)
            m.d.comb += [
                ports["stages"].eq(Cat(beats.on[2 + extra : 5 + extra])),
                ports["sum"].eq(sums[lane]),
                *(ports[name].eq(value) for name, value in zip(("bias", "multiplier", "shift"), scale, strict=True)),
                *([ports["saturate"].eq(word[4 + extra].saturate)] if rows else []),
                *(ports["zero_point"].eq(values[lane]) for values in zero_points),
            ]
            results.append(ports["result"])
        finals = self._activated(m, beats, word, results)
        if rows:
            rows.finish(finals)
        else:
            self._outputs(m, beats, word[-1], finals)

        under_way = [*emits[1:], *beats.on[2:], rows.busy if rows else self.y_valid]
        m.d.comb += self.busy.eq(queue["head_valid"] | engine["busy"] | Cat(under_way).any())
        self._record_errors(
            m,
            next_time,
            {
                PostError.LATE: engine["late"],
                PostError.OVERFLOW: queue["overflow"],
                PostError.ILLEGAL: engine["illegal"],
                PostError.P_ADDRESS: engine["p_out_of_range"],
                PostError.X_ADDRESS: engine["x_out_of_range"],
                PostError.ROW_NOT_READY: rows.not_ready if rows else Const(0, 1),
                PostError.SCALAR_BUSY: rows.scalar_lost if rows else Const(0, 1),
            },
        )
        return m

    def _words(self, m: Module, word: Any, emits: list) -> list[Any]:
        """What accompanies output words, by the cycles since their last P word was read; kept for all beats of one."""
        taken: list[Any] = [word]
        for stage in range(1, len(emits)):
            held = Signal(word.shape(), name=f"word_{stage}", reset_less=True)
            with m.If(emits[stage - 1]):
                m.d.sync += held.eq(taken[-1])
            taken.append(held)
        return taken

    def _slice(self, m: Module, values: Value, index: Value, name: str) -> Value:
        """Slice ``index`` of ``values``, which are ``cols`` lanes."""
        slices = self.config.array.cols // self.config.post_lanes
        if slices == 1:
            return values
        width = len(values) // slices
        chosen = Signal(width, name=f"{name}_slice")
        with m.Switch(index):
            for i in range(slices):
                with m.Case(i) if i < slices - 1 else m.Default():
                    m.d.comb += chosen.eq(values[i * width : (i + 1) * width])
        return chosen

    def _reduced(self, m: Module, engine: dict) -> list[Signal]:
        """Reduction of the windows: the sums of a window are here two cycles after its last word was read."""
        psum = self.config.array.psum_width
        takes = register(m, engine["read_enable"], name="takes", reset_less=False)
        first = register(m, engine["first"], name="first")
        code = register(m, engine["word"].reduce, name="reduce")
        chosen = self._slice(m, self.p_data, register(m, engine["word"].slice, name="slice"), "p")
        reduced = []
        for lane in range(self.config.post_lanes):
            value, total = Signal(signed(32), name=f"value_{lane}"), Signal(signed(32), name=f"reduced_{lane}", reset_less=True)
            m.d.comb += value.eq(chosen.word_select(lane, psum).as_signed())
            # One adder; a value that starts a window, or is larger, is added to nothing.
            base, adds, joined = total, code == Reduce.SUM, ~first & (code == Reduce.SUM)
            if self.config.has_rows:
                base = Mux(code == Reduce.HORNER, total << 8, total)
                adds |= code == Reduce.HORNER
                joined = ~first & adds
            taken = value + Mux(joined, base, 0)
            if self.config.has_rows:
                pairs = code == Reduce.PAIR
                adds |= pairs
                taken = Mux(~first & pairs, Cat(value[:16], total[:16]).as_signed(), taken)
            with m.If(takes & (first | adds | (value > total))):
                m.d.sync += total.eq(taken)
            reduced.append(total)
        return reduced

    def _parameters(self, m: Module, emits: list, word: list) -> dict[str, list[Value]]:
        """The fields of parameters of ``post_lanes`` lanes, each in the cycles in which its stage takes a word."""
        post, cols = self.config.post, self.config.array.cols
        found = {}
        for field in self.parameters.fields:
            stage = _STAGE[field.name]
            memory = place(m, field.name, Sram(post.parameter_sets, cols * field.width))
            at = self.parameters.offset(field.name)
            lanes = (self.parameter_data.word_select(lane, self.parameters.width) for lane in range(cols))
            m.d.comb += [
                memory["read_enable"].eq(emits[stage + 1]),
                memory["read_address"].eq(word[stage + 1].parameters),
                memory["write_enable"].eq(self.parameter_write),
                memory["write_address"].eq(self.parameter_address),
                memory["write_data"].eq(Cat(lane[at : at + field.width] for lane in lanes)),
            ]
            values = self._slice(m, memory["read_data"], word[stage + 2].slice, field.name)
            found[field.name] = [values.word_select(lane, field.width) for lane in range(self.config.post_lanes)]
        return found

    def _activated(self, m: Module, beats: Beats, word: list, results: list[Value]) -> list[Value]:
        """Results of a beat, or what the activation table has for them, one cycle later."""
        post, stage = self.config.post, len(word) - 2
        # Two tables side by side where they can be one of 16 bits.
        halves = 2 if self.config.has_rows else 1
        entries = []
        for half in range(halves):
            table = place(m, f"table_{half}" if halves == 2 else "table", LookupTable(len(results), 256 * post.tables // halves))
            depth = len(table["write_address"])
            number, written = word[stage].table, self.table_address
            writes: Value = self.table_write
            if halves == 2:
                number, written = number[1:], Cat(written[:8], written[9:])
                writes = writes & (self.table_address[8] == half)
            m.d.comb += [
                table["read_enable"].eq(beats.on[stage]),
                table["read_address"].eq(Cat(Cat(result[:8], number)[:depth] for result in results)),
                table["write_enable"].eq(writes),
                table["write_address"].eq(written[:depth]),
                table["write_data"].eq(self.table_data),
            ]
            entries.append([table["read_data"].word_select(lane, 8) for lane in range(len(results))])
        last = word[-1]
        finals: list[Value] = []
        for lane, result in enumerate(results):
            plain = Signal(result.shape(), name=f"plain_{lane}", reset_less=True)
            with m.If(beats.on[stage]):
                m.d.sync += plain.eq(result)
            entry: Value = entries[0][lane].as_signed()
            if halves == 2:
                low, high = entries[0][lane], entries[1][lane]
                entry = Mux(last.table[0], high.as_signed(), low.as_signed())
                entry = Mux(last.wide_table, Cat(low, high).as_signed(), entry)
            finals.append(Mux(last.activate, entry, plain))
        return finals

    def _outputs(self, m: Module, beats: Beats, word: Value, finals: list[Value]) -> None:
        """Write port; ``word`` and ``finals`` are those of the last stage."""
        complete, values = beats.collected(m, len(beats.on) - 1, finals)
        ports = {"y_bank": word.x_bank, "y_slot": word.slot, "y_address": word.x_address}
        if self.config.memory.y_planes > 1:
            ports["y_plane"] = word.x_plane
        ports |= {"y_data": Cat(value[:8] for value in values)}
        valid = complete
        if beats.count > 1:
            valid = register(m, complete, name="y_goes", reset_less=False)
            for name, value in ports.items():
                kept = Signal(len(value), name=f"{name}_kept", reset_less=True)
                with m.If(complete):
                    m.d.sync += kept.eq(value)
                ports[name] = kept
        m.d.comb += [getattr(self, name).eq(value) for name, value in ports.items()]
        m.d.comb += self.y_valid.eq(valid)

    def _record_errors(self, m: Module, next_time: Signal, events: dict[PostError, Value]) -> None:
        assert set(events) == set(PostError)
        raised, errors = Signal(len(PostError)), Signal(len(PostError))
        error_time = Signal(len(next_time))
        m.d.comb += [
            raised.eq(Cat(events[error] for error in PostError)),
            self.errors.eq(errors),
            self.error_time.eq(error_time),
        ]
        m.d.sync += errors.eq(errors | raised)
        with m.If(raised.any() & ~errors.any()):
            m.d.sync += error_time.eq(next_time)
