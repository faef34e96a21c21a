"""Post-processor: partial sums become activations: pooling, bias, requantisation, activation function."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import PostError
from podweave.spec.jobs import Reduce, post_job_layout, post_parameters_layout
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, delay_line, place, register
from ..parts.job_queue import JobQueue
from ..parts.lookup_table import LookupTable
from ..parts.sram import Sram
from .post_engine import PostEngine
from .requantizer import Requantizer


class PostProcessor(Block):
    """The post-processor of one P bank, time-triggered: every job starts at the epoch time it carries.

    Epoch time counts cycles while ``run`` is high; time 0 is the cycle after the first one with ``run`` high. A job that starts
    at time s reads its first P word at time s, one more per cycle after that.

    Each lane of a slice of ``post_lanes`` lanes: the words of a window, sign-extended to 32 bits, are reduced to their largest, or
    to their sum modulo 2**32; then ``saturate(round((sum + bias) * multiplier / 2**shift))``, rounding a half away from zero; then,
    if the job says so, the entry of the activation table for that int8, taken as an unsigned byte.

    With the last P word of an output word read in cycle t, bias, multiplier, shift and table are read in cycles t + 1, t + 2,
    t + 3 and t + 5: one written in that very cycle makes the output word undefined.

    Latency: 6 cycles (`ChipConfig.post_latency`) from the read of the last P word of an output word to that word on the port.

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
        An output word. All of ``y_*`` but this keep their last value between words.
    y_bank, y_plane, y_slot, y_address : Out(bits_for_index(banks, planes, rows // post_lanes, x_words))
        X bank, plane of the network, slot of the X word, and X word that it is for.
    y_data : Out(8 * post_lanes)
        ``post_lanes`` int8 lanes.
    parameter_write : In(1)
        Writes a parameter set.
    parameter_address : In(bits_for_index(parameter_sets))
        That set.
    parameter_data : In(post_parameters_layout().width * cols)
        One word of `post_parameters_layout` for each of the ``cols`` lanes.
    table_write : In(1)
        Writes an entry of a table.
    table_address : In(bits_for_index(256 * tables))
        256 times the table plus the index.
    table_data : In(8)
        The entry.
    busy : Out(1)
        A job is queued or in progress, or a word is under way.
    errors : Out(len(PostError))
        One bit per `PostError`, sticky until reset. With any bit set no further job starts; words under way still complete,
        words out of range leave no trace.
    error_time : Out(time_width)
        The epoch time at which ``errors`` was first seen to be set.
    """

    kind = "post_processor"

    def __init__(self, config: ChipConfig):
        self.config = config
        self.layout, self.parameters = post_job_layout(config), post_parameters_layout()
        memory, array, post, lanes = config.memory, config.array, config.post, config.post_lanes
        assert post is not None
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
                "y_plane": Out(bits_for_index(memory.planes)),
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
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, post = self.config, self.config.post
        assert post is not None
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

        emits = delay_line(m, engine["emit"], config.post_latency, name="emit", reset_less=False)
        words = delay_line(m, Value.cast(engine["word"]), config.post_latency - 1, name="word")
        layout = engine["word"].shape()
        word = [layout(bits) for bits in words]

        sums = self._reduced(m, engine, word[1].slice, word[1].reduce)
        bias, multiplier, shift = self._parameters(m, emits, word)
        results = []
        requantizer = Requantizer()
        for lane in range(config.post_lanes):
            ports = place(m, f"requantizer_{lane}", requantizer)
            m.d.comb += [
                ports["stages"].eq(Cat(emits[2:5])),
                ports["sum"].eq(sums[lane]),
                *(
                    ports[name].eq(values.word_select(lane, len(values) // config.post_lanes))
                    for name, values in (("bias", bias), ("multiplier", multiplier), ("shift", shift))
                ),
            ]
            results.append(ports["result"])
        self._outputs(m, emits, word[5], results)

        m.d.comb += self.busy.eq(queue["head_valid"] | engine["busy"] | Cat(*emits[1:]).any())
        self._record_errors(
            m,
            next_time,
            {
                PostError.LATE: engine["late"],
                PostError.OVERFLOW: queue["overflow"],
                PostError.ILLEGAL: engine["illegal"],
                PostError.P_ADDRESS: engine["p_out_of_range"],
                PostError.X_ADDRESS: engine["x_out_of_range"],
            },
        )
        return m

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

    def _reduced(self, m: Module, engine: dict, index: Value, code: Value) -> list[Signal]:
        """Reduction of the windows: the sums of a window are here two cycles after its last word was read."""
        psum = self.config.array.psum_width
        takes = register(m, engine["read_enable"], name="takes", reset_less=False)
        first = register(m, engine["first"], name="first")
        chosen = self._slice(m, self.p_data, index, "p")
        reduced = []
        for lane in range(self.config.post_lanes):
            value, total = Signal(signed(32), name=f"value_{lane}"), Signal(signed(32), name=f"reduced_{lane}", reset_less=True)
            m.d.comb += value.eq(chosen.word_select(lane, psum).as_signed())
            with m.If(takes):
                m.d.sync += total.eq(
                    Mux(first, value, Mux(code == Reduce.SUM, total + value, Mux(value > total, value, total))),
                )
            reduced.append(total)
        return reduced

    def _parameters(self, m: Module, emits: list, word: list) -> list[Value]:
        """Bias, multiplier and shift of ``post_lanes`` lanes, each in the cycle in which its stage takes a word."""
        post, cols = self.config.post, self.config.array.cols
        assert post is not None
        found = []
        for stage, field in enumerate(self.parameters.fields):
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
            found.append(self._slice(m, memory["read_data"], word[stage + 2].slice, field.name))
        return found

    def _outputs(self, m: Module, emits: list, word: Value, results: list[Value]) -> None:
        """Activation function and write port; ``word`` and ``results`` are those of the cycle before the write."""
        post, lanes = self.config.post, self.config.post_lanes
        assert post is not None
        table = place(m, "table", LookupTable(lanes, 256 * post.tables))
        address = Cat(Cat(result.as_unsigned(), word.table)[: len(self.table_address)] for result in results)
        m.d.comb += [
            table["read_enable"].eq(emits[5]),
            table["read_address"].eq(address),
            table["write_enable"].eq(self.table_write),
            table["write_address"].eq(self.table_address),
            table["write_data"].eq(self.table_data),
        ]
        plain, activate = Signal(8 * lanes, reset_less=True), Signal(reset_less=True)
        held = {"y_bank": word.x_bank, "y_plane": word.x_plane, "y_slot": word.slot, "y_address": word.x_address}
        with m.If(emits[5]):
            m.d.sync += [plain.eq(Cat(*results)), activate.eq(word.activate)]
        for port, value in held.items():
            kept = Signal(len(value), name=f"{port}_held", reset_less=True)
            with m.If(emits[5]):
                m.d.sync += kept.eq(value)
            m.d.comb += getattr(self, port).eq(kept)
        m.d.comb += [self.y_valid.eq(emits[6]), self.y_data.eq(Mux(activate, table["read_data"], plain))]

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
