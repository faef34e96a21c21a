"""Which descriptor begins, and when."""

from __future__ import annotations

from amaranth.hdl import Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.rtl.prefetch.descriptor_gate import DescriptorGate
from podweave.rtl.prefetch.engine_words import fault_layout, held_layout, item_layout, walk_layout
from podweave.spec.descriptors import EPOCH_BANKS, RINGS, DescriptorKind, PrefetchError

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_CONFIG = small(data_width=64, address_width=32, buffer_beats=16, max_burst=4, outstanding=2, descriptors=2)
_ITEMS, _TAG_BITS = 4, 2
_DEMAND, _PREFETCH = range(2)


class _Gate:
    """A gate with whoever uses it. ``begins``, ``refuses``: of each ring; ``heads``: the descriptors there."""

    def __init__(self, h: Harness):
        self.dut = dut = h.place(DescriptorGate(_CONFIG))
        width = held_layout(_CONFIG).width
        self.heads = [Signal(struct(held_layout(_CONFIG)), name=f"head_of_{name}") for name in RINGS]
        for ring, head in enumerate(self.heads):
            word, here = dut["head"].word_select(ring, width), dut["head_valid"][ring]
            h.m.d.comb += head.as_value().eq(word)
            # A head stays until it is taken; there is none behind the end of a ring.
            waits = h.past(here & ~dut["pop"][ring] & ~dut["clear"], f"waits_{ring}")
            h.assume(~waits | (here & (word == h.past(word, f"head_{ring}"))))
            h.assume(~here | (dut["held"][ring] & ~dut["broken"][ring]))
            # The check gives no others.
            h.assume(~here | (head.kind <= max(DescriptorKind)) | (head.error != PrefetchError.NONE))
        self.fault, self.refused = (Signal(struct(fault_layout(_CONFIG)), name=name) for name in ("fault_word", "refused_word"))
        h.m.d.comb += [self.fault.as_value().eq(dut["fault"]), self.refused.as_value().eq(dut["refused"])]
        self.begins = [dut["begin_item"] & dut["pop"][ring] for ring in range(2)]
        self.refuses = [dut["refused_valid"] & (self.refused.ring == ring) for ring in range(2)]


def conditions(h: Harness) -> None:
    g = _Gate(h)
    dut = g.dut
    before = {name: h.past(dut[name], name) for name in ("epochs_done", "gap", "enable", "cap", "unconsumed")}
    item, walk = (Signal(struct(layout(_CONFIG)), name=name) for name, layout in (("item", item_layout), ("walk", walk_layout)))
    h.m.d.comb += [item.as_value().eq(dut["item"]), walk.as_value().eq(dut["walk"])]
    h.check(~dut["begin_item"] | (dut["pop"] == 1) | (dut["pop"] == 2), "what begins is the head of one ring")
    h.check(~dut["stopped"] | ((dut["pop"] == 0) & ~dut["begin_item"]), "nothing is taken while stopped")
    h.check(~dut["storing"] | ((dut["pop"] == 0) & ~dut["begin_item"]), "nothing is taken while a store is under way")
    for ring, (name, head) in enumerate(zip(RINGS, g.heads, strict=True)):
        begins, loads, stores = g.begins[ring], head.kind == DescriptorKind.LOAD, head.kind == DescriptorKind.STORE
        due, after = before["epochs_done"] >= head.tag, before["epochs_done"] >= head.after
        banks: Value = (head.select == EPOCH_BANKS[0]) | (head.select == EPOCH_BANKS[1])
        banks = banks & (loads | stores)
        h.check(~begins | (dut["head_valid"][ring] & (head.error == PrefetchError.NONE)), f"{name}: only what is legal begins")
        h.check(~begins | after, f"{name}: nothing begins before the epochs that it waits for are done")
        h.check(
            ~(begins & banks) | (due & before["gap"]), f"{name}: banks of epochs are only touched when it is due, between epochs"
        )
        h.check(~(begins & stores) | ~dut["under_way"], f"{name}: a store begins alone")
        h.check(~(begins & loads) | ~dut["walking"], f"{name}: a load begins when the walker is free")
        same = (item.ring == ring) & (item.kind == head.kind) & (item.select == head.select) & (item.base == head.base)
        h.check(~begins | same, f"{name}: the item is that of the descriptor")
        moves = loads | stores
        h.check(~begins | (dut["begin_walk"] == moves), f"{name}: loads and stores walk")
        same = (walk.address == head.address) & (walk.run_bytes == head.run_bytes) & (walk.n1 == head.n1) & (walk.n2 == head.n2)
        same = same & (walk.stride1 == head.stride1) & (walk.stride2 == head.stride2) & (walk.store == stores)
        h.check(~begins | same, f"{name}: the walk is that of the descriptor")
        if ring == _PREFETCH:
            h.check(~begins | due | before["enable"], "nothing is prefetched unless it is enabled")
            fits = (before["cap"] == 0) | (before["unconsumed"] + head.words <= before["cap"])
            h.check(~(begins & loads) | due | fits, "no more is prefetched than the cap allows")
            h.cover(begins & loads & ~due & (before["cap"] != 0), "a load is prefetched below a cap")
        h.cover(begins & banks & loads, f"{name}: a bank of epochs is loaded")
        h.cover(begins & stores, f"{name}: a store begins")


