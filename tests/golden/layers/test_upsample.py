"""golden.layers.upsample against onnxruntime's Resize and DepthToSpace."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.upsample import upsample

RESIZE = """up (float[N,C,H,W] x) => (float[N,C,OH,OW] y)
<float[0] roi = {{}}, float[4] scales = {{1.0, 1.0, {rows}.0, {columns}.0}}>
{{ y = Resize<mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric">(x, roi, scales) }}"""
DEPTH_TO_SPACE = 'up (float[N,C,H,W] x) => (float[N,C,OH,OW] y) {{ y = DepthToSpace<mode="DCR", blocksize={rows}>(x) }}'


def oracle(operator: str, x: NDArray[np.int8], rows: int, columns: int) -> NDArray[np.float32]:
    text = '<ir_version: 8, opset_import: ["": 13]> ' + operator.format(rows=rows, columns=columns)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.parser.parse_model(text).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2).astype(np.float32)})
    return np.asarray(y).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (1, 3), (4, 2)])
def test_nearest_equals_onnxruntime(rows: int, columns: int) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (2, 3, 5, 4), dtype=np.int8)
    found = upsample(x, rows, columns)
    assert found.dtype == np.int8
    assert_array_equal(found, oracle(RESIZE, x, rows, columns))


@pytest.mark.parametrize("block", [1, 2, 3])
def test_interleaved_equals_onnxruntime(block: int) -> None:
    x = np.random.default_rng(1).integers(-128, 128, (2, 3, 5, 36), dtype=np.int8)
    found = upsample(x, block, block, interleaved=True)
    assert found.dtype == np.int8
    assert_array_equal(found, oracle(DEPTH_TO_SPACE, x, block, block))


def test_what_is_refused() -> None:
    x = np.zeros((1, 2, 2, 6), np.int8)
    with pytest.raises(ValueError, match=r"^factors must be at least 1, got 0 x 2$"):
        upsample(x, 0, 2)
    with pytest.raises(ValueError, match=r"^2 x 2 must divide the channels, got 6$"):
        upsample(x, 2, 2, interleaved=True)
