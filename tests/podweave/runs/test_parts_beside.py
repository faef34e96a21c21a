"""Parts of a tensor of the file that are operations of their own, beside onnxruntime: what reads them is fed with its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podweave.ir.frontends.onnx import read_network
from podweave.runs.oracle import compare_layers, file_tensors
from tests.ir.frontends.onnx.small_file import small

DOUBLE = 2 * np.float32(0.3)
"""Halves of 0.3 are exact, but their products in float32 are not."""
INPUT = "a_q = QuantizeLinear(x8, third, zero) a = DequantizeLinear(a_q, third, zero) "
READER = " d_q = QuantizeLinear(j, double, zero) d = DequantizeLinear(d_q, double, zero) w @ constant c = Conv(d, w) y := c"
FILES = {
    "j0 = Relu(a) b_q = QuantizeLinear(j0, third, zero) b = DequantizeLinear(b_q, third, zero) j = Concat<axis = 1>(a, b)": {
        "j.0": (slice(None), slice(None), slice(0, 3)),
        "j.1": (slice(None), slice(None), slice(3, 6)),
    },
    "j = Pad(a, n_0_0_1_2_0_0_3_4, scale)": {"j.inner": (slice(1, 9), slice(2, 10), slice(None))},
}


@pytest.mark.parametrize("nodes", FILES)
def test_what_reads_parts_is_fed_with_those_of_the_file(tmp_path: Path, nodes: str) -> None:
    """Parts differ by ties; in front of a convolution of them, they are those of onnxruntime."""
    constant = np.random.default_rng(3).integers(-90, 91, (2, 6 if "Concat" in nodes else 3, 1, 1), dtype=np.int8)
    file = small(tmp_path, INPUT + nodes + READER, double=DOUBLE, constant=constant)
    network = read_network(file)
    x = np.resize(np.arange(-128, 128).astype(np.int8), network.graph.inputs["x8"])
    right, _, _ = file_tensors(network, file, {"x8": x})
    rows = {row["operation"]: row for row in compare_layers(network, network.constants, right, "half_even")}
    steps = np.rint((x.astype(np.float32) - 3) * np.float32(0.3) / DOUBLE).astype(int) + 3
    for name, part in FILES[nodes].items():
        assert rows[name]["differing"] == rows[name]["ties"] > 0
        wanted = steps if name != "j.1" else np.maximum(steps, 3)
        np.testing.assert_array_equal(right[name], wanted)
        tensor = network.tensors[name]
        whole = np.arange(np.prod(tensor.view.shape)).reshape(tensor.view.shape)
        np.testing.assert_array_equal(tensor.lying(tensor.view.to_file(whole)), whole[(slice(None), *part)])
    assert rows["c"]["differing"] == 0
    assert rows["c"]["values"] == right["c"].size


@pytest.mark.parametrize(
    ("scale", "zero"), [(0.001, 30_000), (0.25 / 249.83, 30_001), (0.0011, 33_000), (0.25 / 256, 1), (0.3, 30_001)]
)
def test_zero_points_of_16_bits_behind_8_are_exact_to_a_step(tmp_path: Path, scale: float, zero: int) -> None:
    """Where steps are hundreds of times finer than those of what is read, a zero point must not be rounded to the latter."""
    nodes = "a := x8 b_q = QuantizeLinear(a, s, z) b = DequantizeLinear(b_q, s, z) w @ i3 c = Conv(b, w) y := c"
    file = small(tmp_path, nodes, opset=21, s=np.float32(scale), z=np.uint16(zero))
    network = read_network(file)
    x = np.resize(np.arange(-128, 128).astype(np.int8), network.graph.inputs["x8"])
    right, _, _ = file_tensors(network, file, {"x8": x})
    row, _ = compare_layers(network, network.constants, right, "half_even")
    assert (row["operation"], row["differing"] - row["ties"]) == ("b_q", 0)
    assert row["largest"] <= 1
    assert network.bounds["b_q"] <= 1.01
