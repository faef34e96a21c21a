"""podweave.runs.accelerator on post-processors that multiply fewer bits: exact as with all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from podweave.ir.constants import Constants
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job, chip_jobs
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.presets import load_config

CONFIG = load_config("chip2x4").replace(scale_bits=16, sum_bits=20, lanes=2)


def test_sums_far_beyond_those_that_are_kept() -> None:
    """Some channels have biases that no sum of 20 bits holds; the golden model knows of no saturation before the scale. Behind a
    ReLU."""
    (plain,) = chip_jobs("conv:6x5x12x8,kernel=3x3,padding=1", 2, scale_bits=16)
    (name,) = plain.constants
    held = plain.constants[name]
    bias = held.bias + np.array([0, 1 << 19, -(1 << 19), 1 << 30, -(1 << 31) + (1 << 22), 1 << 18, -(1 << 18), 0])
    far = Job(plain.graph, Constants({name: replace(held, bias=bias.astype(np.int32))}), plain.inputs)
    report, outputs, _ = run_jobs([plain, far], AcceleratorWay(CONFIG), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", [row.get("first_mismatch") for row in report["networks"]]
    assert report["cycles"] == report["predicted_cycles"]
    found = outputs[1][name].reshape(-1, 8)
    assert (found[:, [1, 3]] == 127).all()
    assert (found[:, [2, 4]] == 0).all()
    assert len(np.unique(found[:, [0, 7]])) > 15
