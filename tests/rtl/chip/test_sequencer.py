"""The sequencer's counts, in all of their bits that a simulation can reach."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from podweave.rtl.chip.sequencer import Sequencer
from podweave.spec.config_parts import FILL_CYCLES
from podweave.tb.benches.block_bench import BlockBench

DRAIN = 3
# An epoch in which no node is ever busy: from its fill to the fill of the next.
EPOCH = FILL_CYCLES + DRAIN + 1
CYCLES = 1 << 17


@functools.cache
def bench() -> BlockBench:
    return BlockBench.of(Sequencer(DRAIN), {}, random_initial_state=True, depth=CYCLES)


def idle(cycles: int) -> dict[str, NDArray[np.int64]]:
    return {port.name: np.zeros(cycles, np.int64) for port in bench().inputs}


def test_every_bit_of_the_number_of_epochs_counts() -> None:
    """For each bit, a start of so many epochs that two of them, less that bit, would be all; an error ends it in the fourth."""
    window = 5 * EPOCH
    stimulus = idle(31 * window)
    for bit in range(1, 32):
        first = (bit - 1) * window
        stimulus["start"][first], stimulus["epochs"][first] = 1, (1 << bit) + 2
        stimulus["error"][first + 3 * EPOCH + 2 : first + window] = 1
    observed = bench().run(stimulus)
    for bit in range(1, 32):
        window_of = slice((bit - 1) * window, bit * window)
        assert np.flatnonzero(observed["fill"][window_of]).tolist() == [1 + epoch * EPOCH for epoch in range(4)], bit
        assert np.flatnonzero(observed["clear"][window_of]).tolist() == [0], bit


def test_a_number_of_epochs_of_any_one_bit_is_a_start() -> None:
    window = 2 * EPOCH
    stimulus = idle(32 * window)
    starts = np.arange(32) * window
    stimulus["start"][starts], stimulus["epochs"][starts] = 1, 1 << np.arange(32)
    # An error of a node stays: here, until the epoch that it ends is over.
    stimulus["error"] = (np.arange(32 * window) % window >= 2).astype(np.int64)
    observed = bench().run(stimulus)
    assert np.flatnonzero(observed["clear"]).tolist() == starts.tolist()
    assert np.flatnonzero(observed["fill"]).tolist() == (starts + 1).tolist()


def test_counters_are_exact_in_a_long_run() -> None:
    """One epoch of half of the cycles, then thousands that are as short as can be: in each cycle, counts are sums of what was."""
    stimulus = idle(CYCLES)
    stimulus["start"][2], stimulus["epochs"][2] = 1, 1 << 31
    stimulus["node_busy"][3 : CYCLES // 2 + 100] = 1
    observed = bench().run(stimulus)
    ran = observed["run"]
    total = np.concatenate([[0], np.cumsum(ran)[:-1]])
    np.testing.assert_array_equal(observed["total_cycles"], total)
    # An epoch is finished behind the last cycle of its run.
    ends = np.flatnonzero((ran[:-1] == 1) & (ran[1:] == 0)) + 1
    done = np.zeros(CYCLES, np.int64)
    done[ends] = 1
    np.testing.assert_array_equal(observed["done"], np.cumsum(done))
    fills = np.flatnonzero(observed["fill"])
    # A count begins anew behind each fill; before the first, and from then on, it is of the cycles since.
    since = np.zeros(CYCLES, np.int64)
    since[fills + 1] = total[fills + 1]
    np.testing.assert_array_equal(observed["cycles"], total - np.maximum.accumulate(since))
    assert total[-1] > 1 << 16
    assert done.sum() > 1 << 12
