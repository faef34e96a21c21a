"""golden.layers.residual against onnxruntime's Gather and ArgMax, and at the ends of its ranges."""

from functools import cache
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_array_equal

from podweave.golden.layers.residual import argmax, embedding, embedding_float, residual_add, residual_add_float
from podweave.ir.quantise import fixed_point

INT32 = np.iinfo(np.int32)


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_embedding_as_onnxruntime() -> None:
    rng = np.random.default_rng(0)
    rows, tokens = rng.integers(INT32.min, INT32.max, (100, 16), dtype=np.int32), rng.integers(0, 100, (10, 7))
    graph = "f (int32[V,C] rows, int64[B,T] tokens) => (int32[B,T,C] y) { y = Gather<axis=0>(rows, tokens) }"
    (theirs,) = session(graph).run(None, {"rows": rows, "tokens": tokens})
    assert_array_equal(embedding(tokens, rows), theirs, strict=True)


def test_embedding_is_off_by_half_a_unit() -> None:
    rng = np.random.default_rng(1)
    real, tokens = rng.standard_normal((1000, 16)) * 0.2, rng.integers(0, 1000, 10_000)
    error = np.abs(embedding(tokens, fixed_point(real)) / 4096 - embedding_float(tokens, real))
    assert 0.4 / 4096 < error.max() <= 0.5 / 4096
    assert fixed_point(np.array([0.5, 1.5, -(2.0**31)]), 0).tolist() == [0, 2, INT32.min]


def test_argmax_as_onnxruntime() -> None:
    rng = np.random.default_rng(2)
    rows = rng.integers(-5, 6, (10_000, 24), dtype=np.int32)
    rows[:3] = [[7], [INT32.min], [0]]
    rows[3, 5] = INT32.max
    (theirs,) = session("f (int32[N,C] x) => (int64[N] y) { y = ArgMax<axis=-1, keepdims=0>(x) }").run(None, {"x": rows})
    assert_array_equal(argmax(rows), theirs, strict=True)
    assert argmax(rows)[:4].tolist() == [0, 0, 0, 5]
    assert argmax(rows[3]).item() == 5
    # The last of equals is another one.
    assert np.any(23 - argmax(rows[:, ::-1]) != theirs)


def test_additions_are_exact() -> None:
    rng = np.random.default_rng(3)
    x, update = (rng.integers(-(1 << 30), 1 << 30, (10_000, 8), dtype=np.int32) for _ in "xu")
    assert_array_equal(residual_add(x, update), residual_add_float(x.astype(float), update))
    for width in range(17, 33):
        ends = np.array([-(1 << (width - 1)), (1 << (width - 1)) - 1], dtype=np.int64)
        inner = (ends - np.sign(ends)).astype(np.int32)
        assert residual_add(inner, np.sign(ends).astype(np.int32), width).tolist() == ends.tolist()
        for i, sign in enumerate((-1, 1)):
            with pytest.raises(OverflowError, match=rf"a residual must fit psum_width {width}, .* got {ends[i] + sign}$"):
                residual_add(inner[i : i + 1], np.array([2 * sign], dtype=np.int32), width)


X = np.zeros((2, 3), dtype=np.int32)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (embedding, (np.array([2]), X), ValueError, r"tokens must be in \[0, 2\), the rows there are, got 2"),
        (embedding, (np.array([0, -1]), X), ValueError, r"tokens must be in \[0, 2\), .* got -1"),
        (embedding, (np.array([0.0]), X), TypeError, "tokens must be an integer .* got float64"),
        (embedding, (np.array([0]), X.astype(float)), TypeError, "rows must be an int32 array, got float64"),
        (embedding, (np.array([0]), X[None]), ValueError, r"rows must be \(V, C\), got shape \(1, 2, 3\)"),
        (residual_add, (X, X.astype(np.int16)), TypeError, "update must be an int32 array, got int16"),
        (residual_add, (X, X[:1]), ValueError, r"x and update must have the same shape, got \(2, 3\) and \(1, 3\)"),
        (residual_add, (X, X, 16), ValueError, r"psum_width must be in \[17, 32\], got 16"),
        (argmax, (X.astype(np.int64),), TypeError, "x must be an int32 array, got int64"),
        (argmax, (X[:, :0],), ValueError, r"x must have at least 1 axes, .* got shape \(2, 0\)"),
        (fixed_point, (np.array([1.0]), 32), ValueError, r"fraction must be in \[0, 31\], got 32"),
        (fixed_point, (np.array([2.0**19]),), ValueError, r"numbers must fit an int32 in units of 2\*\*-12, got 524288.0"),
        (fixed_point, (np.array([np.nan]),), ValueError, "numbers must fit an int32 .* got nan"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)
