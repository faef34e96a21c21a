"""Registers and run control."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from podweave.rtl.control.csr import OKAY, SLVERR, Csr
from podweave.rtl.control.run_control import QUIET_CYCLES, RESET_CYCLES, RunControl
from podweave.spec.descriptors import TAG_WIDTH
from podweave.spec.register_list import register_list
from podweave.spec.register_types import MAX_EPOCHS, Access, Refusal

from ..axi import LiteRules
from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small
from .prefetch import keep

_CONFIG = small()
_ADDRESS = 12


def _bus(dut: dict[str, Any], *names: str) -> dict[str, Value]:
    return {name: dut[f"s_axil_{name}"] for name in names}


def axi_lite(h: Harness) -> None:
    dut = h.place(Csr(_CONFIG))
    # A read of NODE_DATA takes as long as its answer does.
    slow, asked = Signal(), h.past(dut["node_data_read"], "asked")
    with h.m.If(dut["node_data_done"]):
        h.m.d.sync += slow.eq(0)
    with h.m.Elif(dut["node_data_read"]):
        h.m.d.sync += slow.eq(1)
    h.assume(~dut["node_data_done"] | slow | asked)
    rules = LiteRules(_ADDRESS, 32, cycles=3)
    write = _bus(dut, "awaddr", "awvalid", "awready", "wdata", "wstrb", "wvalid", "wready", "bresp", "bvalid", "bready")
    read = _bus(dut, "araddr", "arvalid", "arready", "rdata", "rresp", "rvalid", "rready")
    keep(h, rules, "s_axil", **write, **read, slow=slow | dut["node_data_read"])
    h.assume(~rules.wrong.any())
    h.cover(
        dut["s_axil_bvalid"] & ~dut["s_axil_bready"] & ~dut["s_axil_awready"] & ~dut["s_axil_wready"], "a write waits for another"
    )
    h.cover(dut["s_axil_rvalid"] & h.past(dut["node_data_done"], "done"), "a read of NODE_DATA is answered")
    h.cover(dut["s_axil_rvalid"] & ~dut["s_axil_rready"] & ~dut["s_axil_arready"], "a read waits for another")


def registers(h: Harness) -> None:
    m = h.m
    dut = h.place(Csr(_CONFIG))
    found = register_list(_CONFIG)
    by_name = {register.name: register for register in found}

    def is_one_of(address: Value, accesses: Collection[Access], locked: bool | None = None) -> Value:
        offsets = [
            register.offset + 4 * word
            for register in found
            if register.access in accesses and locked in (None, register.locked)
            for word in range(register.words)
        ]
        # One manager: no register has copies.
        return Cat(address == offset >> 2 for offset in offsets).any()

    # A write: its address and its word, in any order.
    writable = set(Access) - {Access.RO}
    has_address, has_data = Signal(), Signal()
    address, data, strobes = Signal(_ADDRESS - 2), Signal(32), Signal(4)
    answered = dut["s_axil_bvalid"]
    effect = has_address & has_data & ~answered
    h.check(dut["s_axil_awready"] == ~has_address, "an address is taken unless one waits")
    h.check(dut["s_axil_wready"] == ~has_data, "a word is taken unless one waits")
    with m.If(effect):
        m.d.sync += [has_address.eq(0), has_data.eq(0)]
    with m.If(dut["s_axil_awvalid"] & ~has_address):
        m.d.sync += [has_address.eq(1), address.eq(dut["s_axil_awaddr"][2:])]
    with m.If(dut["s_axil_wvalid"] & ~has_data):
        m.d.sync += [has_data.eq(1), data.eq(dut["s_axil_wdata"]), strobes.eq(dut["s_axil_wstrb"])]
    locked = is_one_of(address, writable, locked=True) & dut["status_busy"]
    legal = is_one_of(address, writable) & ~locked
    happens, refused = h.past(effect, "effect"), h.past(effect & ~legal, "refused")
    h.check(~happens | answered, "a write is answered in the cycle after it took effect")
    h.check(~happens | (dut["s_axil_bresp"] == Mux(refused, SLVERR, OKAY)), "SLVERR exactly where nothing may be written")
    mask = Cat(strobe.replicate(8) for strobe in strobes)
    for name in ("EPOCHS", "CAP"):
        value = Signal(32, name=f"model_{name}")
        with m.If(effect & legal & (address == by_name[name].offset >> 2)):
            m.d.sync += value.eq((value & ~mask) | (data & mask))
        h.check(dut[name.lower()] == value, f"{name} holds what was written, byte by byte")
    start = effect & (address == by_name["CONTROL"].offset >> 2) & data[0] & strobes[0]
    h.check(dut["control_start"] == h.past(start, "start"), "START is a pulse")

    # A read: an address, then its answer.
    asked, target = Signal(), Signal(_ADDRESS - 2)
    node_data = target == by_name["NODE_DATA"].offset >> 2
    waits = Signal()
    h.assume(~dut["node_data_done"] | waits)
    answer = Mux(node_data, waits & dut["node_data_done"], asked & ~dut["s_axil_rvalid"])
    m.d.sync += waits.eq((waits | (asked & node_data & ~dut["s_axil_rvalid"])) & ~answer)
    with m.If(answer):
        m.d.sync += asked.eq(0)
    with m.If(dut["s_axil_arvalid"] & ~asked):
        m.d.sync += [asked.eq(1), target.eq(dut["s_axil_araddr"][2:])]
    known = is_one_of(target, set(Access)) & ~(node_data & dut["node_data_error"])
    h.check(dut["s_axil_arready"] == ~asked, "an address of a read is taken unless one waits")
    here = h.past(answer, "answer")
    h.check(~here | dut["s_axil_rvalid"], "a read is answered in the cycle after its values were taken")
    bad = h.past(answer & ~known, "bad")
    h.check(~here | (dut["s_axil_rresp"] == Mux(bad, SLVERR, OKAY)), "SLVERR exactly where there is no register")
    h.check(~(here & bad) | (dut["s_axil_rdata"] == 0), "and 0")
    cases: list[tuple[str, Value]] = [
        ("EPOCHS", dut["epochs"]),
        ("CAP", dut["cap"]),
        ("EPOCH_CYCLES", dut["epoch_cycles"]),
        ("CYCLES", dut["cycles"][:32]),
        ("ID", Const(by_name["ID"].reset, 32)),
    ]
    for name, value in cases:
        seen = h.past(answer & (target == by_name[name].offset >> 2), f"seen_{name}")
        h.check(~seen | (dut["s_axil_rdata"] == h.past(value, f"value_{name}")), f"{name} reads as it is in the cycle before")
    h.cover(refused & h.past(locked, "locked"), "a locked register is not written")
    h.cover(here & bad, "a read of nothing")
    h.cover(dut["epochs"] == 0x00FF00AA, "bytes of EPOCHS are written one by one")


def run_control(h: Harness) -> None:
    m = h.m
    dut = h.place(RunControl(_CONFIG))
    idle, reset, prepare, launch, gap, epoch, end = (
        Signal(name=f"is_{name}") for name in ("idle", "reset", "prepare", "launch", "gap", "epoch", "end")
    )
    states = Signal(7, init=1)
    m.d.comb += Cat(idle, reset, prepare, launch, gap, epoch, end).eq(states)
    go = {name: 1 << i for i, name in enumerate(("idle", "reset", "prepare", "launch", "gap", "epoch", "end"))}

    # Commands.
    aligned = (dut["demand_base"][:6] == 0) & (dut["prefetch_base"][:6] == 0)
    sized = (dut["demand_size"] != 0) & (dut["prefetch_size"] != 0)
    too_many = dut["epochs"] > MAX_EPOCHS
    reason = Mux(
        ~idle, Refusal.BUSY, Mux(too_many, Refusal.EPOCHS, Mux(~aligned, Refusal.RING_BASE, Mux(~sized, Refusal.RING_SIZE, 0)))
    )
    accepted = dut["start"] & (reason == 0)
    quietly = (dut["soft_reset"] | dut["clear"]) & idle
    refused = (dut["start"] & (reason != 0)) | ((dut["soft_reset"] | dut["clear"]) & ~idle)
    h.check(dut["event_refused"] == refused, "a command is refused exactly where the contract says so")
    said, why = Signal(), Signal(3)
    with m.If(accepted | quietly):
        m.d.sync += [said.eq(0), why.eq(0)]
    with m.If(refused):
        m.d.sync += [said.eq(1), why.eq(reason)]
    h.check((dut["refused"] == said) & (dut["reason"] == why), "refused and its reason stay until the next command that is not")

    # Failure and abort.
    failed, aborted, done, dirty = Signal(), Signal(), Signal(), Signal()
    launching = Signal()
    in_run = ~idle & (~reset | launching)
    bad = dut["engine_error"].any() | dut["chip_error"]
    with m.If(accepted | quietly):
        m.d.sync += [failed.eq(0), aborted.eq(0), done.eq(0)]
    with m.Else():
        m.d.sync += [failed.eq(failed | (bad & (gap | epoch | end))), aborted.eq(aborted | (dut["abort"] & in_run))]
    h.check((dut["failed"] == failed) & (dut["aborted"] == aborted), "an error or an abort of a run stays until the next command")
    h.check(dut["event_error"] == (bad & (gap | epoch | end) & ~failed), "event_error: the first error of a run")

    # The run.
    following, epochs, finished = Signal(TAG_WIDTH), Signal(32), Signal(TAG_WIDTH)
    demand, prefetch = (h.past(dut[f"{ring}_complete"] > following, f"{ring}_ready") for ring in ("demand", "prefetch"))
    ready, last, stopping = demand & prefetch, following == epochs, failed | aborted
    left, quiet = Signal(range(RESET_CYCLES + 1)), Signal(range(QUIET_CYCLES + 1))
    over = epoch & ~dut["chip_busy"]
    with m.If(stopping):
        m.d.sync += dirty.eq(1)
    with m.If(idle):
        m.d.sync += [left.eq(RESET_CYCLES), launching.eq(accepted)]
        with m.If(accepted):
            m.d.sync += [epochs.eq(dut["epochs"]), following.eq(0), finished.eq(0)]
            needs = dirty | stopping | dut["chip_busy"] | dut["chip_error"] | dut["soft_reset"]
            m.d.sync += states.eq(Mux(needs, go["reset"], go["prepare"]))
        with m.Elif(dut["soft_reset"]):
            m.d.sync += states.eq(go["reset"])
    with m.If(reset):
        m.d.sync += [left.eq(left - 1), dirty.eq(0)]
        with m.If(left == 1):
            m.d.sync += states.eq(Mux(launching, go["prepare"], go["idle"]))
    with m.If(prepare):
        m.d.sync += states.eq(go["launch"])
    with m.If(launch):
        m.d.sync += states.eq(go["gap"])
    with m.If(gap):
        m.d.sync += quiet.eq(0)
        with m.If(stopping | (ready & last)):
            m.d.sync += states.eq(go["end"])
        with m.Elif(ready):
            m.d.sync += [states.eq(go["epoch"]), following.eq(following + 1)]
    with m.If(over):
        m.d.sync += [states.eq(go["gap"]), finished.eq(finished + ~dut["chip_error"])]
    ends = end & dut["quiet"].all() & (quiet == QUIET_CYCLES - 1)
    with m.If(end):
        m.d.sync += quiet.eq(Mux(dut["quiet"].all(), quiet + 1, 0))
        with m.If(ends):
            m.d.sync += [states.eq(go["idle"]), done.eq(1)]
    begins = gap & ready & ~last & ~stopping
    h.check(dut["busy"] == ~idle, "busy: not IDLE")
    h.check(dut["core_reset"] == reset, "core_reset in RESET")
    h.check((dut["engine_start"] == prepare) & (dut["chip_rewind"] == prepare), "engines start and stores rewind in PREPARE")
    h.check((dut["chip_start"] == launch) & (~launch | (dut["chip_epochs"] == epochs)), "the chip starts, with its epochs")
    h.check(dut["chip_hold"] == ~begins, "an epoch begins exactly when all rings have its tags and nothing failed")
    h.check(dut["gap"] == ~epoch, "gap: no epoch is on")
    h.check(dut["epochs_done"] == finished, "epochs that are done")
    h.check(dut["done"] == done, "done: the engines were quiet, cycle after cycle")
    h.check(dut["event_done"] == ends, "event_done: the last of these cycles")
    h.check(dut["engine_stop"] == (idle | reset | aborted), "engines are stopped outside of a run and behind an abort")
    h.cover(done & (finished == 2), "a run of two epochs is over")
    h.cover(reset & launching, "a start resets first")
    h.cover(end & failed & ~h.past(epoch, "was_epoch"), "a run ends that failed")


_RUN = "rtl.control.run_control"
PROPERTIES = (
    Property(
        name="csr.axi_lite",
        rule="the rules of AXI4-Lite: responses only where something was asked, still until ready, within 3 cycles",
        sizes="registers of a chip with one manager",
        build=axi_lite,
        faults=(
            Fault(
                "rtl.control.csr",
                "self._write.eq(has_address & has_data & ~self.s_axil_bvalid)",
                "self._write.eq(has_address & has_data)",
            ),
            Fault("rtl.control.csr", "with m.If(self.s_axil_rvalid & self.s_axil_rready):", "with m.If(self.s_axil_rvalid):"),
            Fault("rtl.control.csr", "self._write.eq(has_address & has_data &", "self._write.eq(has_address &"),
        ),
    ),
    Property(
        name="csr.registers",
        rule="writes and reads take effect when the contract says, byte by byte; SLVERR exactly where there is no "
        "register, it is read only, or locked during a run; of EPOCHS, CAP, CONTROL, EPOCH_CYCLES, CYCLES and "
        "ID also their values",
        sizes="registers of a chip with one manager",
        build=registers,
        faults=(
            Fault("rtl.control.csr", "accepted.eq(~self.status_busy if register.locked else 1)", "accepted.eq(1)"),
            Fault(
                "rtl.control.csr",
                "(self._data & self._mask))\n            with m.If(taken)",
                "self._data)\n            with m.If(taken)",
            ),
            Fault("rtl.control.csr", "self.s_axil_rdata.eq(Mux(refused, 0, word))", "self.s_axil_rdata.eq(word | refused)"),
        ),
    ),
    Property(
        name="run_control.runs",
        rule="a run is as the contract tells it cycle by cycle: commands and refusals, resets, epochs that begin "
        "exactly when their tags are complete, failures, aborts, the end",
        sizes="one manager, without links and passes",
        build=run_control,
        faults=(
            Fault(_RUN, "Cat(count > following for count in counts).all()", "Cat(count >= following for count in counts).all()"),
            Fault(
                _RUN,
                "self.begins.eq((state == State.GAP) & ready & ~last & ~stopping)",
                "self.begins.eq((state == State.GAP) & ready & ~last)",
            ),
            Fault(
                _RUN, "m.d.sync += count.eq(Mux(self.quiet.all(), count + 1, 0))", "m.d.sync += count.eq(count + self.quiet.all())"
            ),
            Fault(_RUN, "needs_reset.eq(dirty | stopping |", "needs_reset.eq(dirty |"),
        ),
        reach=26,
    ),
)
