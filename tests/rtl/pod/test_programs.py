"""Pods in lockstep with their cycle model on compiled programs: every port in every cycle, jobs as program stores push them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.chip.bank_image import w_image, x_image
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import compile_network
from podweave.golden.cycle.ports import PortTrace
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import parse_workload
from podweave.predict.chip import accesses, sums_span
from podweave.runs.jobs import Job, layer_graph
from podweave.spec.config import ChipConfig
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.pod_programs import LEAD, PodProgram, pod_program
from podweave.tb.cases.pod_stimulus import pod_bench
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of
from tests.rtl.pod.test_pod import CONFIGS
from tests.tb.benches.chip_networks import job_of

# One pod, whose banks answer in the next cycle, without accumulators; four, with jobs of several tiles; none of those.
KEYS = ("4x8_of_2x4_no_accumulators", "4x4", "4x4_without_tiles")
LAYERS = ("gemm:20x24x8", "gemm:3x8x16", "gemm:9x5x7", "conv:7x7x4x4,kernel=3x3,padding=same,stride=2")


@functools.cache
def bench_of(key: str) -> BlockBench:
    return pod_bench(config_of(key), random_initial_state=True)


def config_of(key: str) -> ChipConfig:
    return CONFIGS[key].replace(x_words=512, w_words=256, p_words=512, time_width=24, count_width=16)


def compiled(key: str, text: str) -> tuple[EpochProgram, Job]:
    job = job_of(layer_graph(parse_workload(text)), seed=len(text))
    return compile_network(job.graph, config_of(key), job.constants).program, job


def banks(program: EpochProgram, job: Job) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """What the X and W banks hold."""
    config, rng = program.config, np.random.default_rng(1)
    memory, array = config.memory, config.array
    x = rng.integers(-128, 128, (memory.banks, memory.x_words, array.rows), dtype=np.int8)
    w = rng.integers(-128, 128, (memory.banks, memory.w_words, array.cols), dtype=np.int8)
    for words_of, image in ((x, x_image(program, job.inputs)), (w, w_image(program, job.constants))):
        for place, words in image:
            words_of[place.bank, place.base : place.base + len(words)] = words
    return x, w


def pods_of(program: EpochProgram, job: Job) -> dict[int, PodProgram]:
    return {int(pod): pod_program(program, int(pod), *banks(program, job)) for pod in np.unique(program.streams["pod"])}


@pytest.mark.parametrize("text", LAYERS)
@pytest.mark.parametrize("key", fast_of(KEYS, "4x8_of_2x4_no_accumulators", "4x4"))
def test_every_port_in_every_cycle(key: str, text: str) -> None:
    program, job = compiled(key, text)
    pods = pods_of(program, job)
    for pod, told in pods.items():
        assert told.model.first_error is None, told.model.events
        observed = bench_of(key).run(told.inputs, seed=pod)
        # Sums of weight tiles of one row, as of K = 5, are of rows that no load names: unknown to the model.
        assert bench_of(key).check(told.expected, observed) > 14 * len(told.inputs["run"])
        assert not observed["busy"][-1]


@pytest.mark.parametrize("text", LAYERS)
@pytest.mark.parametrize("key", KEYS)
def test_ports_show_the_predicted_accesses_and_the_sums(key: str, text: str) -> None:
    program, job = compiled(key, text)
    (found,), span = accesses(program), sums_span(program)
    seen: dict[str, list[int]] = {"x": [], "w": [], "p": []}
    layer = program.graph.operations[0].operands[0].layer
    held = np.zeros((program.config.memory.banks, program.config.memory.p_words, program.config.array.cols), np.int64)
    writes = []
    for told in pods_of(program, job).values():
        ports = told.model.requests()
        for kind, name in (("x", "x_request_valid"), ("w", "w_request_valid"), ("p", "p_valid")):
            # Time 0 is the cycle after the first with ``run``.
            seen[kind] += (np.flatnonzero(ports[name].value) - LEAD - 1).tolist()
        at = np.flatnonzero(ports["p_valid"].value)
        fields = (told.expected[f"p_{part}"].value[at] for part in ("bank", "address", "accumulate", "data"))
        writes += list(zip(at.tolist(), *fields, strict=True))
    for kind, times in seen.items():
        assert (found[kind]["first"], found[kind]["last"]) == (min(times), max(times))
    assert found["words_streamed"] == len(seen["x"])
    assert (span.first_request, span.last_write) == (found["first"], found["last"])
    assert (span.first_request, span.last_write) == (min(seen["w"]), max(seen["p"]))
    if layer.reduction % program.config.array.rows:
        # Rows of weights that no load names are unknown to the model, though words have zeros for them.
        return
    # What is written into the P banks sums up to the layer.
    for _, bank, address, adds, sums in sorted(writes, key=lambda write: write[0]):
        held[bank, address] = held[bank, address] * adds + sums
    (weights,) = job.constants[layer.name].weights
    (inputs,) = job.inputs.values()
    golden = conv2d(inputs, weights, stride=layer.stride, padding=layer.padding)
    total = 0
    for item in program.accumulated:
        (images, rows, columns), outputs = item.box, program.lowered[0].tiles[item.tile].outputs
        box = golden[slice(*images), slice(*rows), slice(*columns)][..., outputs].reshape(-1, len(outputs))
        words = held[item.place.bank, item.place.base : item.place.base + len(box), : len(outputs)]
        np.testing.assert_array_equal(words, box)
        total += box.size
    assert total == golden.size


def test_numbers_are_those_of_the_lanes_in_use() -> None:
    # 2 weight tiles of 4 and 1 lanes, over 2 column tiles of 4 and 3 outputs.
    program, _ = compiled("4x4", "gemm:10x5x7")
    (found,) = accesses(program)
    assert (found["x"]["numbers"], found["w"]["numbers"], found["words_streamed"]) == (10 * 5 * 2, 5 * 7, 10 * 2 * 2)
    assert found["p"]["numbers"] >= 10 * 7


@pytest.mark.parametrize("field", ["x_base", "start", "p_base", "w_base"])
def test_checker_sees_another_program(field: str) -> None:
    """What the RTL does with a program is not what the model says of another one."""
    program, job = compiled("4x4", LAYERS[0])
    told = pods_of(program, job)[0]
    jobs = program.loads if field == "w_base" else program.streams
    mine = np.flatnonzero(jobs["pod"] == 0)
    jobs[field][mine[-1]] += 1
    observed = bench_of("4x4").run(told.inputs)
    # The other one may end a cycle later.
    expected = {
        name: PortTrace(trace.value[: len(told.inputs["run"])], trace.known[: len(told.inputs["run"])])
        for name, trace in pods_of(program, job)[0].expected.items()
    }
    with pytest.raises(LockstepError, match="pod differs from its cycle model"):
        bench_of("4x4").check(expected, observed)
