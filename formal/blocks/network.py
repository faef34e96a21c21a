"""Butterflies and the statistics network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from podweave.rtl.network.butterfly import ReadButterfly, WriteButterfly
from podweave.spec.layout import bits_for_index

from ..faults import Fault
from ..harness import Harness
from ..property import Property

_PAYLOAD, _DATA, _TURNAROUND = 1, 1, 1


def _any(values: Sequence[Value]) -> Value:
    return reduce(or_, values, Const(0, 1))


def _meetings(stages: int, valid: Value, routes: list[Value], payloads: list[Value], merges: bool) -> list[list[Value]]:
    """By stage and wire after it: whether two words that are sent in this cycle meet there, if none did in a stage before.

    A word from port p to port r is behind stage s on the wire of the bits of p above s and the bits of r up to s.
    """
    ports, found = 1 << stages, []
    for s in range(stages):
        low = 1 << s + 1
        on = [
            [valid[p] & (routes[p][: s + 1] == w % low) if p // low == w // low else Const(0, 1) for p in range(ports)]
            for w in range(ports)
        ]
        row = []
        for w in range(ports):
            pairs = []
            for p in range(ports):
                for q in range(p + 1, ports):
                    if p // low == q // low == w // low:
                        differ = (routes[p] != routes[q]) | (payloads[p] != payloads[q]) if merges else Const(1, 1)
                        pairs.append(on[w][p] & on[w][q] & differ)
            row.append(_any(pairs))
        found.append(row)
    return found


def delayed(h: Harness, value: Value, cycles: int, name: str) -> Value:
    for cycle in range(cycles):
        value = h.past(value, f"{name}_{cycle}")
    return value


def _first_conflict(h: Harness, dut: dict[str, Any], meetings: list[list[Value]], pipeline: int) -> None:
    """The record of the first conflict is as the contract says."""
    m, stages, ports = h.m, len(meetings), len(meetings[0])
    # What is sent in t meets others in stage s in t + s // pipeline; of one cycle the lowest stage, then the lowest wire, counts.
    now, clean = [], Const(1, 1)
    for s, row in enumerate(meetings):
        now.append(delayed(h, Cat(row) & clean.replicate(ports), s // pipeline, f"meet_{s}"))
        clean = clean & ~Cat(row).any()
    error, stage, port = Signal(), Signal(bits_for_index(stages)), Signal(stages)
    chosen, first_stage = now[-1], Const(stages - 1, len(stage))
    for s in reversed(range(stages - 1)):
        chosen, first_stage = Mux(now[s].any(), now[s], chosen), Mux(now[s].any(), s, first_stage)
    first_port: Value = Const(ports - 1, stages)
    for w in reversed(range(ports - 1)):
        first_port = Mux(chosen[w], w, first_port)
    with m.If(~error & _any([row.any() for row in now])):
        m.d.sync += [error.eq(1), stage.eq(first_stage), port.eq(first_port)]
    h.check(dut["error"] == error, "the error rises exactly in the cycle after two words met, and stays")
    h.check(~error | ((dut["error_stage"] == stage) & (dut["error_port"] == port)), "stage and wire are of the first conflict")
    h.cover(error & (stage == stages - 1), "words met in the last stage first")
    h.cover(error & (stage == 0) & (port == ports - 1), "words met behind the first switches, on the last wire")


def _arrivals(
    h: Harness, dut: dict[str, Any], valid: Value, routes: list[Value], payloads: list[Value], met: Value, depth: int
) -> None:
    """Words of a cycle in which none meet are where their routes say, and nothing else is."""
    ports = len(routes)
    clean = delayed(h, ~met, depth, "clean")
    for b in range(ports):
        here = [valid[p] & (routes[p] == b) for p in range(ports)]
        # Equal words may merge: any of them.
        word: Value = payloads[-1]
        for p in reversed(range(ports - 1)):
            word = Mux(here[p], payloads[p], word)
        arrives, expected = delayed(h, _any(here), depth, f"arrives_{b}"), delayed(h, word, depth, f"word_{b}")
        h.check(~clean | (dut["bank_valid"][b] == arrives), f"bank port {b} has a word exactly if one was sent to it")
        payload = dut["bank_payload"].word_select(b, len(payloads[0]))
        h.check(~clean | ~arrives | (payload == expected), f"bank port {b} has that word")
    h.cover(clean & dut["bank_valid"].all(), "all bank ports have words")


def _parts(value: Value, ports: int) -> list[Value]:
    return [value.word_select(p, len(value) // ports) for p in range(ports)]


def write_butterfly(stages: int, pipeline: int) -> Callable[[Harness], None]:
    def build(h: Harness) -> None:
        block = WriteButterfly(stages=stages, payload=_PAYLOAD, pipeline=pipeline)
        dut = h.place(block)
        valid, routes, payloads = (
            dut["write_valid"],
            _parts(dut["write_route"], block.ports),
            _parts(dut["write_payload"], block.ports),
        )
        meetings = _meetings(stages, valid, routes, payloads, merges=False)
        _first_conflict(h, dut, meetings, pipeline)
        _arrivals(h, dut, valid, routes, payloads, _any([each for row in meetings for each in row]), block.depth)

    return build


def read_butterfly(stages: int, pipeline: int) -> Callable[[Harness], None]:
    def build(h: Harness) -> None:
        block = ReadButterfly(stages=stages, payload=_PAYLOAD, data=_DATA, pipeline=pipeline, turnaround=_TURNAROUND)
        dut = h.place(block)
        valid, routes = dut["request_valid"], _parts(dut["request_route"], block.ports)
        payloads = _parts(dut["request_payload"], block.ports)
        meetings = _meetings(stages, valid, routes, payloads, merges=True)
        met = _any([each for row in meetings for each in row])
        _first_conflict(h, dut, meetings, pipeline)
        _arrivals(h, dut, valid, routes, payloads, met, block.depth)
        words = Cat(_parts(dut["bank_data"], block.ports))
        there = block.depth + _TURNAROUND
        for p in range(block.ports):
            asked = delayed(h, valid[p] & ~met, there + block.depth, f"asked_{p}")
            word = words.word_select(delayed(h, routes[p], there, f"route_{p}"), _DATA)
            expected = delayed(h, word, block.depth, f"data_{p}")
            h.check(~asked | (dut["data"].word_select(p, _DATA) == expected), f"pod port {p} gets the word of the bank it asked")
        shared = valid.all() & _any([routes[0] == b for b in range(1, block.ports)]) & ~met
        h.cover(delayed(h, shared, there + block.depth, "shared"), "all pods have the word of one bank")

    return build


def _sizes(stages: int, pipeline: int) -> str:
    registers = "stage" if pipeline == 1 else f"{pipeline} stages"
    return f"{1 << stages} ports, {_PAYLOAD} bit of payload, a register after every {registers}"


_CONFLICT_FAULTS = (
    Fault("rtl.network.butterfly", "clash = want[low] & want[high]", "clash = want[low] & want[high] & ~words[low][-1]"),
    Fault("rtl.network.conflicts", "first_stage), port.eq(first_port)]", "first_stage), port.eq(~first_port)]"),
)
_WRITE_FAULTS = (
    *_CONFLICT_FAULTS,
    Fault("rtl.network.butterfly", "wants[1].eq(valid & route)", "wants[1].eq(route)"),
)
_READ_FAULTS = (
    *_CONFLICT_FAULTS,
    Fault("rtl.network.butterfly", "valid_out[wire].eq(want[low] | want[high])", "valid_out[wire].eq(want[low] ^ want[high])"),
    Fault("rtl.network.butterfly", "Mux(select[wire], words[wire | 1 << s]", "Mux(select[wire ^ 1], words[wire | 1 << s]"),
)
PROPERTIES = (
    *(
        Property(
            name=f"write_butterfly.{1 << stages}_ports",
            rule="words arrive where their routes say, after the latency, and nothing else does; a conflict is flagged "
            "exactly when two words meet, and its stage and wire are of the first one",
            sizes=_sizes(stages, pipeline),
            build=write_butterfly(stages, pipeline),
            engine="induction",
            cycles=stages + 2,
            faults=_WRITE_FAULTS,
        )
        for stages, pipeline in ((1, 1), (2, 1), (3, 2))
    ),
    *(
        Property(
            name=f"read_butterfly.{1 << stages}_ports",
            rule="requests arrive, equal ones merge, each port gets the word it asked for; a conflict is flagged "
            "exactly when two different requests meet, and its stage and wire are of the first one",
            sizes=f"{_sizes(stages, pipeline)}, {_DATA} bit of data",
            build=read_butterfly(stages, pipeline),
            engine="induction",
            cycles=2 * stages + _TURNAROUND + 2,
            faults=_READ_FAULTS,
        )
        for stages, pipeline in ((1, 1), (2, 1), (3, 2))
    ),
)
