"""Engines beside epochs, in RTL: X banks are loaded and stored while others compute, exact, and what breaks the rule is named."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.jobs import ProgramError
from podweave.compiler.memory import x_banks
from podweave.compiler.memory.engine_check import check_engines
from podweave.compiler.memory.rings import Ring
from podweave.driver.device import Device, DeviceError
from podweave.fuzz.random_layers import random_job
from podweave.fuzz.random_mixed import random_mixed
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import AcceleratorWay, run_on_device
from podweave.runs.jobs import Job
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from tests.compiler.memory.test_image import fed
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.small_accelerator import CONFIG, FROM_MEMORY, small_bench

NEAR = HbmTiming(latency=10)
SLOW = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)


def job_of(graph: Graph, seed: int) -> Job:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)


def beside(network: CompiledNetwork) -> dict[DescriptorKind, int]:
    """Words of X banks that are moved beside epochs, by kind."""
    rings = [ring.fields for ring in network.memory.prefetch]
    kinds = DescriptorKind.LOAD, DescriptorKind.STORE
    return {kind: sum(int((f["n0"] * f["beside"])[f["kind"] == kind].sum()) for f in rings) for kind in kinds}


def exact(jobs: list[Job], config: ChipConfig, bench: AcceleratorBench, **options: Any) -> None:
    report, _, _ = run_on_device(jobs, config, bench=bench, progress=lambda _: None, **options)
    assert report["failure"] is None
    for row in report["networks"]:
        assert (row["verdict"], row["mismatches"], row["counters_differing"]) == ("pass", 0, [])
        assert row["cycles"] == row["predicted_cycles"]


@pytest.mark.parametrize(
    "options", [{}, {"timing": SLOW, "cap": 40}, pytest.param({"timing": SLOW, "prefetch": False}, marks=pytest.mark.campaign)]
)
def test_inputs_and_outputs_of_every_epoch(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of them go beside epochs, which takes fewer cycles than in the gaps."""
    job = job_of(fed(5), 3)
    network = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    assert min(beside(network).values()) > 100
    exact([job], CONFIG, small_bench(), **options)
    if not options:
        with monkeypatch.context() as patch:
            patch.setattr(x_banks, "x_uses", lambda programs, _: np.ones((len(programs), 4, 4), bool))
            gaps = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
        assert sum(beside(gaps).values()) == 0
        assert predict_accelerator(network, NEAR).cycles < 0.85 * predict_accelerator(gaps, NEAR).cycles


@pytest.mark.parametrize("kind", [DescriptorKind.LOAD, DescriptorKind.STORE])
def test_a_part_in_use_is_an_error(kind: DescriptorKind) -> None:
    """One descriptor goes over a few words all through an epoch which writes, or reads, others of their part."""
    job, epoch = job_of(fed(5), 3), 2
    network = compile_network(job.graph, CONFIG, job.constants, FROM_MEMORY)
    program, image = network.programs[epoch], network.memory
    jobs = program.posts if kind == DescriptorKind.LOAD else program.streams
    manager, depth = CONFIG.managers - 1, CONFIG.memory.x_part_words
    node = manager * CONFIG.nodes_per_manager
    # Of the last job, which comes when the descriptor has long begun.
    latest = int(np.argmax(np.where(jobs["x_bank"] == node, jobs["start"], -1)))
    last = (int(jobs["x_base"][latest]) // depth + 1) * depth
    fields = {name: column.copy() for name, column in image.prefetch[manager].fields.items()}
    index = int(np.flatnonzero((fields["tag"] > epoch) & (fields["beside"] == 1))[0])
    over = {"kind": kind, "select": HostSelect.X, "beside": 1, "unit": 0, "after": epoch, "base": last - 32, "step0": 1}
    over |= {"n0": 32, "n1": 1, "n2": 60, "step1": 0, "step2": -31, "stride1": 0, "stride2": 0}
    for name, value in over.items():
        fields[name][index] = value
    ring = Ring(image.prefetch[manager].base, fields)
    content = tuple((at, data) for at, data in image.content if at != ring.base)
    changed = dataclasses.replace(image, prefetch=(*image.prefetch[:manager], ring), content=(*content, (ring.base, ring.packed())))
    with pytest.raises(ProgramError, match=rf"may be under way in epoch {epoch}, which uses part \d of X bank {node}$"):
        check_engines(changed, network.epochs)
    with small_bench().session(timing=NEAR, channel_bytes=image.channel_bytes) as bus:
        device = Device(bus, CONFIG)
        device.load(changed)
        with pytest.raises(DeviceError, match=rf"bank {node}: x_conflict"):
            device.run(max_cycles=100_000)


@pytest.mark.campaign
@pytest.mark.parametrize("parts", [2, 8, 32])
def test_random_networks(parts: int) -> None:
    config = CONFIG.replace(x_parts=parts)
    bench = AcceleratorBench.of(config, optimize="build", random_initial_state=True, checking=True)
    words = 0
    for seed in range(40):
        job = random_job(seed)
        try:
            network = compile_network(job.graph, config, job.constants, CompileOptions(from_memory=True, check="always"))
        except WorkloadError:
            continue
        words += sum(beside(network).values())
        exact([job], config, bench, timing=HbmTiming(latency=2 + seed, jitter=seed), cap=seed % 3 * 30, seed=seed)
    assert words > 1000


@pytest.mark.campaign
def test_layers_beside_operations_on_rows() -> None:
    """Between epochs of layers, words go beside them; operations on rows load theirs in gaps."""
    chip, words = small_chip().replace(w_words=256, x_parts=4), 0
    options = dataclasses.replace(FROM_MEMORY, check="always", policy=BankPolicy(bank_share=0.25))
    jobs = []
    for seed in range(40):
        job = random_mixed(seed)
        network = compile_network(job.graph, chip, job.constants, options)
        if found := sum(beside(network).values()):
            jobs.append(job)
        words += found
    assert words > 100
    report, _, _ = run_jobs(jobs, AcceleratorWay(chip, policy=options.policy), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", report["failure"]
    assert report["cycles"] == report["predicted_cycles"]
