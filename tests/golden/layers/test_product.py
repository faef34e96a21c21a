"""golden.layers.product against exact arithmetic, real functions within their bounds, and onnxruntime."""

from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.product import NORMAL, SIGMOID, gate, product, product_float, silu_product, silu_product_float
from podweave.ir.quantise import gelu, quantize_scale, silu

EVERY = np.arange(-32768, 32640).astype(np.int16)


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    header = '<ir_version: 9, opset_import: ["": 20, "com.microsoft": 1]> '
    model = onnx.parser.parse_model(header + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random(seed: int, *shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-32768, 32640, shape).astype(np.int16)


@pytest.mark.parametrize("shape", [(50, 6), (50, 1), (6,)])
@pytest.mark.parametrize("to", ["int8", "uint8", "int16", "int32"])
def test_product_equals_exact_arithmetic(shape: tuple[int, ...], to: Any) -> None:
    a, b = random(0, 50, 6), random(1, *shape)
    a[:2], b[..., :1] = [[-32768], [32639]], -32768
    rng = np.random.default_rng(2)
    multiplier, shift = rng.integers(0, 1 << 31, (50, 1)), rng.integers(30, 62, 6)
    found = product(a, b, multiplier, shift, to)
    least, largest = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32639), "int32": (-(1 << 31), (1 << 31) - 1)}[to]
    wide = [np.broadcast_to(v, (50, 6)).ravel().tolist() for v in (a, b, multiplier, shift)]
    expected = []
    for x, y, m, s in zip(*wide, strict=True):
        value = Fraction(x * y * m, 1 << s)
        whole = floor(abs(value) + Fraction(1, 2))
        expected.append(min(max(-whole if value < 0 else whole, least), largest))
    assert_array_equal(found, np.array(expected).reshape(50, 6).astype(to), strict=True)


@pytest.mark.parametrize("shape", [(10_000, 8), (10_000, 1), (8,)])
def test_product_as_onnxruntime(shape: tuple[int, ...]) -> None:
    a, b = random(3, 10_000, 8), random(4, *shape)
    inputs = {"a": a.astype(np.float32), "b": np.broadcast_to(b, shape if len(shape) == 2 else (1, 8)).astype(np.float32)}
    (theirs,) = session("f (float[N,C] a, float[M,D] b) => (float[N,C] y) { y = Mul(a, b) }").run(None, inputs)
    scale = 1 / 33_000
    assert_allclose(product_float(a.astype(float), b, scale), theirs * scale, rtol=1e-6)
    found = product(a, b, *quantize_scale(scale))
    assert np.all(np.abs(found - theirs * scale) <= 0.51)
    # One row further, or one channel.
    faulty = product(a, np.roll(b, 1, axis=0), *quantize_scale(scale))
    assert np.any(np.abs(faulty - theirs * scale) > 0.51)


@pytest.mark.parametrize("fraction", range(4, 16))
@pytest.mark.parametrize(
    ("table", "function", "constant", "slope"), [(SIGMOID, silu, 0.0072, 0.00037), (NORMAL, gelu, 0.0077, 2.0**-15)]
)
def test_bound_of_every_gate(fraction: int, table: NDArray[np.int16], function: Any, constant: float, slope: float) -> None:
    x = EVERY / 2.0**fraction
    error = np.abs(gate(EVERY, fraction, table) / 2.0**fraction - function(x))
    assert np.all(error <= constant + slope * np.abs(x) + 0.5 / 2**fraction)
    inside = np.abs(x) < 7.9
    assert np.sqrt((error[inside] ** 2).mean()) < 0.0034 + 0.3 / 2**fraction


def test_gate_in_plain_integers() -> None:
    for fraction in (4, 8, 15):
        for x in (-32768, -2049, -392, -385, -8, -7, 0, 7, 8, 9, 384, 392, 2047, 32639):
            steps = floor(abs(x) / 2 ** (fraction - 4) + 0.5) * (1 if x > 0 else -1)
            p = x * int(SIGMOID[min(max(steps, -128), 127) & 0xFF])
            expected = floor(abs(p) / 2**15 + 0.5) * (1 if p > 0 else -1)
            assert gate(np.array([x], dtype=np.int16), fraction).item() == expected


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_gates_as_onnxruntime(name: str) -> None:
    operator = {"silu": "com.microsoft.QuickGelu<alpha=1.0>(x)", "gelu": "Gelu(x)"}[name]
    x = (EVERY / 2.0**11).astype(np.float32)
    (theirs,) = session(f"f (float[N] x) => (float[N] y) {{ y = {operator} }}").run(None, {"x": x})
    assert_allclose({"silu": silu, "gelu": gelu}[name](x.astype(float)), theirs, rtol=1e-4, atol=1e-5)
    ours, other = (gate(EVERY, 11, table) / 2.0**11 for table in ((SIGMOID, NORMAL) if name == "silu" else (NORMAL, SIGMOID)))
    limit = 0.0077 + 0.00037 * np.abs(x) + 0.5 / 2**11
    assert np.all(np.abs(ours - theirs) <= limit)
    assert np.any(np.abs(other - theirs) > limit)


