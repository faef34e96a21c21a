"""The sequencer of a chip."""

from __future__ import annotations

from amaranth.hdl import Signal

from podweave.rtl.chip.sequencer import Sequencer
from podweave.spec.config_parts import FILL_CYCLES

from ..faults import Fault
from ..harness import Harness
from ..property import Property

_DRAIN = 3


def sequencer(h: Harness) -> None:
    m = h.m
    dut = h.place(Sequencer(_DRAIN))
    start, hold, error, busy = dut["start"], dut["hold"], dut["error"], dut["node_busy"]
    # Where an epoch is: 0 none; from its fill on.
    fill, since, running, draining, waiting = (
        Signal(),
        Signal(range(FILL_CYCLES + 1)),
        Signal(),
        Signal(range(_DRAIN + 1)),
        Signal(),
    )
    filling = since != 0
    on = fill | filling | running | (draining != 0)
    left = Signal(32)
    accepted = start & ~on & (dut["epochs"] != 0)
    ends = draining == 1
    due = accepted | (ends & (left != 1) & ~error) | (waiting & ~error)
    m.d.sync += [fill.eq(due & ~hold), waiting.eq(due & hold)]
    with m.If(accepted):
        m.d.sync += left.eq(dut["epochs"])
    with m.Elif(ends):
        m.d.sync += left.eq(left - 1)
    with m.If(fill):
        m.d.sync += since.eq(FILL_CYCLES - 1)
    with m.Elif(filling):
        m.d.sync += since.eq(since - 1)
        with m.If(since == 1):
            m.d.sync += running.eq(1)
    with m.If(running & (~busy | error)):
        m.d.sync += [running.eq(0), draining.eq(_DRAIN)]
    with m.Elif(draining != 0):
        m.d.sync += draining.eq(draining - 1)
    h.check(dut["clear"] == accepted, "clear: a start that is not ignored")
    h.check(dut["fill"] == fill, "an epoch fills in the cycle after it is due and not held")
    h.check(dut["run"] == (running | (draining != 0)), "run: from its cycles after the fill on, until nodes and networks are empty")
    h.check(dut["busy"] == on, "busy: from fill to the last cycle of run")
    cycles, done = Signal(32), Signal(32)
    with m.If(fill):
        m.d.sync += cycles.eq(0)
    with m.Elif(dut["run"]):
        m.d.sync += cycles.eq(cycles + 1)
    with m.If(accepted):
        m.d.sync += done.eq(0)
    with m.Elif(ends):
        m.d.sync += done.eq(done + 1)
    h.check(dut["cycles"] == cycles, "cycles: those with run of the epoch")
    h.check(dut["done"] == done, "done: epochs since the start")
    h.cover(fill & (done == 1), "a second epoch begins")
    h.cover(start & waiting & ~hold, "a start takes the place of what waits")
    h.cover(running & error & busy, "an error ends an epoch")


PROPERTIES = (
    Property(
        name="sequencer.epochs",
        rule="epochs fill, run, drain and follow each other in the cycles that the contract says; holds, errors and counts too",
        sizes=f"{_DRAIN} cycles to drain",
        build=sequencer,
        faults=(
            Fault("rtl.chip.sequencer", "again.eq(ends & (left != 1) & ~self.error)", "again.eq(ends & (left != 0) & ~self.error)"),
            Fault("rtl.chip.sequencer", "due.eq(accepted | again | (waiting & ~self.error))", "due.eq(accepted | again | waiting)"),
            Fault("rtl.chip.sequencer", "wait.eq(self.drain - 1)", "wait.eq(self.drain - 2)"),
        ),
        reach=24,
    ),
)
