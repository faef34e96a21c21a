"""Run control, performance counters and node window in lockstep with their models; their contract by hand."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.accelerator import control as model
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.control.run_control import QUIET_CYCLES, RESET_CYCLES
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.errors import NodeErrors
from podweave.spec.links import NO_COLLECTIVE
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import Counter, HostSelect
from podweave.spec.presets import load_config
from podweave.spec.register_types import MAX_EPOCHS, ErrorSource, Refusal
from podweave.tb.lockstep.ports import LockstepError
from tests.rtl.control.control_bench import ControlBench

Stimulus = dict[str, NDArray]
CHIP = load_config("chip2x4").replace(pods=4, banks=4)
CONFIGS = {
    "1 manager": replace(CHIP, prefetch=PrefetchConfig(managers=1, address_width=32, data_width=64)),
    "4 managers": replace(CHIP, prefetch=PrefetchConfig(managers=4, address_width=40, pass_bits=14)),
    "64 managers": replace(CHIP.replace(pods=64, banks=64), prefetch=PrefetchConfig(managers=64, address_width=32)),
    "links": replace(CHIP, prefetch=PrefetchConfig(managers=2, address_width=32), links=LinksConfig(flit_bits=64)),
}
_RARE = ("1 manager", "64 managers")
PARTS = ("run_control", "performance", "node_window")
CYCLES = 2000


@functools.cache
def bench_of(key: str) -> ControlBench:
    return ControlBench.of(CONFIGS[key])


def random_runs(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    """Starts, aborts and errors at rates that change every 100 cycles; rings that are ready now and then."""
    managers = CONFIGS[key].managers

    def rate(*choices: float) -> NDArray:
        return rng.choice(choices, cycles // 100 + 1).repeat(100)[:cycles]

    def pulses(*choices: float) -> NDArray:
        return rng.random(cycles) < rate(*choices)

    def slow(limit: int) -> NDArray:
        """Counts that stay for a while, most of them high."""
        values = rng.integers(0, limit, (cycles // 6 + 1, managers)).repeat(6, axis=0)[:cycles]
        high = (rng.random((cycles // 8 + 1, 1)) < 0.7).repeat(8, axis=0)[:cycles]
        return np.where(high, limit, values)

    wrong = rng.random((4, cycles)) < 0.03
    stimulus: Stimulus = {
        "start": pulses(0.02, 0.2, 0.6),
        "abort": pulses(0, 0, 0.02, 0.1),
        "soft_reset": pulses(0, 0.02),
        "clear": pulses(0, 0.02),
        "epochs": np.where(wrong[0], rng.choice([MAX_EPOCHS, MAX_EPOCHS + 1, 2**32 - 1], cycles), rng.integers(0, 5, cycles)),
        "cancel_valid": pulses(0.1),
        "cancel_manager": rng.integers(0, max(8, managers), cycles),
        "cancel_tag": rng.integers(0, 2**16, cycles),
        "quiet": rng.random((cycles, managers)) < rate(0.8, 0.95, 1)[:, None],
        "engine_error": (rng.random((cycles, managers)) < rate(0, 0, 0, 0.01, 0.05)[:, None])
        * rng.integers(0, 16, (cycles, managers)),
        "chip_error": pulses(0, 0, 0.01, 0.05),
        "chip_network_error": rng.integers(0, 2**6, cycles),
        "chip_busy": rng.random(cycles) < rate(0.3, 0.8, 0.95),
    }
    for i, ring in enumerate(("demand", "prefetch")):
        stimulus[f"{ring}_complete"] = slow(6)
        stimulus[f"{ring}_base"] = 64 * rng.integers(0, 2**26, (cycles, managers))
        stimulus[f"{ring}_base"][wrong[1 + i], rng.integers(managers)] += 1 << int(rng.integers(6))
        stimulus[f"{ring}_size"] = rng.integers(1, 2**32, (cycles, managers))
        stimulus[f"{ring}_size"][wrong[3] & (rng.random(cycles) < 0.5), rng.integers(managers)] = 0
    if CONFIGS[key].passes:
        many = rng.choice([0, 1, 4095, 16383], cycles)
        stimulus["passes"] = np.where(rng.random(cycles) < 0.05, many, rng.integers(1, 4, cycles))
    if CONFIGS[key].links:
        some = rng.integers(0, 5, cycles // 4 + 1).repeat(4)[:cycles]
        stimulus |= {
            "link_epoch": np.where(rng.random(cycles) < 0.2, NO_COLLECTIVE, some),
            "link_busy": rng.random(cycles) < rate(0, 0.5, 0.9),
            "prefetch": rng.random(cycles) < 0.7,
            "beneath": rng.random(cycles) < 0.5,
            "link_error": (rng.random(cycles) < rate(0, 0, 0, 0.01, 0.05)) * rng.integers(0, 16, cycles),
        }
    return stimulus


def random_events(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    stimulus = bench_of(key).idle("performance", cycles)
    rates = rng.choice([0.05, 0.5, 0.95], len(stimulus))
    for (name, values), rate in zip(stimulus.items(), rates, strict=True):
        values[:] = rng.random(values.shape) < rate
        if name in ("unconsumed", "read_class"):
            values[:] = rng.integers(0, 4 if name == "read_class" else 2**40, values.shape)
    stimulus["clear"][:] = rng.random(cycles) < 0.003
    return stimulus


def random_reads(rng: np.random.Generator, key: str, cycles: int = CYCLES) -> Stimulus:
    bench = bench_of(key)
    stimulus = bench.idle("node_window", cycles)
    for name, port in bench.ports("node_window").items():
        stimulus[name][:] = rng.integers(0, 1 << port.width, stimulus[name].shape)
    stimulus["engine_host_valid"] = rng.random(stimulus["engine_host_valid"].shape) < rng.choice([0.1, 0.6, 0.95])
    stimulus["read"][:] = 0
    # What is read holds still between reads, which come when none can be under way.
    for begin in range(5, cycles, 160):
        stimulus["read"][begin] = 1
        held = slice(begin, begin + 160)
        stimulus["node"][held] = rng.integers(0, 5 if rng.random() < 0.8 else 256)
        stimulus["words"][held] = words = rng.integers(0, 2)
        stimulus["index"][held] = rng.integers(0, len((Counter, NodeErrors)[words]) + 2)
    return stimulus


STIMULI = {"run_control": random_runs, "performance": random_events, "node_window": random_reads}


def expected(key: str, part: str, stimulus: Stimulus) -> dict[str, PortTrace]:
    if part == "run_control":
        return model.run_control(stimulus)
    if part == "performance":
        return model.performance(stimulus)
    config = CONFIGS[key]
    facts: dict[str, Any] = {"words": (len(Counter), len(NodeErrors)), "selects": (HostSelect.COUNTERS, HostSelect.ERRORS)}
    return model.node_window(stimulus, nodes=config.pods, latency=config.host_read_latency, **facts)


def test_model_has_the_same_codes_and_cycles() -> None:
    assert (model.RESET_CYCLES, model.QUIET_CYCLES, model.MAX_EPOCHS) == (RESET_CYCLES, QUIET_CYCLES, MAX_EPOCHS)
    assert list(Refusal)[1:] == [model.BUSY, model.EPOCHS, model.RING_BASE, model.RING_SIZE, model.PASSES]
    assert list(ErrorSource)[1:] == [model.ENGINE, model.NODE, model.NETWORK, model.LINK]
    assert model.NO_COLLECTIVE == NO_COLLECTIVE


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("key", ["4 managers", "links", *(pytest.param(n, marks=pytest.mark.campaign) for n in _RARE)])
def test_lockstep(key: str, part: str) -> None:
    bench, seen = bench_of(key), set()
    for seed in range(3):
        stimulus = STIMULI[part](np.random.default_rng([seed, len(key)]), key)
        traces = expected(key, part, stimulus)
        compared = bench.check(part, traces, bench.run(part, stimulus, seed=seed))
        assert compared > CYCLES * (len(traces) - 1)
        seen |= {name for name, trace in traces.items() if np.ptp(trace.value)}
    assert seen == set(bench.ports(part, outputs=True)) - ({"error_manager"} if key == "1 manager" else set())


@pytest.mark.parametrize("key", ["4 managers", "links"])
def test_runs_of_the_lockstep_end_in_every_way(key: str) -> None:
    ends = np.zeros((2, 2), int)
    epochs = collectives = 0
    sources: set[int] = set()
    reasons: set[int] = set()
    for seed in range(3):
        traces = expected(key, "run_control", random_runs(np.random.default_rng([seed, len(key)]), key))
        values = {name: trace.value for name, trace in traces.items()}
        for cycle in np.flatnonzero(values["event_done"][:-1]):
            ends[values["failed"][cycle + 1], values["aborted"][cycle + 1]] += 1
        epochs += int(values["begins"].sum())
        collectives += int(values["link_begin"].sum()) if key == "links" else 0
        reasons |= set(values["reason"])
        sources |= set(values["error_source"])
    assert reasons == set(Refusal) - (set() if CONFIGS[key].passes else {Refusal.PASSES})
    assert sources == set(ErrorSource) - (set() if key == "links" else {ErrorSource.LINK})
    assert ends.min() > 2
    assert epochs > 100
    assert key != "links" or 20 < collectives < epochs - 20


@pytest.mark.parametrize("part", PARTS)
def test_reset_in_mid_run_changes_nothing(part: str) -> None:
    key = "4 managers"
    stimulus = STIMULI[part](np.random.default_rng(5), key, 400)
    for seed, cycle in enumerate((1, 333)):
        bench_of(key).check(part, expected(key, part, stimulus), bench_of(key).run(part, stimulus, seed=seed, reset_at=cycle))


@functools.cache
def one_run(part: str) -> tuple[Stimulus, dict[str, PortTrace]]:
    stimulus = STIMULI[part](np.random.default_rng(21), "4 managers")
    return bench_of("4 managers").run(part, stimulus), expected("4 managers", part, stimulus)


@pytest.mark.parametrize("part", PARTS)
def test_checker_sees_one_flipped_bit_of_every_port(part: str) -> None:
    observed, traces = one_run(part)
    for port, values in observed.items():
        known = traces[port].known.reshape(CYCLES, -1).all(axis=1)
        cycle = int(np.flatnonzero(known & (np.arange(CYCLES) > 100))[0])
        flipped = values.copy()
        flipped[cycle] ^= 1
        with pytest.raises(LockstepError, match=rf"{part} differs .* at cycle {cycle}, port {port}"):
            bench_of("4 managers").check(part, traces, {**observed, port: flipped})


def test_a_model_without_a_port_is_refused() -> None:
    observed, traces = one_run("performance")
    with pytest.raises(ValueError, match="count_cycles"):
        bench_of("4 managers").check("performance", {k: v for k, v in traces.items() if k != "count_cycles"}, observed)


def steady(cycles: int, key: str = "4 managers", **changes: Any) -> Stimulus:
    """Rings that are complete, engines that are quiet, a chip that is idle; ``changes``: values per cycle, or cycles of a 1."""
    stimulus = bench_of(key).idle("run_control", cycles)
    if CONFIGS[key].passes:
        stimulus["passes"][:] = 1
    for ring in ("demand", "prefetch"):
        stimulus[f"{ring}_complete"][:], stimulus[f"{ring}_size"][:] = 100, 8
    stimulus["quiet"][:], stimulus["epochs"][:] = 1, 2
    for name, change in changes.items():
        if isinstance(change, list):
            stimulus[name][change] = 1
        else:
            stimulus[name][:] = change
    return stimulus


def seen(stimulus: Stimulus, key: str = "4 managers") -> dict[str, list[int]]:
    """Cycles in which an output is not 0."""
    observed = bench_of(key).run("run_control", stimulus)
    bench_of(key).check("run_control", model.run_control(stimulus), observed)
    return {name: np.flatnonzero(values.reshape(len(values), -1).any(axis=1)).tolist() for name, values in observed.items()}


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


BUSY = span(14, 33) + span(36, 45)


def test_a_run_of_two_epochs_by_hand() -> None:
    found = seen(steady(60, start=[10], chip_busy=BUSY))
    assert found["core_reset"] == []
    assert (found["engine_start"], found["chip_rewind"], found["chip_start"]) == ([11], [11, 46], [12])
    # The sequencer, held, begins one cycle after it is let go.
    assert found["begins"] == [13, 35]
    assert set(found["chip_hold"]) == set(range(60)) - {13, 35}
    assert found["running"] == span(14, 34) + span(36, 46)
    assert found["event_epoch"] == [34, 46]
    assert found["epochs_done"] == span(35, 59)
    assert set(found["engine_stop"]) == set(range(60)) - set(span(11, 51))
    # After the last gap, cycle 47, four cycles of quiet.
    assert (found["event_done"], found["busy"], found["done"]) == ([51], span(11, 51), span(52, 59))
    assert found["launched"] == found["busy"]
    assert found["prefetch_hit"] == [35]
    assert found["wait_prefetch"] == found["wait_demand"] == found["wait_store"] == found["failed"] == found["aborted"] == []


def test_epochs_wait_for_the_tags_of_every_ring() -> None:
    late = np.full((80, 4), 100)
    late[:, 2] = np.select([np.arange(80) < 20, np.arange(80) < 50], [0, 2], 3)
    demand = np.full((80, 4), 100)
    demand[:40, 3] = 1
    busy = span(22, 24) + span(42, 44)
    found = seen(steady(80, start=[10], prefetch_complete=late, demand_complete=demand, chip_busy=busy))
    assert found["begins"] == [21, 41]
    assert (found["wait_prefetch"], found["wait_demand"]) == (span(13, 20), span(26, 40))
    assert found["wait_store"] == span(46, 50)
    assert found["prefetch_hit"] == [41]
    assert found["event_done"] == [55]


def test_program_stores_are_rewound_behind_each_pass() -> None:
    """Two passes of two epochs; what is there in the cycle of the start itself is of no account."""
    stimulus = steady(60, start=[10], chip_busy=[14, 15, 18, 19, 22, 23, 26, 27], epochs=2, passes=2)
    stimulus["epochs"][10], stimulus["passes"][10] = 7, 0
    found = seen(stimulus)
    assert found["begins"] == [13, 17, 21, 25]
    assert found["event_epoch"] == [16, 20, 24, 28]
    assert found["chip_rewind"] == [11, 20, 28]


def test_passes_are_counted_before_a_start() -> None:
    for epochs, passes, reason in ((2, 0, Refusal.PASSES), (32767, 2, 0), (32767, 3, Refusal.PASSES), (65535, 1, Refusal.EPOCHS)):
        stimulus = steady(40, start=[10], chip_busy=span(14, 39), epochs=epochs, passes=passes)
        observed = bench_of("4 managers").run("run_control", stimulus)
        bench_of("4 managers").check("run_control", model.run_control(stimulus), observed)
        assert observed["reason"][20] == reason
        assert observed["chip_epochs"][20] == (0 if reason else epochs * passes)


def test_no_epochs_are_a_run_for_tag_0_and_the_most_are_accepted() -> None:
    found = seen(steady(30, start=[10], epochs=0))
    assert (found["begins"], found["chip_start"], found["event_done"]) == ([], [12], [17])
    assert seen(steady(30, start=[10], epochs=MAX_EPOCHS))["begins"][0] == 13


def test_a_collective_between_two_epochs_by_hand() -> None:
    collecting = span(36, 45)
    epoch = np.where(np.arange(80) < 46, 1, NO_COLLECTIVE)
    changes: Any = {"epochs": 3, "link_epoch": epoch, "link_busy": collecting, "chip_busy": span(14, 33) + span(48, 57)}
    found = seen(steady(80, "links", start=[10], **changes), "links")
    assert (found["begins"], found["link_begin"]) == ([13, 35, 47], [35])
    assert set(found["chip_hold"]) == set(range(80)) - {13, 47}
    assert (found["running"], found["collecting"]) == (span(14, 34) + span(48, 58), span(36, 46))
    assert set(found["gap"]) == set(range(80)) - set(found["running"]) - set(found["collecting"])
    assert (found["event_epoch"], found["prefetch_hit"]) == ([34, 46, 58], [35, 47])
    assert (found["event_done"], found["link_stop"]) == ([63], [])


@pytest.mark.parametrize("how", ["link_error", "abort"])
def test_a_collective_that_fails_ends_the_run_and_does_not_count(how: str) -> None:
    # The engine ends as soon as it is told to, or by itself with an error.
    collecting = span(14, 20 if how == "link_error" else 21)
    changes: Any = {"epochs": 3, "link_epoch": 0, "link_busy": collecting, how: span(21, 79) if how == "link_error" else [20]}
    found = seen(steady(80, "links", start=[10], **changes), "links")
    assert (found["link_begin"], found["event_epoch"], found["epochs_done"]) == ([13], [], [])
    assert found["link_stop"] == found["failed" if how == "link_error" else "aborted"]
    assert found["link_stop"][0] == 22 if how == "link_error" else 21
    # The last cycle of the collective, one of a gap, four of quiet.
    over = collecting[-1] + 1
    assert found["event_done"] == [over + 5]
    observed = bench_of("links").run("run_control", steady(80, "links", start=[10], **changes))
    assert observed["error_source"][-1] == (ErrorSource.LINK if how == "link_error" else ErrorSource.NONE)


@pytest.mark.parametrize("fault", ["engine_error", "chip_error"])
def test_an_error_ends_the_run_and_the_next_start_resets(fault: str) -> None:
    change: Any = [20]
    if fault == "engine_error":
        change = np.zeros((80, 4), int)
        change[20, 2] = 7
    found = seen(steady(80, **{fault: change}, start=[10, 50], chip_busy=span(14, 33)))
    assert (found["event_error"], found["failed"], found["begins"][0]) == ([20], span(21, 50), 13)
    # The epoch that is on runs to its end; it counts, unless the chip had the error in its last cycle.
    assert (found["event_epoch"][0], found["event_done"][0], found["wasted"]) == (34, 39, [39])
    assert found["error_manager"] == (span(21, 50) if fault == "engine_error" else [])
    assert (found["core_reset"], found["engine_start"], found["begins"][1]) == (span(51, 54), [11, 55], 57)
    assert found["launched"][:29] == span(11, 39)
    assert found["launched"][29] == 55


def test_abort_stops_the_engines_and_waits_for_them() -> None:
    quiet = np.ones((80, 4), int)
    quiet[:38, 1] = 0
    found = seen(steady(80, start=[10], abort=[5, 20], quiet=quiet, chip_busy=span(14, 33)))
    assert (found["aborted"], found["begins"], found["event_done"]) == (span(21, 79), [13], [41])
    assert set(range(80)) - set(found["engine_stop"]) == set(span(11, 20))


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Refusal.EPOCHS, {"epochs": MAX_EPOCHS + 1}),
        (Refusal.RING_BASE, {"prefetch_base": [[0, 0, 32, 0]]}),
        (Refusal.RING_BASE, {"demand_base": [[1, 0, 0, 0]], "demand_size": [[0, 1, 1, 1]]}),
        (Refusal.RING_SIZE, {"demand_size": [[8, 8, 8, 0]]}),
    ],
)
def test_illegal_starts_are_refused(reason: Refusal, changes: dict[str, Any]) -> None:
    stimulus = steady(30, start=[10], **{name: np.array(values) for name, values in changes.items()})
    observed = bench_of("4 managers").run("run_control", stimulus)
    assert np.flatnonzero(observed["event_refused"]).tolist() == [10]
    assert observed["reason"].tolist() == [0] * 11 + [reason] * 19
    assert not observed["busy"].any()


def test_commands_during_a_run_are_refused_and_a_reset_stands_alone() -> None:
    found = seen(steady(80, start=[10, 11], clear=[20, 60], soft_reset=[25, 70], chip_busy=BUSY))
    assert (found["event_refused"], found["refused"], found["engine_start"]) == ([11, 20, 25], span(12, 60), [11])
    assert (found["counters_clear"], found["done"]) == ([10, 60], span(52, 60))
    assert (found["core_reset"], found["busy"][-4:]) == (span(71, 74), span(71, 74))
    assert found["launched"] == span(11, 51)


def test_cancel_names_a_manager_of_a_run() -> None:
    found = bench_of("4 managers").run(
        "run_control", steady(60, start=[10], cancel_valid=[5, 20, 55], cancel_manager=2, cancel_tag=9, chip_busy=BUSY)
    )
    assert np.argwhere(found["engine_cancel"]).tolist() == [[21, 2]]
    assert found["engine_cancel_tag"][21] == 9
