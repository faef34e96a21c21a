"""Crossbars: in one step from any pod port to any bank port, with the latency of the butterfly that they stand for.

Written by hand: N x N words are a loop in Verilog, and minutes of Amaranth and Yosys, which see every bit of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index

from ..parts.amaranth_internals import mark_used
from ..parts.blocks import Block

_TEMPLATE = """\
// Crossbar of {ports} x {ports}, {depth} cycles in each direction.
module {name}(
  input wire clk,
  input wire rst,
{declared}
);
  // The lowest pod port that asks for each bank, and whether there is one that asks for another word.
  reg [{ports_msb}:0] asked, conflict;
  reg [{routes_msb}:0] winner;
  reg [{payloads_msb}:0] chosen;
  reg [{index_msb}:0] route, first, conflict_port;
  integer p, b;
  always @* begin
    asked = 0;
    winner = 0;
    conflict = 0;
    conflict_port = 0;
    chosen = 0;
    route = 0;
    first = 0;
    for (p = {last}; p >= 0; p = p - 1)
      if ({way}_valid[p]) begin
        route = {way}_route[p*{index} +: {index}];
        asked[route] = 1'b1;
        winner[route*{at_index} +: {index}] = p[{index_msb}:0];
      end
    for (p = 0; p < {ports}; p = p + 1)
      if ({way}_valid[p]) begin
        route = {way}_route[p*{index} +: {index}];
        first = winner[route*{at_index} +: {index}];
        if ({differs}) conflict[route] = 1'b1;
      end
    for (b = 0; b < {ports}; b = b + 1) begin
      first = winner[b*{index} +: {index}];
      chosen[b*{payload} +: {payload}] = {way}_payload[first*{at_payload} +: {payload}];
    end
    for (b = {last}; b >= 0; b = b - 1)
      if (conflict[b]) conflict_port = b;
  end
  assign error_stage = 1'b0;
  always @(posedge clk)
    if (rst) begin
      error <= 1'b0;
      error_port <= 0;
    end else if (!error) begin
      error <= |conflict;
      error_port <= conflict_port;
    end
{delays}endmodule
"""

_WORDS_BACK = """\
  reg [{words_msb}:0] words;
  integer w;
  always @* begin
    words = 0;
    for (w = 0; w < {ports}; w = w + 1)
      words[w*{data} +: {data}] = bank_data[{select}[w*{index} +: {index}]*{at_data} +: {data}];
  end
