"""ir.frontends.onnx_rows: each thing that is taken, in a small file, against onnxruntime; and what is only near to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from podweave.ir.frontends.onnx.files import read_file
from podweave.ir.frontends.onnx_rows import FloatAttention, FloatGelu, FloatLinear, FloatNorm, read_rows
from podweave.ir.frontends.onnx_rows.patterns import with_functions

from .small_file import ATTENTION, RNG, WIDTH, small
from .test_read import computed


def attention(of: str) -> str:
    return ATTENTION.replace("(x, w", f"({of}, w")


NORM = """mean = ReduceMean<axes = [-1]>(x) less = Sub(x, mean) square = Pow(less, two) spread = ReduceMean<axes = [-1]>(square)
    above = Add(spread, small) deep = Sqrt(above) quotient = Div(less, deep) wide = Mul(quotient, g) n = Add(wide, b)"""
GELU = "a0 = MatMul(x, w) e0 = Div(a0, root) e1 = Erf(e0) e2 = Add(e1, unit) e3 = Mul(a0, e2) n = Mul(e3, half)"
TANH = """a0 = MatMul(x, w) t0 = Pow(a0, three) t1 = Mul(t0, bend) t2 = Add(a0, t1) t3 = Mul(t2, slope) t4 = Tanh(t3)
    e2 = Add(t4, unit) e3 = Mul(a0, e2) n = Mul(e3, half)"""
INTEGERS = """xi, xs, xz = DynamicQuantizeLinear(x) i0 = MatMulInteger(xi, wi, xz, wz) i1 = Cast<to = 1>(i0) i2 = Mul(xs, ws)
    n = Mul(i1, i2)"""
INTEGER = {"wi": RNG.integers(-99, 99, (WIDTH, WIDTH)).astype(np.int8), "wz": np.int8(3), "ws": np.float32(0.01)}


def replaced(text: str, **changes: str) -> str:
    """Nodes with others in their place, by the names that they give."""
    for name, node in changes.items():
        text, count = re.subn(rf"\b{name} = \w+(<[^>]*>)?\([^)]*\)", node, text)
        assert count == 1, name
    return text


TAKEN: dict[str, tuple[str, type]] = {
    "norm": (NORM, FloatNorm),
    "squares": (replaced(NORM, square="square = Mul(less, less)"), FloatNorm),
    "constants first": (
        replaced(NORM, above="above = Add(small, spread)", wide="wide = Mul(g, quotient)", n="n = Add(b, wide)"),
        FloatNorm,
    ),
    "GELU": (GELU, FloatGelu),
    "GELU by a factor": (replaced(GELU, e0="e0 = Mul(a0, inverse)"), FloatGelu),
    "GELU by a factor in front": (replaced(GELU, e0="e0 = Mul(inverse, a0)"), FloatGelu),
    "GELU, halves first": (replaced(GELU, e3="e3 = Mul(e2, half)", n="n = Mul(a0, e3)"), FloatGelu),
    "GELU, a product of both": (replaced(GELU, e3="e3 = Mul(half, a0)", n="n = Mul(e3, e2)"), FloatGelu),
    "tanh": (TANH, FloatGelu),
    "tanh, the other way round": (
        replaced(TANH, t1="t1 = Mul(bend, t0)", t2="t2 = Add(t1, a0)", t3="t3 = Mul(slope, t2)"),
        FloatGelu,
    ),
    "the operator": ("a0 = MatMul(x, w) n = Gelu(a0)", FloatGelu),
    "axes": ("a0 = MatMul(x, w) a1 = Unsqueeze(a0, first) a2 = Squeeze(a1, first) n = Add(a2, x)", FloatLinear),
    "nothing": ("a0 = MatMul(x, w) a1 = Identity(a0) a2 = Dropout(a1) n = Add(a2, x)", FloatLinear),
    "integers": (INTEGERS, FloatLinear),
    "integers without a zero": (INTEGERS.replace(", wz", ""), FloatLinear),
    "embeddings": ("whole = Identity(vocabulary) n = Gather(whole, tokens)", FloatAttention),
}
PARTS = """a = MatMul(x, all) r = Reshape(a, parts) t = Transpose<perm = [2, 0, 3, 1, 4]>(r) q0, k0, v0 = Split<axis = 0>(t)
    q = Squeeze(q0, first) k1 = Squeeze(k0, first) k = Transpose<perm = [0, 1, 3, 2]>(k1) v = Squeeze(v0, first)"""
ATTENTIONS = {
    "of one head": "a = MatMul(x, wq) k0 = MatMul(x, wk) v = MatMul(x, wv) k = Transpose<perm = [0, 2, 1]>(k0) "
    "s = MatMul(a, k) p = Softmax<axis = -1>(s) y = MatMul(p, v)",
    "of parts": f"{PARTS} s = MatMul(q, k) p = Softmax<axis = -1>(s) o = MatMul(p, v) "
    "o1 = Transpose<perm = [0, 2, 1, 3]>(o) h = Reshape(o1, back) y = MatMul(h, w)",
    "whose input is read behind it, too": f"{attention('x')} y = Sub(h, x)",
}


def difference(file: Path) -> float:
    """By how much what operations give differs from onnxruntime, at most."""
    network, rng = read_rows(file), np.random.default_rng(2)
    given = {
        name: rng.integers(0, 9, shape) if kind == "int64" else rng.normal(size=shape).astype(kind)
        for name, (kind, shape) in read_file(file).inputs.items()
    }
    model = onnx.load(file)
    names = {*network.inputs, *network.outputs} - {*given}
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    there = [each.name for each in session.get_outputs()]
    right = given | dict(zip(there, session.run(there, given), strict=True))
    found = computed(network, {name: right[name].reshape(network.rows, -1) for name in network.inputs})
    return max(float(np.abs(found[name] - right[name].reshape(found[name].shape)).max()) for name in network.outputs)


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_taken_gives_what_onnxruntime_gives(tmp_path: Path, case: str) -> None:
    nodes, kind = TAKEN[case]
    file = small(tmp_path, f"{nodes} {attention('n')}", opset=20 if "Gelu(" in nodes else 17, **INTEGER)
    assert kind in [type(each) for each in read_rows(file).operations]
    # The tangent differs from the error function by less than 0.0005 in front of three products; rows in integers by half a step.
    assert difference(file) < (2e-3 if "tanh" in case else 5e-2 if "integers" in case else 1e-5)


@pytest.mark.parametrize("case", ATTENTIONS)
def test_attentions_give_what_onnxruntime_gives(tmp_path: Path, case: str) -> None:
    file = small(tmp_path, ATTENTIONS[case])
    network = read_rows(file)
    assert (len(network.outputs), network.inputs) == (1, ("x",))
    assert difference(file) < 1e-5


def test_axes_of_means_that_are_inputs(tmp_path: Path) -> None:
    """From opset 18 on."""
    nodes = re.sub(r"ReduceMean<axes = \[-1\]>\((\w+)\)", r"ReduceMean(\1, last)", NORM)
    file = small(tmp_path, f"{nodes} {attention('n')}", 18)
    assert isinstance(read_rows(file).operations[0], FloatNorm)
    assert difference(file) < 1e-5


# What is near to a function, and is none: nodes in place of its own.
NEAR: dict[str, tuple[str, Mapping[str, str]]] = {
    "no number is added": (NORM, {"above": "above = Add(spread, row)"}),
    "numbers alone are added": (NORM, {"above": "above = Add(small, small)"}),
    "a spread over rows": (NORM, {"spread": "spread = ReduceMean<axes = [1]>(square)"}),
    "a mean over rows": (NORM, {"mean": "mean = ReduceMean<axes = [1]>(x)"}),
    "a mean of others": (NORM, {"mean": "mean = ReduceMean<axes = [-1]>(z)"}),
    "a spread that is no mean": (NORM, {"spread": "spread = ReduceSum(square, last)"}),
    "cubes": (NORM, {"square": "square = Pow(less, three)"}),
    "no squares": (NORM, {"square": "square = Mul(less, x)"}),
    "squares with a mean": (NORM, {"square": "square = Pow(x, two)"}),
    "no gain": (NORM, {"wide": "wide = Identity(quotient)"}),
    "no bias": (NORM, {"n": "n = Identity(wide)"}),
    "a gain of an input": (NORM, {"wide": "wide = Mul(quotient, row)"}),
    "a quotient that others read": (NORM, {"n": "n = Add(wide, b) u = Identity(quotient)"}),
    "another root": (GELU, {"e0": "e0 = Div(a0, two)"}),
    "no division": (GELU, {"e0": "e0 = Identity(a0)"}),
    "one more": (GELU, {"e2": "e2 = Add(e1, two)"}),
    "no sum": (GELU, {"e2": "e2 = Sub(e1, unit)"}),
    "no half": (GELU, {"n": "n = Identity(e3)"}),
    "another factor": (GELU, {"n": "n = Mul(e3, three)"}),
    "another factor first": (GELU, {"e3": "e3 = Mul(z, e2) e4 = Mul(e3, a0)", "n": "n = Mul(e4, half)"}),
    "one factor more": (GELU, {"e3": "e3 = Mul(a0, e2) e4 = Mul(e3, z)", "n": "n = Mul(e4, half)"}),
    "twice": (GELU, {"e3": "e3 = Mul(a0, e2) e4 = Mul(e3, a0)", "n": "n = Mul(e4, half)"}),
    "twice, once by a half": (GELU, {"e3": "e3 = Mul(a0, e2) e4 = Mul(a0, half)", "n": "n = Mul(e3, e4)"}),
    "halves that others read": (GELU, {"n": "n = Mul(e3, half) u = Identity(e3)"}),
    "another slope": (TANH, {"t3": "t3 = Mul(t2, root)"}),
    "no slope": (TANH, {"t3": "t3 = Identity(t2)"}),
    "no cube": (TANH, {"t0": "t0 = Pow(a0, two)"}),
    "another bend": (TANH, {"t1": "t1 = Mul(t0, half)"}),
    "a cube of others": (TANH, {"t0": "t0 = Pow(z, three)"}),
    "integers that stay": (INTEGERS, {"i1": "i1 = Identity(i0)"}),
    "no scale": (INTEGERS, {"n": "n = Add(i1, i2)"}),
    "scales that are one": (INTEGERS, {"i2": "i2 = Identity(ws)"}),
    "scales of others": (INTEGERS, {"i2": "i2 = Mul(ws, two)"}),
    "a scale that an input names": (INTEGERS, {"i2": "i2 = Mul(xs, row)"}),
    "no zero": (INTEGERS, {"i0": "i0 = MatMulInteger(xi, wi)"}),
    "other integers": (INTEGERS.replace("xi, xs, xz = Dyn", "o, xs, xz = Dyn"), {"i0": "i0 = MatMulInteger(bytes, wi, xz, wz)"}),
}


@pytest.mark.parametrize("case", NEAR)
def test_what_is_near_to_a_function_is_none(tmp_path: Path, case: str) -> None:
    nodes, changes = NEAR[case]
    functions = {"LayerNormalization", "Gelu"} if nodes in (NORM, GELU, TANH) else {"MatMul"}

    def operators(text: str) -> set[str]:
        return {each.operator for each in with_functions(read_file(small(tmp_path, text, **INTEGER)))[0]}

    assert bool(operators(nodes) & functions) == (nodes in (NORM, GELU, TANH, INTEGERS))
    made = operators(replaced(nodes, **changes))
    assert not made & functions
