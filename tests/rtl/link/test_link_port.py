"""The link port in lockstep with its cycle model: every output port, every cycle."""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.link.port import PortModel
from podweave.golden.cycle.link.words import FAULT, flit_crc
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.link.link_port import LinkPort, buffer_flits
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError

from .link_cases import CONFIGS, block_bench

CYCLES = 8000
NAMES = ("4_1", "8_2", "2_4")
Stimulus = dict[str, NDArray]


def bench_with(name: str, alter: Callable[[str], str] | None = None) -> BlockBench:
    return block_bench(LinkPort(CONFIGS[name]), alter)


bench_of = functools.cache(bench_with)


def random_stimulus(rng: np.random.Generator, name: str, cycles: int = CYCLES) -> Stimulus:
    """Runs of a few hundred cycles; flits and credits mostly of the run that is on, some of others, some broken."""
    bench, words = bench_of(name), CONFIGS[name].links.buffer_words  # type: ignore[union-attr]
    found = {p.name: rng.integers(0, 1 << p.width, (cycles, p.lanes) if p.lanes else cycles) for p in bench.inputs}

    def rate(*choices: float) -> NDArray[np.bool_]:
        return rng.random(cycles) < rng.choice(choices, cycles // 100 + 1).repeat(100)[:cycles]

    found["start"] = rng.random(cycles) < 0.004
    number = np.cumsum(np.append(0, found["start"][:-1])) * 3 % 16
    found["run"] = (number + 3) % 16
    found["fault"], found["give_back"] = rate(0.0, 0.01, 0.2), np.zeros(cycles, bool)
    found["send_valid"], found["send_first"] = rate(0.1, 0.6, 1.0), rate(0.1, 0.5)
    found["received_ready"], found["link_tx_ready"] = rate(0.0, 0.3, 1.0), rate(0.1, 0.6, 1.0)
    found["link_tx_up"], found["link_rx_up"] = rng.random(cycles) < 0.9, rng.random(cycles) < 0.9
    found["link_tx_credit"] = rate(0.0, 0.3, 0.5)
    # Now and then, a number before that of the run, or the one behind.
    found["link_tx_credit_run"] = (number + 3 * rng.choice([0, -1, 1], cycles, p=[0.98, 0.01, 0.01])) % 16
    found["link_rx_valid"] = rate(0.0, 0.2, 1.0)
    kind = rng.choice(4, cycles, p=[0.8, 0.1, 0.02, 0.08])
    # A FAULT comes as often before its run, or after it, as in it, and is often broken.
    far = rng.choice([0, -1, 1], cycles, p=[0.9, 0.05, 0.05])
    run = number + 3 * np.where(kind == FAULT, rng.choice([0, -1, 1], cycles), far)
    found["link_rx_user"] = kind | run % 16 << 2
    broken = (rng.random(cycles) < np.where(kind == FAULT, 0.3, 0.003)) * rng.integers(1, 1 << 16, cycles)
    found["link_rx_crc"] = flit_crc(found["link_rx_data"].astype(np.uint8), found["link_rx_user"]) ^ broken
    # Not more are given back than there are.
    due = 0
    for cycle, back in enumerate(rate(0.0, 0.2, 0.9)):
        found["give_back"][cycle] = back and due < words
        due = words if found["start"][cycle] else due + int(found["give_back"][cycle]) - (due > 0)
    return found


def expected(name: str, stimulus: Stimulus) -> dict[str, PortTrace]:
    config = CONFIGS[name]
    assert config.links is not None
    return PortModel(stimulus, buffer_words=config.links.buffer_words, room=buffer_flits(config)).ports()


@pytest.mark.parametrize("name", NAMES)
def test_lockstep(name: str) -> None:
    bench, seen = bench_of(name), set()
    for seed in range(3):
        stimulus = random_stimulus(np.random.default_rng([seed, *name.encode()]), name)
        traces = expected(name, stimulus)
        assert bench.check(traces, bench.run(stimulus, seed=seed)) > 10 * CYCLES
        seen |= {port for port, trace in traces.items() if trace.value.any() and not trace.value.all()}
        sent = traces["link_tx_user"].value[traces["link_tx_valid"].value == 1] & 3
        seen |= {"fault"} if (sent == FAULT).any() else set()
    assert seen == {"fault", *(port.name for port in bench.outputs)}


def test_a_fault_of_one_run_is_not_of_another_with_the_same_number() -> None:
    """Numbers of runs come again after 16 starts: a FAULT that came in one, or before it, is for that one alone."""
    name, apart = "4_1", 10
    cycles = 40 * apart
    stimulus = random_stimulus(np.random.default_rng(8), name, cycles)
    stimulus["link_rx_valid"][:] = stimulus["link_tx_credit"][:] = stimulus["give_back"][:] = 0
    stimulus["start"] = np.arange(cycles) % apart == apart - 1
    stimulus["run"] = (1 + np.arange(cycles) // apart) % 16
    # In the run 3, and of the run 5 while it is 4; both numbers come again, in 19 and 21, and in 35 and 37.
    for cycle, run in ((3 * apart + 2, 3), (4 * apart + 2, 5)):
        stimulus["link_rx_valid"][cycle], stimulus["link_rx_user"][cycle] = 1, FAULT | run << 2
    stimulus["link_rx_crc"] = flit_crc(stimulus["link_rx_data"].astype(np.uint8), stimulus["link_rx_user"])
    observed = bench_of(name).run(stimulus)
    bench_of(name).check(expected(name, stimulus), observed)
    failed = np.flatnonzero(observed["neighbour_failed"])
    assert failed.tolist() == [*range(3 * apart + 4, 4 * apart), *range(5 * apart, 6 * apart)]


@pytest.mark.campaign
@pytest.mark.parametrize("name", CONFIGS)
def test_campaign(name: str) -> None:
    for seed in range(1000, 1015):
        stimulus = random_stimulus(np.random.default_rng([seed, *name.encode()]), name)
        bench_of(name).check(expected(name, stimulus), bench_of(name).run(stimulus, seed=seed))


PLANTED = {
    # What is searched for in the Verilog of "4_1", and what takes its place.
    "room for one flit less": (r"(full = level == 5'h)10", r"\g<1>0f"),
    "credits that are not given back": (r"= credits_due \+ give_back;", "= credits_due;"),
    "credits of any run": (r"= credit_run == current_run", "= 1'h1"),
    "flits of any run": (r"= arriving_user\[5:2\] == current_run", "= 1'h1"),
    "an early fault is forgotten": (r"= fault_run != run;", "= 1'h1;"),
    "a fault with a wrong CRC": (r"= fault_arrives & good;", "= fault_arrives;"),
    "a fault needs a credit": (r"= fault_pending \| (_\d+_);", r"= (fault_pending & (| credits)) | \1;"),
    "what waits is not kept": (r"moves = (_\d+_) \| link_tx_ready;", "moves = 1'h1;"),
}


@functools.cache
def telling_stimulus() -> Stimulus:
    return random_stimulus(np.random.default_rng(3), "4_1", 4000)


@pytest.mark.campaign
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_seen(what: str) -> None:
    pattern, instead = PLANTED[what]

    def plant(verilog: str) -> str:
        changed, count = re.subn(pattern, instead, verilog)
        assert count == 1
        return changed

    bench, stimulus = bench_with("4_1", plant), telling_stimulus()
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        bench.check(expected("4_1", stimulus), bench.run(stimulus))


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    bench, stimulus = bench_of("4_1"), telling_stimulus()
    traces, observed = expected("4_1", stimulus), bench.run(stimulus)
    assert sorted(traces) == sorted(port.name for port in bench.outputs)
    for port, trace in traces.items():
        values = observed[port].copy()
        cycle = int(np.flatnonzero(trace.known.reshape(len(trace.known), -1).all(axis=1))[-1])
        values[(cycle, -1) if values.ndim == 2 else cycle] ^= 1
        with pytest.raises(LockstepError, match=f"at cycle {cycle}, port {port}"):
            bench.check(traces, {**observed, port: values})


def test_crc_is_that_of_others() -> None:
    """Of the standard library, over the bytes of a flit as the contract orders them."""
    rng = np.random.default_rng(5)
    data, user = rng.integers(0, 256, (50, 16)).astype(np.uint8), rng.integers(0, 64, 50)
    others = [binascii.crc_hqx(row.tobytes() + bytes([beside]), 0xFFFF) for row, beside in zip(data, user.tolist(), strict=True)]
    np.testing.assert_array_equal(flit_crc(data, user), others)
