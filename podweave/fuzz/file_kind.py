"""Random networks that onnxruntime quantised, beside onnxruntime and in RTL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podweave.ir.frontends.onnx import read_network
from podweave.spec.config import ChipConfig

from ..runs.accelerator import AcceleratorWay
from ..runs.jobs import Job
from ..runs.model_files import file_job, random_inputs
from ..runs.oracle import compare_layers, file_tensors
from .case import Outcome, describe
from .choices import Choices
from .graph_kinds import number, random_start, run_graphs
from .random_attention import attending_file
from .random_files import quantised_file
from .surroundings import ATTENDING, EVEN, accelerator_bench, random_checking


def run_onnx(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Files as onnxruntime quantises random networks: each layer on its inputs beside onnxruntime, then whole, from memory."""
    _run_files(rng, seed, outcome, EVEN, _of_layers)


def run_attention(rng: Choices, seed: int, outcome: Outcome) -> None:
    """The same of networks with norms and attention among their layers."""
    _run_files(rng, seed, outcome, ATTENDING, _attending)


def _of_layers(folder: Path, data: int, rng: Choices) -> Path:
    integer = bool(rng.integers(0, 4) == 3)
    ways: dict[str, bool] = {"unsigned": bool(rng.integers(0, 2)), "per_channel": bool(rng.integers(0, 2)), "integer": integer}
    ways |= {"symmetric": bool(not integer and rng.integers(0, 4) == 3)}
    sizes: dict[str, Any] = {"size": 5 + int(rng.integers(0, 5)), "channels": 1 + int(rng.integers(0, 3))}
    return quantised_file(folder, data, rng=rng, **ways, **sizes)


def _attending(folder: Path, data: int, rng: Choices) -> Path:
    ways: dict[str, bool] = {
        "unsigned": bool(rng.integers(0, 2)),
        "per_channel": bool(rng.integers(0, 2)),
        "symmetric": bool(rng.integers(0, 4) == 3),
    }
    sizes: dict[str, Any] = {"size": 5 + int(rng.integers(0, 4)), "channels": 1 + int(rng.integers(0, 3))}
    return attending_file(folder, data, rng=rng, **ways, **sizes)


def _run_files(rng: Choices, seed: int, outcome: Outcome, config: ChipConfig, make: Callable[[Path, int, Choices], Path]) -> None:
    start = random_start(rng)
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="podweave-fuzz-") as name:
        for _ in rng.several(2, 13):
            data = number(rng)
            file = make(Path(name), data, rng)
            network = read_network(file)
            right, _, _ = file_tensors(network, file, random_inputs(network, data))
            for row in compare_layers(network, network.constants, right, "half_even"):
                outcome.add(compared=row["values"], ties=row["ties"])
                unlike = row["differing"] - row["ties"] - row["within"]
                # Normalised responses are within a bound, which may be more than a step.
                if unlike and not (row["operator"] == "LRN" and row["largest"] <= network.bounds[row["operation"]] + 1):
                    outcome.failed(
                        "onnxruntime",
                        f"{row['operation']}: {unlike} values are neither those of onnxruntime nor as near as they may be",
                    )
            jobs.append(file_job(network, config, data))
    outcome.text = describe([job.graph for job in jobs], config=config.name, **start)
    run_graphs(
        jobs, AcceleratorWay(config, check="always", **start), accelerator_bench(config, random_checking(rng)), seed, outcome
    )
