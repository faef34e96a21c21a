"""Engines that execute timed jobs: load, stream, post."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Mux, Signal, Value, signed

from podweave.rtl.pod.load_engine import LoadEngine
from podweave.rtl.pod.stream_engine import StreamEngine
from podweave.rtl.post.post_engine import PostEngine
from podweave.spec.jobs import Accumulate, Emit

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_CONFIG = small()


class Tiles:
    """When the tiles of jobs begin and end, by the contract of `TimedEngine` and `JobEngine`.

    Members
    -------
    begin, again : Value
        A job (its next tile) begins: its first request is in the next cycle.
    active : Signal
        A request of a tile is due in this cycle.
    last : Signal
        It is the last one of its tile; whoever makes this drives it.
    """

    def __init__(self, h: Harness, dut: dict[str, Any], legal: Value, tiled: bool = True):
        m, head = h.m, dut["head"]
        self.active, self.last = Signal(name="tile_active"), Signal(name="tile_last")
        left, until = Signal(_CONFIG.pod.tile_width), Signal(_CONFIG.pod.count_width)
        period = Signal.like(until)
        waiting = dut["head_valid"] & dut["run"] & ~dut["halted"]
        more = left != 0
        free = ~self.active | self.last
        due = waiting & (head.start == dut["next_time"]) & free & ~more
        self.begin = due & legal
        next_due = more & (until == 1) & ~dut["halted"]
        self.again = next_due & free
        with m.If(self.begin):
            m.d.sync += self.active.eq(1)
            if tiled:
                m.d.sync += [left.eq(head.tiles - 1), until.eq(head.period), period.eq(head.period)]
        with m.Elif(self.again):
            m.d.sync += [self.active.eq(1), left.eq(left - 1), until.eq(period)]
        with m.Else():
            m.d.sync += self.active.eq(self.active & ~self.last)
            with m.If(more & (until != 1)):
                m.d.sync += until.eq(until - 1)
        self.more = more
        h.check(dut["pop"] == self.begin, "a legal job leaves the queue in the cycle before its start, if the engine is free")
        h.check(dut["illegal"] == (due & ~legal), "illegal: the head is due and its fields are not legal")
        late = waiting & (head.start < dut["next_time"])
        h.check(
            dut["late"] == (late | (next_due & ~free)),
            "late: the start of the head has passed, or a tile may not begin when it is due",
        )
        h.check(dut["busy"] == (self.active | more), "busy: requests are due, or tiles that have not begun")
        h.cover(self.begin & h.past(self.last, "last"), "a job begins behind the last request of another")
        h.cover(dut["illegal"], "a job is not legal")
        if tiled:
            h.cover(self.again & self.last, "a tile begins behind the last request of the one before")
            h.cover(next_due & ~free, "a tile is late")


def _tiles_legal(head: Any) -> Value:
    return (head.tiles != 0) & ((head.tiles == 1) | (head.period != 0))


def load(h: Harness) -> None:
    m, config = h.m, _CONFIG
    dut = h.place(LoadEngine(config))
    head = dut["head"]
    legal = (head.rows != 0) & (head.rows <= config.array.rows) & (head.w_bank < config.memory.banks) & _tiles_legal(head)
    tiles = Tiles(h, dut, legal)
    rows, left, bank, step = (Signal.like(field) for field in (head.rows, head.rows, head.w_bank, head.w_step))
    # Wide enough for a job to the end; behind its first row out of range nothing is said of addresses.
    address, strayed = Signal(signed(len(head.w_base) + 6)), Signal()
    fits = (address >= 0) & (address < config.memory.w_words)
    m.d.comb += tiles.last.eq(left == 1)
    with m.If(tiles.begin):
        m.d.sync += [rows.eq(head.rows), left.eq(head.rows), bank.eq(head.w_bank), step.eq(head.w_step)]
        m.d.sync += [address.eq(head.w_base), strayed.eq(0)]
    with m.Elif(tiles.again):
        m.d.sync += [left.eq(rows), address.eq(address + step), strayed.eq(strayed | (tiles.active & ~fits))]
    with m.Elif(tiles.active):
        m.d.sync += [left.eq(left - 1), strayed.eq(strayed | ~fits)]
        with m.If(~tiles.last):
            m.d.sync += address.eq(address + step)
    valid = dut["request_valid"]
    h.check(~valid | (dut["request_address"] < config.memory.w_words), "no word out of range is requested")
    h.check(~valid | tiles.active, "nothing is requested but rows of tiles")
    followed = tiles.active & ~strayed
    h.check(~followed | (valid == fits), "a row is requested in its cycle, unless it is out of range")
    h.check(~followed | (dut["out_of_range"] == ~fits), "out_of_range: in the cycle of the row")
    h.check(
        ~(followed & valid) | ((dut["request_address"] == address) & (dut["request_bank"] == bank)), "bank and address of a row"
    )
    h.check(dut["request_first"] == h.past(tiles.begin | tiles.again, "begins"), "request_first: the cycle of row 0")
    # Complete, or so by the next cycle, and not swapped in.
    fresh = Signal()
    ready = fresh | (tiles.active & tiles.last)
    m.d.sync += fresh.eq(ready & ~dut["swapping"])
    h.check(dut["weights_ready"] == ready, "weights_ready: from the last row of a tile to its swap")
    overwrites = (tiles.begin | tiles.again) & ready & ~dut["swapping"]
    h.check(dut["overwrites"] == overwrites, "overwrites: a tile begins while another waits for its swap")
    h.cover(followed & dut["out_of_range"] & (address < 0), "an address is below 0")
    h.cover(overwrites, "weights are overwritten")


def stream(h: Harness) -> None:
    m, config, memory = h.m, _CONFIG, _CONFIG.memory
    dut = h.place(StreamEngine(config))
    head = dut["head"]
    # Short loops, without turns of the X bank, which lockstep tests cover.
    h.assume((head.n0 < 4) & (head.n1 < 3) & (head.n2 < 3) & (head.x_turn == 0))
    legal = (
        (head.n0 != 0)
        & (head.n1 != 0)
        & (head.n2 != 0)
        & (head.x_bank < memory.banks)
        & (head.accumulate <= Accumulate.ADD)
        & (head.emit <= Emit.ACCUMULATE)
        & ((head.emit == Emit.NONE) | (head.p_bank < memory.banks))
        & _tiles_legal(head)
        & ((head.tiles == 1) | head.swap)
    )
    tiles = Tiles(h, dut, legal)
    job = Signal.like(head)
    at = [Signal(4, name=f"at_{i}") for i in range(3)]
    ends = [at[i] == job[f"n{i}"] - 1 for i in range(3)]
    first_tile, tile_base = Signal(), Signal(signed(12))
    x, p, row = Signal(signed(12)), Signal(signed(12)), Signal(6)
    strayed = Signal()
    m.d.comb += tiles.last.eq(ends[0] & ends[1] & ends[2])
    accumulates = job.accumulate != Accumulate.BYPASS
    emits = (job.emit != Emit.NONE) & ~(accumulates & tiles.more)
    x_fits = (x >= 0) & (x < memory.x_words)
    p_fits = ~emits | ((p >= 0) & (p < memory.p_words))
    row_fits = ~accumulates | (row < config.pod.accumulator_rows)
    fits = x_fits & p_fits & row_fits
    with m.If(tiles.begin):
        m.d.sync += [job.eq(head), first_tile.eq(1), strayed.eq(0), tile_base.eq(head.x_base), *(i.eq(0) for i in at)]
        m.d.sync += [x.eq(head.x_base), p.eq(head.p_base), row.eq(head.accumulator_base)]
    with m.Elif(tiles.again):
        # With turns of one bank, the address advances from tile to tile.
        m.d.sync += [first_tile.eq(0), strayed.eq(strayed | (tiles.active & ~fits)), *(i.eq(0) for i in at)]
        m.d.sync += [tile_base.eq(tile_base + job.x_tile_step), x.eq(tile_base + job.x_tile_step)]
        m.d.sync += [p.eq(job.p_base), row.eq(job.accumulator_base)]
    with m.Elif(tiles.active):
        m.d.sync += [
            strayed.eq(strayed | ~fits),
            row.eq(row + 1),
            x.eq(x + Mux(ends[0], Mux(ends[1], job.x_step2, job.x_step1), job.x_step0)),
            p.eq(p + Mux(ends[0], Mux(ends[1], job.p_step2, job.p_step1), job.p_step0)),
            at[0].eq(Mux(ends[0], 0, at[0] + 1)),
        ]
        with m.If(ends[0]):
            m.d.sync += at[1].eq(Mux(ends[1], 0, at[1] + 1))
            with m.If(ends[1]):
                m.d.sync += at[2].eq(at[2] + 1)
    valid, word = dut["request_valid"], dut["word"]
    h.check(~valid | (dut["request_address"] < memory.x_words), "no X word out of range is requested")
    named = word.emit != Emit.NONE
    h.check(~(valid & named) | (word.p_address < memory.p_words), "no P word out of range is named")
    local = valid & (word.accumulate != Accumulate.BYPASS)
    h.check(~local | (word.accumulator < config.pod.accumulator_rows), "no accumulator out of range is named")
    h.check(~valid | tiles.active, "nothing is requested but words of tiles")
    followed = tiles.active & ~strayed
    h.check(~followed | (valid == fits), "a word is requested in its cycle, unless something is out of range")
    for error, inside in ((dut["x_out_of_range"], x_fits), (dut["p_out_of_range"], p_fits)):
        h.check(~followed | (error == ~inside), "an error in the cycle of a word out of range")
    h.check(~tiles.active | (dut["accumulator_out_of_range"] == ~row_fits), "so is a row, and all rows of the tile behind it")
    h.check(
        ~(followed & valid) | ((dut["request_address"] == x) & (dut["request_bank"] == job.x_bank)), "bank and address of a word"
    )
    h.check(~(followed & valid & emits) | ((word.p_address == p) & (word.p_bank == job.p_bank)), "where a word's sums go")
    h.check(~(followed & valid & accumulates) | (word.accumulator == row), "the accumulator of a word")
    added = Mux((job.accumulate == Accumulate.INIT) & ~first_tile, Accumulate.ADD, job.accumulate)
    h.check(~(followed & valid) | (word.accumulate == added), "tiles behind the first one add to accumulators")
    sent = Mux((job.emit == Emit.STORE) & ~accumulates & ~first_tile, Emit.ACCUMULATE, job.emit)
    h.check(~(followed & valid) | (word.emit == Mux(emits, sent, Emit.NONE)), "what is emitted, and how it is written")
    swapping = (tiles.begin & head.swap) | tiles.again
    h.check(dut["swapping"] == swapping, "swapping: a tile with weights of its own begins")
    h.check(dut["request_swap"] == h.past(swapping, "swap"), "request_swap: the cycle of its first word")
    h.check(dut["unloaded"] == (swapping & ~dut["weights_ready"]), "unloaded: the weights are not there")
    h.cover(followed & valid & (at[0] == 1) & (at[1] == 1) & (at[2] == 1), "all three loops have advanced")
    h.cover(followed & valid & ~first_tile & (word.emit == Emit.ACCUMULATE), "a second tile adds in a P bank")


def _near(address: Value, width: int) -> Value:
    """Addresses are exact as far as a step from a word reaches; behind that nothing is said of them."""
    return (address >= -(1 << width)) & (address < 2 << width)


def post(h: Harness) -> None:
    m, config, memory = h.m, _CONFIG, _CONFIG.memory
    dut = h.place(PostEngine(config))
    head, lanes = dut["head"], config.post_lanes
    h.assume((head.n2 < 3) & (head.n3 < 3))
    legal: Value = Const(1, 1)
    for i in range(4):
        legal = legal & (head[f"n{i}"] != 0)
    legal = legal & (head.parameters < config.post.parameter_sets) & (head.table < config.post.tables)
    legal = legal & (head.slice < config.array.cols // lanes) & (head.slot < config.array.rows // lanes)
    legal = legal & (head.x_bank < memory.banks)
    tiles = Tiles(h, dut, legal, tiled=False)
    job, at = Signal.like(head), [Signal(4, name=f"at_{i}") for i in range(4)]
    ends = [at[i] == job[f"n{i}"] - 1 for i in range(4)]
    window_end = ends[0] & ends[1]
    p, x, strayed, x_strayed, spoilt = Signal(signed(12)), Signal(signed(12)), Signal(), Signal(), Signal()
    m.d.comb += tiles.last.eq(window_end & ends[2] & ends[3])
    first = (at[0] == 0) & (at[1] == 0)
    p_fits, x_fits = (p >= 0) & (p < memory.p_words), (x >= 0) & (x < memory.x_words)
    whole = p_fits & (first | ~spoilt)
    with m.If(tiles.begin):
        m.d.sync += [job.eq(head), strayed.eq(0), x_strayed.eq(0), *(i.eq(0) for i in at), p.eq(head.p_base), x.eq(head.x_base)]
    with m.Elif(tiles.active):
        outer = Mux(ends[2], job.p_step3, job.p_step2)
        m.d.sync += [
            strayed.eq(strayed | ~_near(p, len(job.p_base))),
            spoilt.eq(~whole),
            p.eq(p + Mux(ends[0], Mux(ends[1], outer, job.p_step1), job.p_step0)),
            at[0].eq(Mux(ends[0], 0, at[0] + 1)),
        ]
        with m.If(ends[0]):
            m.d.sync += at[1].eq(Mux(ends[1], 0, at[1] + 1))
        with m.If(window_end):
            m.d.sync += [x_strayed.eq(x_strayed | ~_near(x, len(job.x_base))), x.eq(x + Mux(ends[2], job.x_step3, job.x_step2))]
            m.d.sync += at[2].eq(Mux(ends[2], 0, at[2] + 1))
            with m.If(ends[2]):
                m.d.sync += at[3].eq(at[3] + 1)
    read, emit = dut["read_enable"], dut["emit"]
    h.check(~read | (dut["read_address"] < memory.p_words), "no P word out of range is read")
    h.check(~emit | (dut["word"].x_address < memory.x_words), "no X word out of range is written")
    h.check(~read | tiles.active, "nothing is read but words of windows")
    h.check(~emit | (read & window_end), "an output word is emitted with the last word of its window only")
    in_p = tiles.active & ~strayed & _near(p, len(job.p_base))
    in_x = tiles.active & ~x_strayed & _near(x, len(job.x_base))
    h.check(~in_p | (read == p_fits), "a word is read in its cycle, unless it is out of range")
    h.check(~in_p | (dut["p_out_of_range"] == ~p_fits), "p_out_of_range: in the cycle of the word")
    h.check(~(in_p & read) | (dut["read_address"] == p), "its address")
    h.check(~in_x | (dut["x_out_of_range"] == (window_end & ~x_fits)), "x_out_of_range: at the last word of a window")
    h.check(~(in_p & in_x) | (emit == (window_end & whole & x_fits)), "an output word is emitted if all of it is in range")
    h.check(~(in_x & emit) | ((dut["word"].x_address == x) & (dut["word"].x_bank == job.x_bank)), "where it goes")
    h.check(~tiles.active | (dut["first"] == first), "first: the first word of a window")
    h.cover(emit & (at[2] == 1) & (at[3] == 1) & (job.n0 == 2), "windows of both outer loops are emitted")
    h.cover(in_p & in_x & window_end & x_fits & ~whole & p_fits, "a window with a word out of range is not emitted")


_SIZES = "banks of 5 words, counts of 4 bits, up to 3 tiles"
_ENGINE = "rtl.parts.job_engine"
PROPERTIES = (
    Property(
        name="load_engine.jobs",
        rule="jobs and tiles begin at their time or raise their error; every row is requested in its cycle, or "
        "out_of_range; nothing out of range is ever requested; busy until done; weights_ready and overwrites "
        "exactly",
        sizes=f"2 rows, {_SIZES}",
        build=load,
        faults=(
            Fault("rtl.pod.load_engine", "(address < config.memory.w_words)", "(address <= config.memory.w_words)"),
            Fault(
                _ENGINE,
                "self.late.eq(waiting & (self.head.start < self.next_time)",
                "self.late.eq(waiting & (self.head.start + 1 < self.next_time)",
            ),
            Fault(_ENGINE, "again.eq(due & free)", "again.eq(due)"),
            Fault("rtl.pod.load_engine", "self.busy.eq(active | more)", "self.busy.eq(active)"),
        ),
        reach=20,
    ),
    Property(
        name="stream_engine.jobs",
        rule="jobs and tiles begin at their time or raise their error; every word is requested in its cycle with "
        "what accompanies it, or raises its error; nothing out of range is ever requested or named; busy "
        "until done",
        sizes=f"2 accumulators, {_SIZES}, loops of up to 3, 2 and 2, without turns of X banks",
        build=stream,
        faults=(
            Fault("rtl.pod.stream_engine", "(x_address < memory.x_words)", "(x_address <= memory.x_words)"),
            Fault("rtl.pod.stream_engine", "with m.If(accumulator_fits):", "with m.If(1):"),
            Fault("rtl.pod.stream_engine", "job.emit.eq(Emit.ACCUMULATE)", "job.emit.eq(Emit.STORE)"),
            Fault(
                "rtl.pod.stream_engine",
                "self.unloaded.eq(self.swapping & ~self.weights_ready)",
                "self.unloaded.eq(begin & ~self.weights_ready)",
            ),
        ),
        reach=24,
    ),
    Property(
        name="post_engine.jobs",
        rule="jobs begin at their time or raise their error; every word of every window is read in its cycle, or "
        "raises its error; an output word is emitted exactly if all of it is in range; busy until done",
        sizes="banks of 5 words, windows of up to 3 x 3, loops of up to 2 and 2",
        build=post,
        faults=(
            Fault("rtl.post.post_engine", "whole.eq(p_fits & (first | ~spoilt))", "whole.eq(p_fits)"),
            Fault("rtl.post.post_engine", "(p_address < memory.p_words)", "(p_address <= memory.p_words)"),
            Fault(
                "rtl.post.post_engine",
                "last.eq(finishes & window_end & ends[2] & ends[3])",
                "last.eq(finishes & window_end & ends[2])",
            ),
        ),
        reach=24,
    ),
)
