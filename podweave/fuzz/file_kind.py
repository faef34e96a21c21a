"""Random networks that onnxruntime quantised, beside onnxruntime and in RTL."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from podweave.ir.frontends.onnx import read_network

from ..runs.accelerator import AcceleratorWay
from ..runs.jobs import Job
from ..runs.model_files import file_job, random_inputs
from ..runs.oracle import compare_layers, file_tensors
from .case import Outcome, describe
from .choices import Choices
from .graph_kinds import number, random_start, run_graphs
from .random_files import quantised_file
from .surroundings import EVEN, accelerator_bench, random_checking


def run_onnx(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Files as onnxruntime quantises random networks: each layer on its inputs beside onnxruntime, then whole, from memory."""
    start = random_start(rng)
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="podweave-fuzz-") as name:
        for _ in rng.several(2, 13):
            data, integer = number(rng), bool(rng.integers(0, 4) == 3)
            ways: dict[str, bool] = {
                "unsigned": bool(rng.integers(0, 2)),
                "per_channel": bool(rng.integers(0, 2)),
                "integer": integer,
            }
            ways |= {"symmetric": bool(not integer and rng.integers(0, 4) == 3)}
            sizes: dict[str, Any] = {"size": 5 + int(rng.integers(0, 5)), "channels": 1 + int(rng.integers(0, 3))}
            file = quantised_file(Path(name), data, rng=rng, **ways, **sizes)
            network = read_network(file)
            right, _, _ = file_tensors(network, file, random_inputs(network, data))
            for row in compare_layers(network, network.constants, right, "half_even"):
                outcome.add(compared=row["values"], ties=row["ties"])
                unlike = row["differing"] - row["ties"]
                # Normalised responses are within a bound, which may be more than a step.
                if unlike and not (row["operator"] == "LRN" and row["largest"] <= network.bounds[row["operation"]] + 1):
                    outcome.failed("onnxruntime", f"{row['operation']}: {unlike} values are not those of onnxruntime, and no ties")
            jobs.append(file_job(network, EVEN, data))
    outcome.text = describe([job.graph for job in jobs], config=EVEN.name, **start)
    run_graphs(jobs, AcceleratorWay(EVEN, check="always", **start), accelerator_bench(EVEN, random_checking(rng)), seed, outcome)
