"""Descriptor check: refuses a descriptor whole, before anything of it reaches the bus or the chip."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import BESIDE_BANKS, STORABLE, TAG_WIDTH, DescriptorKind, PrefetchError

from ..parts.blocks import Block, struct
from .engine_words import (
    CODE_WIDTH,
    WORDS_WIDTH,
    base_members,
    fetched_layout,
    held_layout,
    pass_members,
    prefetch_of,
    run_bytes_width,
    targets,
)

CHECK_CYCLES = 12
_WORD_BITS = 24
"""Bits of a word address in a descriptor; words are fewer by far."""


class DescriptorCheck(Block):
    """Computes the first and last byte in memory and word on the chip that a descriptor touches, with one multiplier.

    Every product is itself the distance between two runs or words that the descriptor visits, so one that is too large to be kept
    proves that the descriptor leaves the memory or the node. With base registers, the address that counts, here and behind, is the
    sum; a register that there is not adds nothing. With passes, tag, after and address count with what `turns` of the descriptors
    before in the ring, since ``clear``, have added, tag and after modulo 2**16; a descriptor that could not be read makes no turn.
    The smallest `PrefetchError` code that applies is reported. The order of tags is that of the ring since ``clear``, in which
    descriptors with DESCRIPTOR_RESPONSE, UNKNOWN_KIND and TAG_ORDER do not count.

    A descriptor at the head in cycle t (the first in which it is there, or t - 1 that of the ``pop`` before) is popped and pushed
    in cycle t + `CHECK_CYCLES` - 1; ``memory_bytes`` is sampled in the cycle before that.

    Latency: ``CHECK_CYCLES - 1`` cycles from the head to ``pop`` and ``push``.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``; gives the sizes of what a descriptor may reach.

    Members
    -------
    clear : In(1)
        The rings begin anew.
    head_valid : In(1)
        There is a descriptor; they come in the order of their arrival.
    head : In(fetched_layout(config).width)
        That descriptor, laid out by `fetched_layout`.
    pop : Out(1)
        Takes it.
    push : Out(2)
        A bit per ring: a descriptor is checked.
    push_word : Out(held_layout(config).width)
        The descriptor, checked, laid out by `held_layout`. One that could not be read has the tag of the one before in its ring.
    memory_bytes : In(address_width + 1)
        First byte beyond the memory.
    bases : In(base_registers * address_width)
        As of a `PrefetchEngine`.
    pass_epochs, pass_stride : In(TAG_WIDTH), In(address_width)
        As of a `PrefetchEngine`.
    previous_tag : Out(2 * TAG_WIDTH)
        For each ring, the tag of the one before, 0 if there was none.
    """

    kind = "descriptor_check"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__(
            {
                "clear": In(1),
                "head_valid": In(1),
                "head": In(fetched_layout(config).width),
                "pop": Out(1),
                "push": Out(2),
                "push_word": Out(held_layout(config).width),
                "memory_bytes": In(prefetch_of(config).address_width + 1),
                **base_members(config),
                **pass_members(config),
                "previous_tag": Out(2 * TAG_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> object:
        config, self._column_words = self.config, prefetch_of(self.config).column_words
        m = Module()
        word = Signal(struct(fetched_layout(config)))
        cycle = Signal(range(CHECK_CYCLES))
        finished = Signal()
        m.d.comb += [
            Value.cast(word).eq(self.head),
            finished.eq(cycle == CHECK_CYCLES - 1),
            self.pop.eq(finished),
        ]
        with m.If(self.head_valid):
            m.d.sync += cycle.eq(Mux(finished, 0, cycle + 1))

        found = targets(config)
        self._stride, self._words = Signal(range(max(t.stride for t in found.values()) + 1)), Signal(_WORD_BITS + 1)
        with m.Switch(word.select):
            for select, target in found.items():
                with m.Case(select):
                    m.d.comb += [self._stride.eq(target.stride), self._words.eq(target.words)]
        if self._column_words:
            self._columns, self._lane_steps = Signal(name="columns"), Signal(range(max(t.bytes for t in found.values())))
            m.d.comb += self._columns.eq(word.column & (word.kind == DescriptorKind.STORE))
            with m.Switch(word.select):
                for select, target in found.items():
                    with m.Case(select):
                        m.d.comb += self._lane_steps.eq(target.bytes - 1)
        self._tag, after, moved = self._turns(m, word, finished) if config.passes else (word.tag, word.after, None)
        self._begin = self._begin_of(m, word, moved)
        self._multiply(m, word, cycle)
        beyond, outside = self._extremes(m, word, cycle)
        code = self._code(m, word, cycle, beyond, outside)

        result = Signal(struct(held_layout(config)))
        failed_tag = Signal(TAG_WIDTH)
        with m.Switch(word.ring):
            for ring in range(2):
                with m.Case(ring):
                    m.d.comb += failed_tag.eq(self.previous_tag.word_select(ring, TAG_WIDTH))
        for field in held_layout(config).fields:
            if field.name not in ("error", "tag", "after", "address", "words", "run_bytes"):
                m.d.comb += result[field.name].eq(word[field.name])
        m.d.comb += [
            result.error.eq(code),
            result.tag.eq(Mux(word.failed, failed_tag, self._tag)),
            result.after.eq(after),
            result.address.eq(self._begin),
            result.words.eq(self._total),
            result.run_bytes.eq(self._run_bytes),
            self.push_word.eq(result),
            self.push.eq(Mux(finished, Mux(word.ring, 2, 1), 0)),
        ]
        return ResetInserter(self.clear)(m)

    def _turns(self, m: Module, word, finished: Signal) -> tuple[Value, Value, Value]:
        """Tag and after of the descriptor, and what is added to its address; of the last, valid from the second cycle on."""
        address = prefetch_of(self.config).address_width
        epochs, bytes_ = Signal(TAG_WIDTH, name="turned_epochs"), Signal(address, name="turned_bytes")
        moved = Signal(address, name="moved_by", reset_less=True)
        with m.Switch(word.ring):
            for ring in range(2):
                of_ring = Signal(TAG_WIDTH, name=f"epochs_{ring}"), Signal(address, name=f"bytes_{ring}")
                with m.Case(ring):
                    m.d.comb += [epochs.eq(of_ring[0]), bytes_.eq(of_ring[1])]
                    with m.If(finished & word.turns & ~word.failed):
                        m.d.sync += [of_ring[0].eq(of_ring[0] + self.pass_epochs), of_ring[1].eq(of_ring[1] + self.pass_stride)]
        m.d.sync += moved.eq(Mux(word.moves, bytes_, 0))
        return (word.tag + epochs)[:TAG_WIDTH], (word.after + epochs)[:TAG_WIDTH], moved

    def _begin_of(self, m: Module, word, moved: Value | None) -> Value:
        """The first byte in memory, with what is added to the address, and wider if anything is. Valid from the third cycle on."""
        prefetch = prefetch_of(self.config)
        if not prefetch.base_registers and moved is None:
            return word.address[: prefetch.address_width]
        total = word.address[: prefetch.address_width]
        if prefetch.base_registers:
            base = Signal(prefetch.address_width, name="base_chosen")
            with m.Switch(word.base_register):
                for number in range(1, prefetch.base_registers + 1):
                    with m.Case(number):
                        m.d.comb += base.eq(self.bases.word_select(number - 1, prefetch.address_width))
            based = Signal(prefetch.address_width + 1, name="based", reset_less=True)
            m.d.sync += based.eq(total + base)
            total = based
        if moved is None:
            return total
        begin = Signal(prefetch.address_width + 2, name="begin", reset_less=True)
        m.d.sync += begin.eq(total + moved)
        return begin

    def _multiply(self, m: Module, word, cycle: Signal) -> None:
        """Operands of cycle k give ``product`` in cycle k + 2; what is kept of it is there in cycle k + 3."""
        address = prefetch_of(self.config).address_width
        count = Signal(24, reset_less=True)
        factor = Signal(signed(address + 2), reset_less=True)
        self._product = product = Signal(signed(24 + address + 2), reset_less=True)
        self._memory1 = Signal(signed(address + 1), reset_less=True)
        self._chip0, self._chip1 = (Signal(signed(_WORD_BITS + 1), name=f"chip_{i}", reset_less=True) for i in range(2))
        runs = Signal(WORDS_WIDTH, reset_less=True)
        self._total = Signal(WORDS_WIDTH, reset_less=True)
        self._run_bytes = Signal(run_bytes_width(self.config), reset_less=True)
        m.d.sync += product.eq(count * factor)
        in_memory, run_bytes = (word.n0, self._stride), product
        if self._column_words:
            in_memory = Mux(self._columns, self._lane_steps, word.n0), Mux(self._columns, word.lane_stride, self._stride)
            run_bytes = Mux(self._columns, word.n0, product)
        operands = (
            (word.n1 - 1, word.stride1),
            (word.n0 - 1, word.step0),
            (word.n1, word.n2),
            (word.n2 - 1, self._memory1 + word.stride2),
            (word.n1 - 1, self._chip0 + word.step1),
            (word.n0, runs),
            in_memory,
            (word.n2 - 1, self._chip1 + self._chip0 + word.step2),
        )
        limit = 1 << (WORDS_WIDTH - 1)
        results = {
            2: [self._memory1.eq(product)],
            3: [self._chip0.eq(product)],
            4: [runs.eq(Mux(product >= 2 * limit, 2 * limit - 1, product))],
            6: [self._chip1.eq(product)],
            7: [self._total.eq(Mux(product >= limit, limit, product))],
            8: [self._run_bytes.eq(run_bytes)],
        }
        with m.Switch(cycle):
            for k in range(CHECK_CYCLES):
                with m.Case(k):
                    if k < len(operands):
                        m.d.sync += [count.eq(operands[k][0]), factor.eq(operands[k][1])]
                    m.d.sync += results.get(k, [])

    def _extremes(self, m: Module, word, cycle: Signal) -> tuple[Signal, Signal]:
        """Whether the descriptor leaves the memory, and the node; valid from cycle 10 on."""
        address, product = prefetch_of(self.config).address_width, self._product
        low, high = (Signal(signed(address + 4), name=f"memory_{name}", reset_less=True) for name in ("low", "high"))
        chip_low, chip_high = (Signal(signed(_WORD_BITS + 4), name=f"chip_{name}", reset_less=True) for name in ("low", "high"))
        beyond, outside = (Signal(name=name, reset_less=True) for name in ("beyond", "outside"))
        fits_memory, fits_node = Signal(), Signal()
        m.d.comb += [
            fits_memory.eq(product == product[: address + 1].as_signed()),
            fits_node.eq(product == product[: _WORD_BITS + 1].as_signed()),
        ]

        def spread(bottom: Signal, top: Signal, base: Value, distance: Value) -> list:
            return [
                bottom.eq(base + Mux(distance < 0, distance, 0)),
                top.eq((base if base is not bottom else top) + _positive(distance)),
            ]

        memory2, chip2 = product[: address + 1].as_signed(), product[: _WORD_BITS + 1].as_signed()
        steps = {
            0: [beyond.eq(word.address[address:].any()), outside.eq(0)],
            2: [beyond.eq(beyond | ~fits_memory | (self._begin[address:].any() if len(self._begin) > address else 0))],
            3: [outside.eq(outside | ~fits_node), *spread(low, high, self._begin[:address], self._memory1)],
            4: [*spread(chip_low, chip_high, word.base, self._chip0)],
            5: [beyond.eq(beyond | ~fits_memory), *spread(low, high, low, memory2)],
            6: [outside.eq(outside | ~fits_node)],
            7: [*spread(chip_low, chip_high, chip_low, self._chip1)],
            8: [beyond.eq(beyond | product[address + 1 :].any()), high.eq(high + product[: address + 1])],
            9: [outside.eq(outside | ~fits_node), *spread(chip_low, chip_high, chip_low, chip2)],
        }
        if self._column_words:
            # Of a column store, the product leads from the first lane to the last, which has a byte of each word of a run.
            columns, lanes = self._columns, product[: address + 1].as_signed()
            steps[8] = [
                beyond.eq(beyond | Mux(columns, ~fits_memory, product[address + 1 :].any())),
                low.eq(low + Mux(columns & (lanes < 0), lanes, 0)),
                high.eq(high + Mux(columns, _positive(lanes) + word.n0, product[: address + 1])),
            ]
        with m.Switch(cycle):
            for k, statements in steps.items():
                with m.Case(k):
                    m.d.sync += statements
        leaves_memory, leaves_node = Signal(), Signal()
        m.d.comb += [
            leaves_memory.eq(beyond | (low < 0) | (high > self.memory_bytes)),
            leaves_node.eq(outside | (chip_low < 0) | (chip_high >= self._words)),
        ]
        return leaves_memory, leaves_node

    def _code(self, m: Module, word, cycle: Signal, beyond: Signal, outside: Signal) -> Signal:
        """The error that is reported, valid in the last cycle."""
        code = Signal(CODE_WIDTH, reset_less=True)
        seen, ended, order = Signal(2), Signal(2), Signal()
        for ring in range(2):
            tag = Signal(TAG_WIDTH, name=f"previous_tag_{ring}")
            m.d.comb += self.previous_tag.word_select(ring, TAG_WIDTH).eq(tag)
            with m.If(word.ring == ring):
                m.d.comb += order.eq(seen[ring] & ((self._tag < tag) | ((self._tag == tag) & ended[ring])))
                ignored = (
                    (code == PrefetchError.DESCRIPTOR_RESPONSE)
                    | (code == PrefetchError.UNKNOWN_KIND)
                    | (code == PrefetchError.TAG_ORDER)
                )
                with m.If((cycle == CHECK_CYCLES - 1) & ~ignored):
                    m.d.sync += [seen[ring].eq(1), ended[ring].eq(word.last), tag.eq(self._tag)]
        moves, stores = Signal(), Signal()
        m.d.comb += [
            moves.eq(word.kind != DescriptorKind.NOP),
            stores.eq(word.kind == DescriptorKind.STORE),
        ]
        storable = Signal()
        with m.Switch(word.select), m.Case(*STORABLE):
            m.d.comb += storable.eq(1)
        # A select that is no target has no words, so nothing of it fits.
        bad_target = (
            outside | (stores & (~storable | word.broadcast)) | (~word.broadcast & (word.unit >= self.config.nodes_per_manager))
        )
        with m.If(cycle == CHECK_CYCLES - 2):
            with m.If(word.failed):
                m.d.sync += code.eq(PrefetchError.DESCRIPTOR_RESPONSE)
            with m.Elif(word.reserved | (word.kind > max(DescriptorKind))):
                m.d.sync += code.eq(PrefetchError.UNKNOWN_KIND)
            with m.Elif(moves & ((word.n0 == 0) | (word.n1 == 0) | (word.n2 == 0))):
                m.d.sync += code.eq(PrefetchError.ZERO_LENGTH)
            with m.Elif(moves & beyond):
                m.d.sync += code.eq(PrefetchError.BEYOND_MEMORY)
            with m.Elif(moves & bad_target):
                m.d.sync += code.eq(PrefetchError.BAD_TARGET)
            with m.Elif(order):
                m.d.sync += code.eq(PrefetchError.TAG_ORDER)
            if base_members(self.config):
                with m.Elif(moves & (word.base_register > prefetch_of(self.config).base_registers)):
                    m.d.sync += code.eq(PrefetchError.BAD_BASE)
            if self._column_words:
                with m.Elif(moves & word.column & (~stores | (word.n0 > self._column_words))):
                    m.d.sync += code.eq(PrefetchError.BAD_COLUMN)
            if self.config.memory.x_parts > 1:
                with m.Elif(moves & word.beside & ~Cat(word.select == select for select in BESIDE_BANKS).any()):
                    m.d.sync += code.eq(PrefetchError.BAD_BESIDE)
            with m.Else():
                m.d.sync += code.eq(PrefetchError.NONE)
        return code


def _positive(value: Value) -> Value:
    return Mux(value > 0, value, 0)
