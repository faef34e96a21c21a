"""Banks and feeders."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Mux, Signal, Value

from podweave.rtl.node.feeder import Feeder
from podweave.rtl.node.p_bank import PBank
from podweave.rtl.node.read_bank import ReadBank
from podweave.spec.layout import Field, Layout, bits_for_index

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_WORDS, _PLANES, _SUM = 4, 2, 3


def _lowest(valid: Value, values: Sequence[Value]) -> Value:
    """That of the lowest valid plane, of two."""
    return Mux(valid[0], values[0], values[1])


def _planes(value: Value) -> list[Value]:
    return [value.word_select(p, len(value) // _PLANES) for p in range(_PLANES)]


def p_bank(h: Harness) -> None:
    m = h.m
    # Narrower than sums of a chip are: they wrap at any width.
    array, memory = SimpleNamespace(cols=1, psum_width=_SUM), SimpleNamespace(p_words=_WORDS, p_planes=_PLANES)
    config: Any = SimpleNamespace(array=array, memory=memory, has_rows=False, links=None)
    block = PBank(config)
    dut = h.place(block)
    valid, read = dut["write_valid"], dut["read_enable"]
    network = valid.any()
    adds = network & _lowest(valid, _planes(dut["write_accumulate"]))
    arrives = network | dut["host_write"]
    address = Mux(network, _lowest(valid, _planes(dut["write_address"])), dut["host_address"])
    data = Mux(network, _lowest(valid, _planes(dut["write_data"])), dut["host_data"])

    # What one row, whichever it is, holds behind all that arrived before this cycle; unknown before the first word is stored.
    row = h.constant("row", bits_for_index(_WORDS))
    known, total = Signal(), Signal(block.width)
    with m.If(arrives & (address == row)):
        m.d.sync += [known.eq(known | ~adds), total.eq(Mux(adds, total + data, data))]
    busy = read & adds
    arrived, last = h.past(arrives, "arrives"), h.past(address, "address")
    hazard = read & arrived & (last == dut["read_address"])
    h.check(dut["busy_conflict"] == busy, "busy_conflict: a read in the cycle of a word to be added")
    h.check(dut["hazard"] == hazard, "hazard: a read of the row that arrived in the cycle before")
    h.check(dut["conflict"] == valid.all(), "conflict: two planes write")
    h.check(dut["stores"] == (network & ~adds), "stores: the network stores")
    h.check(dut["accumulates"] == adds, "accumulates: the network adds")
    seen = h.past(read & ~busy & ~hazard & known & (dut["read_address"] == row), "seen")
    h.check(~seen | (dut["read_data"] == h.past(total, "total")), "a row is the sum of all words since one was stored")
    twice = h.past(arrived & arrives & adds & (address == last) & (address == row) & known, "twice")
    h.cover(seen & (dut["read_data"] == 3) & h.past(h.past(twice, "sums"), "older"), "a row of sums that came back to back is read")
    h.cover(hazard & busy, "a read has both errors")


def x_bank(h: Harness) -> None:
    m = h.m
    block = ReadBank(small(x_words=_WORDS, x_planes=_PLANES, y_planes=_PLANES, rows=2, cols=1, group_cols=1), "x")
    dut = h.place(block)
    reads, writes = dut["read_valid"].any(), dut["write_valid"].any()
    read_address = _lowest(dut["read_valid"], _planes(dut["read_address"]))
    write_address = _lowest(dut["write_valid"], _planes(dut["write_address"]))
    slot = _lowest(dut["write_valid"], _planes(dut["write_slot"]))
    written = _lowest(dut["write_valid"], _planes(dut["write_data"]))
    both = dut["read_valid"].all() & (_planes(dut["read_address"])[0] != _planes(dut["read_address"])[1])
    h.check(dut["reads"] == reads, "reads: the network reads")
    h.check(dut["writes"] == writes, "writes: the network writes")
    h.check(dut["conflict"] == (both | dut["write_valid"].all()), "conflict: planes ask for different words, or two write")
    hazard = reads & writes & (read_address == write_address)
    h.check(dut["hazard"] == hazard, "hazard: the network reads the word that it writes")

    # One slot of one word, whichever it is.
    word, part = h.constant("word", bits_for_index(_WORDS)), h.constant("slot", 1)
    known, content = Signal(), Signal(block.slot_bits)
    host = dut["host_write"] & ~writes & (dut["host_address"] == word)
    own = writes & (write_address == word) & (slot == part)
    with m.If(own | host):
        m.d.sync += [known.eq(1), content.eq(Mux(own, written, dut["host_data"].word_select(part, block.slot_bits)))]
    host_read = dut["host_read"] & ~reads
    asked = (reads & (read_address == word)) | (host_read & (dut["host_address"] == word))
    expected, holds = Signal(block.slot_bits), Signal()
    with m.If(reads | host_read):
        m.d.sync += [expected.eq(content), holds.eq(asked & known & ~(own | host))]
    h.check(
        ~holds | (dut["data"].word_select(part, block.slot_bits) == expected),
        "a word is as written last, 1 cycle after its request",
    )
    h.cover(holds & h.past(h.past(own, "own"), "before"), "a word is read in the cycle after it was written")
    h.cover(holds & ~h.past(reads | host_read, "any"), "a word stays on data")


def feeder(h: Harness) -> None:
    m = h.m
    layout = Layout("job", (Field("value", 2, ""),))
    dut = h.place(Feeder(layout, _WORDS))
    m, fill, rewind, done, ready = h.m, dut["fill"], dut["rewind"], dut["done"], dut["job_ready"]
    h.assume(~(fill | rewind) | done)
    # Any program, which is written while no epoch is on, and whole before the first.
    program, width = h.constant("program", _WORDS * len(dut["host_data"])), len(dut["host_data"])
    written = Signal(_WORDS)
    h.assume(~dut["host_write"] | (dut["host_data"] == program.word_select(dut["host_address"], width)))
    h.assume(~dut["host_write"] | (done & ~fill))
    h.assume(~fill | written.all())
    with m.If(dut["host_write"]):
        m.d.sync += written.bit_select(dut["host_address"], 1).eq(1)
    running, present, at = Signal(), Signal(), Signal(bits_for_index(_WORDS))
    word = program.word_select(at, width)
    is_job, is_last = word[layout.width], word[layout.width + 1]
    taken = present & (ready | ~is_job)
    m.d.sync += present.eq(running & ~(taken & is_last))
    with m.If(fill):
        m.d.sync += running.eq(1)
    with m.Elif(taken & is_last):
        m.d.sync += running.eq(0)
    with m.If(rewind):
        m.d.sync += at.eq(0)
    with m.Elif(taken):
        m.d.sync += at.eq(at + 1)
    h.check(done == ~running, "done: the last word of the epoch was pushed or passed over in an earlier cycle")
    h.check(dut["job_valid"] == (present & is_job & ready), "a job a cycle, from 2 cycles behind fill on, where there is room")
    h.check(
        ~dut["job_valid"] | (dut["job"] == word[: layout.width]),
        "jobs are as they were written, in order, from the place of the epoch on",
    )
    h.cover(
        dut["job_valid"] & is_last & (at == 2) & h.past(dut["job_valid"], "pushed"),
        "two jobs follow each other, the last of word 2",
    )
    h.cover(present & ~is_job & is_last & ~ready, "an epoch ends with a word that is no job, without room")
    h.cover(dut["job_valid"] & (at == 0) & h.past(at == 3, "end"), "an epoch goes on at word 0 behind the last one")


PROPERTIES = (
    Property(
        name="p_bank.sums",
        rule="a row is the sum of all words that came since one was stored, back to back too; conflicts and "
        "hazards are told exactly",
        sizes=f"{_WORDS} rows of 1 sum of {_SUM} bits, {_PLANES} planes, host",
        build=p_bank,
        faults=(
            Fault("rtl.node.p_bank", "again.eq(writes & adds & (held_address == address))", "again.eq(0)"),
            Fault("rtl.node.p_bank", "m.d.sync += forwarded.eq(total)", "m.d.sync += forwarded.eq(data)"),
            Fault("rtl.node.p_bank", "self.hazard.eq(self.read_enable & writes &", "self.hazard.eq(self.read_enable & held_adds &"),
        ),
    ),
    Property(
        name="x_bank.words",
        rule="a word is as it was written last, slot by slot, 1 cycle after its request; conflicts and hazards are told exactly",
        sizes=f"{_WORDS} words of 2 slots of 8 bits, {_PLANES} planes to read and {_PLANES} to write, host",
        build=x_bank,
        faults=(
            Fault("rtl.node.read_bank", "written[i].eq(network_writes & (slot == i))", "written[i].eq(network_writes)"),
            Fault(
                "rtl.node.read_bank",
                "Mux(reads, read_address, self.host_address)",
                "Mux(host_reads, self.host_address, read_address)",
            ),
            Fault("rtl.node.read_bank", "v & (a != read_address)", "v & (a == read_address)"),
        ),
    ),
    Property(
        name="feeder.epochs",
        rule="the jobs of each epoch of any program are pushed in order and unchanged, one a cycle where there is "
        "room, from 2 cycles after its begin on; done tells when an epoch is over",
        sizes=f"any program of {_WORDS} words with a job of 2 bits",
        build=feeder,
        faults=(
            Fault(
                "rtl.node.feeder",
                "self.job_valid.eq(present & word.valid & self.job_ready)",
                "self.job_valid.eq(present & word.valid)",
            ),
            Fault("rtl.node.feeder", "taken.eq(present & (self.job_ready | ~word.valid))", "taken.eq(present & self.job_ready)"),
            Fault("rtl.node.feeder", "with m.Elif(taken & word.last)", "with m.Elif(present & word.last)"),
        ),
    ),
)