"""


def _literal(value: int, below: int) -> str:
    """A constant of as many bits as numbers below ``below`` have; its product with an index has no more."""
    return f"{bits_for_index(max(below, value + 1))}'d{value}"


def _delay(name: str, source: str, width: int, cycles: int, *, reset: bool = False) -> tuple[str, str]:
    """Text of ``cycles`` registers behind ``source``, and the name of the last."""
    names = [source, *(f"{name}_{cycle}" for cycle in range(1, cycles + 1))]
    lines = [f"  reg [{width - 1}:0] {', '.join(names[1:])};", "  always @(posedge clk) begin"]
    cleared = f"rst ? {width}'d0 : " if reset else ""
    lines += [f"    {later} <= {cleared}{earlier};" for earlier, later in pairwise(names)]
    return "\n".join([*lines, "  end\n"]), names[-1]


class _Crossbar(Block):
    """The part that reading and writing share; ``way`` names the members of the pod side."""

    way: str
    merges: bool

    def __init__(self, *, ports: int, payload: int, depth: int, data: int = 0, turnaround: int = 0):
        self.ports, self.payload, self.data_width, self.depth, self.turnaround = ports, payload, data, depth, turnaround
        self.index = bits_for_index(ports)
        members: dict[str, Any] = {
            f"{self.way}_valid": In(ports),
            f"{self.way}_route": In(ports * self.index),
            f"{self.way}_payload": In(ports * payload),
            "bank_valid": Out(ports),
            "bank_payload": Out(ports * payload),
            "error": Out(1),
            "error_stage": Out(1),
            "error_port": Out(self.index),
        }
        if data:
            members |= {"bank_data": In(ports * data), "data": Out(ports * data)}
        super().__init__(members)

    def verilog(self) -> str:
        # Amaranth would warn of a component that it never elaborates.
        mark_used(self)
        ports, index, payload, way = self.ports, self.index, self.payload, self.way
        at_index, at_payload = (_literal(width, ports * width) for width in (index, payload))
        declared = []
        for name in self.signature.members:
            direction = "input wire" if name.startswith(way) or name == "bank_data" else "output wire"
            if name in ("error", "error_port"):
                direction = "output reg"
            width = len(getattr(self, name))
            declared.append(f"  {direction} {f'[{width - 1}:0] ' if width > 1 else ''}{name}")
        differs = f"first != p[{index - 1}:0]"
        if self.merges:
            differs += f" && {way}_payload[first*{at_payload} +: {payload}] != {way}_payload[p*{payload} +: {payload}]"
        valid_text, valid = _delay("valid", "asked", ports, self.depth, reset=True)
        payload_text, chosen = _delay("payload", "chosen", ports * payload, self.depth)
        delays = f"{valid_text}{payload_text}  assign bank_valid = {valid};\n  assign bank_payload = {chosen};\n"
        if self.data_width:
            select_text, select = _delay("select", f"{way}_route", ports * index, self.depth + self.turnaround)
            words_text, words = _delay("data", "words", ports * self.data_width, self.depth)
            back = _WORDS_BACK.format(
                ports=ports,
                index=index,
                data=self.data_width,
                at_data=_literal(self.data_width, ports * self.data_width),
                words_msb=ports * self.data_width - 1,
                select=select,
            )
            delays += f"{select_text}{back}{words_text}  assign data = {words};\n"
        return _TEMPLATE.format(
            name=self.module_name,
            ports=ports,
            ports_msb=ports - 1,
            last=ports - 1,
            depth=self.depth,
            declared=",\n".join(declared),
            index=index,
            index_msb=index - 1,
            at_index=at_index,
            at_payload=at_payload,
            routes_msb=ports * index - 1,
            payload=payload,
            payloads_msb=ports * payload - 1,
            way=way,
            differs=differs,
            delays=delays,
        )


class ReadCrossbar(_Crossbar):
    """Requests from ``ports`` pod ports to as many bank ports, and words of data back.

    Members and latencies are those of a `ReadButterfly` of the given ``depth`` (1 or more), with these differences: equal
    requests of one cycle to one bank always merge; of different ones that of the lowest pod port goes on, which is a conflict,
    shown in the cycle after the requests with ``error_stage`` 0 and the bank as ``error_port`` (the lowest, of several). A bank
    that nobody asks shows the payload of pod port 0, and a pod port that asks nothing gets the data of the bank of its route.

    Latency: ``depth`` cycles from request to bank, ``2 * depth + turnaround`` from request to ``data``.

    Parameters
    ----------
    ports : int
        Ports on each side; ``index`` below is ``bits_for_index(ports)``.
    payload : int
        Bits of a request beside its route.
    data : int
        Bits of a word.
    depth : int
        Cycles in each direction, 1 or more.
    turnaround : int
        Cycles from a request at a bank port to its word there.

    Members
    -------
    request_valid, request_route, request_payload : In(ports), In(ports * index), In(ports * payload)
        Requests, their banks and payloads, per pod port.
    bank_valid, bank_payload : Out(ports), Out(ports * payload)
        Requests and their payloads, per bank port.
    bank_data, data : In(ports * data), Out(ports * data)
        Words, per bank port in and per pod port out.
    error, error_stage, error_port : Out(1), Out(1), Out(index)
        The first conflict; sticky until reset.
    """

    kind = "read_crossbar"
    way = "request"
    merges = True

    def __init__(self, *, ports: int, payload: int, data: int, depth: int, turnaround: int):
        self.variant = f"{ports}x{data}_payload{payload}_depth{depth}_turnaround{turnaround}"
        super().__init__(ports=ports, payload=payload, depth=depth, data=data, turnaround=turnaround)


class WriteCrossbar(_Crossbar):
    """Words from ``ports`` pod ports to as many bank ports.

    Members and latencies are those of a `WriteButterfly` of the given ``depth`` (1 or more); of several words of one cycle to one
    bank that of the lowest pod port goes on, which is a conflict, shown as in a `ReadCrossbar`.

    Latency: ``depth`` cycles from pod to bank.

    Parameters
    ----------
    ports : int
        Ports on each side; ``index`` below is ``bits_for_index(ports)``.
    payload : int
        Bits of a word beside its route.
    depth : int
        Cycles from pod to bank, 1 or more.

    Members
    -------
    write_valid, write_route, write_payload : In(ports), In(ports * index), In(ports * payload)
        Words, their banks and payloads, per pod port.
    bank_valid, bank_payload : Out(ports), Out(ports * payload)
        Words and their payloads, per bank port.
    error, error_stage, error_port : Out(1), Out(1), Out(index)
        The first conflict; sticky until reset.
    """

    kind = "write_crossbar"
    way = "write"
    merges = False

    def __init__(self, *, ports: int, payload: int, depth: int):
        self.variant = f"{ports}_payload{payload}_depth{depth}"
        super().__init__(ports=ports, payload=payload, depth=depth)
