"""What row functions add to the way of a word through a post-processor; a part of `PostProcessor`."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index
from podweave.spec.row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH, Combine, Destination, Statistic

from ..parts.blocks import delay_line, place, register
from .beats import Beats
from .combiner import Combiner
from .row_registers import RowRegisters
from .row_statistic import RowStatistic

STATISTIC_PORTS = ("sent", "sent_statistic", "sent_level", "sent_value", "sent_element", "total", "place")
"""Members between a post-processor and the statistics network."""


def row_members(config: ChipConfig) -> dict[str, Any]:
    """Members that a post-processor has for row functions."""
    row = bits_for_index(config.post.row_registers)
    return {
        "own_valid": Out(1),
        "own_accumulate": Out(1),
        "own_address": Out(bits_for_index(config.memory.p_words)),
        "own_data": Out(config.array.psum_width * config.array.cols),
        "sent": Out(1),
        "sent_statistic": Out(2),
        "sent_level": Out(bits_for_index(config.network_stages + 1)),
        "sent_value": Out(signed(STATISTIC_WIDTH)),
        "sent_element": Out(ELEMENT_WIDTH),
        "total": In(signed(STATISTIC_WIDTH)),
        "place": In(ELEMENT_WIDTH),
        "length_write": In(1),
        "length_address": In(row),
        "length_data": In(ELEMENT_WIDTH),
        "value_read": In(1),
        "value_row": In(row),
        "value": Out(signed(STATISTIC_WIDTH)),
    }


class RowPath:
    """Combiner, row registers, statistic, and what collects results; ``ports`` are those of the post-processor."""

    def __init__(self, m: Module, ports: Any, emits: list[Value], word: list[Any], beats: Beats):
        config: ChipConfig = ports.config
        self.m, self.ports, self.config, self.word, self.beats = m, ports, config, word, beats
        self.lanes = config.post_lanes // config.post_beats
        self.registers = place(m, "row_registers", RowRegisters(config.post.row_registers))
        statistic = word[2].statistic != Statistic.NONE
        m.d.comb += [
            self.registers["checks"].eq(emits[2] & (word[2].subtract | word[2].row_scale)),
            self.registers["check_row"].eq(word[2].row),
            self.registers["clear"].eq(emits[2] & word[2].row_last & statistic),
            self.registers["clear_row"].eq(word[2].row),
            self.registers["value_read"].eq(emits[2] | ports.value_read),
            self.registers["value_row"].eq(Mux(emits[2], word[2].row, ports.value_row)),
            ports.value.eq(self.registers["value"]),
            *(
                self.registers[f"{name}_{part}"].eq(value)
                for name, stage, index in (("mantissa", 4, "row"), ("shift", 5, "row"), ("length", 7, "length"))
                for part, value in (("read", emits[stage]), ("row", word[stage][index]))
            ),
            *(self.registers[name].eq(getattr(ports, name)) for name in ("length_write", "length_address", "length_data")),
        ]
        self.not_ready, self.scalar_lost = self.registers["not_ready"], self.registers["scalar_lost"]
        self.busy: Value

    def combined(self, sums: list[Value]) -> list[Value]:
        """Lanes of 33 bits of the words that are requantised, two cycles later than the reduced ones."""
        combiner, word = place(self.m, "combiner", Combiner(self.lanes)), self.word[3]
        # Stage 0 may be that of one word, and stage 1 that of the one before.
        self.m.d.comb += [
            combiner["stages"].eq(Cat(self.beats.on[2:4])),
            combiner["values"].eq(Cat(sums)),
            combiner["combine"].eq(self.word[2].combine),
            combiner["second"].eq(self.beats.second),
            combiner["turns"].eq(word.combine == Combine.ROTATE),
            combiner["subtract"].eq(word.subtract),
            combiner["row_value"].eq(self.registers["value"]),
        ]
        return [combiner["results"].word_select(lane, 33).as_signed() for lane in range(self.lanes)]

    def scale(self, bias: Value, multiplier: Value, shift: Value) -> tuple[Value, Value, Value]:
        """What the requantiser of a lane takes, each in the cycle of its stage."""
        later = (self.word[4].statistic != Statistic.NONE) & ~self.word[4].row_first
        return (
            Mux(later, 0, bias.as_signed()),
            Mux(self.word[5].row_scale, self.registers["mantissa"], multiplier),
            shift + Mux(self.word[6].row_scale, self.registers["shift"], 0),
        )

    def finish(self, finals: list[Value]) -> None:
        """Statistics and outputs of the final values of a beat."""
        m, word, beats = self.m, self.word[8], self.beats
        width = self.config.array.psum_width
        element = Signal(ELEMENT_WIDTH, name="beat_element")
        room, there = Signal(signed(ELEMENT_WIDTH + 1), name="room"), Signal(self.lanes, name="there")
        m.d.comb += [
            element.eq(word.element + beats.first_lane(8, self.lanes)),
            room.eq(self.registers["length"] - element),
            there.eq(Cat(~word.masked | (room > lane) for lane in range(self.lanes))),
        ]
        sent_busy = self._statistic(finals, there, element)
        results = [Mux(there[lane], final, 0)[:width] for lane, final in enumerate(finals)]
        complete, values = beats.collected(m, 8, results)
        self.busy = sent_busy | self._outputs(complete, values)

    def _statistic(self, finals: list[Value], there: Value, element: Value) -> Value:
        m, word, beats, ports = self.m, self.word[8], self.beats, self.ports
        width, stages = self.config.array.psum_width, self.config.network_stages
        statistic = place(m, "row_statistic", RowStatistic(self.lanes, width, len(word.level)))
        m.d.comb += [
            statistic["valid"].eq(beats.on[8]),
            statistic["statistic"].eq(word.statistic),
            statistic["first"].eq(word.row_first & beats.is_first(8)),
            statistic["last"].eq(word.row_last & beats.is_last(8)),
            statistic["there"].eq(there),
            statistic["element"].eq(element),
            statistic["values"].eq(Cat(final[:width] for final in finals)),
            statistic["level"].eq(word.level),
            ports.sent.eq(statistic["sent"]),
            *(getattr(ports, f"sent_{name}").eq(statistic[f"sent_{name}"]) for name in ("statistic", "level", "value", "element")),
        ]
        # The total of the block comes back in a known cycle; what is to be done with it waits here.
        which = Cat(word.row, word.scalar, word.statistic == Statistic.ARGMAX)
        waiting = delay_line(m, which, 2 + stages, name="which_row")[-1]
        arrives = delay_line(m, statistic["sent"], stages, name="statistic_sent", reset_less=False)
        rows = len(word.row)
        m.d.comb += [
            self.registers["arrives"].eq(arrives[-1]),
            self.registers["arriving_row"].eq(waiting[:rows]),
            self.registers["arriving_scalar"].eq(waiting[rows : rows + 2]),
            self.registers["arriving_value"].eq(Mux(waiting[rows + 2], ports.place, ports.total)),
        ]
        taken = register(m, beats.on[8] & (word.statistic != Statistic.NONE), name="statistic_taken", reset_less=False)
        return taken | Cat(arrives).any() | self.registers["busy"]

    def _outputs(self, complete: Value, values: list[Value]) -> Value:
        """A word of results goes into an X bank, in one or two words, or into the own P bank."""
        m, word, ports = self.m, self.word[8], self.ports
        into_own, planes = Signal(name="into_own"), Signal(name="into_planes")
        into_x = Signal(name="into_x")
        m.d.comb += [
            into_own.eq(complete & ((word.destination == Destination.STORE) | (word.destination == Destination.ADD))),
            planes.eq(complete & (word.destination == Destination.PLANES)),
            into_x.eq(planes | (complete & (word.destination == Destination.X))),
        ]
        own = {
            "own_accumulate": word.destination == Destination.ADD,
            "own_address": word.x_address[: len(ports.own_address)],
            "own_data": Cat(values),
        }
        low = Cat(value[:8] for value in values)
        high = Cat((value + 128)[8:16] for value in values)
        y = {
            "y_bank": word.x_bank,
            "y_slot": word.slot,
            "y_address": word.x_address[: len(ports.y_address)],
            "y_data": Mux(planes, high, low),
            **({"y_plane": word.x_plane} if hasattr(ports, "y_plane") else {}),
        }
        kept = {name: Signal(len(getattr(ports, name)), name=f"{name}_kept", reset_less=True) for name in (*own, *y)}
        other = Signal(len(low), name="low_plane", reset_less=True)
        second = register(m, planes, name="second_follows", reset_less=False)
        with m.If(into_own):
            m.d.sync += [kept[name].eq(value) for name, value in own.items()]
        with m.If(into_x):
            m.d.sync += [*(kept[name].eq(value) for name, value in y.items()), other.eq(low)]
        with m.Elif(second):
            m.d.sync += [kept["y_data"].eq(other), kept["y_address"].eq(kept["y_address"] + 1)]
        own_valid = register(m, into_own, name="own_goes", reset_less=False)
        y_valid = register(m, into_x | second, name="y_goes", reset_less=False)
        m.d.comb += [getattr(ports, name).eq(signal) for name, signal in kept.items()]
        m.d.comb += [ports.own_valid.eq(own_valid), ports.y_valid.eq(y_valid)]
        return own_valid | y_valid
