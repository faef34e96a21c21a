"""Networks of a chip: N pods read and write N banks, each transfer with the same latency, planned so that no two words meet.

A network is not a block: 256 ports of 1024 bits are more than one module may have. `read_network` and `write_network` place its
blocks in the module of the chip. A network of one port is wires alone. A butterfly consists of layers of blocks; a block of a
layer that routes by bits i to j of the bank serves the wires whose indices differ in these bits only: contiguous wires in the
first layer, strided wires in the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config_parts import NETWORK_KINDS
from podweave.spec.layout import bits_for_index

from ..parts.blocks import Block, place
from .butterfly import ReadButterfly, WriteButterfly, butterfly_depth
from .conflicts import NetworkError, record_errors
from .crossbar import ReadCrossbar, WriteCrossbar


@dataclass(frozen=True)
class WritePorts:
    """A write network to be wired; each list has one signal for each port.

    Latency: ``depth`` cycles from pod to bank.

    Members
    -------
    valid, bank, payload : list[Signal]
        By pod, inputs: a word, the bank it is for, and what it carries.
    bank_valid, bank_payload : list[Signal]
        By bank, outputs, ``depth`` cycles later.
    errors : list[NetworkError]
        Of each block, with the stage and the wire counted over the whole network.
    depth : int
        Cycles.
    """

    valid: list[Signal]
    bank: list[Signal]
    payload: list[Signal]
    bank_valid: list[Signal]
    bank_payload: list[Signal]
    errors: list[NetworkError]
    depth: int


@dataclass(frozen=True)
class ReadPorts(WritePorts):
    """A read network to be wired.

    The word for a request of cycle t is expected on ``bank_data`` in cycle t + depth + turnaround and on ``data`` in cycle
    t + 2 depth + turnaround.

    Latency: ``depth`` cycles from request to bank, ``2 * depth + turnaround`` from request to ``data``.

    Members
    -------
    Beside those of `WritePorts`:

    bank_data : list[Signal]
        By bank, inputs: words.
    data : list[Signal]
        By pod, outputs: words.
    """

    bank_data: list[Signal]
    data: list[Signal]


@dataclass(frozen=True)
class _Layer:
    """Equal blocks side by side that route by ``stages`` bits of the bank, from bit ``low`` up."""

    low: int
    stages: int
    block: Block

    def wires(self, group: int) -> list[int]:
        """The wires of a block, in the order of its ports."""
        outer = (group >> self.low) << (self.low + self.stages) | group & ((1 << self.low) - 1)
        return [outer | k << self.low for k in range(1 << self.stages)]


def network_depth(layers: Sequence[int], pipeline: int) -> int:
    """Cycles from one side of a network to the other, in either direction."""
    return sum(butterfly_depth(stages, pipeline) for stages in layers)


def _check(ports: int, layers: Sequence[int], kind: str) -> None:
    if ports < 1 or ports & (ports - 1):
        raise ValueError(f"a network has a power of two of ports, got {ports}")
    if 1 << sum(layers) != ports or min(layers, default=1) < 1:
        raise ValueError(f"layers {tuple(layers)} do not make the {(ports - 1).bit_length()} stages of {ports} ports")
    if kind not in NETWORK_KINDS:
        raise ValueError(f"network kind must be one of {', '.join(NETWORK_KINDS)}, got {kind!r}")


def read_network(
    m: Module,
    name: str,
    *,
    ports: int,
    payload: int,
    data: int,
    layers: Sequence[int],
    pipeline: int,
    turnaround: int,
    kind: str,
) -> ReadPorts:
    """Place a read network in ``m``, its submodules and signals named after ``name``. ``layers``: `ChipConfig.network_layers`.

    Raises ValueError if ``layers`` do not fit ``ports``, or ``kind`` is unknown.
    """
    _check(ports, layers, kind)
    depth = network_depth(layers, pipeline)
    made = []
    if kind == "crossbar" and layers:
        crossbar = ReadCrossbar(ports=ports, payload=payload, data=data, depth=depth, turnaround=turnaround)
        made.append(_Layer(0, sum(layers), crossbar))
    else:
        low = 0
        for i, stages in enumerate(layers):
            rest = sum(layers[i + 1 :])
            wait = turnaround + 2 * network_depth(layers[i + 1 :], pipeline)
            block = ReadButterfly(stages=stages, payload=payload + rest, data=data, pipeline=pipeline, turnaround=wait)
            made.append(_Layer(low, stages, block))
            low += stages
    sent, placed = _send(m, name, made, ports=ports, payload=payload, depth=depth, way="request")

    bank_data = [Signal(data, name=f"{name}_bank_data_{b}") for b in range(ports)]
    pod_data = [Signal(data, name=f"{name}_data_{p}") for p in range(ports)]
    words: list[Value] = list(bank_data)
    for layer, blocks in zip(reversed(made), reversed(placed), strict=True):
        for group, block_ports in enumerate(blocks):
            wires = layer.wires(group)
            m.d.comb += block_ports["bank_data"].eq(Cat(words[wire] for wire in wires))
            for k, wire in enumerate(wires):
                words[wire] = block_ports["data"].word_select(k, data)
    m.d.comb += [signal.eq(word) for signal, word in zip(pod_data, words, strict=True)]
    return ReadPorts(**vars(sent), bank_data=bank_data, data=pod_data)


def write_network(m: Module, name: str, *, ports: int, payload: int, layers: Sequence[int], pipeline: int, kind: str) -> WritePorts:
    """Place a write network in ``m``, as `read_network` does."""
    _check(ports, layers, kind)
    depth = network_depth(layers, pipeline)
    made = []
    if kind == "crossbar" and layers:
        made.append(_Layer(0, sum(layers), WriteCrossbar(ports=ports, payload=payload, depth=depth)))
    else:
        low = 0
        for i, stages in enumerate(layers):
            block = WriteButterfly(stages=stages, payload=payload + sum(layers[i + 1 :]), pipeline=pipeline)
            made.append(_Layer(low, stages, block))
            low += stages
    return _send(m, name, made, ports=ports, payload=payload, depth=depth, way="write")[0]


def _send(
    m: Module, name: str, layers: list[_Layer], *, ports: int, payload: int, depth: int, way: str
) -> tuple[WritePorts, list[list[dict[str, Any]]]]:
    """Place all blocks and wire them from the pods to the banks; also returns the ports of the blocks of each layer."""
    stages = bits_for_index(ports)

    def signals(part: str, width: int) -> list[Signal]:
        return [Signal(width, name=f"{name}_{part}_{i}") for i in range(ports)]

    valid, bank, words = signals("valid", 1), signals("bank", stages), signals("payload", payload)
    bank_valid, bank_payload = signals("bank_valid", 1), signals("bank_payload", payload)
    errors, placed = [], []
    valids: list[Value] = list(valid)
    # The bits of the bank that are not yet used travel below the payload.
    carried: list[Value] = [Cat(b, word) if layers else word for b, word in zip(bank, words, strict=True)]
    for i, layer in enumerate(layers):
        blocks = []
        for group in range(ports >> layer.stages):
            block = place(m, f"{name}_layer_{i}_{group}", layer.block)
            wires = layer.wires(group)
            m.d.comb += [
                block[f"{way}_valid"].eq(Cat(valids[wire] for wire in wires)),
                block[f"{way}_route"].eq(Cat(carried[wire][: layer.stages] for wire in wires)),
                block[f"{way}_payload"].eq(Cat(carried[wire][layer.stages :] for wire in wires)),
            ]
            for k, wire in enumerate(wires):
                valids[wire] = block["bank_valid"][k]
                carried[wire] = block["bank_payload"].word_select(k, len(block["bank_payload"]) // len(wires))
            above = stages - layer.low - layer.stages
            wire = Cat(Const(group & ((1 << layer.low) - 1), layer.low), block["error_port"], Const(group >> layer.low, above))
            errors.append(NetworkError(block["error"], (block["error_stage"] + layer.low)[: bits_for_index(stages)], wire))
            blocks.append(block)
        placed.append(blocks)
    for b in range(ports):
        m.d.comb += [bank_valid[b].eq(valids[b]), bank_payload[b].eq(carried[b])]
    return WritePorts(valid, bank, words, bank_valid, bank_payload, errors, depth), placed


class _NetworkTop(Block):
    """What the flat networks share: members that are ports side by side, and one record of errors."""

    def _wire(self, m: Module, network: WritePorts, inputs: dict[str, list[Signal]], outputs: dict[str, list[Signal]]) -> None:
        for member, signals in inputs.items():
            m.d.comb += Cat(signals).eq(getattr(self, member))
        for member, signals in outputs.items():
            m.d.comb += getattr(self, member).eq(Cat(signals))
        if network.errors:
            record_errors(m, network.errors, error=self.error, stage=self.error_stage, port=self.error_port)


def _errors(ports: int) -> dict[str, Any]:
    stages = bits_for_index(ports)
    return {"error": Out(1), "error_stage": Out(bits_for_index(stages)), "error_port": Out(stages)}


class ReadNetwork(_NetworkTop):
    """A read network with flat ports, for tests and area reports; small enough for one module.

    Latency: as of `ReadPorts`; 2 cycles from the first conflict to ``error``.

    Parameters
    ----------
    ports : int
        Pods, and banks: a power of two; ``index`` below is ``bits_for_index(ports)``.
    payload : int
        Bits of a request beside its bank.
    data : int
        Bits of a word.
    layers : Sequence[int]
        Stages of each layer of blocks, from the pods on; ``ports`` is 2 to their sum.
    pipeline : int
        A register after every ``pipeline`` stages, and after the last.
    turnaround : int
        Cycles from a request at a bank to its word there.
    kind : str
        One of `NETWORK_KINDS`.

    Members
    -------
    request_valid, request_bank, request_payload : In(ports), In(ports * index), In(ports * payload)
        Requests, their banks and payloads, by pod.
    data : Out(ports * data)
        Words, by pod.
    bank_valid, bank_payload : Out(ports), Out(ports * payload)
        Requests and their payloads, by bank.
    bank_data : In(ports * data)
        Words, by bank.
    error : Out(1)
        Sticky until reset, two cycles after the first conflict.
    error_stage, error_port : Out(bits_for_index(index)), Out(index)
        Its stage and the wire after it. Of conflicts in one cycle, that in the first block counts (layers from the pods on, in
        each by the first wire), in it that of the lowest stage, then of the lowest wire.

    Errors
    ------
    ValueError
        ``ports``, ``layers`` or ``kind`` are not legal.
    """

    kind = "read_network"

    def __init__(
        self, *, ports: int, payload: int, data: int, layers: Sequence[int], pipeline: int, turnaround: int, kind: str = "butterfly"
    ):
        self.sizes: dict[str, Any] = {"ports": ports, "payload": payload, "data": data, "layers": tuple(layers)}
        self.sizes |= {"pipeline": pipeline, "turnaround": turnaround, "kind": kind}
        _check(ports, layers, kind)
        shape = "_".join(map(str, layers))
        self.variant = f"{kind}_{ports}x{data}_payload{payload}_layers{shape}_pipeline{pipeline}_turnaround{turnaround}"
        super().__init__(
            {
                "request_valid": In(ports),
                "request_bank": In(ports * bits_for_index(ports)),
                "request_payload": In(ports * payload),
                "data": Out(ports * data),
                "bank_valid": Out(ports),
                "bank_payload": Out(ports * payload),
                "bank_data": In(ports * data),
                **_errors(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network = read_network(m, "network", **self.sizes)
        inputs = {"request_valid": network.valid, "request_bank": network.bank, "request_payload": network.payload}
        outputs = {"bank_valid": network.bank_valid, "bank_payload": network.bank_payload, "data": network.data}
        self._wire(m, network, inputs | {"bank_data": network.bank_data}, outputs)
        return m


class WriteNetwork(_NetworkTop):
    """A write network with flat ports, for tests and area reports; small enough for one module.

    Latency: as of `WritePorts`; 2 cycles from the first conflict to ``error``.

    Parameters
    ----------
    ports, payload, layers, pipeline, kind : int, int, Sequence[int], int, str
        As of a `ReadNetwork`.

    Members
    -------
    write_valid, write_bank, write_payload : In(ports), In(ports * index), In(ports * payload)
        Words, their banks and payloads, by pod.
    bank_valid, bank_payload : Out(ports), Out(ports * payload)
        Words and their payloads, by bank.
    error, error_stage, error_port : Out(1), Out(bits_for_index(index)), Out(index)
        As in a `ReadNetwork`.

    Errors
    ------
    ValueError
        ``ports``, ``layers`` or ``kind`` are not legal.
    """

    kind = "write_network"

    def __init__(self, *, ports: int, payload: int, layers: Sequence[int], pipeline: int, kind: str = "butterfly"):
        self.sizes: dict[str, Any] = {"ports": ports, "payload": payload, "layers": tuple(layers)}
        self.sizes |= {"pipeline": pipeline, "kind": kind}
        _check(ports, layers, kind)
        self.variant = f"{kind}_{ports}_payload{payload}_layers{'_'.join(map(str, layers))}_pipeline{pipeline}"
        super().__init__(
            {
                "write_valid": In(ports),
                "write_bank": In(ports * bits_for_index(ports)),
                "write_payload": In(ports * payload),
                "bank_valid": Out(ports),
                "bank_payload": Out(ports * payload),
                **_errors(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network = write_network(m, "network", **self.sizes)
        inputs = {"write_valid": network.valid, "write_bank": network.bank, "write_payload": network.payload}
        self._wire(m, network, inputs, {"bank_valid": network.bank_valid, "bank_payload": network.bank_payload})
        return m
