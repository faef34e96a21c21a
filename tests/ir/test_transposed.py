"""ir.transposed: convolutions side by side, interleaved, are the transposed convolution of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.linear import Operand, accumulate
from podweave.golden.layers.upsample import upsample
from podweave.ir.layers import WorkloadError
from podweave.ir.transposed import TransposedConvolution

TRANSPOSED = "up (float[N,C,H,W] x, float[C,O,KH,KW] w) => (float[N,O,OH,OW] y) {{ y = ConvTranspose<{attributes}>(x, w) }}"


def oracle(x: NDArray[np.int8], weights: NDArray[np.int8], transposed: TransposedConvolution) -> NDArray[np.float32]:
    (top, bottom), (left, right) = transposed.padding
    attributes = (
        f"strides={list(transposed.stride)}, pads=[{top}, {left}, {bottom}, {right}], output_padding={list(transposed.extra)}"
    )
    text = '<ir_version: 8, opset_import: ["": 13]> ' + TRANSPOSED.format(attributes=attributes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx.parser.parse_model(text).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    w = weights.transpose(2, 3, 0, 1).astype(np.float32)
    (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2).astype(np.float32), "w": w})
    return np.asarray(y).transpose(0, 2, 3, 1)


def computed(x: NDArray[np.int8], weights: NDArray[np.int8], transposed: TransposedConvolution) -> NDArray[np.int8]:
    """By its layer, and seen by its upsampling; values are small enough for int8."""
    sums = accumulate([Operand(x, transposed.weights(weights), padding=transposed.layer.padding)])
    seen, (height, width) = transposed.upsampling, transposed.output
    assert np.abs(sums).max() < 128
    return upsample(sums.astype(np.int8), seen.rows, seen.columns, seen.interleaved)[:, :height, :width]


@pytest.mark.parametrize("seed", range(60))
def test_equals_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride = (tuple(int(n) for n in rng.integers(1, most, 2)) for most in (6, 5))
    padding = tuple(tuple(int(n) for n in rng.integers(0, size, 2)) for size in kernel)
    extra = tuple(int(rng.integers(0, size)) for size in stride)
    shape = (2, *(int(n) for n in rng.integers(4, 8, 2)), 3)
    transposed = TransposedConvolution("t", shape, 4, kernel, stride, padding, extra)  # type: ignore[arg-type]
    x = rng.integers(-1, 2, shape, dtype=np.int8)
    weights = rng.integers(-1, 2, (*kernel, 3, 4), dtype=np.int8)
    assert_array_equal(computed(x, weights, transposed), oracle(x, weights, transposed))


def test_kernels_as_large_as_strides_are_products_of_positions() -> None:
    """As in U-Net: four products of a position each, and no tap that multiplies by nothing."""
    transposed = TransposedConvolution("up", (1, 8, 8, 16), 12, (2, 2), (2, 2))
    layer = transposed.layer
    assert (layer.kernel, layer.padding, layer.outputs, transposed.output) == ((1, 1), ((0, 0), (0, 0)), 48, (16, 16))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stride": (0, 2)}, "t: kernel and stride must be at least 1 in height, got 2 and 0"),
        ({"padding": ((0, 0), (0, 2))}, "t: the padding in width must be less than the kernel (2), got (0, 2)"),
        ({"shape": (1, 1, 4, 3), "padding": ((1, 1), (0, 0))}, "t: the padding in height leaves no output, got (1, 1)"),
    ],
)
def test_what_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        TransposedConvolution(**{"name": "t", "shape": (1, 4, 4, 3), "outputs": 2, "kernel": (2, 2), "stride": (2, 2)} | options)
    assert str(caught.value) == sentence


def test_weights_of_another_shape_are_refused() -> None:
    transposed = TransposedConvolution("t", (1, 4, 4, 3), 2, (2, 2), (2, 2))
    with pytest.raises(WorkloadError, match=r"^t takes weights of \(2, 2, 3, 2\), got \(2, 2, 2, 3\)$"):
        transposed.weights(np.zeros((2, 2, 2, 3), np.int8))
