"""Pod: an array with its skew, local accumulators, job queues and address generators."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import PodError
from podweave.spec.jobs import Emit, load_job_layout, stream_job_layout
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, delay_line, place, register
from ..parts.job_queue import JobQueue
from .accumulator import Accumulator
from .array import Array
from .load_engine import LoadEngine
from .stream_engine import StreamEngine


class Pod(Block):
    """One weight-stationary pod, time-triggered: every job starts at the epoch time it carries.

    Epoch time counts cycles while ``run`` is high; time 0 is the cycle after the first one with ``run`` high. A job that
    starts at time s has its first request on the port at time s, one more per cycle after that. The memory answers a
    request of cycle t on the data input in cycle t + latency, always.

    Latency: ``latency + row_groups + col_groups + 1`` cycles from a request for activations to their partial sums on ``p_data``.

    Parameters
    ----------
    config : ChipConfig
        Array, pod, memories and networks; widths below are of its array and memory.

    Members
    -------
    run : In(1)
        The epoch is on. Jobs may be pushed before; a job still queued when ``run`` falls belongs to the next epoch.
    load_valid, stream_valid : In(1)
        A push into the queue of load (stream) jobs. A push while ready is low is an error.
    load_job, stream_job : In(width of the layout)
        The job, laid out by `load_job_layout` (`stream_job_layout`).
    load_ready, stream_ready : Out(1)
        The queue takes a push.
    w_request_valid, x_request_valid : Out(1)
        A read of one word of W (X).
    w_request_bank, x_request_bank, p_bank : Out(bits_for_index(banks))
        Bank of the read, or of the write.
    w_request_plane, x_request_plane, p_plane : Out(bits_for_index(w_planes, x_planes, p_planes))
        Plane of the network it takes; each only if there are several.
    w_request_address, x_request_address : Out(bits_for_index(w_words)), Out(bits_for_index(x_words))
        Word in the bank.
    w_data, x_data : In(8 * cols), In(8 * rows)
        The word read, int8 lanes, latency cycles after its request.
    p_valid : Out(1)
        A write of one row of partial sums.
    p_accumulate : Out(1)
        Accumulate it (1) or store it (0).
    p_address : Out(bits_for_index(p_words))
        Row in the bank; address and data keep their last value between writes.
    p_data : Out(psum_width * cols)
        The row.
    busy : Out(1)
        A job is queued or in progress, or a word is under way.
    errors : Out(len(PodError))
        One bit per `PodError`, sticky until reset. With any bit set no further job starts; words under way still complete.
    error_time : Out(time_width)
        The epoch time at which ``errors`` was first seen to be set.
    """

    kind = "pod"

    def __init__(self, config: ChipConfig):
        self.config = config
        array, memory = config.array, config.memory
        self.load_layout, self.stream_layout = load_job_layout(config), stream_job_layout(config)
        bank = bits_for_index(memory.banks)

        def request(name: str, planes: int, words: int) -> dict[str, Any]:
            return {
                f"{name}_request_valid": Out(1),
                f"{name}_request_bank": Out(bank),
                **({f"{name}_request_plane": Out(bits_for_index(planes))} if planes > 1 else {}),
                f"{name}_request_address": Out(bits_for_index(words)),
            }

        super().__init__(
            {
                "run": In(1),
                "load_valid": In(1),
                "load_job": In(self.load_layout.width),
                "load_ready": Out(1),
                "stream_valid": In(1),
                "stream_job": In(self.stream_layout.width),
                "stream_ready": Out(1),
                **request("w", memory.w_planes, memory.w_words),
                "w_data": In(8 * array.cols),
                **request("x", memory.x_planes, memory.x_words),
                "x_data": In(8 * array.rows),
                "p_valid": Out(1),
                "p_accumulate": Out(1),
                "p_bank": Out(bank),
                **({"p_plane": Out(bits_for_index(memory.p_planes))} if memory.p_planes > 1 else {}),
                "p_address": Out(bits_for_index(memory.p_words)),
                "p_data": Out(array.psum_width * array.cols),
                "busy": Out(1),
                "errors": Out(len(PodError)),
                "error_time": Out(config.pod.time_width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, pod = self.config, self.config.pod
        m = Module()

        load_queue = place(m, "load_queue", JobQueue(self.load_layout, pod.load_queue_depth))
        stream_queue = place(m, "stream_queue", JobQueue(self.stream_layout, pod.stream_queue_depth))
        load = place(m, "load_engine", LoadEngine(config))
        stream = place(m, "stream_engine", StreamEngine(config))

        next_time = Signal(pod.time_width)
        with m.If(self.run):
            m.d.sync += next_time.eq(next_time + 1)
        with m.Else():
            m.d.sync += next_time.eq(0)

        for name, queue, engine in (("load", load_queue, load), ("stream", stream_queue, stream)):
            m.d.comb += [
                queue["push_valid"].eq(getattr(self, f"{name}_valid")),
                queue["push_job"].eq(getattr(self, f"{name}_job")),
                getattr(self, f"{name}_ready").eq(queue["ready"]),
                engine["head_valid"].eq(queue["head_valid"]),
                Value.cast(engine["head"]).eq(Value.cast(queue["head"])),
                queue["pop"].eq(engine["pop"]),
                engine["run"].eq(self.run),
                engine["next_time"].eq(next_time),
                engine["halted"].eq(self.errors.any()),
            ]
        m.d.comb += [
            load["swapping"].eq(stream["swapping"]),
            stream["weights_ready"].eq(load["weights_ready"]),
        ]
        for name, engine in (("w", load), ("x", stream)):
            m.d.comb += [
                getattr(self, f"{name}_request_{part}").eq(engine[f"request_{part}"])
                for part in ("valid", "bank", "plane", "address")
                if f"request_{part}" in engine
            ]

        under_way = self._datapath(m, load, stream)
        m.d.comb += self.busy.eq(load_queue["head_valid"] | stream_queue["head_valid"] | load["busy"] | stream["busy"] | under_way)
        self._record_errors(
            m,
            next_time,
            {
                PodError.LATE_LOAD: load["late"],
                PodError.LATE_STREAM: stream["late"],
                PodError.LOAD_OVERFLOW: load_queue["overflow"],
                PodError.STREAM_OVERFLOW: stream_queue["overflow"],
                PodError.ILLEGAL_LOAD: load["illegal"],
                PodError.ILLEGAL_STREAM: stream["illegal"],
                PodError.W_ADDRESS: load["out_of_range"],
                PodError.X_ADDRESS: stream["x_out_of_range"],
                PodError.P_ADDRESS: stream["p_out_of_range"],
                PodError.ACCUMULATOR_ADDRESS: stream["accumulator_out_of_range"],
                PodError.WEIGHTS_NOT_LOADED: stream["unloaded"],
                PodError.WEIGHTS_OVERWRITTEN: load["overwrites"],
                PodError.EPOCH_OVERFLOW: self.run & next_time.all(),
            },
        )
        return m

    def _datapath(self, m: Module, load: dict[str, Any], stream: dict[str, Any]) -> Value:
        """Wires memory words through skew, array and accumulators to the write port; returns whether any is under way."""
        array_config = self.config.array
        psum = array_config.psum_width
        array = place(m, "array", Array(array_config))
        accumulator = place(
            m,
            "accumulator",
            Accumulator(depth=self.config.pod.accumulator_rows, lanes=array_config.cols, width=psum),
        )

        swap = delay_line(m, stream["request_swap"], self.config.read_latency, name="swap", reset_less=False)[-1]
        token = delay_line(m, load["request_first"], self.config.read_latency, name="token", reset_less=False)[-1]
        last_row, last_col = array_config.row_groups - 1, array_config.col_groups - 1
        m.d.comb += [
            array["x"].eq(_skew(m, self.x_data, 8 * array_config.group_rows, name="x_skew")),
            array["w"].eq(_skew(m, self.w_data, 8 * array_config.group_cols, name="w_skew")),
            array["swap"].eq(Cat(delay_line(m, swap, last_row, name="swap_skew", reset_less=False))),
            array["token"].eq(Cat(delay_line(m, token, last_col, name="token_skew", reset_less=False))),
            accumulator["psum"].eq(_skew(m, array["p"], psum * array_config.group_cols, name="p_deskew", reverse=True)),
        ]

        to_psum = self.config.read_latency + array_config.latency
        valid = delay_line(m, stream["request_valid"], to_psum, name="valid", reset_less=False)
        words = delay_line(m, Value.cast(stream["word"]), to_psum, name="word")
        layout = stream["word"].shape()
        ahead, word = layout(words[-2]), layout(words[-1])
        writes = Signal()
        m.d.comb += [
            accumulator["next_valid"].eq(valid[-2]),
            accumulator["next_code"].eq(ahead.accumulate),
            accumulator["next_row"].eq(ahead.accumulator),
            writes.eq(valid[-1] & (word.emit != Emit.NONE)),
            self.p_data.eq(accumulator["result"]),
        ]
        p_valid = Signal()
        m.d.sync += p_valid.eq(writes)
        m.d.comb += self.p_valid.eq(p_valid)
        held = {
            "p_accumulate": word.emit == Emit.ACCUMULATE,
            "p_bank": word.p_bank,
            "p_address": word.p_address,
            **({"p_plane": word.p_plane} if self.config.memory.p_planes > 1 else {}),
        }
        for port, value in held.items():
            register = Signal(len(getattr(self, port)), name=f"{port}_held", reset_less=True)
            m.d.comb += getattr(self, port).eq(register)
            with m.If(writes):
                m.d.sync += register.eq(value)
        return Cat(*valid[1:]).any() | p_valid

    def _record_errors(self, m: Module, next_time: Signal, events: dict[PodError, Value]) -> None:
        assert set(events) == set(PodError)
        raised = Signal(len(PodError))
        errors = Signal(len(PodError))
        error_time = Signal(len(next_time))
        m.d.comb += [
            raised.eq(Cat(events[error] for error in PodError)),
            self.errors.eq(errors),
            self.error_time.eq(error_time),
        ]
        m.d.sync += errors.eq(errors | raised)
        with m.If(raised.any() & ~errors.any()):
            m.d.sync += error_time.eq(next_time)


def _skew(m: Module, lanes: Value, width: int, *, name: str, reverse: bool = False) -> Value:
    """Delay slice i of ``lanes`` by i cycles, or, in reverse, by as many as slice i is short of the last."""
    count = len(lanes) // width
    slices = [lanes[-width:] if reverse else lanes[:width]]
    # One register per cycle of delay holds all the slices that are delayed that long or longer.
    for cycle in range(1, count):
        lanes = register(m, lanes[:-width] if reverse else lanes[width:], name=f"{name}_{cycle}")
        slices.append(lanes[-width:] if reverse else lanes[:width])
    return Cat(*(reversed(slices) if reverse else slices))