@pytest.mark.parametrize("fraction", [8, 9, 10, 11])
@pytest.mark.parametrize("kind", ["random", "all equal", "one hot", "zeros", "extremes"])
def test_bound_of_silu_product(fraction: int, kind: str) -> None:
    rng = np.random.default_rng(fraction)
    normal = np.clip(rng.standard_normal((10_000, 24)) * np.exp(rng.uniform(3, 10, (10_000, 1))), -32768, 32639)
    g, u = (
        {
            "random": normal[:, a : a + 12],
            "all equal": np.broadcast_to(normal[:, a : a + 1], (10_000, 12)),
            "one hot": np.where(np.arange(12) == rng.integers(0, 12, (10_000, 1)), 32639, 0),
            "zeros": np.zeros((10_000, 12)),
            "extremes": np.where(normal[:, a : a + 12] > 0, 32639, -32768),
        }[kind].astype(np.int16)
        for a in (0, 12)
    )
    # u in units of 1/512, and a result that holds the largest product.
    scale = 2.0 ** -(fraction + 1)
    real = silu_product_float(g / 2.0**fraction, u / 512.0) * 512 * 2.0**fraction * scale
    found = silu_product(g, u, fraction, *quantize_scale(scale))
    x = np.abs(g / 2.0**fraction)
    of_silu = 0.0072 + 0.00037 * x + 0.5 / 2**fraction
    limit = of_silu * np.abs(u / 512.0) * 512 * 2.0**fraction * scale + 0.5
    assert np.all(np.abs(found - np.clip(real, -32768, 32639)) <= limit + 1e-6)


def test_silu_product_is_a_product_of_a_gate() -> None:
    g, u = random(5, 40, 7), random(6, 40, 7)
    multiplier, shift = np.arange(7) * 1000 + 1, np.arange(7) + 10
    assert_array_equal(silu_product(g, u, 9, multiplier, shift), product(gate(g, 9), u, multiplier, shift), strict=True)


A = np.zeros((2, 3), dtype=np.int16)


@pytest.mark.parametrize(
    ("refusing", "args", "error", "sentence"),
    [
        (product, (A.astype(np.int8), A, 1, 0), TypeError, "a must be an int16 array, got int8"),
        (product, (A, A.astype(np.int32), 1, 0), TypeError, "b must be an int16 array, got int32"),
        (product, (A + np.int16(32640), A, 1, 0), ValueError, r"a must be in \[-32768, 32639\], .* got 32640"),
        (product, (A, A + np.int16(32641), 1, 0), ValueError, r"b must be in \[-32768, 32639\], .* got 32641"),
        (product, (A, A[:1], 1, 0), ValueError, r"b must have the shape of a, \(2, 3\), or one .* got \(1, 3\)"),
        (product, (A[:, :0], A[:, :0], 1, 0), ValueError, r"a must have at least 1 axes, .* got shape \(2, 0\)"),
        (product, (A, A, -1, 0), ValueError, "multiplier must be in .* got -1"),
        (gate, (A.astype(np.int8), 8), TypeError, "x must be an int16 array, got int8"),
        (gate, (A, 3), ValueError, r"fraction must be in \[4, 15\], got 3"),
        (gate, (A, 16), ValueError, r"fraction must be in \[4, 15\], got 16"),
        (gate, (A, 8, SIGMOID[:9]), ValueError, r"table must have 256 entries, got shape \(9,\)"),
        (gate, (A, 8, SIGMOID.astype(np.int32)), TypeError, "table must be an int16 array, got int32"),
        (silu_product, (A, A[:, :1], 3, 1, 0), ValueError, "fraction must be in .* got 3"),
    ],
)
def test_refusals(refusing: Any, args: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refusing(*args)
