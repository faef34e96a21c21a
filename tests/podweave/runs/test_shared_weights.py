"""Weights of which there is one copy for several patches, in RTL: pods that ask for them in the same cycle all get them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.jobs import ProgramError
from podweave.compiler.memory.place import memory_image
from podweave.fuzz.random_layers import random_job
from podweave.predict.chip import predict
from podweave.runs import accelerator as accelerator_runs
from podweave.runs.accelerator import run_on_device
from tests.podweave.runs.small_accelerator import CONFIG, small_bench

from .test_cut import SHAKEN, run, workload

MEMORY_BOUND = BankPolicy(bank_share=1.0, first_epoch_share=1.0, traffic=20.0)
WORKLOADS = (
    "conv:12x12x4x8,kernel=3x3,padding=1",
    # Parts of K, and column tiles one after the other.
    "gemm:96x16x8",
    "gemm:64x32x8",
    # Patches that are not all of one size, and fewer at last than are abreast.
    "gemm:37x24x4",
    "conv:7x9x3x5,kernel=3x2,stride=2,padding=1",
)


def shared(network: CompiledNetwork) -> int:
    """Loads of words in banks of other pods."""
    return sum(int((program.loads["pod"] != program.loads["w_bank"]).sum()) for program in network.programs)


@pytest.mark.parametrize("text", WORKLOADS)
def test_one_copy_serves_several_patches(text: str) -> None:
    _, (network,) = run(workload(text), policy=MEMORY_BOUND, check="always", timing=SHAKEN)
    assert shared(network) > 0
    # What the W interconnect merged.
    counters = [predict(program).counters for program in network.programs]
    reads, words = (sum(int(of_epoch[name].sum()) for of_epoch in counters) for name in ("w_reads", "w_words"))
    assert reads < words


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_campaign(first: int) -> None:
    jobs = [random_job(seed) for seed in range(first, first + 20)]
    _, networks = run(*jobs, policy=MEMORY_BOUND, check="always", timing=SHAKEN)
    assert sum(map(shared, networks)) > 20


def with_one_load_earlier(network: CompiledNetwork) -> CompiledNetwork:
    """The same with the last load from another pod's bank a cycle too early."""
    (program,) = network.programs
    early = np.flatnonzero(program.loads["pod"] != program.loads["w_bank"])[-1]
    start = program.loads["start"].copy()
    start[early] -= 1
    epochs = (dataclasses.replace(program, loads=program.loads | {"start": start}),)
    assert network.constants is not None
    return dataclasses.replace(network, epochs=epochs, image=memory_image(epochs, network.constants, network.split.graph))


def test_pods_that_do_not_ask_in_the_same_cycle_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[CompiledNetwork] = []
    right = accelerator_runs.compile_kept

    def compile_wrong(*arguments: object, **options: object) -> CompiledNetwork:
        changed.append(with_one_load_earlier(right(*arguments, **options)))  # type: ignore[arg-type]
        return changed[0]

    monkeypatch.setattr(accelerator_runs, "compile_kept", compile_wrong)
    job = workload(WORKLOADS[0])
    report, *_ = run_on_device([job], CONFIG, bench=small_bench(), progress=lambda _: None, policy=MEMORY_BOUND, check="never")
    assert report["verdict"] == "fail"
    assert "W" in report["failure"]
    with pytest.raises(ProgramError, match=r"W (bank|network).* ask for different words in cycle"):
        check_chip(changed[0].programs[0])
