"""Where descriptors are read, and what they may reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from podweave.rtl.parts.blocks import struct
from podweave.rtl.prefetch.descriptor_check import CHECK_CYCLES, DescriptorCheck
from podweave.rtl.prefetch.descriptor_reader import DescriptorReader
from podweave.rtl.prefetch.engine_words import CODE_WIDTH, fetched_layout, held_layout
from podweave.spec.descriptors import (
    DESCRIPTOR_BYTES,
    RINGS,
    STORABLE,
    DescriptorKind,
    PrefetchError,
    loadable,
    memory_stride,
    words_of,
)

from ..faults import Fault
from ..harness import Harness
from ..property import Property
from ..small import small

_CONFIG = small(data_width=64, address_width=32, buffer_beats=16, max_burst=4, outstanding=2, descriptors=2)
_LOOPS = ("n0", "n1", "n2")
_DEPTH = 2


class _Extent:
    """How far from the first one a loop nest goes to both sides: a step is added when its loop advances, from where those inside of
    it have ended. Loop 0 is innermost."""

    def __init__(self, counts: Sequence[Value], steps: Sequence[Value]):
        self.lowest: Value = Const(0)
        self.highest: Value = Const(0)
        inside: Value = Const(0)
        for count, step in zip(counts, steps, strict=True):
            whole = (count - 1) * (step + inside)
            self.lowest, self.highest = self.lowest + Mux(whole < 0, whole, 0), self.highest + Mux(whole > 0, whole, 0)
            inside = inside + whole


class _Check:
    """A descriptor, whichever it is, that stays at the head until it is popped, and what the check says of it.

    Members: ``word``, ``result``; ``over`` and ``error``: it is pushed, and with which error; ``moves``, ``legal``;
    ``memory``: the bytes that there are; ``stride``, ``words``: of what is selected, 0 if it is none.
    """

    def __init__(self, h: Harness):
        m = h.m
        self.word, self.result = word, result = Signal(struct(fetched_layout(_CONFIG))), Signal(struct(held_layout(_CONFIG)))
        for field in fetched_layout(_CONFIG).fields:
            value: Value = h.constant(f"more_{field.name}" if field.name in _LOOPS else field.name, field.width)
            if field.name in _LOOPS:
                # One trip, or two: more are products, of which solvers know little.
                value = Cat(~value[0], value[0])
            m.d.comb += word[field.name].eq(value)
        self.memory = h.constant("memory", 33)
        self.dut = dut = h.place(DescriptorCheck(_CONFIG), head=word.as_value(), memory_bytes=self.memory)
        m.d.comb += result.as_value().eq(dut["push_word"])
        h.assume(~h.past(dut["head_valid"] & ~dut["pop"], "waits") | dut["head_valid"])
        h.assume((self.memory <= 1 << 32) & ~dut["clear"])
        self.over = dut["push"] != 0
        self.error = {each: self.over & (result.error == each) for each in PrefetchError}
        self.moves = word.kind != DescriptorKind.NOP
        self.legal = self.error[PrefetchError.NONE] & self.moves
        strides, words = ({s: of(_CONFIG, s) for s in loadable(_CONFIG)} for of in (memory_stride, words_of))
        self.stride, self.words = _chosen(m, word.select, strides, "stride"), _chosen(m, word.select, words, "words")


def _chosen(m: Module, select: Value, numbers: dict[Any, int], name: str) -> Signal:
    """The number of what is selected, 0 of anything else."""
    found = Signal(range(max(numbers.values()) + 1), name=name)
    with m.Switch(select):
        for key, number in numbers.items():
            with m.Case(key):
                m.d.comb += found.eq(number)
    return found


def memory(h: Harness) -> None:
    c = _Check(h)
    word = c.word
    # Runs of words that lie side by side.
    runs = _Extent([word.n1, word.n2], [word.stride1, word.stride2])
    end = word.address + runs.highest + word.n0 * c.stride
    inside = (word.address + runs.lowest >= 0) & (end <= c.memory)
    beyond = c.error[PrefetchError.BEYOND_MEMORY]
    h.check(~c.legal | inside, "no byte of a legal descriptor is outside of the memory")
    # What is none has no bytes, and where they would be says nothing.
    h.check(~beyond | (c.moves & (~inside | (c.words == 0))), "what is told to leave the memory does")
    most = c.legal & (word.n0 == 2) & (word.n1 == 2) & (word.n2 == 2)
    h.cover(most & (end == c.memory), "two trips of each loop end where memory does")
    h.cover(most & (word.stride1 < 0) & (word.stride2 > 0), "a descriptor goes forth and back")
    h.cover(beyond & (c.words != 0) & (end <= c.memory), "a descriptor leaves the memory below")


def target(h: Harness) -> None:
    c = _Check(h)
    word = c.word
    chip = _Extent([word.n0, word.n1, word.n2], [word.step0, word.step1, word.step2])
    inside = (word.base + chip.lowest >= 0) & (word.base + chip.highest < c.words)
    storable: Value = Const(0)
    for select in STORABLE:
        storable = storable | (word.select == select)
    stores = word.kind == DescriptorKind.STORE
    there = word.broadcast | (word.unit < _CONFIG.nodes_per_manager)
    right = inside & there & ~(stores & (~storable | word.broadcast))
    bad = c.error[PrefetchError.BAD_TARGET]
    h.check(~c.legal | right, "the node of a legal descriptor is there, and no word of it outside of its store or bank")
    h.check(~bad | (c.moves & ~right), "what is told to have no target has none")
    h.cover(c.legal & (word.n0 == 2) & (word.n1 == 2) & (word.step1 < 0), "a descriptor goes forth and back")
    h.cover(bad & inside & there, "a store of what cannot be stored")
    h.cover(bad & there & ~stores & (word.base < c.words), "some words are outside, and the first one is not")


def rules(h: Harness) -> None:
    m = h.m
    c = _Check(h)
    word = c.word
    since = Signal(range(CHECK_CYCLES))
    m.d.sync += since.eq(Mux(c.dut["head_valid"] & ~c.dut["pop"], since + 1, 0))
    h.check(c.over == c.dut["pop"], "what is popped is pushed")
    h.check(c.over == (c.dut["head_valid"] & (since == CHECK_CYCLES - 1)), "a descriptor takes its cycles")
    h.check(~c.over | (c.dut["push"] == Mux(word.ring, 2, 1)), "it is pushed into its ring")
    unknown = word.reserved | (word.kind > max(DescriptorKind))
    h.check(~c.over | (c.error[PrefetchError.DESCRIPTOR_RESPONSE] == word.failed), "one that could not be read is told exactly")
    h.check(~c.over | (c.error[PrefetchError.UNKNOWN_KIND] == (unknown & ~word.failed)), "one of no kind is told exactly")
    told = ("NONE", "BEYOND_MEMORY", "BAD_TARGET", "DESCRIPTOR_RESPONSE", "UNKNOWN_KIND")
    other: Value = c.over
    for name in told:
        other = other & ~c.error[PrefetchError[name]]
    h.check(~other, "no other error is told of the first descriptor of a ring with trips")
    kept: Value = Const(1)
    for name in ("kind", "select", "broadcast", "n0", "n1", "n2", "stride1", "stride2"):
        kept = kept & (c.result[name] == word[name])
    kept = kept & (c.result.address == word.address[:32]) & (c.result.tag == word.tag) & (c.result.after == word.after)
    h.check(~c.legal | kept, "a legal one is handed on unchanged")
    h.cover(c.legal & word.ring, "a legal descriptor of the second ring")
    h.cover(c.error[PrefetchError.UNKNOWN_KIND] & ~word.reserved, "a kind that is none")


class _Requests:
    """What a reader asks for. ``begins``: a request does."""

    def __init__(self, h: Harness, **driven: Value):
        self.h = h
        self.dut = dut = h.place(DescriptorReader(_CONFIG), **driven)
        self.valid, self.ring, self.address = dut["request_valid"], dut["request_ring"], dut["request_address"]
        # Only what was asked for is granted, and only what is held is popped.
        h.assume(~dut["granted"] | self.valid)
        h.assume((dut["pop"] & ~dut["held"]) == 0)
        waits = h.past(self.valid & ~dut["granted"] & ~dut["clear"], "waits")
        same = (self.ring == h.past(self.ring, "ring")) & (self.address == h.past(self.address, "address"))
        h.check(~waits | (self.valid & same), "a request stays as it is until it is granted")
        self.begins = self.valid & ~h.past(self.valid, "valid")

    def count(self, ring: int) -> Signal:
        """Descriptors of a ring that were asked for and are not popped, those of a request that begins in this cycle too."""
        h, dut, name = self.h, self.dut, RINGS[ring]
        before, count = (Signal(range(_DEPTH + 2), name=f"{what}_{name}") for what in ("before", "count"))
        h.m.d.comb += count.eq(before + (self.begins & (self.ring == ring)))
        h.m.d.sync += before.eq(Mux(dut["clear"], 0, count - (dut["pop"][ring] & (count != 0))))
        h.check(count <= _DEPTH, f"no more of the {name} ring is held than there is room for")
        h.check(dut["held"][ring] == (count != 0), f"held: descriptors of the {name} ring are not popped")
        return count


def reads(h: Harness) -> None:
    memory = h.constant("memory", 33)
    c = _Requests(h, memory_bytes=memory)
    end = c.address + DESCRIPTOR_BYTES
    h.check(~c.valid | (c.address[:6] == 0), "descriptors are read at multiples of their size")
    h.check(~c.valid | (end <= memory), "no descriptor is read that is not whole in the memory")
    h.cover(c.valid & (end == memory), "the last descriptor of the memory is read")
    h.cover(c.valid & c.ring & ~c.begins, "a request of the second ring waits")


def ends(h: Harness) -> None:
    c = _Requests(h)
    dut = c.dut
    for ring, name in enumerate(RINGS):
        count, broken = c.count(ring), dut["broken"][ring]
        ended = h.past(broken & ~dut["clear"], f"broken_{name}")
        code = dut["broken_code"].word_select(ring, CODE_WIDTH)
        h.check(~ended | broken, f"the {name} ring that ended stays so")
        h.check(~broken | (count == 0), f"the {name} ring ends behind what was asked for of it, and nothing is asked for then")
        why = (code == PrefetchError.MISALIGNED) | (code == PrefetchError.BEYOND_MEMORY)
        h.check(~broken | why, f"it is told why the {name} ring ended")
        h.cover(broken & (code == PrefetchError.BEYOND_MEMORY) & ~h.past(broken, "before"), f"the {name} ring leaves the memory")
        h.cover(count == _DEPTH, f"there is no room for more of the {name} ring")


def order(h: Harness) -> None:
    m = h.m
    # So few bits that sums have few, too.
    bases, sizes, tails = (
        [h.constant(f"{what}_{name}", bits) for name in RINGS] for what, bits in (("at", 3), ("size", 2), ("tail", 3))
    )
    for size in sizes:
        h.assume(size != 0)
    c = _Requests(
        h,
        memory_bytes=Const(1 << 32, 33),
        base=Cat(Cat(Const(0, 6), base, Const(0, 23)) for base in bases),
        size=Cat(Cat(size, Const(0, 30)) for size in sizes),
        tail=Cat(Cat(tail, Const(0, 29)) for tail in tails),
    )
    dut = c.dut
    # Rings begin with a clear.
    begun = Signal()
    m.d.sync += begun.eq(begun | dut["clear"])
    h.assume(begun | ~dut["enable"])
    h.check(~begun | (dut["broken"] == 0), "no ring ends")
    wants = []
    for ring, (base, size, tail) in enumerate(zip(bases, sizes, tails, strict=True)):
        count, asked, place = c.count(ring), Signal(4, name=f"asked_{ring}"), Signal(2, name=f"place_{ring}")
        mine = c.begins & (c.ring == ring)
        around = Mux(place + 1 == size, 0, place + 1)
        m.d.sync += [
            asked.eq(Mux(dut["clear"], 0, asked + mine)),
            place.eq(Mux(dut["clear"], 0, Mux(mine, around, place))),
        ]
        here = (c.address[:6] == 0) & (c.address[6:] == base + place)
        h.check(~mine | here, f"descriptors of the {RINGS[ring]} ring are read in order, and around")
        h.check(~mine | (asked < tail), f"the {RINGS[ring]} ring is read no further than its tail")
        wants.append(dut["enable"] & (asked + mine != tail) & (count != _DEPTH) & ~dut["clear"])
        h.cover(mine & (asked == 4), f"a fifth descriptor of the {RINGS[ring]} ring")
    waited = h.past(wants[0] & ~c.valid, "demand_waits")
    h.check(~waited | (c.valid & ~c.ring), "the demand ring goes first")
    waited = h.past(~wants[0] & wants[1] & ~c.valid, "prefetch_waits")
    h.check(~waited | (c.valid & c.ring), "then the other one, if it has more and there is room")


_CHECK, _READER = "rtl.prefetch.descriptor_check", "rtl.prefetch.descriptor_reader"
_SIZES = (
    "the first descriptor behind a reset, any one with loops of one or two trips; memory of any size up to 4 GiB; without base "
    "registers, columns and passes"
)


def _property(about: str, rule: str, build: Callable[[Harness], None], *faults: tuple[str, str]) -> Property:
    return Property(
        name=f"descriptor_check.{about}",
        rule=rule,
        sizes=_SIZES,
        build=build,
        engine="bounded words",
        # That of the reset, those of the check, and one before it.
        cycles=CHECK_CYCLES + 2,
        faults=tuple(Fault(_CHECK, *each) for each in faults),
    )


_SIZE = f"{_DEPTH} descriptors of each ring, without passes"
PROPERTIES = (
    Property(
        name="descriptor_reader.memory",
        rule="no descriptor is read that is misaligned or not whole in the memory, whatever rings are; a request stays until it "
        "is granted",
        sizes=f"{_SIZE}, any base, size and tail; memory of any size up to 4 GiB",
        build=reads,
        engine="induction",
        cycles=4,
        faults=(
            Fault(_READER, "beyond.eq(address + DESCRIPTOR_BYTES > self.memory_bytes)", "beyond.eq(address > self.memory_bytes)"),
            Fault(_READER, "ends.append(misaligned | beyond)", "ends.append(beyond)"),
            Fault(_READER, "with m.If(~self.request_valid):", "with m.If(self.enable):"),
        ),
    ),
    Property(
        name="descriptor_reader.ends",
        rule="no more is held than there is room for; a ring that ended stays so, behind what was read of it, and says why",
        sizes=f"{_SIZE}, any base, size, tail and memory",
        build=ends,
        faults=(
            Fault(_READER, "(index != tail) & (held != depth)", "(index != tail)"),
            Fault(_READER, "want.eq(self.enable & ~ended &", "want.eq(self.enable &"),
            Fault(_READER, "self.broken[ring].eq(ended & (held == 0))", "self.broken[ring].eq(ended)"),
        ),
    ),
    Property(
        name="descriptor_reader.order",
        rule="descriptors of each ring are read in order and around, no further than its tail, demand first, at once if there is "
        "room",
        sizes=f"{_SIZE}, bases at eight places, sizes of up to 3, tails of up to 7",
        build=order,
        faults=(
            Fault(_READER, "wraps.eq(position + 1 == size)", "wraps.eq(position == size)"),
            Fault(_READER, "& wants[PREFETCH] & ~wants[DEMAND])", "& wants[PREFETCH])"),
            Fault(_READER, "(index != tail) & (held != depth)", "(held != depth)"),
        ),
        reach=24,
    ),
    _property(
        "memory",
        "a descriptor that is not refused touches no byte outside of the memory; one that is refused for that would",
        memory,
        ("bottom.eq(base + Mux(distance < 0, distance, 0))", "bottom.eq(base)"),
        ("(high > self.memory_bytes)", "(high > self.memory_bytes + 1)"),
        ("self._memory1 + word.stride2", "word.stride2"),
    ),
    _property(
        "target",
        "a descriptor that is not refused touches no word outside of its store or bank, in a node that is there; one that is "
        "refused for that would",
        target,
        ("(chip_high >= self._words)", "(chip_high > self._words)"),
        ("self._chip1 + self._chip0 + word.step2", "self._chip1 + word.step2"),
        ("(stores & (~storable | word.broadcast))", "(stores & ~storable)"),
    ),
    _property(
        "rules",
        "a descriptor is pushed into its ring in the cycle that the contract says, unchanged; one that could not be read, and one "
        "of no kind, are told exactly",
        rules,
        ("word.reserved | (word.kind > max(DescriptorKind))", "word.reserved"),
        ("self.push.eq(Mux(finished, Mux(word.ring, 2, 1), 0))", "self.push.eq(Mux(finished, 1, 0))"),
        ("finished.eq(cycle == CHECK_CYCLES - 1)", "finished.eq(cycle == CHECK_CYCLES - 2)"),
    ),
)
