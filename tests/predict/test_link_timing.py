"""A simulated link in lockstep with what is said of it: every output port, every cycle, any traffic; and its faults."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace
from podweave.predict.link_timing import NEVER, LinkTiming
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.build.verilate import HARNESS_DIRECTORY
from podweave.tb.lockstep.ports import LockstepError, Port

CYCLES = 3000
FLIT, USER = 64, 6
SOURCE = (HARNESS_DIRECTORY / "sv" / "link.sv").read_text()
TIMINGS = {
    "default": LinkTiming(),
    "least": LinkTiming(latency=1),
    "slow": LinkTiming(latency=7, beat_sixteenths=37),
    "nearly": LinkTiming(latency=3, beat_sixteenths=17),
    "jitter": LinkTiming(latency=5, jitter=13, seed=0xDEADBEEF),
    "slow_jitter": LinkTiming(latency=1, beat_sixteenths=24, jitter=3, seed=7),
    "longest": LinkTiming(latency=2048, jitter=2047, seed=3),
    "down": LinkTiming(latency=9, jitter=2, down=160, beyond=164),
    "corrupt": LinkTiming(latency=4, corrupt=20, corrupt_bit=70),
}
DATA = ("tx_data", "tx_user", "tx_crc")


def bench_of(alter: tuple[str, str] | None = None) -> BlockBench:
    source = SOURCE
    if alter:
        assert source.count(alter[0]) == 1
        source = source.replace(*alter)
    inputs = [Port("restart", 1), Port("tx_valid", 1), Port("tx_data", 32, FLIT // 32), Port("tx_user", USER), Port("tx_crc", 16)]
    inputs += [Port("rx_credit", 1), Port("rx_credit_run", 4), Port("tx_rst", 1)]
    outputs = [Port("tx_ready", 1), Port("tx_credit", 1), Port("tx_credit_run", 4), Port("rx_valid", 1)]
    outputs += [Port("rx_data", 32, FLIT // 32), Port("rx_user", USER), Port("rx_crc", 16), Port("up", 1), Port("violation", 1)]
    return BlockBench.of_sources(
        f"link #(.FLIT_BITS({FLIT}), .USER_BITS({USER}))", {"design.sv": source}, inputs, outputs, random_initial_state=True
    )


bench = functools.cache(bench_of)


def extras(timing: LinkTiming, count: int) -> list[int]:
    """Cycles that flits take longer."""
    found, x = [], timing.seed
    for _ in range(count):
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        found.append(x * (timing.jitter + 1) >> 32)
    return found


@dataclasses.dataclass
class Case:
    stimulus: dict[str, NDArray]
    expected: dict[str, PortTrace]
    accepted: list[int]
    lost: int


def case_of(timing: LinkTiming, seed: int, restarts: tuple[int, ...] = (40, 1500)) -> Case:
    """Flits wait where they are not taken; what they are changes only then, or with a reset. Credits whenever they like."""
    rng = np.random.default_rng(seed)
    wanted = rng.random(CYCLES) < rng.choice([0.1, 0.6, 1.0], CYCLES // 100).repeat(100)
    # A transmitter has nothing to send before its chip has started.
    wanted[: restarts[0] + 1] = False
    values = {"tx_data": rng.integers(-(2**31), 2**31, (CYCLES, 2)), "tx_user": rng.integers(0, 1 << USER, CYCLES)}
    values["tx_crc"] = rng.integers(0, 1 << 16, CYCLES)
    credit, credit_run = rng.random(CYCLES) < 0.3, rng.integers(0, 16, CYCLES)
    late, reset = extras(timing, CYCLES), rng.random(CYCLES) < 0.05
    up, ready, valid = np.ones(CYCLES, bool), np.zeros(CYCLES, bool), np.zeros(CYCLES, bool)
    arrivals: list[tuple[int, int, bool]] = []
    next16 = last = count = lost = 0
    start = None
    accepted: list[int] = []
    for t in range(CYCLES):
        # A restart in cycle r: cycle 0 of its count is r + 1.
        begun = [r for r in restarts if r < t]
        up[t] = not (begun and timing.down <= t - begun[-1] - 1 < timing.beyond)
        if begun and start != begun[-1]:
            start, count = begun[-1], 0
        ready[t] = up[t] and next16 <= 16 * t + 15
        valid[t] = wanted[t] or (t > 0 and valid[t - 1] and not ready[t - 1] and not reset[t - 1])
        if t and valid[t - 1] and not ready[t - 1] and not reset[t - 1]:
            for name in DATA:
                values[name][t] = values[name][t - 1]
        if valid[t] and ready[t]:
            next16 = max(next16, 16 * t) + timing.beat_sixteenths
            last = max(t + timing.latency + late[count], last + 1)
            arrivals.append((t, last, count == timing.corrupt))
            accepted.append(t)
            count += 1
    expected = {name: np.zeros(CYCLES, np.int64) for name in ("tx_credit", "tx_credit_run", "rx_valid", "rx_user", "rx_crc")}
    expected["rx_data"] = np.zeros((CYCLES, 2), np.int64)
    for t, arrives, corrupt in arrivals:
        if arrives >= CYCLES:
            continue
        if not up[t : arrives + 1].all():
            lost += 1
            continue
        expected["rx_valid"][arrives] = 1
        flit = sum((int(word) & 0xFFFFFFFF) << 32 * i for i, word in enumerate(values["tx_data"][t]))
        flit |= int(values["tx_user"][t]) << FLIT | int(values["tx_crc"][t]) << FLIT + USER
        flit ^= int(corrupt) << timing.corrupt_bit
        expected["rx_data"][arrives] = [flit & 0xFFFFFFFF, flit >> 32 & 0xFFFFFFFF]
        expected["rx_user"][arrives], expected["rx_crc"][arrives] = flit >> FLIT & (1 << USER) - 1, flit >> FLIT + USER
    for t in np.flatnonzero(credit[: max(0, CYCLES - timing.latency)]):
        if up[t : t + timing.latency + 1].all():
            expected["tx_credit"][t + timing.latency] = 1
            expected["tx_credit_run"][t + timing.latency] = credit_run[t]
    expected |= {"tx_ready": ready.astype(np.int64), "up": up.astype(np.int64), "violation": np.zeros(CYCLES, np.int64)}
    known = {name: np.ones(CYCLES, bool) for name in expected}
    for name in ("rx_user", "rx_crc"):
        known[name] = expected["rx_valid"] == 1
    known["rx_data"] = np.repeat(expected["rx_valid"][:, None] == 1, 2, axis=1)
    known["tx_credit_run"] = expected["tx_credit"] == 1
    restart = np.zeros(CYCLES, bool)
    restart[list(restarts)] = True
    stimulus = {"restart": restart, "tx_rst": reset, "tx_valid": valid, "rx_credit": credit, "rx_credit_run": credit_run, **values}
    return Case(stimulus, {name: PortTrace(expected[name], known[name]) for name in expected}, accepted, lost)


def run(using: BlockBench, case: Case, timing: LinkTiming, **options: int) -> dict[str, NDArray]:
    return using.run(case.stimulus, tables={"dut": timing.table()}, **options)


@pytest.mark.parametrize("name", TIMINGS)
def test_lockstep(name: str) -> None:
    timing = TIMINGS[name]
    case = case_of(timing, seed=len(name))
    assert bench().check(case.expected, run(bench(), case, timing, seed=1)) > 5 * CYCLES
    assert case.lost if name == "down" else not case.lost
    assert len(case.accepted) > 700


def test_a_reset_in_mid_traffic_changes_nothing() -> None:
    timing = TIMINGS["slow_jitter"]
    case = case_of(timing, seed=3)
    bench().check(case.expected, run(bench(), case, timing, reset_at=777))


def test_latency_and_bandwidth() -> None:
    """The contract itself: a flit is there after the latency, and then one in every 37 sixteenths of a cycle."""
    timing = TIMINGS["slow"]
    case = case_of(timing, seed=0)
    case.stimulus["tx_valid"][:] = True
    for name in DATA:
        case.stimulus[name][:] = 0
    shown = np.flatnonzero(run(bench(), case, timing)["rx_valid"])
    assert shown.tolist() == [7 + 37 * i // 16 for i in range(len(shown))]
    assert len(shown) > 1000


@pytest.mark.parametrize("port", [*DATA, "tx_valid"])
def test_a_flit_that_changes_while_it_waits_is_a_violation(port: str) -> None:
    timing = TIMINGS["slow"]
    case = case_of(timing, seed=5)
    waits = np.flatnonzero(case.stimulus["tx_valid"] & (case.expected["tx_ready"].value == 0))
    cycle = int(waits[100]) + 1
    values = case.stimulus[port]
    values[(cycle, 0) if values.ndim == 2 else cycle] ^= 1
    violation = run(bench(), case, timing)["violation"]
    assert violation[: cycle + 1].max() == 0
    assert violation[cycle + 1] == 1


FAULTS = {
    "jitter": ("random >> 17;", "random >> 16;"),
    "rate": ("next16 <= (now << 4) + 15", "next16 <= (now << 4) + 14"),
    "credit": ("credit_arrivals[credit_in] = now + 64'(settings[LATENCY]);", "credit_arrivals[credit_in] = now + 1;"),
    "down": ("flit_out = flit_in;", ""),
    "seed": ("random = settings[SEED];", ""),
}
SEEN_IN = {"jitter": "jitter", "rate": "slow", "credit": "default", "down": "down", "seed": "slow_jitter"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    timing = TIMINGS[SEEN_IN[fault]]
    case = case_of(timing, seed=1)
    with pytest.raises(LockstepError, match="differs from its cycle model"):
        bench().check(case.expected, run(bench_of(FAULTS[fault]), case, timing))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency": 0}, "latency must be between 1 and 2048, got 0"),
        ({"latency": 3.0}, "latency must be an integer, got 3.0"),
        ({"beat_sixteenths": 15}, "beat_sixteenths must be between 16 and 4096, got 15"),
        ({"seed": 0}, "seed must be between 1 and 4294967295, got 0"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LinkTiming(**changes)


def test_links_differ_by_their_seeds() -> None:
    assert len({LinkTiming().of_link(i).seed for i in range(8)}) == 8
    assert LinkTiming().of_link(0) == LinkTiming()
    assert LinkTiming().down == NEVER
