"""Run control and counters where only long runs come: every bit of the number of an epoch, counts about to wrap around."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.rtl.control.run_control import RINGS, RunControl
from podweave.rtl.control.run_counters import RunCounters
from podweave.rtl.parts.blocks import Block
from podweave.spec.register_list import counters
from podweave.spec.register_types import MAX_EPOCHS, Refusal
from podweave.tb.benches.block_bench import BlockBench

from .test_run_control import CONFIGS, bench_of, expected, random_runs

pytestmark = pytest.mark.more

CONFIG = CONFIGS["4 managers"]
DEPTH = 1 << 18
Values = dict[str, NDArray[np.int64]]


@functools.cache
def bench(kind: type[Block]) -> BlockBench:
    block = kind(CONFIG)  # type: ignore[call-arg]
    shared = ("demand_", "prefetch_", "quiet", "engine_", "stall_", "read_", "write_", "unconsumed")
    not_shared = ("prefetch_hit", "engine_start", "engine_stop", "engine_cancel_tag")
    lanes = {
        name: (member.shape // CONFIG.managers, CONFIG.managers, False)
        for name, member in block.signature.members.items()
        if name.startswith(shared) and name not in not_shared
    }
    return BlockBench.of(block, lanes, random_initial_state=True, depth=DEPTH if kind is RunControl else 64)


def idle(kind: type[Block], cycles: int) -> Values:
    shapes = {port.name: (cycles, port.lanes) if port.lanes else (cycles,) for port in bench(kind).inputs}
    return {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}


def ready(cycles: int) -> Values:
    """Rings of a descriptor each that are complete, engines that are quiet."""
    stimulus = idle(RunControl, cycles)
    for ring in RINGS:
        stimulus[f"{ring}_size"][:], stimulus[f"{ring}_complete"][:] = 1, 0xFFFF
    stimulus["quiet"][:] = stimulus["passes"][:] = 1
    return stimulus


def test_the_longest_run_waits_for_every_tag() -> None:
    """65534 epochs in two passes. Each waits for one ring, all of whose tags before it are complete, and all others one more."""
    start, apart = 10, 3
    first = start + 4
    cycles = first + apart * (MAX_EPOCHS + 1) + 20
    stimulus = ready(cycles)
    stimulus["epochs"][:], stimulus["passes"][:], stimulus["start"][start] = MAX_EPOCHS // 2, 2, 1
    # Epoch e begins in this cycle, the last of three; what comes behind the last epoch is the end.
    *begins, end = first + apart * np.arange(MAX_EPOCHS + 1)
    waiting = np.searchsorted(np.array([*begins, end]) - 1, np.arange(cycles), side="right")
    begins = np.array(begins)
    for number in range(2 * CONFIG.managers):
        ring, manager = RINGS[number % 2], number // 2
        late = waiting % (2 * CONFIG.managers) == number
        stimulus[f"{ring}_complete"][:, manager] = np.minimum(waiting + ~late, 0xFFFF)
    observed = bench(RunControl).run(stimulus)
    np.testing.assert_array_equal(np.flatnonzero(observed["begins"]), begins)
    np.testing.assert_array_equal(np.flatnonzero(observed["event_epoch"]), begins + 1)
    over = begins[[MAX_EPOCHS // 2 - 1, MAX_EPOCHS - 1]] + 1
    assert np.flatnonzero(observed["chip_rewind"]).tolist() == [start + 1, *over]
    done = np.searchsorted(begins + 2, np.arange(cycles), side="right")
    np.testing.assert_array_equal(observed["epochs_done"], done)
    assert (observed["chip_epochs"][start + 1 :] == MAX_EPOCHS).all()
    # In every second gap it is a prefetch ring that is late; in the first one there was no epoch before.
    assert RINGS == ("demand", "prefetch")
    np.testing.assert_array_equal(np.flatnonzero(observed["prefetch_hit"]), begins[2::2])
    assert np.flatnonzero(observed["event_done"]).tolist() == [end + 4]


def test_every_bit_of_a_start_is_looked_at() -> None:
    """A start refused, or not, for one bit: of a ring's place, of its size, of the number of epochs, of passes."""
    assert CONFIG.prefetch is not None
    window, address_width = 24, CONFIG.prefetch.address_width
    cases: list[tuple[str, int, int, Refusal]] = []
    for ring in RINGS:
        for manager in range(CONFIG.managers):
            cases += [(f"{ring}_size", manager, 1 << bit, Refusal.NONE) for bit in range(32)]
            cases += [(f"{ring}_base", manager, 1 << bit, Refusal.RING_BASE) for bit in range(6)]
            cases += [(f"{ring}_base", manager, 1 << bit, Refusal.NONE) for bit in range(6, address_width)]
            cases += [(f"{ring}_size", manager, 0, Refusal.RING_SIZE)]
    cases += [("epochs", 0, 1 << bit, Refusal.EPOCHS) for bit in range(16, 32)]
    cases += [("passes", 0, 1 << bit, Refusal.NONE) for bit in range(CONFIG.prefetch.pass_bits)]
    stimulus = ready(len(cases) * window)
    for number, (name, manager, value, _) in enumerate(cases):
        begin = number * window
        stimulus["start"][begin + 2] = 1
        stimulus[name].reshape(len(cases) * window, -1)[begin : begin + window, manager] = value
    observed = bench(RunControl).run(stimulus)
    for number, (name, manager, value, reason) in enumerate(cases):
        begin = number * window
        assert observed["reason"][begin + 5] == reason, (name, manager, value)
        assert observed["busy"][begin + 3] == (reason == Refusal.NONE), (name, manager, value)
        assert not observed["busy"][begin + window - 1]


