"""Descriptor gate: decides which descriptor begins, and which never will."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import EPOCH_BANKS, TAG_WIDTH, DescriptorKind, PrefetchError

from ..parts.blocks import Block, place, struct
from .descriptor_reader import DEMAND, PREFETCH
from .engine_words import CODE_WIDTH, beat_bits, fault_layout, held_layout, item_layout, prefetch_of, walk_layout
from .prefetch_count import UNCONSUMED_WIDTH, PrefetchCount

# Bits of a decision.
BEGIN, REFUSE, CANCEL, SKIP = range(4)


class DescriptorGate(Block):
    """Looks at the heads of both rings in each cycle; what may happen to one in cycle t happens from cycle t + 1 on.

    A head is dropped if it has the tag of an earlier error of its ring, or the tag that is cancelled; else refused if it has an
    error; else it may begin if ``epochs_done`` >= after, and, with "due" for ``epochs_done`` >= tag: prefetch ones if ``enable``
    or due; ones of X or P, but for those with ``beside``, if due and ``gap``; prefetch loads if due, or ``cap`` is 0 or not
    exceeded by unconsumed words and their own, and there is room to count them (`PrefetchCount`), of NOPs likewise. A ring that is
    broken counts as a head with an error.

    In each cycle one of the heads for which the cycle before has decided is taken, demand before prefetch: one with an error
    always; a NOP if there is room in the delivery queue; a load if there is also no descriptor in the run walker (``walking``); a
    store if nothing else is under way. From the take of a store to the end of its last response nothing is taken.

    Latency: 1 cycle from a head to its take; 2 from a take to the next one of the same ring, at the least.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``, whose ``address_width`` is ``address`` below.

    Members
    -------
    clear : In(1)
        Forget everything.
    stopped : In(1)
        Nothing is taken.
    enable, cap, epochs_done, gap : In(1), In(32), In(TAG_WIDTH), In(1)
        As of a `PrefetchEngine`.
    cancel_valid, cancel_tag : In(1), In(TAG_WIDTH)
        As of a `PrefetchEngine`.
    head_valid, head : In(2), In(2 * held_layout(config).width)
        As of a `DescriptorReader`.
    pop : Out(2)
        As of a `DescriptorReader`.
    held : In(2)
        As of a `DescriptorReader`.
    broken, broken_code, broken_address : In(2), In(2 * CODE_WIDTH), In(2 * address)
        As of a `DescriptorReader`.
    previous_tag : In(2 * TAG_WIDTH)
        As of a `DescriptorReader`.
    fault_valid, fault : In(1), In(fault_layout(config).width)
        An error response for a tag of a ring.
    refused_valid, refused : Out(1), Out(fault_layout(config).width)
        An error found here, in the cycle of its take.
    begin_walk, walk : Out(1), Out(walk_layout(config).width)
        A load or store begins.
    walking : In(1)
        As of a `BurstIssuer`.
    begin_item, item : Out(1), Out(item_layout(config).width)
        Anything begins.
    item_ended : In(1)
        The last step of an item was made.
    storing : Out(1)
        A store is under way.
    store_ring, store_tag, store_counts : Out(1), Out(TAG_WIDTH), Out(1)
        Of that store.
    store_ended : In(1)
        Its last response is here.
    waiting : Out(1)
        A head will be taken, or was not looked at yet; else nothing happens here before an input changes.
    under_way : Out(1)
        Items that have begun have not ended.
    stall_gate, stall_cap, stall_gap : Out(1)
        A head waits, in the cycle before, for ``epochs_done`` (or ``enable``), cap, gap.
    unconsumed : Out(UNCONSUMED_WIDTH)
        Words of begun prefetch loads whose tag was beyond ``epochs_done`` then, and is still.
    """

    kind = "descriptor_gate"

    def __init__(self, config: ChipConfig):
        self.config = config
        address, fault = prefetch_of(config).address_width, fault_layout(config).width
        self.depth = 2 * prefetch_of(config).descriptors
        super().__init__(
            {
                "clear": In(1),
                "stopped": In(1),
                "enable": In(1),
                "cap": In(32),
                "epochs_done": In(TAG_WIDTH),
                "gap": In(1),
                "cancel_valid": In(1),
                "cancel_tag": In(TAG_WIDTH),
                "head_valid": In(2),
                "head": In(2 * held_layout(config).width),
                "pop": Out(2),
                "held": In(2),
                "broken": In(2),
                "broken_code": In(2 * CODE_WIDTH),
                "broken_address": In(2 * address),
                "previous_tag": In(2 * TAG_WIDTH),
                "fault_valid": In(1),
                "fault": In(fault),
                "refused_valid": Out(1),
                "refused": Out(fault),
                "begin_walk": Out(1),
                "walk": Out(walk_layout(config).width),
                "walking": In(1),
                "begin_item": Out(1),
                "item": Out(item_layout(config).width),
                "item_ended": In(1),
                "storing": Out(1),
                "store_ring": Out(1),
                "store_tag": Out(TAG_WIDTH),
                "store_counts": Out(1),
                "store_ended": In(1),
                "waiting": Out(1),
                "under_way": Out(1),
                "stall_gate": Out(1),
                "stall_cap": Out(1),
                "stall_gap": Out(1),
                "unconsumed": Out(UNCONSUMED_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> object:
        m = Module()
        layout = held_layout(self.config)
        heads = [Signal(struct(layout), name=f"head_{ring}") for ring in range(2)]
        m.d.comb += [Value.cast(head).eq(self.head.word_select(ring, layout.width)) for ring, head in enumerate(heads)]
        taken, begins = Signal(2), Signal()
        count = place(m, "count", PrefetchCount())
        m.d.comb += [
            count["clear"].eq(self.clear),
            count["epochs_done"].eq(self.epochs_done),
            count["tag"].eq(heads[PREFETCH].tag),
            count["words"].eq(heads[PREFETCH].words),
            count["add"].eq(taken[PREFETCH] & begins & (heads[PREFETCH].kind == DescriptorKind.LOAD)),
            self.unconsumed.eq(count["unconsumed"]),
        ]
        decisions, waiting, stalls = [], [], []
        for ring, head in enumerate(heads):
            look, stall, decision, seen = (
                Signal(width, name=f"{name}_{ring}") for name, width in (("look", 4), ("stall", 3), ("decision", 4), ("seen", 1))
            )
            m.d.comb += look.eq(self._look(m, ring, head, self._may_begin(m, ring, head, count, stall)))
            # The head of the cycle after a take is not the one that was looked at.
            m.d.sync += [decision.eq(Mux(taken[ring], 0, look)), seen.eq(self.head_valid[ring] & ~taken[ring])]
            waiting.append((self.held[ring] & ~seen) | decision.any() | look.any())
            decisions.append(decision)
            stalls.append(stall)
        stalled = Signal(3)
        m.d.sync += stalled.eq(stalls[DEMAND] | stalls[PREFETCH])
        m.d.comb += [
            self.waiting.eq(Cat(waiting).any()),
            Cat(self.stall_gate, self.stall_gap, self.stall_cap).eq(stalled),
        ]
        self._take(m, decisions, heads, taken, begins)
        return ResetInserter(self.clear)(m)

    def _may_begin(self, m: Module, ring: int, head: data.View, count: dict[str, Value], stall: Signal) -> Value:
        """Whether all conditions of a head are met; ``stall`` says which is not: gate, gap, cap."""
        stores = head.kind == DescriptorKind.STORE
        beside = head.beside if self.config.memory.x_parts > 1 else Const(0)
        due, banks, gate, gap, fits = (Signal(name=f"{name}_{ring}") for name in ("due", "banks", "gate", "gap", "fits"))
        m.d.comb += [
            due.eq(self.epochs_done >= head.tag),
            banks.eq((head.kind != DescriptorKind.NOP) & Cat(head.select == select for select in EPOCH_BANKS).any() & ~beside),
            gap.eq(~banks | self.gap),
        ]
        if ring == PREFETCH:
            total = Signal(UNCONSUMED_WIDTH + 1)
            m.d.comb += [
                total.eq(count["unconsumed"] + head.words),
                fits.eq(due | stores | (count["room"] & ((self.cap == 0) | (total <= self.cap)))),
                gate.eq((self.epochs_done >= head.after) & (due | (self.enable & ~banks))),
            ]
        else:
            m.d.comb += [fits.eq(1), gate.eq((self.epochs_done >= head.after) & (due | ~banks))]
        legal = self.head_valid[ring] & (head.error == PrefetchError.NONE)
        m.d.comb += stall.eq(Mux(legal, Cat(~gate, gate & ~gap, gate & gap & ~fits), 0))
        return legal & gate & gap & fits

    def _look(self, m: Module, ring: int, head: data.View, may_begin: Value) -> Value:
        """What may happen to the head of a ring: bits of a decision, at most one of which is set."""
        tag = Signal(TAG_WIDTH, name=f"tag_{ring}")
        skip, cancel, reported = (Signal(name=f"{name}_{ring}") for name in ("skip", "cancel", "reported"))
        matches = []
        fault = Signal(struct(fault_layout(self.config)), name=f"fault_{ring}")
        refused = Signal(struct(fault_layout(self.config)), name=f"refused_{ring}")
        m.d.comb += [tag.eq(head.tag), Value.cast(fault).eq(self.fault), Value.cast(refused).eq(self.refused)]
        for name, valid, source in (("fault", self.fault_valid, fault), ("refusal", self.refused_valid, refused)):
            known, failed = Signal(name=f"{name}_known_{ring}"), Signal(TAG_WIDTH, name=f"{name}_tag_{ring}", reset_less=True)
            with m.If(valid & (source.ring == ring)):
                m.d.sync += [known.eq(1), failed.eq(source.tag)]
            matches.append(known & (failed == tag))
        known, cancelled = Signal(name=f"cancel_known_{ring}"), Signal(TAG_WIDTH, name=f"cancel_tag_{ring}", reset_less=True)
        with m.If(self.cancel_valid):
            m.d.sync += [known.eq(1), cancelled.eq(self.cancel_tag)]
        with m.If(self.broken[ring] & self.refused_valid & (refused.ring == ring)):
            m.d.sync += reported.eq(1)
        m.d.comb += [
            skip.eq(Cat(matches).any()),
            cancel.eq(known & (cancelled == tag)),
        ]
        valid = self.head_valid[ring]
        refuse = (valid & (head.error != PrefetchError.NONE) & ~cancel & ~skip) | (self.broken[ring] & ~reported)
        return Cat(may_begin & ~cancel & ~skip, refuse, valid & cancel & ~skip, valid & skip)

    def _take(self, m: Module, decisions: list[Signal], heads: list[data.View], taken: Signal, begins: Signal) -> None:
        """Takes the head of one ring, if there is one that may go and room for it."""
        layout = held_layout(self.config)
        ring, go, may_go, room, free = (Signal(name=name) for name in ("ring", "go", "may_go", "room", "free"))
        decision, failed = Signal(4), Signal(2)
        level = Signal(range(self.depth + 1))
        head = Signal(struct(layout), name="head_chosen")
        m.d.comb += [
            ring.eq(~decisions[DEMAND].any()),
            decision.eq(Mux(ring, decisions[PREFETCH], decisions[DEMAND])),
            Value.cast(head).eq(Mux(ring, heads[PREFETCH], heads[DEMAND])),
            room.eq(level != self.depth),
        ]
        with m.Switch(head.kind):
            with m.Case(DescriptorKind.NOP):
                m.d.comb += free.eq(room)
            with m.Case(DescriptorKind.LOAD):
                m.d.comb += free.eq(room & ~self.walking)
            with m.Default():
                m.d.comb += free.eq(level == 0)
        m.d.comb += [
            may_go.eq(~self.storing & ~self.stopped),
            begins.eq(may_go & decision[BEGIN] & free),
            go.eq(begins | (may_go & decision[1:].any())),
            *(taken[i].eq(go & (ring == i)) for i in range(2)),
            self.pop.eq(taken & self.head_valid),
            self.begin_item.eq(begins),
            self.begin_walk.eq(begins & (head.kind != DescriptorKind.NOP)),
            self.under_way.eq(level != 0),
        ]
        m.d.sync += level.eq(level + begins - self.item_ended)

        stores, counts = Signal(), Signal()
        m.d.comb += [
            stores.eq(head.kind == DescriptorKind.STORE),
            counts.eq(head.last & ~Mux(ring, failed[PREFETCH], failed[DEMAND])),
        ]
        with m.If(begins & stores):
            m.d.sync += [self.storing.eq(1), self.store_ring.eq(ring), self.store_tag.eq(head.tag), self.store_counts.eq(counts)]
        with m.Elif(self.store_ended):
            m.d.sync += self.storing.eq(0)

        walk, item = Signal(struct(walk_layout(self.config))), Signal(struct(item_layout(self.config)))
        for word, width in ((walk, walk_layout), (item, item_layout)):
            shared = {field.name for field in width(self.config).fields} & {field.name for field in layout.fields}
            m.d.comb += [word[name].eq(head[name]) for name in sorted(shared - {"stride1", "stride2"})]
            m.d.comb += [word[name].eq(head[name]) for name in ("stride1", "stride2")]
        m.d.comb += [
            walk.store.eq(stores),
            walk.ring.eq(ring),
            item.offset.eq(head.address[: beat_bits(self.config)]),
            item.ring.eq(ring),
            item.counts.eq(counts & ~stores),
            self.walk.eq(walk),
            self.item.eq(item),
        ]
        self._refuse(m, ring, go, decision, head, failed)

    def _refuse(self, m: Module, ring: Signal, go: Signal, decision: Signal, head: data.View, failed: Signal) -> None:
        """Reports what is taken with an error; the ring completes no tag from there on."""
        refused = Signal(struct(fault_layout(self.config)), name="refused_word")
        broken = Mux(ring, self.broken[PREFETCH], self.broken[DEMAND])

        def of_ring(values: Value) -> Value:
            width = len(values) // 2
            return Mux(ring, values[width:], values[:width])

        m.d.comb += [
            self.refused_valid.eq(go & (decision[REFUSE] | decision[CANCEL])),
            refused.ring.eq(ring),
            refused.code.eq(Mux(decision[CANCEL], PrefetchError.CANCELLED, Mux(broken, of_ring(self.broken_code), head.error))),
            refused.tag.eq(Mux(broken, of_ring(self.previous_tag), head.tag)),
            refused.address.eq(Mux(broken, of_ring(self.broken_address), head.where)),
            self.refused.eq(refused),
        ]
        for i in range(2):
            with m.If(self.refused_valid & (ring == i)):
                m.d.sync += failed[i].eq(1)
