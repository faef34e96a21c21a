"""rtl.post.row_registers: in lockstep with what its contract says, each register and each entry of the table of roots."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip.host_writes import HostWrites
from podweave.golden.cycle.chip.rows import RECIPROCAL, RSQRT, Arrival, Readiness, begun_scales, scale_of
from podweave.golden.cycle.ports import PortTrace, delay, held
from podweave.rtl.post.row_registers import RowRegisters
from podweave.spec.row_functions import ELEMENT_WIDTH, SCALAR_CYCLES, STATISTIC_WIDTH
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError

pytestmark = pytest.mark.more

DEPTH, CYCLES = 32, 4096
LANES = dict.fromkeys(("arriving_value", "value"), (STATISTIC_WIDTH, 0, True))
Stimulus = dict[str, NDArray]


@functools.cache
def bench() -> BlockBench:
    return BlockBench.of(RowRegisters(DEPTH), LANES, random_initial_state=True)


def any_value(rng: np.random.Generator, cycles: int) -> NDArray[np.int64]:
    """Of any length and sign, and those next to powers of two."""
    value = rng.integers(-(1 << 47), 1 << 47, cycles) >> rng.integers(0, 48, cycles)
    power = (1 << rng.integers(0, 47, cycles)) - rng.integers(0, 2, cycles)
    return np.where(rng.random(cycles) < 0.2, power, value)


def anything(seed: int) -> Stimulus:
    """All ports at random; few rows for a while, then all, and times in which most registers are ready or most are not."""
    rng = np.random.default_rng(seed)

    def often(*shares: float) -> NDArray[np.bool_]:
        return rng.random(CYCLES) < np.repeat(rng.choice(shares, CYCLES // 64), 64)

    def rows() -> NDArray[np.int64]:
        return rng.integers(0, DEPTH, CYCLES) & np.repeat(rng.choice([DEPTH - 1, DEPTH - 1, 0b10110], CYCLES // 64), 64)

    stimulus: Stimulus = {name: often(0.1, 0.5, 0.9) for name in ("arrives", "clear", "checks", "length_write")}
    stimulus |= {name: often(0.5, 0.9) for name in ("value_read", "mantissa_read", "shift_read", "length_read")}
    named = ("arriving", "clear", "check", "value", "mantissa", "shift", "length")
    stimulus |= {f"{name}_row": rows() for name in named} | {"length_address": rows()}
    stimulus["arriving_scalar"] = rng.integers(0, 4, CYCLES)
    stimulus["arriving_value"] = any_value(rng, CYCLES)
    stimulus["length_data"] = rng.integers(0, 1 << ELEMENT_WIDTH, CYCLES)
    return stimulus


def scale_after_scale(values: NDArray[np.int64], scalar: int) -> Stimulus:
    """A value as soon as there may be one, into one register after the other; scales are read as soon as they are there."""
    stimulus = {name: np.zeros(CYCLES, np.int64) for name in anything(0)}
    when = SCALAR_CYCLES * np.arange(len(values))
    stimulus["arrives"][when] = 1
    stimulus["arriving_scalar"][:] = scalar
    stimulus["arriving_row"][when] = np.arange(len(values)) % DEPTH
    stimulus["arriving_value"][when] = values
    for name in ("mantissa", "shift"):
        stimulus[f"{name}_read"][:] = 1
        stimulus[f"{name}_row"][1 + SCALAR_CYCLES :] = stimulus["arriving_row"][: -1 - SCALAR_CYCLES]
    stimulus["checks"][:], stimulus["check_row"] = 1, stimulus["mantissa_row"]
    return stimulus


def model(s: Stimulus) -> dict[str, PortTrace]:
    cycles = np.arange(CYCLES)
    come = np.flatnonzero(s["arrives"])
    arrivals = [Arrival(int(c), int(s["arriving_row"][c]), int(s["arriving_scalar"][c]), False) for c in come]
    begun, lost = begun_scales(arrivals, SCALAR_CYCLES)
    busy, scalar_lost, done, row = (np.zeros(CYCLES, np.int64) for _ in range(4))
    mantissa, shift = np.zeros(CYCLES, np.int64), np.zeros(CYCLES, np.int64)
    for arrival in begun:
        busy[arrival.cycle + 1 : arrival.cycle + 1 + SCALAR_CYCLES] = 1
        if (end := arrival.cycle + SCALAR_CYCLES) < CYCLES:
            done[end], row[end] = 1, arrival.row
            mantissa[end], shift[end] = scale_of(int(s["arriving_value"][arrival.cycle]), arrival.scalar)
    scalar_lost[[arrival.cycle for arrival in lost]] = 1
    sets = [(arrival.cycle, arrival.row) for arrival in arrivals if arrival.scalar not in (RECIPROCAL, RSQRT)]
    sets += [(arrival.cycle + SCALAR_CYCLES, arrival.row) for arrival in begun]
    ready = Readiness(sets, [(int(c), int(s["clear_row"][c])) for c in np.flatnonzero(s["clear"])])
    not_ready = [int(s["checks"][c] and not ready.at(c, int(s["check_row"][c]))) for c in cycles.tolist()]
    writes = {
        "value": HostWrites(s["arrives"] == 1, s["arriving_row"], s["arriving_value"]),
        "mantissa": HostWrites(done == 1, row, mantissa),
        "shift": HostWrites(done == 1, row, shift),
        "length": HostWrites(s["length_write"] == 1, s["length_address"], s["length_data"]),
    }
    ports = {"busy": busy, "scalar_lost": scalar_lost, "not_ready": np.array(not_ready)}
    traces = {name: PortTrace(value, np.ones(CYCLES, bool)) for name, value in ports.items()}
    for name, written in writes.items():
        data, known = written.read(cycles, s[f"{name}_row"])
        after = np.concatenate([[False], s[f"{name}_read"][:-1] == 1])
        port, certain = held(delay(data, 1), after), held(delay(known.astype(np.int64), 1), after)
        traces[name] = PortTrace(port.value, port.known & (certain.value == 1))
    return traces


def check(stimulus: Stimulus, seed: int) -> dict[str, PortTrace]:
    expected = model(stimulus)
    bench().check(expected, bench().run(stimulus, seed=seed))
    return expected


@pytest.mark.parametrize("seed", range(3))
def test_anything(seed: int) -> None:
    stimulus = anything(seed)
    expected = check(stimulus, seed)
    checked = stimulus["checks"] == 1
    for row in range(DEPTH):
        # Every register was ready, and was not.
        found = expected["not_ready"].value[checked & (stimulus["check_row"] == row)]
        assert 0 < found.sum() < len(found)
    assert expected["scalar_lost"].value.sum() > 100


def test_each_register_is_ready_alone_and_alone_not_ready() -> None:
    """One after the other becomes ready, by a value or a scale, until all are, and is taken; all are looked at each time."""
    round_of = 2 * DEPTH
    stimulus = {name: np.zeros(CYCLES, np.int64) for name in anything(0)}
    stimulus["checks"][:] = 1
    stimulus["check_row"] = np.arange(CYCLES) % DEPTH
    order = np.random.default_rng(7).permutation(DEPTH)
    for scalar in (0, RECIPROCAL):
        for number, row in enumerate(order):
            at = number * round_of + (0 if scalar == 0 else CYCLES // 2)
            # It becomes ready, and in the middle of its round it is taken.
            stimulus["arrives"][at], stimulus["arriving_row"][at], stimulus["arriving_scalar"][at] = 1, row, scalar
            if number % 2:
                stimulus["clear"][at + DEPTH], stimulus["clear_row"][at + DEPTH] = 1, order[number - 1]
    expected = check(stimulus, 5)
    assert 0.2 < expected["not_ready"].value.mean() < 0.8


def test_every_root_of_the_table() -> None:
    """From numbers of two lengths for each, one of them as long as can be."""
    rng = np.random.default_rng(3)
    entries = np.tile(rng.permutation(np.arange(64, 256)), 2)
    normal = entries << 8 | rng.integers(0, 256, len(entries))
    shift = 2 * np.where(np.arange(len(entries)) < 192, rng.integers(0, 15, len(entries)), 15)
    values = normal << shift | rng.integers(0, 1 << shift)
    expected = check(scale_after_scale(values, RSQRT), 1)
    assert not expected["scalar_lost"].value.any()
    assert len(np.unique(expected["mantissa"].value[expected["mantissa"].known])) == 192


def test_reciprocals_of_all_lengths() -> None:
    rng = np.random.default_rng(4)
    powers = [(1 << bits) + more for bits in range(47) for more in (-1, 0, 1)]
    values = np.concatenate([powers, [0, -1, -(1 << 47), (1 << 47) - 1], any_value(rng, 300)])
    expected = check(scale_after_scale(values, RECIPROCAL), 2)
    assert len(np.unique(expected["shift"].value[expected["shift"].known])) == 47


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    stimulus = anything(1)
    expected, observed = model(stimulus), bench().run(stimulus, seed=1)
    for port, trace in expected.items():
        values = observed[port].copy()
        values[np.flatnonzero(trace.known)[-1]] ^= 1
        with pytest.raises(LockstepError, match=f"port {port}"):
            bench().check(expected, {**observed, port: values})


@pytest.mark.parametrize(("value", "scalar", "scale"), [(10, RECIPROCAL, (52428, 4)), (10, RSQRT, (41384, 2))])
def test_scales_by_hand(value: int, scalar: int, scale: tuple[int, int]) -> None:
    stimulus = {name: np.zeros(CYCLES, np.int64) for name in anything(0)}
    stimulus["arrives"][0], stimulus["arriving_value"][0], stimulus["arriving_scalar"][0] = 1, value, scalar
    stimulus["mantissa_read"][9] = stimulus["shift_read"][9] = 1
    observed = bench().run(stimulus)
    assert (observed["mantissa"][10], observed["shift"][10]) == scale
    assert np.flatnonzero(observed["busy"]).tolist() == list(range(1, 9))