def test_every_bit_of_the_epochs_of_a_pass() -> None:
    """One that lost its highest bit would be a pass of one epoch, or of two, and begin anew behind it."""
    key, window = "4 managers", 60
    counts = [(1 << bit) + more for bit in range(1, 16) for more in (1, 2)]
    cycles = window * len(counts)
    stimulus = random_runs(np.random.default_rng(3), key, cycles)
    for name in ("soft_reset", "clear", "engine_error", "chip_error"):
        stimulus[name][:] = 0
    stimulus["passes"][:] = stimulus["quiet"][:] = 1
    for ring in ("demand", "prefetch"):
        stimulus[f"{ring}_complete"][:], stimulus[f"{ring}_base"][:], stimulus[f"{ring}_size"][:] = 0xFFFF, 64, 1
    at = np.arange(cycles) % window
    stimulus["start"], stimulus["abort"] = at == 2, at == window - 15
    stimulus["epochs"] = np.repeat(counts, window)
    stimulus["chip_busy"] = (np.random.default_rng(4).random(cycles) < 0.5) & (at > 5) & (at < window - 15)
    traces = expected(key, "run_control", stimulus)
    bench_of(key).check("run_control", traces, bench_of(key).run("run_control", stimulus))
    begun = traces["begins"].value.reshape(-1, window).sum(axis=1)
    assert begun[3:].min() > 3
    assert traces["event_done"].value.sum() == len(counts)


def test_counts_grow_from_any_state_on() -> None:
    """Without a reset, registers begin with whatever they have: a count that is about to wrap around is as good as any."""
    cycles = 60
    for seed in range(5):
        rng = np.random.default_rng(seed)
        stimulus = idle(RunCounters, cycles)
        for name, values in stimulus.items():
            high = 4 if name == "read_class" else 2
            values[:] = rng.integers(0, high, values.shape) if name != "clear" else 0
        stimulus["wasted"][:] = 0
        observed = bench(RunCounters).run(stimulus, seed=seed, reset=False)
        launched = stimulus["launched"]
        per_cycle = {
            "cycles": launched,
            "run_cycles": stimulus["running"],
            **{name: stimulus[name] for name in ("wait_prefetch", "wait_demand", "wait_store")},
            **{
                f"{name}_beats": (stimulus["read_beat"] & (stimulus["read_class"] == code)).sum(axis=1)
                for code, name in enumerate(("descriptor", "demand", "prefetch"))
            },
            "write_beats": stimulus["write_beat"].sum(axis=1),
            "hbm_busy": (stimulus["read_beat"] | stimulus["write_beat"]).sum(axis=1),
            **{
                f"stall_{stall}": stimulus[f"stall_{stall}"].sum(axis=1) * launched
                for stall in ("gate", "cap", "gap", "buffer", "bus")
            },
            "prefetch_hits": stimulus["begins"] & stimulus["prefetch_hit"],
            "prefetch_late": stimulus["begins"] & ~stimulus["prefetch_hit"] & 1,
        }
        for name, width, _ in counters(CONFIG):
            if name == "PREFETCH_UNUSED":
                continue
            count = observed[f"count_{name.lower()}"].astype(object)
            # What happened in cycle t is in the count from t + 2 on. Before there are inputs, a simulator may see an edge.
            grown = [(later - earlier) % (1 << width) for earlier, later in itertools.pairwise(count[2:])]
            assert grown == per_cycle[name.lower()][1 : cycles - 2].tolist(), name
