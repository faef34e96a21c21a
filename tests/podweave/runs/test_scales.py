"""podweave.runs.accelerator on post-processors that multiply fewer bits: exact as with all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from podweave.ir.constants import Constants, with_scale_bits
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format, LayerNorm
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job, chip_jobs
from podweave.runs.road import Simulation, run_jobs
from tests.podweave.runs.even_chips import NARROW
from tests.podweave.runs.row_jobs import small_chip


def test_sums_far_beyond_those_that_are_kept() -> None:
    """Some channels have biases that no sum of 22 bits holds; the golden model knows of no saturation before the scale. Behind a
    ReLU."""
    (plain,) = chip_jobs("conv:6x5x12x8,kernel=3x3,padding=1", 2, scale_bits=16)
    (name,) = plain.constants
    held = plain.constants[name]
    bias = held.bias + np.array([0, 1 << 21, -(1 << 21), 1 << 30, -(1 << 31) + (1 << 22), 1 << 20, -(1 << 20), 0])
    far = Job(plain.graph, Constants({name: replace(held, bias=bias.astype(np.int32))}), plain.inputs)
    report, outputs, _ = run_jobs([plain, far], AcceleratorWay(NARROW), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", [row.get("first_mismatch") for row in report["networks"]]
    assert report["cycles"] == report["predicted_cycles"]
    found = outputs[1][name].reshape(-1, 8)
    assert (found[:, [1, 3]] == 127).all()
    assert (found[:, [2, 4]] == 0).all()
    assert len(np.unique(found[:, [0, 7]])) > 15


@pytest.mark.campaign
def test_layer_norms_by_17_bits() -> None:
    """As few as there may be with row functions, as llm8x16 has them. Rows that keep all bits and rows that do not, that saturate,
    that are all equal; more of them than registers hold at once; gains of one sign and of both."""
    shifts, width = (0, 4, 12, 14), 22
    operations = tuple(LayerNorm(f"n{by}", 11, source="x", width=width, scale_shift=by, epsilon=77) for by in shifts)
    names = tuple(each.name for each in operations)
    graph = RowGraph("norms", {"x": (1, 1, 11, width)}, operations, names, formats={"x": Format.WIDE})
    rng, held = np.random.default_rng(5), random_row_parameters(graph, 1)
    for name in ("n4", "n14"):
        sign = rng.choice([-1, 1], width).astype(np.int32)
        held[name] = replace(held[name], multiplier=held[name].multiplier * sign)
    constants = with_scale_bits(held, 17)
    normal = rng.standard_normal((11, width)) * np.exp2([3, 8, 14, 18, 20, 25, 0, 0, 0, 0, 0])[:, None]
    x = np.rint(normal).astype(np.int32)
    x[6] = 0
    x[7] = -700
    x[8] = (1 << 26) + 3
    x[9] = np.where(np.arange(width) == 13, (1 << 31) - 1, 0)
    x[10] = np.where(np.arange(width) % 2, (1 << 31) - 1, 1 - (1 << 31))
    job = Job(graph, constants, {"x": x[None, None]})
    config = small_chip().replace(scale_bits=17)
    report, outputs, _ = run_jobs([job], AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], report["networks"][0].get("first_mismatch"))
    assert report["cycles"] == report["predicted_cycles"]
    for name in names:
        found = outputs[0][name][0, 0]
        # Of equal values, only biases are left; of others, something is.
        assert (found[6] == found[7]).all()
        assert (found[6] == found[8]).all()
        assert all((found[row] != found[6]).any() for row in (4, 5, 9, 10))