def errors(h: Harness) -> None:
    m = h.m
    g = _Gate(h)
    dut = g.dut
    item = Signal(struct(item_layout(_CONFIG)), name="item")
    m.d.comb += item.as_value().eq(dut["item"])
    level = Signal(range(_ITEMS + 2))
    m.d.sync += level.eq(Mux(dut["clear"], 0, level + dut["begin_item"] - dut["item_ended"]))
    h.assume(~dut["item_ended"] | (level != 0))
    h.check(level <= _ITEMS, "no more has begun than there is room for")
    h.check(dut["under_way"] == (level != 0), "under_way: what has begun has not ended")
    store = Signal()
    stores = [g.begins[ring] & (head.kind == DescriptorKind.STORE) for ring, head in enumerate(g.heads)]
    m.d.sync += store.eq(~dut["clear"] & (stores[0] | stores[1] | (store & ~dut["store_ended"])))
    h.check(dut["storing"] == store, "storing: from the begin of a store to its last response")
    # One tag, whichever it is, of so few bits that a solver finds that registers of them are equal.
    tag = h.constant("tag", _TAG_BITS)
    for other in (*(head.tag for head in g.heads), dut["cancel_tag"], g.fault.tag):
        h.assume(other[_TAG_BITS:] == 0)
    cancelled = Signal()
    hit = dut["cancel_valid"] & (dut["cancel_tag"] == tag)
    m.d.sync += cancelled.eq(~dut["clear"] & Mux(dut["cancel_valid"], hit, cancelled))
    # A head is taken by what was known in the cycle before.
    known = h.past(cancelled & ~dut["clear"], "known")
    for ring, (name, head) in enumerate(zip(RINGS, g.heads, strict=True)):
        mine = head.tag == tag
        h.check(~(g.begins[ring] & mine & known), f"{name}: nothing of a cancelled tag begins")
        failed = Signal(name=f"failed_{name}")
        fails = dut["fault_valid"] & (g.fault.ring == ring)
        m.d.sync += failed.eq(~dut["clear"] & Mux(fails, g.fault.tag == tag, failed))
        h.check(
            ~(g.begins[ring] & mine & h.past(failed & ~dut["clear"], f"failed_{name}_known")),
            f"{name}: nothing begins of the tag in which its ring failed",
        )
        ended = Signal(name=f"ended_{name}")
        m.d.sync += ended.eq(~dut["clear"] & (ended | g.refuses[ring]))
        stored = h.past(stores[ring], f"stored_{name}") & dut["store_counts"] & h.past(ended, f"before_{name}")
        h.check(~stored & ~(g.begins[ring] & item.counts & ended), f"{name}: no tag is complete behind an error")
        h.cover(g.refuses[ring] & (g.refused.code == PrefetchError.CANCELLED), f"{name}: a descriptor is cancelled")
        h.cover(g.refuses[ring] & dut["broken"][ring], f"{name}: the end of the ring is told")
    h.cover(level == _ITEMS, "there is no room for more")
    h.cover(store & dut["store_ended"], "a store ends")


_GATE = "rtl.prefetch.descriptor_gate"
_SIZES = f"2 descriptors of each ring, {_ITEMS} under way"
PROPERTIES = (
    Property(
        name="descriptor_gate.conditions",
        rule="only a legal head begins, alone, when the epochs that it waits for are done; banks of epochs are touched between "
        "epochs only; nothing is prefetched beyond the cap, or unless it is enabled; a store begins alone",
        sizes=f"{_SIZES}, any tags, words and caps",
        build=conditions,
        engine="induction",
        cycles=3,
        faults=(
            Fault(_GATE, "gap.eq(~banks | self.gap)", "gap.eq(1)"),
            Fault(_GATE, "(total <= self.cap)", "(total <= self.cap + 1)"),
            Fault(_GATE, "m.d.comb += free.eq(level == 0)", "m.d.comb += free.eq(room)"),
            Fault(_GATE, "(due | (self.enable & ~banks))", "(due | ~banks)"),
        ),
    ),
    Property(
        name="descriptor_gate.errors",
        rule="nothing begins of a tag that is cancelled, or in which its ring failed; no tag of a ring is complete behind an "
        "error; no more is under way than there is room for",
        sizes=f"{_SIZES}, tags of up to {(1 << _TAG_BITS) - 1}",
        build=errors,
        faults=(
            Fault(_GATE, "cancel.eq(known & (cancelled == tag))", "cancel.eq(0)"),
            Fault(_GATE, "skip.eq(Cat(matches).any())", "skip.eq(matches[1])"),
            Fault(_GATE, "room.eq(level != self.depth)", "room.eq(1)"),
            Fault(_GATE, "m.d.sync += failed[i].eq(1)", "m.d.sync += failed[i].eq(0)"),
        ),
    ),
)
