"""Runs over AXI with a planted fault: in the image, in what is predicted, in what is expected. Each is seen."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.compile_network import CompiledNetwork
from podweave.fuzz.random_layers import random_job
from podweave.predict.accelerator import Prediction
from podweave.runs import accelerator as accelerator_runs
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from tests.podweave.runs.test_accelerator import PLAIN, run


def faulty(
    monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Any], Any]
) -> tuple[dict[str, Any], list[dict[str, NDArray[np.int8]]]]:
    """The report of a run with one function of the module replaced by one whose result is changed."""
    right = getattr(accelerator_runs, name)
    monkeypatch.setattr(accelerator_runs, name, lambda *arguments, **options: change(right(*arguments, **options)))
    report, found, _ = run(random_job(3), timing=PLAIN)
    assert report["verdict"] == "fail"
    return report, found


def with_content(compiled: CompiledNetwork, select: HostSelect, change: Callable[[NDArray[np.uint8]], None]) -> CompiledNetwork:
    """The same with the words of the first load of that kind changed in the image."""
    image = compiled.image
    ring = image.prefetch[0]
    first = np.flatnonzero((ring.fields["select"] == select) & (ring.fields["kind"] == DescriptorKind.LOAD))[0]
    content = []
    for address, data in image.content:
        copy = data.copy()
        if address == ring.fields["address"][first]:
            change(copy)
        content.append((address, copy))
    return dataclasses.replace(compiled, image=dataclasses.replace(image, content=tuple(content)))


def test_wrong_weight_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(words: NDArray[np.uint8]) -> None:
        words[:4] ^= 0x80

    report, _ = faulty(monkeypatch, "compile_kept", lambda compiled: with_content(compiled, HostSelect.W, change))
    (row,) = report["networks"]
    assert row["mismatches"] == report["mismatches"] > 0
    assert row["cycles"] == row["predicted_cycles"]
    assert report["failure"] is None


def test_wrong_program_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(words: NDArray[np.uint8]) -> None:
        words[...] = 0xFF

    def change(compiled: CompiledNetwork) -> CompiledNetwork:
        return with_content(compiled, HostSelect.STREAM_STORE, fill)

    report, found = faulty(monkeypatch, "compile_kept", change)
    assert report["failure"].startswith("pod ")
    assert (report["networks"], found) == ([], [])
    assert report["cycles"] is None


def test_wrong_descriptor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(compiled: CompiledNetwork) -> CompiledNetwork:
        base = compiled.image.demand[1].base
        content = [(address, data.copy()) for address, data in compiled.image.content]
        for address, data in content:
            if address == base:
                data[0] |= 0xF
        return dataclasses.replace(compiled, image=dataclasses.replace(compiled.image, content=tuple(content)))

    report, _ = faulty(monkeypatch, "compile_kept", change)
    assert report["failure"].startswith("prefetch engine 1: unknown kind (tag 0 of the demand ring, address 0x")


@pytest.mark.parametrize("name", ["STALL_GATE", "WAIT_STORE", "PREFETCH_BEATS", "PREFETCH_UNUSED"])
def test_wrong_counter_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    report, _ = faulty(
        monkeypatch,
        "predict_accelerator",
        lambda found: dataclasses.replace(found, counters=found.counters | {name: found.counters[name] + 1}),
    )
    (row,) = report["networks"]
    assert row["counters_differing"] == [name]
    assert (row["verdict"], row["mismatches"], row["cycles"]) == ("fail", 0, row["predicted_cycles"])


def test_wrong_counter_of_a_node_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(found: Prediction) -> Prediction:
        values = found.nodes["x_writes"] + np.array([0, 1, 0, 1])
        return dataclasses.replace(found, nodes=found.nodes | {"x_writes": values})

    report, _ = faulty(monkeypatch, "predict_accelerator", change)
    assert report["networks"][0]["counters_differing"] == ["x_writes of 2 nodes"]


def test_one_cycle_of_difference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = faulty(monkeypatch, "predict_accelerator", lambda found: dataclasses.replace(found, cycles=found.cycles + 1))
    assert report["predicted_cycles"] - report["cycles"] == 1
    assert report["mismatches"] == 0


def test_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(tensors: dict[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int8]]:
        (*_, last) = tensors
        changed = tensors[last].copy()
        changed.reshape(-1)[-1] ^= 1
        return tensors | {last: changed}

    report, found = faulty(monkeypatch, "evaluate", change)
    assert report["mismatches"] == 1
    assert report["networks"][0]["counters_differing"] == []
    assert len(found) == 1


def test_all_that_ran_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expectations are worked out when the simulator has ended: a wrong run does not hide the next one."""
    right = accelerator_runs.evaluate
    monkeypatch.setattr(
        accelerator_runs,
        "evaluate",
        lambda *arguments: {name: tensor ^ 1 for name, tensor in right(*arguments).items()},
    )
    report, found, compiled = run(random_job(3), random_job(1), timing=PLAIN)
    assert (report["verdict"], len(report["networks"]), len(found), len(compiled)) == ("fail", 2, 2, 2)
    assert all(row["mismatches"] == row["compared"] for row in report["networks"])


def test_simulation_is_timed_without_the_golden_model(monkeypatch: pytest.MonkeyPatch) -> None:
    right = accelerator_runs.evaluate

    def slow(*arguments: Any) -> dict[str, NDArray[np.int8]]:
        time.sleep(2)
        return right(*arguments)

    monkeypatch.setattr(accelerator_runs, "evaluate", slow)
    report, *_ = run(random_job(3), timing=PLAIN)
    assert report["wall_s"]["check"] > 2
