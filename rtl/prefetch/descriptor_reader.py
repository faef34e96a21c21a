"""Descriptor reader: fetches the two rings of a prefetch engine ahead, checks what comes, and holds it in order."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DESCRIPTOR_BYTES, TAG_WIDTH, PrefetchError, descriptor_layout, reserved_fields

from ..parts.blocks import Block, place, struct
from ..parts.planes import planes_of
from ..parts.word_queue import WordQueue
from .descriptor_check import DescriptorCheck
from .engine_words import CODE_WIDTH, base_members, body_members, fetched_layout, held_layout, pass_members, prefetch_of

DEMAND, PREFETCH = 0, 1


class DescriptorReader(Block):
    """Holds up to ``descriptors`` of each ring, from the decision to fetch one until it is popped.

    What is of both rings lies side by side, demand least significant. Descriptor i of a ring is fetched when i < tail and there is
    room; the demand ring goes first. One decided on in cycle t is requested from cycle t + 1 on, and the next one decided on in the
    cycle after that of its ``granted`` at the earliest.

    With passes, where a ring would go on to descriptor ``body``, it goes on to ``body_end`` instead if no passes are left; where it
    would go on to ``body_end``, to ``body`` if passes are left. At first ``passes`` - 1 are left; to go on to ``body``, either way,
    takes one.

    A ring that is misaligned, or a descriptor of it that would lie beyond the memory, ends the fetching of the ring: ``broken``
    rises when all descriptors before are popped.

    Latency: 3 cycles from the last beat of a descriptor (``beat_valid``) to the `DescriptorCheck`, if that is free; 2 from the push
    there to the head of its ring.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``, whose ``address_width`` is ``address`` below.

    Members
    -------
    clear : In(1)
        Forget everything; the rings begin at index 0 at the bases of this cycle.
    enable : In(1)
        Fetching may begin.
    base, size, tail : In(2 * address), In(2 * 32), In(2 * 32)
        Of the rings, as in a `PrefetchEngine`.
    memory_bytes : In(address + 1)
        First byte beyond the memory.
    bases : In(base_registers * address)
        As of a `PrefetchEngine`.
    pass_epochs, pass_stride : In(TAG_WIDTH), In(address)
        As of a `PrefetchEngine`.
    passes, body, body_end : In(pass_bits), In(2 * 32), In(2 * 32)
        As of a `PrefetchEngine`, of both rings; ``passes`` is read with ``clear``.
    request_valid : Out(1)
        A burst of 64 bytes is wanted.
    request_ring, request_address : Out(1), Out(address)
        Its ring and byte address.
    granted : In(1)
        It is issued.
    beat_valid, beat_data, beat_failed, beat_last : In(1), In(data_width), In(1), In(1)
        A beat of these bursts.
    beat_ring, beat_address : In(1), In(address)
        Those of its burst.
    head_valid, head : Out(2), Out(2 * held_layout(config).width)
        Of each ring: there is a descriptor at the head; that one, laid out by `held_layout`.
    pop : In(2)
        Of each ring: take the head.
    broken : Out(2)
        Of each ring: it ended.
    broken_code, broken_address : Out(2 * CODE_WIDTH), Out(2 * address)
        Why and where a ring ended; where, modulo all that can be addressed.
    previous_tag : Out(2 * TAG_WIDTH)
        The tag of the last descriptor before.
    waiting : Out(1)
        Descriptors may be fetched or are on their way to a head; else nothing happens here before an input changes.
    held : Out(2)
        For each ring, it has descriptors that are not popped.
    """

    kind = "descriptor_reader"

    def __init__(self, config: ChipConfig):
        self.config = config
        prefetch = prefetch_of(config)
        self.address = prefetch.address_width
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "base": In(2 * self.address),
                "size": In(2 * 32),
                "tail": In(2 * 32),
                "memory_bytes": In(self.address + 1),
                **base_members(config),
                **pass_members(config),
                **body_members(config),
                "request_valid": Out(1),
                "request_ring": Out(1),
                "request_address": Out(self.address),
                "granted": In(1),
                "beat_valid": In(1),
                "beat_data": In(prefetch.data_width),
                "beat_failed": In(1),
                "beat_last": In(1),
                "beat_ring": In(1),
                "beat_address": In(self.address),
                "head_valid": Out(2),
                "head": Out(2 * held_layout(config).width),
                "pop": In(2),
                "broken": Out(2),
                "broken_code": Out(2 * CODE_WIDTH),
                "broken_address": Out(2 * self.address),
                "previous_tag": Out(2 * TAG_WIDTH),
                "waiting": Out(1),
                "held": Out(2),
            }
        )

    def elaborate(self, platform: object) -> object:
        config, depth = self.config, prefetch_of(self.config).descriptors
        m = Module()
        check = place(m, "check", DescriptorCheck(config))
        arrived = place(m, "arrived", WordQueue(2 * depth, fetched_layout(config).width))
        rings = [place(m, name, WordQueue(depth, held_layout(config).width)) for name in ("demand", "prefetch")]
        chosen, fetched = self._fetch(m, depth)
        self._assemble(m, arrived)
        unchecked = Signal(range(2 * depth + 1))
        m.d.sync += unchecked.eq(unchecked + fetched - check["pop"])
        m.d.comb += [
            *(queue["clear"].eq(self.clear) for queue in (arrived, check, *rings)),
            check["head_valid"].eq(arrived["head_valid"]),
            check["head"].eq(arrived["head"]),
            arrived["pop"].eq(check["pop"]),
            check["memory_bytes"].eq(self.memory_bytes),
            *(check[name].eq(getattr(self, name)) for name in base_members(config) | pass_members(config)),
            self.previous_tag.eq(check["previous_tag"]),
            self.head_valid.eq(Cat(ring["head_valid"] for ring in rings)),
            self.head.eq(Cat(ring["head"] for ring in rings)),
            self.waiting.eq(chosen | self.request_valid | (unchecked != 0)),
        ]
        for i, ring in enumerate(rings):
            m.d.comb += [
                ring["push"].eq(check["push"][i]),
                ring["push_word"].eq(check["push_word"]),
                ring["pop"].eq(self.pop[i]),
            ]
        return ResetInserter(self.clear)(m)

    def _fetch(self, m: Module, depth: int) -> tuple[Value, Value]:
        """Decides what to fetch next; returns whether it looks at a ring in this cycle, and whether it fetches."""
        wants, ends, addresses = [], [], []
        chosen, fetches = Signal(2), Signal(2)
        # What lies behind all that can be addressed is beyond the memory, too.
        furthest = self.address if not self.config.passes else max(self.address, 32 + (DESCRIPTOR_BYTES - 1).bit_length())
        for ring, name in enumerate(("demand", "prefetch")):
            base, size, tail = (planes_of(port, 2)[ring] for port in (self.base, self.size, self.tail))
            address = Signal(furthest + 1, name=f"{name}_address", reset_less=True)
            index, position = (Signal(32, name=f"{name}_{what}") for what in ("index", "position"))
            held = Signal(range(depth + 1), name=f"{name}_held")
            ended = Signal(name=f"{name}_ended")
            code = Signal(CODE_WIDTH, name=f"{name}_code", reset_less=True)
            want, misaligned, beyond, wraps = (Signal(name=f"{name}_{w}") for w in ("want", "misaligned", "beyond", "wraps"))
            m.d.comb += [
                want.eq(self.enable & ~ended & (index != tail) & (held != depth)),
                misaligned.eq(address[: (DESCRIPTOR_BYTES - 1).bit_length()].any()),
                beyond.eq(address + DESCRIPTOR_BYTES > self.memory_bytes),
                wraps.eq(position + 1 == size),
                self.held[ring].eq(held != 0),
                self.broken[ring].eq(ended & (held == 0)),
                self.broken_code.word_select(ring, CODE_WIDTH).eq(code),
                self.broken_address.word_select(ring, self.address).eq(address[: self.address]),
            ]
            m.d.sync += held.eq(held + fetches[ring] - (self.pop[ring] & (held != 0)))
            turns, target = self._turn(m, ring, fetches[ring], position) if self.config.passes else (None, None)
            with m.If(self.clear):
                m.d.sync += address.eq(base)
            with m.Elif(fetches[ring]):
                m.d.sync += [
                    index.eq(index + 1),
                    position.eq(Mux(wraps, 0, position + 1)),
                    address.eq(Mux(wraps, base, address + DESCRIPTOR_BYTES)),
                ]
                if turns is not None and target is not None:
                    with m.If(turns):
                        m.d.sync += [position.eq(target), address.eq(base + (target << (DESCRIPTOR_BYTES - 1).bit_length()))]
            with m.Elif(chosen[ring]):
                m.d.sync += [ended.eq(1), code.eq(Mux(misaligned, PrefetchError.MISALIGNED, PrefetchError.BEYOND_MEMORY))]
            wants.append(want)
            ends.append(misaligned | beyond)
            addresses.append(address[: self.address])
        m.d.comb += [
            chosen[DEMAND].eq(~self.request_valid & wants[DEMAND]),
            chosen[PREFETCH].eq(~self.request_valid & wants[PREFETCH] & ~wants[DEMAND]),
            *(fetches[ring].eq(chosen[ring] & ~ends[ring]) for ring in range(2)),
        ]
        with m.If(fetches.any()):
            m.d.sync += self.request_valid.eq(1)
        with m.Elif(self.granted):
            m.d.sync += self.request_valid.eq(0)
        ring, address = Signal(reset_less=True), Signal(self.address, reset_less=True)
        with m.If(~self.request_valid):
            m.d.sync += [ring.eq(chosen[PREFETCH]), address.eq(Array(addresses)[chosen[PREFETCH]])]
        m.d.comb += [self.request_ring.eq(ring), self.request_address.eq(address)]
        return chosen.any(), fetches.any()

    def _turn(self, m: Module, ring: int, fetches: Value, position: Signal) -> tuple[Signal, Signal]:
        """Whether a ring goes on elsewhere than at the next descriptor, at a border of its body, and at which index."""
        name = ("demand", "prefetch")[ring]
        left = Signal(prefetch_of(self.config).pass_bits, name=f"{name}_passes_left", reset_less=True)
        body, end = (planes_of(port, 2)[ring] for port in (self.body, self.body_end))
        following, target = Signal(32, name=f"{name}_following"), Signal(32, name=f"{name}_target")
        enters, leaves, more, turns = (Signal(name=f"{name}_{what}") for what in ("enters", "leaves", "more", "turns"))
        m.d.comb += [
            following.eq(position + 1),
            enters.eq(following == body),
            leaves.eq(~enters & (following == end)),
            more.eq(left != 0),
            turns.eq((enters & ~more) | (leaves & more)),
            target.eq(Mux(enters, end, body)),
        ]
        with m.If(self.clear):
            m.d.sync += left.eq(self.passes - 1)
        with m.Elif(fetches & (enters | leaves) & more):
            m.d.sync += left.eq(left - 1)
        return turns, target

    def _assemble(self, m: Module, arrived: dict[str, Value]) -> None:
        """Beats into a descriptor: pushed in the cycle after its last beat."""
        layout, beat = descriptor_layout(), prefetch_of(self.config).data_width
        whole = Signal(layout.width, name="descriptor", reset_less=True)
        failed, ring = Signal(), Signal(reset_less=True)
        address = Signal(self.address, name="descriptor_address", reset_less=True)
        complete, more = Signal(name="descriptor_complete"), Signal()
        with m.If(self.beat_valid):
            m.d.sync += [
                whole.eq(Cat(whole, self.beat_data)[beat:]),
                failed.eq((failed & more) | self.beat_failed),
                more.eq(~self.beat_last),
                ring.eq(self.beat_ring),
                address.eq(self.beat_address),
            ]
        m.d.sync += complete.eq(self.beat_valid & self.beat_last)
        source, word = Signal(struct(layout), name="source"), Signal(struct(fetched_layout(self.config)), name="fetched")
        empty = reserved_fields(self.config)
        m.d.comb += [
            Value.cast(source).eq(whole),
            *(word[field.name].eq(source[field.name]) for field in layout.fields if field.name not in empty),
            word.reserved.eq(Cat(source[field.name] for field in layout.fields if field.name in empty).any()),
            word.failed.eq(failed),
            word.ring.eq(ring),
            word.where.eq(address),
            arrived["push_word"].eq(word),
            arrived["push"].eq(complete),
        ]
