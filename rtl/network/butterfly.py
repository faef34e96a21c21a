"""Butterflies: stages of 2 x 2 switches between pods and banks, without arbitration.

Stage s, counted from the pods, decides bit s. After it, the word from pod port p to bank port b is on the wire of index (bits of p
from s + 1 up, bits of b up to s): words of an aligned block of pods that stay in the same block of banks meet no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, delay_line, register
from .conflicts import record_conflicts


def butterfly_depth(stages: int, pipeline: int) -> int:
    """Cycles from one side of a butterfly to the other: a register after every ``pipeline`` stages, and after the last."""
    return -(-stages // pipeline)


@dataclass(frozen=True)
class _Words:
    """What left the last stage (``valid``: a bit, ``words``: a value per wire), and by stage the bit that each word was routed
    by (``routes``) and where two words wanted one wire (``conflicts``), a bit per wire before and after the stage."""

    valid: Value
    words: list[Value]
    routes: list[Signal]
    conflicts: list[Signal]


def _switches(m: Module, valid: Value, words: list[Value], *, stages: int, pipeline: int, merges: bool) -> _Words:
    """All stages of switches; a word carries below its payload the bits of its destination that it has yet to be routed by."""
    ports = 1 << stages
    routes, conflicts = [], []
    for s in range(stages):
        route, conflict = Signal(ports, name=f"route_{s}"), Signal(ports, name=f"conflict_{s}")
        wants = [Signal(ports, name=f"wants_{way}_{s}") for way in (0, 1)]
        m.d.comb += [route.eq(Cat(word[0] for word in words)), wants[0].eq(valid & ~route), wants[1].eq(valid & route)]
        differ: dict[int, Value] = {}
        valid_out, words_out = Signal(ports, name=f"valid_{s}"), []
        for wire in range(ports):
            low, high = wire & ~(1 << s), wire | 1 << s
            want = wants[wire >> s & 1]
            rest = [words[low][1:], words[high][1:]]
            clash = want[low] & want[high]
            if merges:
                if low not in differ:
                    differ[low] = Signal(name=f"differ_{s}_{low}")
                    m.d.comb += differ[low].eq(rest[0] != rest[1])
                clash &= differ[low]
            word = Signal(len(rest[0]), name=f"word_{s}_{wire}")
            m.d.comb += [
                conflict[wire].eq(clash),
                valid_out[wire].eq(want[low] | want[high]),
                word.eq(Mux(want[low], rest[0], rest[1])),
            ]
            words_out.append(word)
        routes.append(route)
        conflicts.append(conflict)
        valid, words = valid_out, words_out
        if (s + 1) % pipeline == 0 or s + 1 == stages:
            valid = register(m, valid, name=f"valid_{s}_q", reset_less=False)
            words = [register(m, word, name=f"word_{s}_{wire}_q") for wire, word in enumerate(words)]
    return _Words(valid, words, routes, conflicts)


def _inputs(valid: Value, route: Value, payload: Value, stages: int) -> list[Value]:
    ports = 1 << stages
    return [Cat(route.word_select(p, stages), payload.word_select(p, len(payload) // ports)) for p in range(ports)]


class ReadButterfly(Block):
    """Requests from ``2**stages`` pod ports to as many bank ports, and words of data back.

    A request of cycle t on pod port p with route r is on bank port r in cycle t + depth, depth = ceil(stages / pipeline); what
    stands on that port's data in cycle t + depth + turnaround is on the data of p in cycle t + 2 depth + turnaround. Requests
    that want one wire merge if the rest of their routes and their payloads are equal: each gets the data. If they are not, the
    one that came on the lower wire goes on, which is a conflict.

    Of the two wires into a switch, an output shows the payload of the lower if a valid word on it wants that output, else of the
    upper, valid or not. Backwards, a switch gives each of its wires the word from the side that the route bit on that wire named
    on its way to the banks, whether it was valid or not.

    Latency: ``depth`` cycles from request to bank, ``2 * depth + turnaround`` from request to ``data``.

    Parameters
    ----------
    stages : int
        Stages of switches; there are ``ports = 2**stages`` ports on each side.
    payload : int
        Bits of a request beside its route.
    data : int
        Bits of a word.
    pipeline : int
        A register after every ``pipeline`` stages, and after the last.
    turnaround : int
        Cycles from a request at a bank port to its word there.

    Members
    -------
    request_valid : In(ports)
        Requests, per pod port.
    request_route : In(ports * stages)
        Their banks, ``stages`` bits a port.
    request_payload : In(ports * payload)
        Their payloads.
    bank_valid : Out(ports)
        Requests, per bank port.
    bank_payload : Out(ports * payload)
        Their payloads.
    bank_data : In(ports * data)
        Words, per bank port.
    data : Out(ports * data)
        Words, per pod port.
    error : Out(1)
        There was a conflict; sticky until reset.
    error_stage, error_port : Out(bits_for_index(stages)), Out(stages)
        Stage, and wire after it, of the first conflict (of several in one cycle, the lowest stage, then the lowest wire). All three
        show a conflict in the cycle after it: a request of cycle t meets others in stage s in cycle t + s // pipeline.
    """

    kind = "read_butterfly"

    def __init__(self, *, stages: int, payload: int, data: int, pipeline: int, turnaround: int):
        self.stages, self.payload, self.data_width, self.pipeline, self.turnaround = stages, payload, data, pipeline, turnaround
        self.ports, self.depth = 1 << stages, butterfly_depth(stages, pipeline)
        self.variant = f"{self.ports}x{data}_payload{payload}_pipeline{pipeline}_turnaround{turnaround}"
        super().__init__(
            {
                "request_valid": In(self.ports),
                "request_route": In(self.ports * stages),
                "request_payload": In(self.ports * payload),
                "bank_valid": Out(self.ports),
                "bank_payload": Out(self.ports * payload),
                "bank_data": In(self.ports * data),
                "data": Out(self.ports * data),
                "error": Out(1),
                "error_stage": Out(bits_for_index(stages)),
                "error_port": Out(stages),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = _inputs(self.request_valid, self.request_route, self.request_payload, self.stages)
        sent = _switches(m, self.request_valid, inputs, stages=self.stages, pipeline=self.pipeline, merges=True)
        m.d.comb += [self.bank_valid.eq(sent.valid), self.bank_payload.eq(Cat(sent.words))]
        record_conflicts(m, sent.conflicts, error=self.error, stage=self.error_stage, port=self.error_port)

        words = [self.bank_data.word_select(b, self.data_width) for b in range(self.ports)]
        for passed, s in enumerate(reversed(range(self.stages))):
            # From the request at this stage to the bank, and from its word at the bank back to this stage.
            wait = self.depth - s // self.pipeline + self.turnaround + passed // self.pipeline
            select = delay_line(m, sent.routes[s], wait, name=f"select_{s}")[-1]
            back = []
            for wire in range(self.ports):
                word = Signal(self.data_width, name=f"data_{s}_{wire}", reset_less=True)
                last = (passed + 1) % self.pipeline == 0 or s == 0
                domain = m.d.sync if last else m.d.comb
                domain += word.eq(Mux(select[wire], words[wire | 1 << s], words[wire & ~(1 << s)]))
                back.append(word)
            words = back
        m.d.comb += self.data.eq(Cat(words))
        return m


class WriteButterfly(Block):
    """Words from ``2**stages`` pod ports to as many bank ports.

    A word of cycle t on pod port p with route r is on bank port r in cycle t + depth, depth = ceil(stages / pipeline). Of two words
    that want one wire, the one that came on the lower wire goes on, which is a conflict: writes never merge.

    Latency: ``depth`` cycles from pod to bank.

    Parameters
    ----------
    stages : int
        Stages of switches; there are ``ports = 2**stages`` ports on each side.
    payload : int
        Bits of a word beside its route.
    pipeline : int
        A register after every ``pipeline`` stages, and after the last.

    Members
    -------
    All as in a `ReadButterfly`:

    write_valid : In(ports)
        Words, per pod port.
    write_route : In(ports * stages)
        Their banks, ``stages`` bits a port.
    write_payload : In(ports * payload)
        Their payloads.
    bank_valid : Out(ports)
        Words, per bank port.
    bank_payload : Out(ports * payload)
        Their payloads.
    error, error_stage, error_port : Out(1), Out(bits_for_index(stages)), Out(stages)
        The first conflict.
    """

    kind = "write_butterfly"

    def __init__(self, *, stages: int, payload: int, pipeline: int):
        self.stages, self.payload, self.pipeline = stages, payload, pipeline
        self.ports, self.depth = 1 << stages, butterfly_depth(stages, pipeline)
        self.variant = f"{self.ports}_payload{payload}_pipeline{pipeline}"
        super().__init__(
            {
                "write_valid": In(self.ports),
                "write_route": In(self.ports * stages),
                "write_payload": In(self.ports * payload),
                "bank_valid": Out(self.ports),
                "bank_payload": Out(self.ports * payload),
                "error": Out(1),
                "error_stage": Out(bits_for_index(stages)),
                "error_port": Out(stages),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = _inputs(self.write_valid, self.write_route, self.write_payload, self.stages)
        sent = _switches(m, self.write_valid, inputs, stages=self.stages, pipeline=self.pipeline, merges=False)
        m.d.comb += [self.bank_valid.eq(sent.valid), self.bank_payload.eq(Cat(sent.words))]
        record_conflicts(m, sent.conflicts, error=self.error, stage=self.error_stage, port=self.error_port)
        return m
