"""Run control: lets the epochs of a run begin when their data are there, and ends runs, whatever happens."""

from __future__ import annotations

import enum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DESCRIPTOR_BYTES, TAG_WIDTH
from podweave.spec.errors import network_error_layout
from podweave.spec.links import ID_WIDTH
from podweave.spec.register_list import source_width
from podweave.spec.register_types import MAX_EPOCHS, ErrorSource, Refusal, manager_width

from ..parts.blocks import Block
from ..parts.planes import planes_of

RESET_CYCLES = 4
"""Cycles of ``core_reset``."""
QUIET_CYCLES = 4
"""Cycles in a row in which all engines must be quiet for a run to be over."""
RINGS = ("demand", "prefetch")


class State(enum.IntEnum):
    IDLE = 0
    RESET = 1
    """Chip and engines are reset."""
    PREPARE = 2
    """The engines start; the chip rewinds its program stores."""
    LAUNCH = 3
    """The chip starts; its first epoch is held."""
    GAP = 4
    """No epoch is on: the next one, or the end, waits for its tags."""
    EPOCH = 5
    END = 6
    """No epoch is on and none will be: the engines come to rest."""


class RunControl(Block):
    """One run after the other: each of ``epochs`` epochs, epoch e when all tags up to e of all rings are complete.

    *Passes.* With them, a run has ``epochs`` times ``passes`` epochs, both read in the cycle before the start, which are its epochs
    below. Behind each pass the chip rewinds its program stores: ``chip_rewind`` is high in the last cycle, u, of its last epoch.

    *Start.* A ``start`` in cycle t is accepted in IDLE with at most `MAX_EPOCHS` epochs, and rings at multiples of 64 bytes for
    at least one descriptor. Let p be t + 1, or t + 1 + `RESET_CYCLES` if there was an error or abort since the last reset, or
    ``chip_busy``, ``chip_error`` or ``soft_reset`` is high in t. From t + 1 on ``busy`` is high and ``epochs_done`` is 0;

    - t + 1 to p - 1 are RESET: ``core_reset`` is high;
    - p is PREPARE: ``engine_start`` and ``chip_rewind`` are high;
    - p + 1 is LAUNCH: ``chip_start`` is high, with ``chip_epochs``, which holds still until the next accepted start;
    - p + 2 is GAP, with *next* = 0.

    *Epochs.* The rings are ready in cycle c of GAP if all ``demand_complete``, or all ``prefetch_complete``, of cycle c - 1
    were greater than next. In the first cycle c with both ready, and ``failed`` and ``aborted`` low, an epoch begins:
    ``chip_hold`` is low in c, and only in such cycles; from c + 1 on it is EPOCH and next is one more. If next is ``epochs``
    already, it is END from c + 1 on instead. EPOCH lasts up to and including the first cycle u with ``chip_busy`` low; from u +
    1 on it is GAP, and ``epochs_done`` is one more unless ``chip_error`` is high in u.

    *Collectives.* With links, next is that of a collective if it is ``link_epoch``. Then ``link_begin`` is high in c, in place of
    ``chip_hold`` low; and EPOCH lasts up to and including the first cycle u with ``chip_busy`` and ``link_busy`` low. It does not
    count in ``epochs_done`` if in u ``failed``, ``aborted`` or ``chip_error`` is high or ``link_error`` not 0.

    *End.* With ``failed`` or ``aborted`` high in a cycle of GAP it is END in the next. END lasts until all of ``quiet`` were
    high in `QUIET_CYCLES` cycles of it in a row, the last of which is d; from d + 1 on it is IDLE, with ``busy`` low and
    ``done`` high. ``failed`` rises in f + 1 if an ``engine_error`` or ``link_error`` is not 0, or ``chip_error`` is high, in a
    cycle f of GAP, EPOCH or END. ``aborted`` and ``engine_stop`` rise in a + 1 with an ``abort`` in a cycle a of the run, t + 1 to
    d.

    *Other commands.* A ``soft_reset`` in cycle t of IDLE makes RESET of t + 1 to t + `RESET_CYCLES`, with ``busy``, and then it
    is IDLE. It, ``clear`` in IDLE and an accepted start in t make ``done``, ``failed``, ``aborted``, ``refused``, ``reason``,
    ``error_source`` and ``error_manager`` 0 from t + 1 on. If one of these three commands does not find IDLE in t, or ``start``
    another `Refusal` (the smallest one), it does nothing, but ``refused`` is high from t + 1 on, with its ``reason``.

    Latency: ``p + 1 - t`` cycles from ``start`` to ``chip_start``: 2, or 2 + `RESET_CYCLES` with a reset.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``, of which ``managers`` and ``address_width``.

    Members
    -------
    Ports of engines are side by side, manager 0 least significant.

    start, abort, soft_reset, clear : In(1)
        Commands, pulses.
    epochs : In(32)
        Of the run, read in the cycle of its start.
    passes : In(pass_bits)
        Only with ``pass_bits``.
    demand_base, prefetch_base : In(managers * address_width)
        Byte addresses of the rings, read in the cycle of the start.
    demand_size, prefetch_size : In(managers * 32)
        Descriptors in the rings, read in the cycle of the start.
    cancel_valid, cancel_manager : In(1), In(manager_width(config.managers))
        In GAP, EPOCH and END, ``engine_cancel`` of that manager is high in the next cycle.
    cancel_tag : In(TAG_WIDTH)
        Its tag.
    demand_complete, prefetch_complete : In(managers * TAG_WIDTH)
        Tags completed by each engine.
    quiet : In(managers)
        Of each engine; may lag by up to 3 cycles.
    engine_error : In(managers * 4)
        Of each engine; 0: none.
    engine_cancel : Out(managers)
        To each engine.
    engine_cancel_tag : Out(TAG_WIDTH)
        ``cancel_tag`` of the cycle before.
    engine_start : Out(1)
        To all engines, in PREPARE.
    engine_stop : Out(1)
        High in IDLE and RESET, and with ``aborted``.
    epochs_done : Out(TAG_WIDTH)
        Epochs of the run that are done.
    gap : Out(1)
        Not EPOCH.
    chip_start, chip_rewind, chip_hold : Out(1)
        Of the `Chip`.
    chip_epochs, chip_busy, chip_error, chip_network_error : Out(32), In(1), In(1), In(network_error_layout(config).width)
        Of the `Chip`.
    link_epoch, link_busy, link_error : In(ID_WIDTH), In(1), In(4)
        Only with links, as all ``link_*``: of the collective engine: epoch of its next collective; one is on; 0: no error.
    link_begin, link_stop : Out(1)
        To it: its next collective begins; ``failed`` or ``aborted``.
    core_reset : Out(1)
        Reset of chip and engines; it includes our own, and beside that comes only in RESET, when all engines have been quiet since
        the run before.
    busy, done, failed, aborted, refused : Out(1)
        State of the run, as above.
    reason : Out(3)
        A `Refusal`, with ``refused``.
    error_source, error_manager : Out(source_width(config)), Out(manager_width(config.managers))
        Of the first error; of several in one cycle, that of the lowest manager, else of the links, else of the networks.
    event_done, event_error, event_epoch, event_refused : Out(1)
        Pulses in d; in the first f; in u, if ``epochs_done`` grows; in t.
    counters_clear : Out(1)
        For the counters, as all below: an accepted start, or ``clear`` in IDLE, in t.
    launched : Out(1)
        p to d, which are as many behind an error as after a reset.
    running : Out(1)
        EPOCH, but of a collective.
    collecting : Out(1)
        Only with links: EPOCH of a collective.
    prefetch, beneath, enable : In(1), In(1), Out(1)
        Only with links: of OPTIONS; to all engines: ``prefetch``, but not with ``collecting`` and without ``beneath``.
    begins : Out(1)
        An epoch or a collective begins: c.
    prefetch_hit : Out(1)
        With ``begins``, if prefetch rings were ready in the first cycle of this GAP and an EPOCH was before it.
    wasted : Out(1)
        d, with ``failed`` or ``aborted``.
    wait_prefetch, wait_demand, wait_store : Out(1)
        Cycles of GAP with ``failed`` and ``aborted`` low in which not all rings are ready: with next < ``epochs``, prefetch rings
        or only demand rings; with next = ``epochs``.
    """

    kind = "run_control"

    def __init__(self, config: ChipConfig):
        assert config.prefetch is not None
        self.managers, self.address_width = config.prefetch.managers, config.prefetch.address_width
        self.links, self.has_passes = config.links is not None, config.passes > 0
        per_manager = {
            **{f"{ring}_base": In(self.managers * self.address_width) for ring in RINGS},
            **{f"{ring}_size": In(self.managers * 32) for ring in RINGS},
            **{f"{ring}_complete": In(self.managers * TAG_WIDTH) for ring in RINGS},
            "quiet": In(self.managers),
            "engine_error": In(self.managers * 4),
            "engine_cancel": Out(self.managers),
        }
        super().__init__(
            {
                **dict.fromkeys(("start", "abort", "soft_reset", "clear"), In(1)),
                "epochs": In(32),
                **({"passes": In(config.prefetch.pass_bits)} if config.passes else {}),
                "cancel_valid": In(1),
                "cancel_manager": In(manager_width(config.managers)),
                "cancel_tag": In(TAG_WIDTH),
                **per_manager,
                "engine_cancel_tag": Out(TAG_WIDTH),
                "engine_start": Out(1),
                "engine_stop": Out(1),
                "epochs_done": Out(TAG_WIDTH),
                "gap": Out(1),
                **dict.fromkeys(("chip_start", "chip_rewind", "chip_hold"), Out(1)),
                "chip_epochs": Out(32),
                **dict.fromkeys(("chip_busy", "chip_error"), In(1)),
                "chip_network_error": In(network_error_layout(config).width),
                "core_reset": Out(1),
                **dict.fromkeys(("busy", "done", "failed", "aborted", "refused"), Out(1)),
                "reason": Out(3),
                "error_source": Out(source_width(config)),
                "error_manager": Out(manager_width(config.managers)),
                **dict.fromkeys(("event_done", "event_error", "event_epoch", "event_refused"), Out(1)),
                **dict.fromkeys(("counters_clear", "launched", "running", "begins", "prefetch_hit", "wasted"), Out(1)),
                **dict.fromkeys(("wait_prefetch", "wait_demand", "wait_store"), Out(1)),
                **(_link_members() if self.links else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(State)
        count = Signal(range(max(RESET_CYCLES, QUIET_CYCLES)))
        dirty, launching, accepted, needs_reset = (Signal(name=n) for n in ("dirty", "launching", "accepted", "needs_reset"))
        following, ready, last = Signal(TAG_WIDTH, name="next"), Signal(), Signal()
        stopping, active, in_run = Signal(), Signal(), Signal()
        self._count_epochs(m)
        on, running, chip_begins = self.running, state == State.EPOCH, self.begins
        over, counts = on & ~self.chip_busy, ~self.chip_error
        if self.links:
            on, running, chip_begins = self._collectives(m, state, following, stopping)
            over = on & ~self.chip_busy & ~self.link_busy
            counts = ~self.chip_error & ~(self.collecting & (stopping | self.link_error.any()))
        m.d.comb += [
            self.busy.eq(state != State.IDLE),
            self.launched.eq(self.busy & (state != State.RESET)),
            self.running.eq(running),
            self.gap.eq(~on),
            self.core_reset.eq((state == State.RESET) | ResetSignal()),
            self.engine_start.eq(state == State.PREPARE),
            self.chip_rewind.eq((state == State.PREPARE) | (over & self._pass_ends(m, accepted) if self.has_passes else 0)),
            self.chip_start.eq(state == State.LAUNCH),
            stopping.eq(self.failed | self.aborted),
            active.eq((state == State.GAP) | (state == State.EPOCH) | (state == State.END)),
            in_run.eq((state != State.IDLE) & ((state != State.RESET) | launching)),
            self.engine_stop.eq((state == State.IDLE) | (state == State.RESET) | self.aborted),
            needs_reset.eq(dirty | stopping | self.chip_busy | self.chip_error | self.soft_reset),
            last.eq(following == self.chip_epochs),
            self.begins.eq((state == State.GAP) & ready & ~last & ~stopping),
            self.chip_hold.eq(~chip_begins),
            self.event_epoch.eq(over & counts),
            self.event_done.eq((state == State.END) & self.quiet.all() & (count == QUIET_CYCLES - 1)),
            self.wasted.eq(self.event_done & stopping),
        ]
        with m.If(stopping):
            m.d.sync += dirty.eq(1)
        with m.Switch(state):
            with m.Case(State.IDLE):
                m.d.sync += [count.eq(RESET_CYCLES - 1), launching.eq(accepted)]
                with m.If(accepted):
                    m.d.sync += [following.eq(0), self.epochs_done.eq(0), self.chip_epochs.eq(self._all_epochs[:TAG_WIDTH])]
                    m.d.sync += state.eq(Mux(needs_reset, State.RESET, State.PREPARE))
                with m.Elif(self.soft_reset):
                    m.d.sync += state.eq(State.RESET)
            with m.Case(State.RESET):
                m.d.sync += [count.eq(count - 1), dirty.eq(0)]
                with m.If(count == 0):
                    m.d.sync += state.eq(Mux(launching, State.PREPARE, State.IDLE))
            with m.Case(State.PREPARE):
                m.d.sync += state.eq(State.LAUNCH)
            with m.Case(State.LAUNCH):
                m.d.sync += state.eq(State.GAP)
            with m.Case(State.GAP):
                m.d.sync += count.eq(0)
                with m.If(stopping | (ready & last)):
                    m.d.sync += state.eq(State.END)
                with m.Elif(ready):
                    m.d.sync += [state.eq(State.EPOCH), following.eq(following + 1)]
            with m.Case(State.EPOCH):
                m.d.sync += self.epochs_done.eq(self.epochs_done + self.event_epoch)
                with m.If(over):
                    m.d.sync += state.eq(State.GAP)
            with m.Case(State.END):
                m.d.sync += count.eq(Mux(self.quiet.all(), count + 1, 0))
                with m.If(self.event_done):
                    m.d.sync += state.eq(State.IDLE)
        self._readiness(m, state, following, ready, last, stopping, over)
        self._commands(m, state, accepted)
        self._failures(m, active)
        with m.If(self.abort & in_run):
            m.d.sync += self.aborted.eq(1)
        for manager in range(self.managers):
            named = self.cancel_valid & (self.cancel_manager == manager)
            m.d.sync += self.engine_cancel[manager].eq(named & active)
        m.d.sync += self.engine_cancel_tag.eq(self.cancel_tag)
        return m

    def _count_epochs(self, m: Module) -> None:
        """Those of all passes, and whether there may be as many."""
        self._all_epochs, self._too_many = self.epochs, self.epochs > MAX_EPOCHS
        if not self.has_passes:
            return
        self._epochs_before = Signal(TAG_WIDTH, name="epochs_before")
        self._all_epochs = Signal(TAG_WIDTH + len(self.passes), name="all_epochs")
        self._too_many, self._bad_passes = Signal(name="too_many"), Signal(name="bad_passes")
        none = Signal(name="no_passes", init=1)
        m.d.sync += [
            self._epochs_before.eq(self.epochs[:TAG_WIDTH]),
            self._all_epochs.eq(self.epochs[:TAG_WIDTH] * self.passes),
            self._too_many.eq(self.epochs > MAX_EPOCHS),
            none.eq(self.passes == 0),
        ]
        m.d.comb += self._bad_passes.eq(none | (self._all_epochs > MAX_EPOCHS))

    def _pass_ends(self, m: Module, accepted: Signal) -> Value:
        """Whether the epoch that is on is the last one of a pass."""
        of_pass, begun = (Signal(TAG_WIDTH, name=name) for name in ("epochs_of_pass", "begun_of_pass"))
        with m.If(accepted):
            m.d.sync += [of_pass.eq(self._epochs_before), begun.eq(0)]
        with m.Elif(self.begins):
            m.d.sync += begun.eq(Mux(begun == of_pass, 1, begun + 1))
        return begun == of_pass

    def _collectives(self, m: Module, state: Signal, following: Signal, stopping: Signal) -> tuple[Signal, Value, Value]:
        """Whether an epoch or a collective is on; whether it is an epoch of the chip; whether one of the chip begins."""
        collective, on, named = Signal(name="collective"), Signal(name="epoch_on"), Signal(name="collective_next")
        m.d.comb += [
            named.eq(following == self.link_epoch),
            on.eq(state == State.EPOCH),
            self.collecting.eq(on & collective),
            self.enable.eq(self.prefetch & (self.beneath | ~self.collecting)),
            self.link_begin.eq(self.begins & named),
            self.link_stop.eq(stopping),
        ]
        with m.If(self.begins):
            m.d.sync += collective.eq(named)
        return on, on & ~collective, self.begins & ~named

    def _readiness(
        self, m: Module, state: Signal, following: Signal, ready: Signal, last: Signal, stopping: Signal, over: Value
    ) -> None:
        """Which rings have the tags that come next; what is waited for. ``over``: the last cycle of an epoch."""
        complete: dict[str, Any] = {}
        for ring in RINGS:
            counts = planes_of(getattr(self, f"{ring}_complete"), self.managers)
            complete[ring] = Signal(name=f"{ring}_ready")
            m.d.sync += complete[ring].eq(Cat(count > following for count in counts).all())
        first, early, was_early, waits = (Signal(name=name) for name in ("after_epoch", "early", "was_early", "waits"))
        m.d.sync += [first.eq(over), was_early.eq(early & (state == State.GAP))]
        m.d.comb += [
            ready.eq(complete["demand"] & complete["prefetch"]),
            early.eq(was_early | (first & complete["prefetch"])),
            self.prefetch_hit.eq(self.begins & early),
            waits.eq((state == State.GAP) & ~ready & ~stopping),
            self.wait_store.eq(waits & last),
            self.wait_prefetch.eq(waits & ~last & ~complete["prefetch"]),
            self.wait_demand.eq(waits & ~last & complete["prefetch"]),
        ]

    def _commands(self, m: Module, state: Signal, accepted: Signal) -> None:
        idle, refusal = state == State.IDLE, Signal(Refusal)
        bases = [base for ring in RINGS for base in planes_of(getattr(self, f"{ring}_base"), self.managers)]
        sizes = [size for ring in RINGS for size in planes_of(getattr(self, f"{ring}_size"), self.managers)]
        within = (DESCRIPTOR_BYTES - 1).bit_length()
        with m.If(~idle):
            m.d.comb += refusal.eq(Refusal.BUSY)
        with m.Elif(self._too_many):
            m.d.comb += refusal.eq(Refusal.EPOCHS)
        with m.Elif(Cat(base[:within] for base in bases).any()):
            m.d.comb += refusal.eq(Refusal.RING_BASE)
        with m.Elif(Cat(size == 0 for size in sizes).any()):
            m.d.comb += refusal.eq(Refusal.RING_SIZE)
        if self.has_passes:
            with m.Elif(self._bad_passes):
                m.d.comb += refusal.eq(Refusal.PASSES)
        m.d.comb += [
            accepted.eq(self.start & (refusal == Refusal.NONE)),
            self.counters_clear.eq(accepted | (self.clear & idle)),
            self.event_refused.eq((self.start & (refusal != Refusal.NONE)) | ((self.soft_reset | self.clear) & ~idle)),
        ]
        with m.If(accepted | ((self.soft_reset | self.clear) & idle)):
            m.d.sync += [getattr(self, name).eq(0) for name in ("done", "failed", "aborted", "refused", "reason")]
            m.d.sync += [self.error_source.eq(ErrorSource.NONE), self.error_manager.eq(0)]
        with m.If(self.event_refused):
            m.d.sync += [self.refused.eq(1), self.reason.eq(refusal)]
        with m.If(self.event_done):
            m.d.sync += self.done.eq(1)

    def _failures(self, m: Module, active: Signal) -> None:
        """The first error of a run."""
        codes: list[Value] = planes_of(self.engine_error, self.managers)
        found = self.engine_error.any() | self.chip_error
        m.d.comb += self.event_error.eq(active & ~self.failed & (found | self.link_error.any() if self.links else found))
        with m.If(self.event_error):
            m.d.sync += self.failed.eq(1)
            m.d.sync += self.error_source.eq(Mux(self.chip_network_error[0], ErrorSource.NETWORK, ErrorSource.NODE))
            if self.links:
                with m.If(self.link_error.any()):
                    m.d.sync += self.error_source.eq(ErrorSource.LINK)
            for manager in reversed(range(self.managers)):
                with m.If(codes[manager].any()):
                    m.d.sync += [self.error_source.eq(ErrorSource.ENGINE), self.error_manager.eq(manager)]


def _link_members() -> dict[str, Any]:
    """Between run control and the collective engine."""
    return {
        "link_epoch": In(ID_WIDTH),
        "link_busy": In(1),
        "link_error": In(4),
        **dict.fromkeys(("link_begin", "link_stop", "collecting"), Out(1)),
        **dict.fromkeys(("prefetch", "beneath"), In(1)),
        "enable": Out(1),
    }
