"""golden.layers.rope against plain integers, real rotation within its bound, and onnxruntime's RotaryEmbedding."""

from math import cos, sin
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from podweave.golden.layers.rope import rope, rope_float
from podweave.ir.quantise import rope_tables


def test_tables() -> None:
    positions = np.array([0, 1, 77, 8191])
    cosines, sines = rope_tables(positions, 64, 100_000.0)
    assert cosines.dtype == sines.dtype == np.int16
    assert cosines.shape == sines.shape == (4, 32)
    for t, position in enumerate(positions.tolist()):
        angles = [position * 100_000.0 ** (-2 * i / 64) for i in range(32)]
        assert_allclose(cosines[t], [2**14 * cos(angle) for angle in angles], atol=0.5 + 1e-6, rtol=0)
        assert_allclose(sines[t], [2**14 * sin(angle) for angle in angles], atol=0.5 + 1e-6, rtol=0)
    assert (cosines[0].tolist(), sines[0].tolist()) == ([16384] * 32, [0] * 32)


@pytest.mark.parametrize("kind", ["random", "all equal", "one hot", "zeros", "extremes"])
def test_bound_against_real_rotation(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = {
        "random": rng.integers(-32768, 32640, (10_000, 32)),
        "all equal": np.broadcast_to(rng.integers(-32768, 32640, (10_000, 1)), (10_000, 32)),
        "one hot": np.where(np.arange(32) == rng.integers(0, 32, (10_000, 1)), 32639, 0),
        "zeros": np.zeros((10_000, 32)),
        "extremes": np.where(rng.integers(0, 2, (10_000, 32)) > 0, 32639, -32768),
    }[kind].astype(np.int16)
    positions = rng.integers(0, 8192, 10_000)
    y = rope(x, *rope_tables(positions, 16))
    assert y.dtype == np.int32
    error = np.abs(y / 2**14 - rope_float(x, positions, 16))
    pairs = np.abs(x.astype(np.int64)).reshape(10_000, 16, 2).sum(axis=-1)
    assert np.all(error <= np.repeat(pairs, 2, axis=1) / 2**15 + 1e-6)
    # A length stays what it is.
    lengths = np.hypot(y[:, 0::2] / 2**14, y[:, 1::2] / 2**14)
    assert_allclose(lengths, np.hypot(x[:, 0::2].astype(float), x[:, 1::2]), rtol=1e-4)


def test_equals_plain_integers() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-32768, 32640, (2, 5, 12)).astype(np.int16)
    cosines, sines = rope_tables(np.array([9, 8, 7, 6, 5]), 6)
    y = rope(x, cosines, sines)
    for batch in range(2):
        for t in range(5):
            for i in range(6):
                a, b = (int(v) for v in x[batch, t, 2 * i : 2 * i + 2])
                c, s = int(cosines[t, i % 3]), int(sines[t, i % 3])
                assert y[batch, t, 2 * i : 2 * i + 2].tolist() == [a * c - b * s, a * s + b * c]


def test_extremes_fit_an_int32() -> None:
    x = np.full((1, 2), -32768, dtype=np.int16)
    ends = np.array([[16384]], dtype=np.int16)
    assert rope(x, -ends, -ends).tolist() == [[0, 1 << 30]]
    assert rope(x, ends, ends).tolist() == [[0, -(1 << 30)]]


def test_onnxruntime() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    rotate (float[B,H,T,D] x, int64[B,T] at, float[P,E] c, float[P,E] s) => (float[B,H,T,D] y)
    { y = com.microsoft.RotaryEmbedding<interleaved=1>(x, at, c, s) }"""
    model = onnx.parser.parse_model(text).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(2)
    x, positions = rng.integers(-32768, 32640, (700, 48)).astype(np.int16), rng.integers(0, 900, 700)
    tables = [table.astype(np.float32) / 2**14 for table in rope_tables(np.arange(900), 16, 5000.0)]
    heads = x.astype(np.float32).reshape(1, 700, 3, 16).transpose(0, 2, 1, 3)
    (theirs,) = session.run(None, {"x": heads, "at": positions[None], "c": tables[0], "s": tables[1]})
    theirs = theirs.transpose(0, 2, 1, 3).reshape(700, 48)
    assert_allclose(rope_float(x, positions, 16, 5000.0), theirs, rtol=0, atol=4)
    ours = rope(x, *rope_tables(positions, 16, 5000.0)) / 2**14
    assert_allclose(ours, theirs, rtol=0, atol=0.02)
    # Halves instead of neighbours, and the next position, are seen.
    halves = x.reshape(700, 3, 2, 8).transpose(0, 1, 3, 2).reshape(700, 48)
    for faulty in (rope(halves, *rope_tables(positions, 16, 5000.0)), rope(x, *rope_tables(positions + 1, 16, 5000.0))):
        assert np.abs(faulty / 2**14 - theirs).max() > 1000


def test_turns_of_relative_positions() -> None:
    # Scores depend on how far apart positions are: 40 and 10 like 130 and 100.
    rng = np.random.default_rng(3)
    q, k = (rng.integers(-30000, 30000, (1, 64)).astype(np.int16) for _ in "qk")
    found = [
        (rope(q, *rope_tables(np.array([a]), 64)).astype(float) * rope(k, *rope_tables(np.array([b]), 64))).sum() / 2**28
        for a, b in ((40, 10), (130, 100))
    ]
    assert abs(found[0] - found[1]) < 64 * 30000 * 4


X, T = np.zeros((2, 8), dtype=np.int16), np.zeros((2, 2), dtype=np.int16)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (rope, (X.astype(np.int32), T, T), TypeError, "x must be an int16 array, got int32"),
        (rope, (X + np.int16(32700), T, T), ValueError, r"x must be in \[-32768, 32639\], .* got 32700"),
        (rope, (X[0], T, T), ValueError, r"x must have at least 2 axes, .* got shape \(8,\)"),
        (rope, (X, T.astype(float), T), TypeError, "cosines must be an int16 array, got float64"),
        (rope, (X, T, T + np.int16(16385)), ValueError, r"sines must be in \[-16384, 16384\], got 16385 to 16385"),
        (rope, (X, T, T[:1]), ValueError, r"must be \(T, D // 2\) .* got \(2, 2\), \(1, 2\) and \(2, 8\)"),
        (rope, (X, T[:1], T[:1]), ValueError, r"got \(1, 2\), \(1, 2\) and \(2, 8\)"),
        (rope, (X[:, :6], T, T), ValueError, r"C a multiple of D, got \(2, 2\), \(2, 2\) and \(2, 6\)"),
        (rope_tables, (np.array([1.0]), 4), TypeError, "positions must be integers, got float64"),
        (rope_tables, (np.array([-1]), 4), ValueError, "positions must be at least 0, got -1"),
        (rope_tables, (np.array([1]), 3), ValueError, "head_size must be even and at least 2, got 3"),
        (rope_tables, (np.array([1]), 4, 0.0), ValueError, "theta must be positive and finite, got 0.0"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)


def test_heads_side_by_side_are_turned_alike() -> None:
    x = np.random.default_rng(4).integers(-32768, 32640, (7, 8)).astype(np.int16)
    tables = rope_tables(np.arange(7), 8)
    assert_array_equal(rope(np.tile(x, 3), *tables), np.tile(rope(x, *tables), 3), strict=True)
