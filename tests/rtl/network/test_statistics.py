"""rtl.network.statistics: in lockstep with its cycle model, and by the contract itself."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip.rows import ARGMAX, MAX, SUM
from podweave.golden.cycle.chip.statistics import statistics_network
from podweave.rtl.network.statistics import StatisticsNetwork
from podweave.spec.row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH
from podweave.tb.benches.block_bench import BlockBench, BlockRun
from podweave.tb.lockstep.ports import LockstepError

NODES = (2, 4, 16)


@functools.cache
def bench_of(nodes: int) -> BlockBench:
    stages = (nodes - 1).bit_length()
    shapes = {
        "valid": (1, nodes, False),
        "statistic": (2, nodes, False),
        "level": (max(1, stages.bit_length()), nodes, False),
        "value": (STATISTIC_WIDTH, nodes, True),
        "element": (ELEMENT_WIDTH, nodes, False),
        "total": (STATISTIC_WIDTH, nodes, True),
        "place": (ELEMENT_WIDTH, nodes, False),
    }
    return BlockBench.of(StatisticsNetwork(nodes), shapes, random_initial_state=True)


def words(seed: int, nodes: int, cycles: int = 600) -> dict[str, NDArray]:
    """In every cycle, some aligned blocks have words; all of a block are alike."""
    rng = np.random.default_rng([seed, nodes])
    stages = (nodes - 1).bit_length()
    shape = (cycles, nodes)
    level = np.zeros(shape, np.int64)
    valid, statistic = np.zeros(shape, bool), np.full(shape, SUM)
    for cycle in range(cycles):
        node = 0
        while node < nodes:
            most = min(stages, (node & -node).bit_length() - 1 if node else stages)
            size = int(rng.integers(0, most + 1))
            block = slice(node, node + (1 << size))
            level[cycle, block], statistic[cycle, block] = size, rng.choice([SUM, MAX, ARGMAX])
            valid[cycle, block] = rng.random() < 0.7
            node += 1 << size
    value = rng.integers(-(1 << 47), 1 << 47, shape) >> rng.choice([0, 20, 45], shape)
    element = rng.integers(0, 1 << ELEMENT_WIDTH, shape) >> rng.choice([0, 16], shape)
    return {"valid": valid, "statistic": statistic, "level": level, "value": value, "element": element}


@pytest.mark.parametrize("nodes", NODES)
def test_blocks_of_all_sizes(nodes: int) -> None:
    for seed in range(2):
        stimulus = words(seed, nodes)
        expected = statistics_network(**stimulus)
        assert not expected["error"].value.any()
        bench_of(nodes).check(expected, bench_of(nodes).run(stimulus, seed=seed))


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("field", ["valid", "statistic", "level"])
def test_nodes_that_do_not_agree_are_named(nodes: int, field: str) -> None:
    stages = (nodes - 1).bit_length()
    for seed in range(3):
        stimulus = words(seed, nodes)
        rng = np.random.default_rng(seed)
        node = int(rng.integers(nodes))
        # A word for all of them, but one says something else.
        stimulus["valid"][300], stimulus["level"][300], stimulus["statistic"][300] = True, stages, SUM
        stimulus[field][300, node] = {"valid": False, "statistic": MAX, "level": stages - 1}[field]
        expected = statistics_network(**stimulus)
        assert expected["error"].value.any()
        bench_of(nodes).check(expected, bench_of(nodes).run(stimulus, seed=seed))
        port, stage = expected["error_port"].value[-1], expected["error_stage"].value[-1]
        if field != "level":
            assert stage == 0
            assert port == node & ~1


@pytest.mark.parametrize("nodes", NODES)
def test_first_disagreement_of_each_stage_by_hand(nodes: int) -> None:
    """The halves of a block agree within, and not with each other: they meet in the stage of the block, at its lowest node."""
    cycles, at, given, places = 40, 12, [], []
    for stage in range((nodes - 1).bit_length()):
        size = 2 << stage
        for begin, field in itertools.product({0, nodes - size}, ("valid", "statistic", "level")):
            stimulus = words(stage, nodes, cycles)
            stimulus["valid"][at - 5 : at + 5] = False
            here, upper = slice(begin, begin + size), slice(begin + size // 2, begin + size)
            stimulus["valid"][at, here], stimulus["level"][at, here], stimulus["statistic"][at, here] = True, stage + 1, SUM
            stimulus[field][at, upper] = {"valid": False, "statistic": ARGMAX, "level": stage}[field]
            # What disagrees later, in the first stage, changes nothing.
            stimulus["valid"][at + 9], stimulus["level"][at + 9] = np.arange(nodes) % 2, 1
            given.append(stimulus)
            places.append((stage, begin))
    ran = bench_of(nodes).run_all([BlockRun(stimulus) for stimulus in given], seed=1)
    for stimulus, (stage, begin), observed in zip(given, places, ran, strict=True):
        bench_of(nodes).check(statistics_network(**stimulus), observed)
        assert np.flatnonzero(observed["error"])[0] == at + stage + 1
        assert (observed["error_stage"][-1], observed["error_port"][-1]) == (stage, begin)


@pytest.mark.parametrize("nodes", NODES)
def test_any_words_at_all(nodes: int) -> None:
    """Nodes that agree in some cycles and in some do not; values and elements that are equal, or are but for one bit."""
    stages, cycles = (nodes - 1).bit_length(), 2000
    for seed in range(3):
        rng = np.random.default_rng([seed, nodes, 7])

        def near(width: int, rng: np.random.Generator = rng) -> NDArray[np.int64]:
            same = rng.integers(0, 1 << width, (cycles, 1))
            return np.where(rng.random((cycles, nodes)) < 0.4, same, same ^ 1 << rng.integers(0, width, (cycles, nodes)))

        def mostly_alike(most: int, rng: np.random.Generator = rng) -> NDArray[np.int64]:
            alike = rng.random((cycles, nodes)) < rng.choice([0.5, 0.9, 1], (cycles, 1))
            return np.where(alike, rng.integers(0, most, (cycles, 1)), rng.integers(0, most, (cycles, nodes)))

        values = near(STATISTIC_WIDTH)
        stimulus = {
            "valid": mostly_alike(2) == 1,
            "statistic": SUM + mostly_alike(3),
            "level": mostly_alike(stages + 1),
            "value": np.where(values >> STATISTIC_WIDTH - 1, values - (1 << STATISTIC_WIDTH), values),
            "element": near(ELEMENT_WIDTH),
        }
        # The first conflict is of the first stage, of the last one, or of all of them in the same cycle.
        quiet = 40
        stimulus["valid"][: quiet + stages] = False
        for stage in range(stages):
            if seed in (2, stage):
                at = quiet - stage
                stimulus["valid"][at], stimulus["level"][at], stimulus["statistic"][at] = True, stage + 1, SUM
                # Those of each half agree.
                stimulus["statistic"][at, 1 << stage : 2 << stage] = MAX
        expected = statistics_network(**stimulus)
        bench_of(nodes).check(expected, bench_of(nodes).run(stimulus, seed=seed))
        assert expected["error_stage"].value[-1] == (seed if seed < min(stages, 2) else 0)


def test_by_the_contract() -> None:
    """Sums and maxima of all nodes, computed without stages."""
    nodes, cycles = 16, 200
    rng = np.random.default_rng(5)
    stimulus = words(1, nodes, cycles)
    stimulus["valid"][:], stimulus["level"][:] = True, 4
    kinds = rng.choice([SUM, MAX, ARGMAX], cycles)
    stimulus["statistic"][:] = kinds[:, None]
    stimulus["value"] = rng.integers(-50, 50, (cycles, nodes))
    stimulus["element"] = rng.permuted(np.arange(nodes) + np.zeros((cycles, 1), np.int64), axis=1)
    found = bench_of(nodes).run(stimulus)
    for cycle in range(cycles - 4):
        values, elements = stimulus["value"][cycle], stimulus["element"][cycle]
        total = values.sum() if kinds[cycle] == SUM else values.max()
        assert (found["total"][cycle + 4] == total).all()
        if kinds[cycle] != SUM:
            assert (found["place"][cycle + 4] == elements[values == total].min()).all()


def test_checker_sees_one_flipped_bit_of_every_port() -> None:
    stimulus = words(3, 4)
    stimulus["level"][400, 0] = 2
    stimulus["valid"][400] = [True, False, True, True]
    expected, observed = statistics_network(**stimulus), bench_of(4).run(stimulus)
    for port, trace in expected.items():
        values = observed[port].copy()
        at = tuple(np.argwhere(trace.known)[-1])
        values[at] ^= 1
        with pytest.raises(LockstepError, match=f"port {port}"):
            bench_of(4).check(expected, {**observed, port: values})
