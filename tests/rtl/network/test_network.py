"""Networks in lockstep with their cycle models, every output port in every cycle; and what the contract says, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Out
from numpy.typing import NDArray

from podweave.golden.cycle.chip.network import NetworkGeometry, read_network, write_network
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.network.butterfly import ReadButterfly, WriteButterfly
from podweave.rtl.network.crossbar import ReadCrossbar, WriteCrossbar
from podweave.rtl.network.network import ReadNetwork, WriteNetwork, network_depth
from podweave.rtl.network.network import read_network as place_read_network
from podweave.rtl.network.network import write_network as place_write_network
from podweave.rtl.parts.blocks import Block
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError

Stimulus = dict[str, NDArray]


@dataclass(frozen=True)
class Case:
    """One network, or one block of one. ``payload``, ``data``: (width of a lane, lanes); ``data`` None is a write network."""

    layers: tuple[int, ...]
    pipeline: int
    payload: tuple[int, int]
    data: tuple[int, int] | None = None
    turnaround: int = 0
    kind: str = "butterfly"
    block: bool = False

    def __str__(self) -> str:
        shape = "x".join(map(str, self.layers))
        way = f"read{self.data[0] * self.data[1]}_turnaround{self.turnaround}" if self.data else "write"
        part = "block" if self.block else "network"
        return f"{self.kind}_{part}_{self.ports}_{shape}_pipeline{self.pipeline}_{way}_payload{self.payload[0] * self.payload[1]}"

    @property
    def ports(self) -> int:
        return 1 << sum(self.layers)

    @property
    def geometry(self) -> NetworkGeometry:
        return NetworkGeometry(self.layers, self.pipeline, self.turnaround, self.kind, report=1 if self.block else 2)

    @property
    def way(self) -> str:
        return "request" if self.data else "write"

    @property
    def bank(self) -> str:
        return f"{self.way}_{'route' if self.block else 'bank'}"

    def made(self) -> Block:
        sizes: dict[str, Any] = {"payload": self.payload[0] * self.payload[1]}
        if self.data:
            sizes |= {"data": self.data[0] * self.data[1], "turnaround": self.turnaround}
        if not self.block:
            whole = ReadNetwork if self.data else WriteNetwork
            return whole(ports=self.ports, layers=self.layers, pipeline=self.pipeline, kind=self.kind, **sizes)
        if self.kind == "crossbar":
            crossbar = ReadCrossbar if self.data else WriteCrossbar
            return crossbar(ports=self.ports, depth=self.geometry.depth, **sizes)
        butterfly = ReadButterfly if self.data else WriteButterfly
        return butterfly(stages=self.layers[0], pipeline=self.pipeline, **sizes)


# With `MORE`: all kinds of blocks, 2 to 64 ports, data of 8 to 1024 bits, words within and beyond the 32 and 64 bits of a machine.
CASES = [
    Case((1,), 1, (7, 1), (8, 1), 1, block=True),
    # Of one port: wires.
    Case((), 1, (7, 1), (8, 4), 1),
    Case((), 2, (8, 2)),
    Case((2,), 1, (5, 1), (20, 3), 1),
    Case((3, 2), 1, (20, 5)),
    Case((3,), 1, (10, 1), (8, 16), 1, "crossbar", block=True),
    Case((2,), 2, (11, 3), kind="crossbar", block=True),
]
MORE = [
    Case((3,), 2, (12, 1), (8, 128), 3, block=True),
    Case((4,), 3, (8, 9), block=True),
    Case((3, 2), 2, (9, 1), (8, 32), 3),
    Case((3, 2), 2, (16, 2), (8, 8), 3, "crossbar"),
]
CAMPAIGN = [
    Case((3, 3), 1, (14, 1), (8, 8), 1),
    Case((3, 3), 3, (8, 16)),
    Case((4,), 1, (16, 1), (8, 128), 1),
    Case((3, 2), 1, (17, 1), (8, 128), 1),
    Case((3, 3), 2, (16, 1), (8, 64), 3),
    Case((4, 3), 2, (13, 1), (8, 32), 1),
    Case((4, 4), 3, (8, 1), (8, 8), 1),
    Case((4, 4), 1, (8, 16)),
    Case((3, 3), 1, (8, 64)),
    Case((3, 3), 3, (12, 1), (8, 32), 1, "crossbar"),
    Case((3, 3), 1, (8, 40), kind="crossbar"),
]
SMALL = [Case((2, 1), 1, (6, 1), (8, 2), 1), Case((2, 1), 2, (8, 2))]


@cache
def bench(case: Case) -> BlockBench:
    lanes = {
        f"{case.way}_valid": (1, case.ports, False),
        case.bank: (max(1, sum(case.layers)), case.ports, False),
        "bank_valid": (1, case.ports, False),
    }
    for port in (f"{case.way}_payload", "bank_payload"):
        lanes[port] = (case.payload[0], case.ports * case.payload[1], False)
    if case.data:
        lanes |= dict.fromkeys(("bank_data", "data"), (case.data[0], case.ports * case.data[1], False))
    return BlockBench.of(case.made(), lanes, random_initial_state=True)


def expected(case: Case, stimulus: Stimulus) -> dict[str, PortTrace]:
    valid, bank = stimulus[f"{case.way}_valid"], stimulus[case.bank]
    payload = stimulus[f"{case.way}_payload"].reshape(*valid.shape, -1)
    if not case.data:
        return write_network(valid, bank, payload, case.geometry)
    return read_network(valid, bank, payload, stimulus["bank_data"].reshape(*valid.shape, -1), case.geometry)


def lanes(rng: np.random.Generator, shape: tuple[int, ...], width: int) -> NDArray[np.int64]:
    """Random lanes, of which the extremes are as likely as all others together."""
    values = rng.integers(0, 1 << width, shape)
    return np.where(rng.random(shape) < 0.5, values, rng.choice([0, (1 << width) - 1], shape))


def pattern(rng: np.random.Generator, ports: int, *, multicast: bool) -> NDArray[np.int64]:
    """The bank of each pod, in a pattern without conflicts: aligned groups of pods share a bank, groups are permuted."""
    stages = ports.bit_length() - 1
    group = int(rng.integers(0, stages + 1)) if multicast and rng.random() < 0.5 else 0
    count = ports >> group
    index, c = np.arange(count), int(rng.integers(0, count))
    kinds = [index, index ^ c, (index + c) % count, ((2 * c + 1) * index + int(rng.integers(0, count))) % count]
    high = kinds[rng.integers(0, 4)] << group
    return np.repeat(high | rng.integers(0, 1 << group, count), 1 << group)


def wires(pod: int, bank: int, stages: int) -> Iterator[tuple[int, int]]:
    """(stage, wire) of all wires on the way from a pod to a bank, as the contract numbers them."""
    for s in range(stages):
        yield s, (pod >> (s + 1) << (s + 1)) | (bank & ((2 << s) - 1))


def without_conflicts(rng: np.random.Generator, valid: NDArray, bank: NDArray, stages: int, *, merges: bool) -> NDArray[np.bool_]:
    """``valid`` without those requests that would meet another one on a wire; words for one bank are taken to be equal."""
    kept = np.zeros_like(valid)
    for t in range(len(valid)):
        taken: dict[tuple[int, int], int] = {}
        for pod in rng.permutation(np.flatnonzero(valid[t])):
            way = list(wires(int(pod), int(bank[t, pod]), stages))
            if all(wire not in taken or (merges and taken[wire] == bank[t, pod]) for wire in way):
                taken |= dict.fromkeys(way, int(bank[t, pod]))
                kept[t, pod] = True
    return kept


def traffic(rng: np.random.Generator, case: Case, cycles: int) -> Stimulus:
    """Legal traffic in spells: patterns of all pods, patterns with bubbles, patterns of pairs of cycles, random requests."""
    ports, stages = case.ports, sum(case.layers)
    merges = case.data is not None
    valid, bank = np.zeros((cycles, ports), bool), rng.integers(0, ports, (cycles, ports))
    begin = 0
    while begin < cycles:
        end = min(cycles, begin + int(rng.integers(4, 40)))
        load = rng.choice([1.0, 0.7, 0.1])
        if rng.random() < 0.3:
            valid[begin:end] = rng.random((end - begin, ports)) < load
            valid[begin:end] = without_conflicts(rng, valid[begin:end], bank[begin:end], stages, merges=merges)
        else:
            for t in range(begin, end):
                bank[t] = pattern(rng, ports, multicast=merges)
            valid[begin:end] = rng.random((end - begin, ports)) < load
        begin = end
    return filled(rng, case, valid, bank)


def filled(rng: np.random.Generator, case: Case, valid: NDArray, bank: NDArray) -> Stimulus:
    """Payloads (equal for requests of one cycle to one bank, where valid) and data for requests."""
    cycles, ports = valid.shape
    time = np.arange(cycles)[:, None]
    by_bank = lanes(rng, (cycles, ports, case.payload[1]), case.payload[0])
    by_pod = lanes(rng, (cycles, ports, case.payload[1]), case.payload[0])
    payload = np.where(valid[:, :, None], by_bank[time, bank], by_pod)
    stimulus = {f"{case.way}_valid": valid, case.bank: bank, f"{case.way}_payload": payload.reshape(cycles, -1)}
    if case.data:
        stimulus["bank_data"] = lanes(rng, (cycles, ports * case.data[1]), case.data[0])
    return stimulus


def illegal(rng: np.random.Generator, case: Case, cycles: int, load: float) -> Stimulus:
    """Requests at random, conflicts and all; few different payloads, so that some merge, and differences in any one bit."""
    valid = rng.random((cycles, case.ports)) < load
    bank = rng.integers(0, case.ports, valid.shape)
    stimulus = filled(rng, case, valid, bank)
    payload = stimulus[f"{case.way}_payload"]
    flipped = (rng.random(payload.shape) < 0.1 / case.payload[1]) << rng.integers(0, case.payload[0], payload.shape)
    stimulus[f"{case.way}_payload"] = payload ^ flipped
    return stimulus


def delivered(case: Case, stimulus: Stimulus, observed: dict[str, NDArray[np.int64]]) -> int:
    """Holds legal traffic against the contract alone; returns how many words were followed."""
    valid, bank = stimulus[f"{case.way}_valid"], stimulus[case.bank]
    cycles, ports = valid.shape
    depth = network_depth(case.layers, case.pipeline)
    payload = stimulus[f"{case.way}_payload"].reshape(cycles, ports, -1)
    at, pod = np.nonzero(valid[: cycles - depth])
    to = bank[at, pod]
    asked = np.zeros((cycles, ports), np.int64)
    asked[at + depth, to] = 1
    np.testing.assert_array_equal(observed["bank_valid"], asked)
    arrived = observed["bank_payload"].reshape(cycles, ports, -1)[at + depth, to]
    np.testing.assert_array_equal(arrived, payload[at, pod])
    assert not observed["error"].any()
    if case.data:
        latency = 2 * depth + case.turnaround
        at, pod = np.nonzero(valid[: cycles - latency])
        at_banks = stimulus["bank_data"].reshape(cycles, ports, -1)
        at_pods = observed["data"].reshape(cycles, ports, -1)
        np.testing.assert_array_equal(at_pods[at + latency, pod], at_banks[at + depth + case.turnaround, bank[at, pod]])
    return len(at)


def lockstep(case: Case, cycles: int) -> None:
    rng = np.random.default_rng([case.ports, case.pipeline, *case.payload])
    stimulus = traffic(rng, case, cycles)
    observed = bench(case).run(stimulus)
    compared = bench(case).check(expected(case, stimulus), observed)
    assert compared > 0.8 * cycles * sum(max(1, port.lanes) for port in bench(case).outputs)
    assert delivered(case, stimulus, observed) > 0.3 * cycles * case.ports
    for seed, load in enumerate((0.02, 0.3, 1.0)):
        # The first conflict ends what an error can tell: start over.
        stimulus = illegal(rng, case, min(cycles, 120), load)
        observed = bench(case).run(stimulus, seed=seed + 1, reset_at=50 * (seed % 2) or None)
        bench(case).check(expected(case, stimulus), observed)
        assert observed["error"][-1] or load < 0.3 or case.ports == 1


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.more) for case in MORE)], ids=str)
def test_lockstep(case: Case) -> None:
    lockstep(case, 400)


@pytest.mark.campaign
@pytest.mark.parametrize("case", CAMPAIGN, ids=str)
def test_campaign(case: Case) -> None:
    lockstep(case, 300)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.more
def test_first_error_of_many_runs(case: Case) -> None:
    """Few words per run, so that conflicts in different layers, blocks and stages come first, and several in one cycle."""
    rng = np.random.default_rng(3)
    seen = set()
    for seed in range(8):
        stimulus = illegal(rng, case, 40, 0.15 + 0.05 * (seed % 4))
        observed = bench(case).run(stimulus, seed=seed)
        bench(case).check(expected(case, stimulus), observed)
        if observed["error"][-1]:
            seen.add((int(observed["error_stage"][-1]), int(observed["error_port"][-1])))
    assert len({stage for stage, _ in seen}) > 1
    assert len(seen) > 4


def test_error_by_hand_and_its_reset() -> None:
    """Pods 0 and 1 write banks 0 and 2: one wire after stage 0. Shown two cycles later, kept, and gone after a reset."""
    case = SMALL[1]
    valid, bank = np.zeros((30, 8), bool), np.zeros((30, 8), np.int64)
    valid[10, [0, 1]], bank[10, [0, 1]] = True, (0, 2)
    # A later conflict elsewhere changes nothing.
    valid[14, [4, 5]], bank[14, [4, 5]] = True, (7, 5)
    stimulus = filled(np.random.default_rng(0), case, valid, bank)
    observed = bench(case).run(stimulus)
    assert observed["error"].tolist() == [0] * 12 + [1] * 18
    assert set(observed["error_stage"]) == set(observed["error_port"]) == {0}
    # The lower wire goes on.
    assert np.argwhere(observed["bank_valid"])[0].tolist() == [12, 0]

    bank[10, [0, 1]] = (5, 1)
    stimulus[case.bank] = bank
    observed = bench(case).run(stimulus, reset_at=25)
    assert observed["error"].tolist() == [0] * 12 + [1] * 18
    assert set(observed["error_stage"][12:]) == {0}
    assert set(observed["error_port"][12:]) == {1}
    quiet = {name: np.zeros_like(values) for name, values in stimulus.items()}
    quiet[f"{case.way}_valid"][:20], quiet[case.bank][:20] = valid[10:], bank[10:]
    observed = bench(case).run(quiet, reset_at=9)
    bench(case).check(expected(case, quiet), observed)
    assert observed["error"].tolist() == [0, 0] + [1] * 28


@pytest.mark.parametrize("port", ["bank_valid", "bank_payload", "data", "error", "error_stage", "error_port"])
def test_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    case = SMALL[0]
    stimulus = traffic(np.random.default_rng(1), case, 200)
    observed = bench(case).run(stimulus)
    bench(case).check(expected(case, stimulus), observed)
    values = observed[port]
    at = (111, values.shape[1] - 1) if values.ndim == 2 else (111,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"cycle 111, port {port}{lane}: expected"):
        bench(case).check(expected(case, stimulus), observed)


@pytest.mark.parametrize("change", ["turnaround", "pipeline", "layers", "merging"])
def test_a_network_with_another_contract_is_found(change: str) -> None:
    case = SMALL[0]
    rng = np.random.default_rng(2)
    stimulus = illegal(rng, case, 200, 0.3) if change in ("layers", "merging") else traffic(rng, case, 200)
    observed = bench(case).run(stimulus)
    changed = {
        "turnaround": Case(case.layers, case.pipeline, case.payload, case.data, 2),
        "pipeline": Case(case.layers, 2, case.payload, case.data, 1),
        "layers": Case((1, 2), 2, case.payload, case.data, 1),
    }
    if change == "merging":
        valid, bank = stimulus["request_valid"], stimulus[case.bank]
        model = write_network(valid, bank, stimulus["request_payload"].reshape(*valid.shape, -1), case.geometry)
        model |= {"data": expected(case, stimulus)["data"]}
    else:
        model = expected(changed[change], stimulus)
    with pytest.raises(LockstepError):
        bench(case).check(model, observed)


class _Chip(Block):
    """A read network that is too large for one module, in a parent."""

    kind = "network_parent"

    def __init__(self, ports: int, data: int, layers: tuple[int, ...]):
        self.sizes: dict[str, Any] = {"ports": ports, "data": data, "layers": layers}
        super().__init__({"error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network = place_read_network(m, "x", payload=12, pipeline=2, turnaround=1, kind="butterfly", **self.sizes)
        assert [len(part) for part in (network.valid, network.data, network.bank_data)] == [self.sizes["ports"]] * 3
        flag = network.errors[0].flag
        for error in network.errors[1:]:
            flag = flag | error.flag
        m.d.comb += self.error.eq(flag)
        return m


@pytest.mark.more
def test_a_network_beyond_the_limit_of_a_module_has_two_kinds_of_blocks() -> None:
    modules = emit_block(_Chip(128, 520, (4, 3))).sidecar["modules"]
    assert modules["network_parent"]["instances"] == {
        "read_butterfly_16x520_payload15_pipeline2_turnaround5": 8,
        "read_butterfly_8x520_payload12_pipeline2_turnaround1": 16,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ports": 12}, "a network has a power of two of ports, got 12"),
        ({"ports": 1, "layers": (0,)}, r"layers \(0,\) do not make the 0 stages of 1 ports"),
        ({"layers": (2, 2)}, r"layers \(2, 2\) do not make the 3 stages of 8 ports"),
        ({"layers": (3, 0)}, r"layers \(3, 0\) do not make the 3 stages of 8 ports"),
        ({"kind": "ring"}, "network kind must be one of butterfly, crossbar, got 'ring'"),
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    sizes: dict[str, Any] = {"ports": 8, "layers": (3,), "kind": "butterfly"}
    with pytest.raises(ValueError, match=message):
        # Refused before anything is placed; a module that is never emitted would make Amaranth complain.
        place_write_network(None, "y", payload=4, pipeline=1, **sizes | changes)
