"""Counters of a run: one per event, cleared by its start."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.register_list import counters

from ..parts.blocks import Block
from ..parts.planes import planes_of
from ..prefetch.prefetch_count import UNCONSUMED_WIDTH

RUN_EVENTS = ("launched", "running", "wait_prefetch", "wait_demand", "wait_store", "begins", "prefetch_hit", "wasted")
STALLS = ("gate", "cap", "gap", "buffer", "bus")
BEAT_CLASSES = ("descriptor", "demand", "prefetch")
LINK_EVENTS = ("collecting", "link_sent", "link_received", "wait_neighbour")


class RunCounters(Block):
    """The counters of `register_list.counters`: what happens in cycle t is counted from t + 2 on.

    What is of the engines lies side by side, manager 0 least significant.

    Latency: 2 cycles from an event to its counter, 1 from ``wasted`` to PREFETCH_UNUSED.

    Parameters
    ----------
    config : ChipConfig
        ``managers`` of its ``prefetch``.

    Members
    -------
    clear : In(1)
        In cycle t: all counters are 0 from t + 1 on; what happened up to t does not count.
    launched, running, wait_prefetch, wait_demand, wait_store, begins, prefetch_hit, wasted : In(1)
        Of the `RunControl`.
    read_beat, read_class, write_beat : In(managers), In(2 * managers), In(managers)
        Of the engines: events of one cycle.
    collecting : In(1)
        Only with links: of the `RunControl`.
    link_sent, link_received, wait_neighbour : In(1)
        Only with links: of the collective engine, only with ``launched``.
    stall_gate, stall_cap, stall_gap, stall_buffer, stall_bus : In(managers)
        Of the engines: events of one cycle, only with ``launched``.
    unconsumed : In(UNCONSUMED_WIDTH * managers)
        Of the engines: words of begun prefetch descriptors with a tag > ``epochs_done``.
    count_<name> : Out(width in counters())
        The counters. PREFETCH_UNUSED is set by ``wasted`` in cycle t, from t + 1 on: to the sum of ``unconsumed``, modulo 2^32, in
        the last cycle with ``running`` or ``collecting`` since the last ``clear``; if there is none, in t.
    """

    kind = "performance"

    def __init__(self, config: ChipConfig):
        assert config.prefetch is not None
        self.config, self.managers = config, config.prefetch.managers
        n = self.managers
        super().__init__(
            {
                "clear": In(1),
                **dict.fromkeys(RUN_EVENTS, In(1)),
                "read_beat": In(n),
                "read_class": In(2 * n),
                "write_beat": In(n),
                **{f"stall_{stall}": In(n) for stall in STALLS},
                "unconsumed": In(UNCONSUMED_WIDTH * n),
                **(dict.fromkeys(LINK_EVENTS, In(1)) if config.links else {}),
                **{f"count_{name.lower()}": Out(width) for name, width, _ in counters(config)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        events: dict[str, Value] = {
            "cycles": self.launched,
            "run_cycles": self.running,
            **{name: getattr(self, name) for name in ("wait_prefetch", "wait_demand", "wait_store")},
            **{f"{name}_beats": beats for name, beats in zip(BEAT_CLASSES, self._read_beats(), strict=True)},
            "write_beats": self.write_beat,
            "hbm_busy": self.read_beat | self.write_beat,
            # What an error leaves in the engines waits there until they are reset.
            **{f"stall_{stall}": Mux(self.launched, getattr(self, f"stall_{stall}"), 0) for stall in STALLS},
            "prefetch_hits": self.begins & self.prefetch_hit,
            "prefetch_late": self.begins & ~self.prefetch_hit,
            **(self._link_events() if self.config.links else {}),
        }
        for name, happens in events.items():
            # The sum over managers is ready one cycle before it is added.
            step = Signal(range(len(happens) + 1), name=f"{name}_step")
            total = getattr(self, f"count_{name}")
            m.d.sync += [
                step.eq(Mux(self.clear, 0, _sum(list(happens)))),
                total.eq(Mux(self.clear, 0, total + step)),
            ]
        ahead, last, ran = Signal(32, name="ahead"), Signal(32, name="last_ahead"), Signal(name="ran")
        m.d.comb += ahead.eq(_sum(planes_of(self.unconsumed, self.managers)))
        with m.If(self.wasted):
            m.d.sync += self.count_prefetch_unused.eq(Mux(ran, last, ahead))
        with m.If(self.running | self.collecting if self.config.links else self.running):
            m.d.sync += [last.eq(ahead), ran.eq(1)]
        with m.If(self.clear):
            m.d.sync += [ran.eq(0), self.count_prefetch_unused.eq(0)]
        return m

    def _link_events(self) -> dict[str, Value]:
        events: dict[str, Value] = {name: self.launched & getattr(self, name) for name in LINK_EVENTS[1:]}
        _, _, prefetch = self._read_beats()
        return {"collective_cycles": self.collecting, **events, "beneath_beats": Mux(self.collecting, prefetch, 0)}

    def _read_beats(self) -> list[Value]:
        classes = planes_of(self.read_class, self.managers)
        return [Cat(beat & (name == code) for beat, name in zip(self.read_beat, classes, strict=True)) for code in range(3)]


def _sum(values: list[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
