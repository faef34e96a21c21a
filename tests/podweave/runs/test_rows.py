"""podweave.runs.accelerator on graphs of rows: bit-exact, in exactly the predicted cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.compiler.memory.shared import SharedMemory
from podweave.driver.device import Device
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.language_models import DecoderSizes, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job, chip_jobs
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from tests.podweave.runs.row_jobs import attention_job, small_chip

# Rows, heads, heads of keys, size of a head, keys: tiles that are full and that are not, more and fewer of them than nodes.
ATTENTION = [
    (1, 1, 1, 4, 5),
    (1, 2, 1, 4, 1),
    (2, 4, 2, 8, 9),
    (3, 4, 2, 6, 17),
    (2, 2, 2, 4, 33),
    (8, 2, 1, 12, 20),
    (16, 1, 1, 4, 16),
]


def test_attention() -> None:
    rng = np.random.default_rng(1)
    jobs = [attention_job(*sizes, rng.integers(1, sizes[4] + 1, sizes[0]), seed) for seed, sizes in enumerate(ATTENTION)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(small_chip()), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", [row.get("first_mismatch") for row in report["networks"]]
    assert report["cycles"] == report["predicted_cycles"]
    assert all(row["compared"] == sizes[0] * sizes[1] * sizes[3] for row, sizes in zip(report["networks"], ATTENTION, strict=True))


# Channels that fill tiles and that do not, more rows than registers, several epochs.
PARTS = (
    "norm_16",
    "norm_22,rows=3",
    "gated_16_24",
    "gated_20_44,rows=5",
    "gated_18_30,rows=20",
    "attention_4_2_6,rows=3,context=17",
)


def test_norms_and_feed_forward_layers_by_name() -> None:
    report = run(PARTS, small_chip())
    assert max(row["epochs"] for row in report["networks"]) > 1


# One row and several, which end in a tile of keys and begin the next; heads that fill tiles and that do not; two layers.
DECODERS = ("llama_16_2_1_24,context=1", "llama_16_2_1_24,rows=3,context=9", "llama_24_3_3_20,rows=6,context=6")
DECODERS += (
    "llama_12_2_1_10,rows=2,context=6,head=8",
    "llama_32_4_2_44,context=13",
    "llama_16_2_2_24_2,rows=2,context=7",
    "llama_12_2_1_10,rows=5,context=31",
    "llama_12_2_1_10,rows=2,context=6,texts=2",
)


# Channels that fill tiles and that do not, rows on both sides of a tile of keys; as many as there are registers.
ENCODERS = (
    "encoder_16_2_24",
    "encoder_16_2_24,rows=3",
    "encoder_22_2_30,rows=5",
    "encoder_12_3_20_2,rows=9",
    "encoder_20_1_12,rows=16",
)


def run(names: Sequence[str], config: ChipConfig) -> dict[str, Any]:
    jobs = [job for name in names for job in chip_jobs(name, 3)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    assert all(sum(row["cycles_by_kind"].values()) == row["cycles"] for row in report["networks"])
    return report


def test_decoder_layers() -> None:
    run(DECODERS, small_chip())


def test_encoder_layers() -> None:
    run(ENCODERS, small_chip())


@pytest.mark.campaign
def test_sums_of_more_weights_than_an_epoch_holds() -> None:
    report = run(("llama_32_4_2_44,context=13", "gated_64_90,rows=3"), small_chip().replace(w_words=128))
    assert report["networks"][1]["epochs"] > 20


def grow(config: ChipConfig, rows: int) -> None:
    """Keys and values that runs appended one row at a time are those of one run over all rows, bit for bit."""
    whole = chip_jobs(f"llama_16_2_1_24,rows={rows},context={rows}", 5)[0]
    expected = evaluate(whole.graph, whole.constants, whole.inputs)
    caches = {name: np.zeros((1, 1, rows, 8), np.int8) for name in ("keys", "values")}
    way = AcceleratorWay(config)
    for row in range(rows):
        graph = chip_jobs(f"llama_16_2_1_24,context={row + 1}", 5)[0].graph
        inputs = {name: whole.inputs[name][:, :, row : row + 1] for name in ("x", "angles")}
        inputs |= {"lengths": np.full((1, 1, 1, 1), row + 1, np.int32)}
        inputs |= {name: cache[:, :, : row + 1] for name, cache in caches.items()}
        job = Job(graph, whole.constants, inputs)
        report, outputs, _ = run_jobs([job], way, Simulation(), lambda _: None)
        assert report["verdict"] == "pass"
        np.testing.assert_array_equal(outputs[0]["down"][0, 0, 0], expected["down"][0, 0, row])
        for name, cache in caches.items():
            cache[0, 0, row] = evaluate(graph, whole.constants, inputs)[f"{name}_now"][0, 0, row]
            np.testing.assert_array_equal(cache[0, 0, row], expected[f"{name}_now"][0, 0, row])


def test_one_program_appends_wherever_its_offset_says() -> None:
    """Three programs, for keys 0 to 3, 4 to 7 and 8 to 11, run twelve tokens as one run over all of them does, bit for bit."""
    rows, sizes = 12, DecoderSizes(16, 2, 1, 24)
    config = small_chip()
    whole = chip_jobs(f"llama_16_2_1_24,rows={rows},context={rows}", 5)[0]
    expected = evaluate(whole.graph, whole.constants, whole.inputs)
    caches = {name: np.zeros((1, 1, rows, 8), np.int8) for name in ("keys", "values")}
    jobs = []
    for row in range(rows):
        first = row // 4 * 4
        graph = decoder(sizes, [TextRows(1, first + 4, first, 4)], f"keys {first} to {first + 3}")
        inputs = {name: whole.inputs[name][:, :, row : row + 1] for name in ("x", "angles")}
        inputs |= {"lengths": np.full((1, 1, 1, 1), row + 1, np.int32), "offset": np.full((1, 1, 1, 1), row - first, np.int32)}
        inputs |= {name: cache[:, :, : first + 4].copy() for name, cache in caches.items()}
        jobs.append(Job(graph, whole.constants, inputs))
        tensors = evaluate(graph, whole.constants, inputs)
        np.testing.assert_array_equal(tensors["down"][0, 0, 0], expected["down"][0, 0, row])
        for name, cache in caches.items():
            cache[0, 0, row] = expected[f"{name}_now"][0, 0, row]
            np.testing.assert_array_equal(tensors[f"{name}_now"][0, 0], cache[0, 0, : first + 4])
    report, outputs, networks = run_jobs(jobs, AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    assert len({id(network) for network in networks}) == 3
    for row in range(rows):
        np.testing.assert_array_equal(outputs[row]["down"][0, 0, 0], expected["down"][0, 0, row])


# Rows, context and position of each text: heads of which rows are apart, tiles of keys that are full and that are not, none or one
# or two of them those of the first text, whose rows are among these or not; and how many rows of sums pods hold.
TEXTS = {
    "each its own": ([TextRows(3, 9, 6), TextRows(1, 6, 4, 2, 1), TextRows(5, 5, 0, slot=2), TextRows(2, 17, 7, slot=4)], 64),
    "in pieces": ([TextRows(3, 9, 6), TextRows(1, 6, 4, 2, 1), TextRows(5, 5, 0, slot=2), TextRows(2, 17, 7, slot=4)], 8),
    "one tile shared": ([TextRows(3, 9, 6), TextRows(1, 6, 4, 2, 1, 4), TextRows(2, 17, 7, slot=4, shared=4)], 64),
    "of one that is not there": ([TextRows(2, 10, 8, slot=1, shared=8), TextRows(1, 21, 16, 4, 2, 8)], 64),
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.campaign] * (what in ("in pieces", "each its own"))) for what in TEXTS]
)
@pytest.mark.campaign
def test_rows_of_several_texts(what: str) -> None:
    """Each text has the bits that it has alone, whatever the others are; its caches, too, but for what others hold."""
    texts, accumulator_rows = TEXTS[what]
    sizes, config = DecoderSizes(32, 4, 2, 24), small_chip().replace(row_registers=64, accumulator_rows=accumulator_rows)
    whole = decoder(sizes, texts, "several texts")
    constants = Constants(random_row_parameters(whole, 3))
    inputs = random_row_inputs(whole, 3)
    positions = [text.first + int(inputs[f"offset{text.suffix}"].item() if text.span else 0) for text in texts]
    last = [first + row + 1 for first, text in zip(positions, texts, strict=True) for row in range(text.rows)]
    inputs["lengths"] = np.array(last, np.int32).reshape(1, 1, 1, -1)
    tensors, row = evaluate(whole, constants, inputs), 0
    for text in texts:
        rows = slice(row, row + text.rows)
        own = {"x": inputs["x"][:, :, rows], "angles": inputs["angles"][:, :, rows], "lengths": inputs["lengths"][..., rows]}
        graph = decoder(sizes, [replace(text, shared=0)], f"text {text.slot}")
        own |= {name: inputs[name].copy() for name in graph.inputs if name not in own}
        for name in ("keys", "values"):
            if text.shared:
                own[f"{name}{text.suffix}"][:, :, : text.shared] = inputs[name][:, :, : text.shared]
        alone = evaluate(graph, constants, own)
        np.testing.assert_array_equal(tensors["down"][:, :, rows], alone["down"])
        for name in (f"keys_now{text.suffix}", f"values_now{text.suffix}"):
            np.testing.assert_array_equal(tensors[name][:, :, text.shared :], alone[name][:, :, text.shared :])
        row += text.rows
    job = Job(whole, constants, inputs)
    report, _, _ = run_jobs([job], AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.campaign
def test_a_cache_grows_token_by_token_as_if_computed_at_once() -> None:
    grow(small_chip(), 9)


def test_programs_share_weights_and_caches() -> None:
    """Three tokens at once, then nine one by one, by programs for keys 0 to 3, 4 to 7 and 8 to 11 in one memory: only runs write to
    caches, and every program after the first adds hardly more than its jobs."""
    config, sizes, rows = small_chip(), DecoderSizes(16, 2, 1, 24), 12
    whole = chip_jobs(f"llama_16_2_1_24,rows={rows},context={rows}", 5)[0]
    expected = evaluate(whole.graph, whole.constants, whole.inputs)
    shared = SharedMemory(config, 1 << 16)
    options = CompileOptions(from_memory=True, shared=shared, capacity=rows, check="always")
    graphs = [decoder(sizes, [TextRows(3, 4, 0)], "three at once")]
    graphs += [decoder(sizes, [TextRows(1, first + 4, first, 4)], f"keys from {first}") for first in (0, 4, 8)]
    networks = [compile_network(graph, config, whole.constants, options) for graph in graphs]
    added = [sum(content.size for _, content in network.memory.content) for network in networks]
    weights = sum(part.nbytes for held in whole.constants.values() for part in held.weights)
    assert all(more < added[0] - weights // 2 for more in added[1:])
    with AcceleratorBench.of(config).session(channel_bytes=shared.channel_bytes) as bus:
        device = Device(bus, config)
        for network in networks:
            device.load(network.memory)
        row = 0
        for network, first, count in [(networks[0], 0, 3), *((networks[1 + row // 4], row // 4 * 4, 1) for row in range(3, rows))]:
            device.select(network.memory)
            inputs = {name: whole.inputs[name][:, :, row : row + count] for name in ("x", "angles")}
            inputs["lengths"] = np.arange(row + 1, row + count + 1, dtype=np.int32).reshape(1, 1, 1, count)
            if network is not networks[0]:
                inputs["offset"] = np.full((1, 1, 1, 1), row - first, np.int32)
            for name, tensor in inputs.items():
                device.write_input(name, tensor)
            device.run(max_cycles=100_000)
            np.testing.assert_array_equal(device.read_output("down")[0, 0], expected["down"][0, 0, row : row + count])
            prediction = predict_accelerator(network, HbmTiming(), bases=network.memory.bases(inputs))
            assert device.counters().device["CYCLES"] == prediction.cycles
            row += count
        for name in ("keys", "values"):
            np.testing.assert_array_equal(device.read_input(name), expected[f"{name}_now"])


def test_no_room_beside_other_programs() -> None:
    job = chip_jobs("llama_16_2_1_24,context=4", 5)[0]
    options = CompileOptions(from_memory=True, shared=SharedMemory(small_chip(), 20480), capacity=8)
    compile_network(job.graph, small_chip(), job.constants, options)
    with pytest.raises(WorkloadError, match=r"^with the programs before it, the network needs \d+ bytes of a memory channel, "):
        compile_network(job.graph, small_chip(), job.constants, options)
