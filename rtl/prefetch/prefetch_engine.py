"""Prefetch engine: reads descriptors, moves words between memory and the nodes of one AXI4 manager, and says what is complete.

Timing
------
A cycle is named by what is on the ports in it; "at the earliest" means in exactly this cycle unless one of the waits named with it
holds it up, and a wait ends in the first cycle in which its condition holds. All registers between the stages below hold one
thing and are refilled in the cycle in which they are emptied, so that every stage is a recurrence of maxima and sums.

1.  *Start.* ``start`` in cycle t: all counts and errors are 0 from t + 1 on, in which the first descriptor is decided on.
2.  *Fetch.* In a cycle d without a request pending, a ring with index < tail and fewer than ``descriptors`` held (decided on, not
    taken) is decided on, demand first; a take in cycle t makes room from t + 1 on. The request is issued in cycle d + 1 at the
    earliest, before any burst of data (waits: 4). If it is issued in cycle i, the next decision is made in i + 1 at the earliest.
3.  *Issue.* A burst issued in cycle i is on AR in cycle i + 1, and stays until it is accepted.
4.  *Waits of an issue*, of descriptors as of data: AR free or accepting in this cycle; fewer than ``outstanding`` reads under
    way, where one issued in cycle i counts from i + 1 to r + 1, r being the cycle of its last beat on R; not stopped.
5.  *Check.* A descriptor whose last beat is on R in cycle r is checked from cycle c = r + 4 on, or c = c' + `CHECK_CYCLES` after
    the one before, whichever is later; ``memory_bytes`` is sampled in cycle c + 10.
6.  *Head.* It is the head of its ring from cycle h = c + 13 on, or from t' + 1 after the take of the one before, whichever is
    later.
7.  *Take.* All conditions (``epochs_done``, ``enable``, ``cap`` with the unconsumed words, ``gap``, earlier errors, a cancel one
    cycle after ``cancel_valid``) are looked at in every cycle from h on; what cycle t - 1 allows may be taken in cycle t, demand
    before prefetch. If the demand head may be taken but must wait, the prefetch head waits as well. Waits: a load or NOP, fewer
    than 2 * ``descriptors`` items begun and not ended (an item ends in the cycle of its last step, see 10, and counts until
    then); a load, the run walker is empty; a store, no item is under way; everything, no store is (up to e in 13). Descriptors
    with errors, skipped and cancelled ones are taken likewise and only wait for stores. One per ring every 2 cycles. In the
    unconsumed words a descriptor taken in cycle t counts from t + 1 on; a tag leaves one cycle after ``epochs_done`` reaches it.
8.  *Runs and bursts.* A load or store taken in cycle t is in the run walker from t + 1 on and hands a run to the splitter in each
    cycle in which that is empty or hands on the last burst of a run; the walker is empty in the cycle after it has handed on the
    last run of a descriptor. The splitter holds a run from the next cycle on, and hands a burst to the issue stage in each cycle
    in which that is empty or issues. A burst can be issued from the cycle after it was handed on. So the first burst of a load
    taken in cycle t is issued in t + 3 at the earliest and on AR in t + 4; single-burst descriptors follow each other in 2
    cycles. Each lane of a run of a column store, in order, is a run here.
9.  *Room.* A read of data also waits for n credits, n its beats, and for no descriptor to be requested. There are
    ``buffer_beats``; the issue in cycle i takes n from i + 1 on; a pop in cycle s (10) gives one back from s + 1 on.
10. *Delivery.* An item taken in cycle t makes its first step in t + 3 at the earliest, and in the cycle after the last step of
    the item before. A run of L bytes from byte o of a beat on (o = address mod beat) has one step for each piece of its words;
    piece j pops a beat if it is the first of its run or ends in another beat than piece j - 1; if the first piece of a run
    reaches into a second beat there is one more step before, that pops the first beat. One step per cycle; a step that pops waits
    for its beat: a beat on R in cycle r can be popped from r + 2 on. A NOP makes one step. There is no other wait.
11. *Load port.* The piece of a step in cycle s is on the load port in cycle s + 2.
12. *Complete.* If the last step of a tag is in cycle s, its count rises in cycle s + 2 + ``host_levels`` + 2.
13. *Store.* Its first read step is in t + 3 at the earliest, one step per cycle as in 10 but that a step pushes a beat if its
    piece reaches the end of the beat or is the last one of its run; if that last one reaches into one more beat, another step
    follows and pushes it. A step that pushes waits for a credit, which it takes from the next cycle on. The read of a step in
    cycle s is on the load port in s + 2, its data in q = s + 2 + ``host_read_latency``; a beat pushed is in the buffer and counts
    from q + 2 on. A burst waits in the issue stage (8) for AW to be free or accepting, fewer than ``outstanding`` writes under
    way (counted from the cycle after the issue to b + 1, b being the cycle of the response) and all its beats in the buffer,
    which it then claims. Issued in cycle i, it is on AW in i + 1 and its beats are on W from i + 3 on at the earliest, in order,
    each in the cycle after the one before was accepted; a beat that is on W from cycle w on has given back its credit from w on.
    The store ends in cycle e, the first in which all its bursts are issued, all its steps made and no write is under way: for a
    last response in cycle b, e = b + 2. Its tag is complete in e + ``host_levels`` + 2, and the next descriptor can be taken in e
    + 1. Steps of a column store are, for each run and each piece of its words: one for each word, that reads the piece; then one
    for each lane, a byte of the piece that is one of the word, that pushes the beat in which the lane begins; and if it reaches
    into one more beat another, that pushes that.
14. *Errors.* A beat on R in cycle r with an error stands in ``error`` from r + 2 on, a response in cycle b from b + 2 on, a
    refused or cancelled descriptor from the cycle after its take on. Heads with that tag are skipped when looked at in these
    cycles or later.
15. *Stop.* ``stop`` in cycle t: nothing is issued, taken or stepped from cycle t + 1 on, until the next start without ``stop``.
16. *Events* of cycle t (``read_beat``, ``write_beat``, ``stall_*``) are on their ports in cycle t + 1. So is ``quiet``.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import RINGS, TAG_WIDTH

from ..parts.blocks import Block, delay_line, place, struct
from ..parts.load_port import load_port_members
from .burst_issuer import BurstIssuer
from .descriptor_gate import DescriptorGate
from .descriptor_reader import DescriptorReader
from .engine_words import (
    CODE_WIDTH,
    COMPLETE_EXTRA,
    ReadClass,
    base_members,
    beat_bits,
    fault_layout,
    prefetch_of,
    ring_pass_members,
    shared_pass_members,
)
from .prefetch_count import UNCONSUMED_WIDTH
from .read_tracker import ReadTracker
from .realigner import Realigner
from .store_path import StorePath

_INCREMENTING = 1


class PrefetchEngine(Block):
    """Moves what the descriptors of two rings say between memory and the nodes of one manager, through one load port.

    Reads need room for all their beats before they are issued, so the memory is never made to wait. Bursts are whole beats wide,
    aligned down to a beat, and cross no multiple of 4 KiB; all have id 0 and are answered in order. After an error, the rest of
    that tag in that ring is skipped, and the ring completes no further tag; the descriptor that failed still makes all its
    bursts, but no piece of the beat that failed or after it reaches the load port. The smallest code of `PrefetchError` that
    applies to a descriptor is reported. A descriptor that could not be read has the tag of the one before; one of unknown kind,
    unreadable or out of order does not count for the order of tags. Of several errors in one cycle, that of a response is kept. A
    ring that is misaligned or leaves the memory ends there.

    Latency: by the numbered rules at the head of this module.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``, whose ``address_width`` is ``address`` below; and the nodes of a manager.

    Members
    -------
    start : In(1)
        While ``quiet``: forget everything, errors too, and begin both rings at index 0.
    stop : In(1)
        Begin nothing new: no descriptor fetch, no burst, no access; what is under way ends and is dropped; only a start ends this.
    enable : In(1)
        Prefetch descriptors may begin before their epoch is the next one.
    cap : In(32)
        Words that may be prefetched and not consumed, 0: no limit.
    memory_bytes : In(address + 1)
        First byte beyond the memory.
    bases : In(base_registers * address)
        What descriptors add to their address, register 1 least significant; without base registers there is no such port. They
        hold still from ``start`` on until all is done.
    passes : In(pass_bits)
        Only with ``pass_bits``, as what follows: 1 more than how often the body of each ring is gone over; at least 1. All of these
        hold still from ``start`` on until all is done.
    pass_epochs, pass_stride : In(TAG_WIDTH), In(address)
        What each descriptor with `turns` adds to tag and after of all that come behind it in its ring, and to the address of those
        of them with `moves`.
    demand_body, demand_body_end, prefetch_body, prefetch_body_end : In(32)
        The first descriptor of the body of a ring, and the first one behind it; 0: the ring has none.
    epochs_done : In(TAG_WIDTH)
        Epochs that are done: lets descriptors begin, and words count as consumed.
    gap : In(1)
        No epoch is on, X and P banks may be reached.
    demand_base, prefetch_base : In(address)
        Byte address of a ring; index i is at base + 64 * (i mod size).
    demand_size, prefetch_size : In(32)
        Descriptors in a ring, at least 1.
    demand_tail, prefetch_tail : In(32)
        Descriptors published since the start.
    cancel_valid, cancel_tag : In(1), In(TAG_WIDTH)
        Drop the descriptors of that tag that have not begun; a later cancel takes the place of an earlier one.
    demand_complete, prefetch_complete : Out(TAG_WIDTH)
        Tags completed: lasts of which all before in the ring is in its memory.
    quiet : Out(1)
        Nothing was under way in the cycle before, and nothing could begin without a change of an input.
    error, error_tag, error_address, error_ring : Out(CODE_WIDTH), Out(TAG_WIDTH), Out(address), Out(1)
        The first error since the start; ring 1: prefetch.
    read_beat, read_class, write_beat : Out(1), Out(2), Out(1)
        A beat was transferred; the `ReadClass` of the one read.
    stall_gate : Out(1)
        A head waited for ``epochs_done`` or ``enable``.
    stall_gap, stall_cap : Out(1)
        A head waited for gap (cap) only.
    stall_buffer, stall_bus : Out(1)
        A burst waited for buffer space (for ``arready``).
    unconsumed : Out(UNCONSUMED_WIDTH)
        Words of begun prefetch descriptors whose tag is > ``epochs_done``.
    m_axi_* : as in axi_members
        AXI4 manager.
    host_* : Out(width in load_port_members)
        A load port of a `Chip`, from the side of its driver; bytes beyond a piece are 0.
    host_read_data : In(host_bits)
        What it reads, `ChipConfig.host_read_latency` cycles later.
    """

    kind = "prefetch_engine"

    def __init__(self, config: ChipConfig):
        self.config = config
        address = prefetch_of(config).address_width
        ring: dict[str, Any] = {"base": In(address), "size": In(32), "tail": In(32)}
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "enable": In(1),
                "cap": In(32),
                "memory_bytes": In(address + 1),
                **base_members(config),
                "epochs_done": In(TAG_WIDTH),
                "gap": In(1),
                **{f"{name}_{port}": member for port, member in ring.items() for name in RINGS},
                **ring_pass_members(config),
                "cancel_valid": In(1),
                "cancel_tag": In(TAG_WIDTH),
                **{f"{name}_complete": Out(TAG_WIDTH) for name in RINGS},
                "quiet": Out(1, init=1),
                "error": Out(CODE_WIDTH),
                "error_tag": Out(TAG_WIDTH),
                "error_address": Out(address),
                "error_ring": Out(1),
                "read_beat": Out(1),
                "read_class": Out(2),
                "write_beat": Out(1),
                **{f"stall_{cause}": Out(1) for cause in ("gate", "cap", "gap", "buffer", "bus")},
                "unconsumed": Out(UNCONSUMED_WIDTH),
                **axi_members(config),
                **{name: Out(width) for name, width in load_port_members(config).items()},
                "host_read_data": In(config.host_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self.config
        m = Module()
        reader = place(m, "reader", DescriptorReader(config))
        gate = place(m, "gate", DescriptorGate(config))
        issuer = place(m, "issuer", BurstIssuer(config))
        tracker = place(m, "tracker", ReadTracker(config))
        realigner = place(m, "realigner", Realigner(config))
        stores = place(m, "stores", StorePath(config))

        running, stopped = Signal(), Signal()
        m.d.sync += [
            running.eq(running | self.start),
            stopped.eq(self.stop | (stopped & ~self.start)),
        ]
        for block in (reader, gate, issuer, tracker, realigner, stores):
            m.d.comb += block["clear"].eq(self.start)
        for block in (gate, issuer, realigner):
            m.d.comb += block["stopped"].eq(stopped)
        m.d.comb += reader["enable"].eq(running & ~stopped)

        self._rings(m, reader, gate)
        self._bursts(m, reader, gate, issuer, tracker)
        self._words(m, gate, issuer, tracker, realigner, stores)
        fault_valid, fault = self._errors(m, gate, tracker, stores)
        store_ended = Signal()
        m.d.comb += [
            gate["fault_valid"].eq(fault_valid),
            gate["fault"].eq(fault),
            store_ended.eq(gate["storing"] & ~issuer["busy"] & ~issuer["writing"] & ~gate["under_way"]),
            gate["store_ended"].eq(store_ended),
        ]
        completing = self._complete(m, gate, realigner, stores, store_ended)
        moving = issuer["reading"] | issuer["writing"] | realigner["busy"] | completing
        working = reader["waiting"] | gate["waiting"] | gate["under_way"] | gate["storing"] | issuer["busy"]
        m.d.sync += self.quiet.eq(~(moving | (working & running & ~stopped) | self.start))
        return m

    def _rings(self, m: Module, reader: dict[str, Any], gate: dict[str, Any]) -> None:
        for port in ("base", "size", "tail", *(("body", "body_end") if self.config.passes else ())):
            m.d.comb += reader[port].eq(Cat(getattr(self, f"{name}_{port}") for name in RINGS))
        m.d.comb += [
            *(gate[name].eq(getattr(self, name)) for name in ("enable", "cap", "epochs_done", "gap", "cancel_valid", "cancel_tag")),
            reader["memory_bytes"].eq(self.memory_bytes),
            *(reader[name].eq(getattr(self, name)) for name in base_members(self.config) | shared_pass_members(self.config)),
            *(
                gate[name].eq(reader[name])
                for name in ("head_valid", "head", "held", "broken", "broken_code", "broken_address", "previous_tag")
            ),
            reader["pop"].eq(gate["pop"]),
            *(getattr(self, name).eq(gate[name]) for name in ("stall_gate", "stall_cap", "stall_gap", "unconsumed")),
        ]

    def _bursts(
        self, m: Module, reader: dict[str, Any], gate: dict[str, Any], issuer: dict[str, Any], tracker: dict[str, Any]
    ) -> None:
        descriptor = tracker["beat_class"] == ReadClass.DESCRIPTOR
        m.d.comb += [
            issuer["begin"].eq(gate["begin_walk"]),
            issuer["walk"].eq(gate["walk"]),
            gate["walking"].eq(issuer["walking"]),
            *(issuer[name].eq(reader[name]) for name in ("request_valid", "request_ring", "request_address")),
            reader["granted"].eq(issuer["granted"]),
            tracker["issued"].eq(issuer["read_issued"]),
            tracker["burst"].eq(issuer["burst"]),
            issuer["read_ended"].eq(tracker["ended"]),
            *(reader[f"beat_{name}"].eq(tracker[f"beat_{name}"]) for name in ("data", "failed", "last", "ring", "address")),
            reader["beat_valid"].eq(tracker["beat_valid"] & descriptor),
            self.stall_buffer.eq(issuer["stall_buffer"]),
            self.stall_bus.eq(issuer["stall_bus"]),
            self.read_beat.eq(tracker["beat_valid"]),
            self.read_class.eq(tracker["beat_class"]),
        ]
        for way in ("ar", "aw"):
            m.d.comb += [
                *(getattr(self, f"m_axi_{way}{name}").eq(issuer[f"m_axi_{way}{name}"]) for name in ("addr", "len", "valid")),
                issuer[f"m_axi_{way}ready"].eq(getattr(self, f"m_axi_{way}ready")),
                getattr(self, f"m_axi_{way}size").eq(beat_bits(self.config)),
                getattr(self, f"m_axi_{way}burst").eq(_INCREMENTING),
            ]
        m.d.comb += [tracker[f"m_axi_r{name}"].eq(getattr(self, f"m_axi_r{name}")) for name in ("data", "resp", "last", "valid")]
        m.d.comb += self.m_axi_rready.eq(tracker["m_axi_rready"])

    def _words(
        self,
        m: Module,
        gate: dict[str, Any],
        issuer: dict[str, Any],
        tracker: dict[str, Any],
        realigner: dict[str, Any],
        stores: dict[str, Any],
    ) -> None:
        m.d.comb += [
            realigner["begin_item"].eq(gate["begin_item"]),
            realigner["item"].eq(gate["item"]),
            gate["item_ended"].eq(realigner["item_ended"]),
            realigner["beat_valid"].eq(tracker["beat_valid"] & (tracker["beat_class"] != ReadClass.DESCRIPTOR)),
            *(realigner[name].eq(tracker[name]) for name in ("beat_data", "beat_failed")),
            realigner["credit"].eq(issuer["credit"]),
            *(issuer[name].eq(realigner[name]) for name in ("reserve", "release", "stored")),
            *(getattr(self, name).eq(realigner[name]) for name in load_port_members(self.config)),
            realigner["host_read_data"].eq(self.host_read_data),
            realigner["write_pop"].eq(stores["pop"]),
            stores["data"].eq(realigner["write_data"]),
            stores["strobe"].eq(realigner["write_strobe"]),
            stores["issued"].eq(issuer["write_issued"]),
            stores["address"].eq(issuer["write_address"]),
            stores["length"].eq(issuer["write_length"]),
            issuer["write_ended"].eq(stores["ended"]),
            stores["ring"].eq(gate["store_ring"]),
            stores["tag"].eq(gate["store_tag"]),
            self.write_beat.eq(stores["beat"]),
            *(getattr(self, f"m_axi_w{name}").eq(stores[f"m_axi_w{name}"]) for name in ("data", "strb", "last", "valid")),
            stores["m_axi_wready"].eq(self.m_axi_wready),
            *(stores[f"m_axi_b{name}"].eq(getattr(self, f"m_axi_b{name}")) for name in ("resp", "valid")),
            self.m_axi_bready.eq(stores["m_axi_bready"]),
        ]

    def _errors(self, m: Module, gate: dict[str, Any], tracker: dict[str, Any], stores: dict[str, Any]) -> tuple[Value, Value]:
        """Keeps the first error; returns the response of this cycle that is one."""
        layout = struct(fault_layout(self.config))
        kept = Signal(layout, name="error_kept", reset_less=True)
        known, valid = Signal(name="error_known"), Signal(name="fault_valid")
        fault = Signal(layout.size, name="fault")
        m.d.comb += [
            # While a store is under way no data are read.
            valid.eq(tracker["fault_valid"] | stores["fault_valid"]),
            fault.eq(Mux(tracker["fault_valid"], tracker["fault"], stores["fault"])),
        ]
        with m.If(self.start):
            m.d.sync += known.eq(0)
        with m.Elif(~known & (valid | gate["refused_valid"])):
            m.d.sync += [known.eq(1), Value.cast(kept).eq(Mux(valid, fault, gate["refused"]))]
        m.d.comb += [
            self.error.eq(Mux(known, kept.code, 0)),
            self.error_tag.eq(Mux(known, kept.tag, 0)),
            self.error_address.eq(Mux(known, kept.address, 0)),
            self.error_ring.eq(known & kept.ring),
        ]
        return valid, fault

    def _complete(
        self, m: Module, gate: dict[str, Any], realigner: dict[str, Any], stores: dict[str, Any], store_ended: Signal
    ) -> Value:
        """Counts completed tags; returns whether a count is about to rise."""
        store_failed = Signal()
        with m.If(self.start | store_ended):
            m.d.sync += store_failed.eq(0)
        with m.Elif(stores["fault_valid"]):
            m.d.sync += store_failed.eq(1)
        rising = []
        for ring, name in enumerate(RINGS):
            ended, counts, fails = (Signal(name=f"{name}_{what}") for what in ("ended", "counts", "fails"))
            failed = Signal(name=f"{name}_failed")
            delivered = realigner["ended"] & (realigner["ended_ring"] == ring)
            stored = store_ended & (gate["store_ring"] == ring)
            m.d.comb += [
                fails.eq((delivered & realigner["ended_failed"]) | (stored & store_failed)),
                counts.eq((delivered & realigner["ended_counts"]) | (stored & gate["store_counts"])),
                ended.eq(counts & ~fails & ~failed),
            ]
            m.d.sync += failed.eq((failed | fails) & ~self.start)
            taps = delay_line(m, ended, self.config.host_levels + COMPLETE_EXTRA - 1, name=f"{name}_rising", reset_less=False)
            count = getattr(self, f"{name}_complete")
            m.d.sync += count.eq(Mux(self.start, 0, count + taps[-1]))
            rising += taps
        return Cat(rising).any()


def axi_members(config: ChipConfig) -> dict[str, Any]:
    """The signals of an AXI4 manager."""
    address, width = prefetch_of(config).address_width, prefetch_of(config).data_width
    found: dict[str, Any] = {}
    for way in ("aw", "ar"):
        fields = {"id": 1, "addr": address, "len": 8, "size": 3, "burst": 2, "valid": 1}
        found |= {f"m_axi_{way}{name}": Out(bits) for name, bits in fields.items()}
        found[f"m_axi_{way}ready"] = In(1)
    found |= {f"m_axi_w{name}": Out(bits) for name, bits in (("data", width), ("strb", width // 8), ("last", 1), ("valid", 1))}
    found["m_axi_wready"] = In(1)
    found |= {f"m_axi_b{name}": In(bits) for name, bits in (("id", 1), ("resp", 2), ("valid", 1))}
    found["m_axi_bready"] = Out(1)
    found |= {f"m_axi_r{name}": In(bits) for name, bits in (("id", 1), ("data", width), ("resp", 2), ("last", 1), ("valid", 1))}
    found["m_axi_rready"] = Out(1)
    return found
