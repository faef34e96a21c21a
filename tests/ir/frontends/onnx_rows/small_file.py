"""Small files of transformers: nodes in the text of ONNX, with those of some inputs and constants that they read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.ir.frontends.text_file import text_file

ROWS, WIDTH = 4, 6
RNG = np.random.default_rng(11)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def sizes(*of: int) -> NDArray[np.int64]:
    return np.array(of, np.int64)


CONSTANTS: dict[str, NDArray] = {
    **{name: normal(WIDTH, WIDTH) for name in ("w", "wq", "wk", "wv")},
    **{name: normal(WIDTH) for name in ("b", "g", "c")},
    "w2": normal(WIDTH, 2 * WIDTH),
    "all": normal(WIDTH, 3 * WIDTH),
    "one": normal(WIDTH, 1),
    "cube": normal(1, WIDTH, WIDTH),
    "four": normal(ROWS, ROWS),
    "table": normal(ROWS, WIDTH),
    "vocabulary": normal(700, WIDTH),
    "heads": sizes(1, ROWS, 2, 3),
    "back": sizes(1, ROWS, WIDTH),
    "parts": sizes(1, ROWS, 3, 2, 3),
    "torn": sizes(1, WIDTH, ROWS),
    "half": np.float32(0.5),
    "unit": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "many": np.float32(-1e4),
    "few": np.float32(-1),
    "nothing": np.float32(0),
    "zeroth": np.int64(0),
    "first": sizes(0),
    "last": sizes(-1),
    "second": sizes(2),
    "small": np.float32(1e-3),
    "root": np.float32(2**0.5),
    "inverse": np.float32(0.5**0.5),
    "slope": np.float32((2 / np.pi) ** 0.5),
    "bend": np.float32(0.044715),
    "endless": np.float32(np.inf),
}

PRODUCTS = "a = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)"
HEADS = """
    q1 = Reshape(a, heads) q = Transpose<perm = [0, 2, 1, 3]>(q1)
    k1 = Reshape(k0, heads) k = Transpose<perm = [0, 2, 3, 1]>(k1)
    v1 = Reshape(v0, heads) v = Transpose<perm = [0, 2, 1, 3]>(v1)"""
SCORES = f"{PRODUCTS} {HEADS} s = MatMul(q, k)"
BEHIND = "p = Softmax<axis = -1>({}) o = MatMul(p, v)"
ATTENTION = f"{SCORES} {BEHIND.format('s')} o1 = Transpose<perm = [0, 2, 1, 3]>(o) h0 = Reshape(o1, back) h = MatMul(h0, w)"
INPUTS = {
    **dict.fromkeys(("x", "z"), f"float[1, {ROWS}, {WIDTH}]"),
    "longer": f"float[1, {ROWS + 1}, {WIDTH}]",
    "single": f"float[1, 1, {WIDTH}]",
    "flat": f"float[{ROWS}, {WIDTH}]",
    "m": f"float[1, 1, 1, {ROWS}]",
    "seen": f"bool[1, 1, 1, {ROWS}]",
    "row": f"float[1, 1, {WIDTH}]",
    "bias": f"float[{WIDTH}]",
    "given": "int64[3]",
    "tokens": f"int64[1, {ROWS}]",
    "bytes": f"uint8[1, {ROWS}, {WIDTH}]",
    "huge": "float[16384, 16384]",
}


def small(folder: Path, nodes: str, opset: int = 17, **constants: NDArray) -> Path:
    """A file of nodes, with those of the inputs and constants that they read; it gives what none of them reads."""
    read = set(re.findall(r"\w+", nodes))
    held = {name: values for name, values in (CONSTANTS | constants).items() if name in read}
    given = [f"{kind} {name}" for name, kind in INPUTS.items() if name in read]
    made = [name for names in re.findall(r"(\w+(?:, \w+)*) = ", re.sub(r"<[^>]*>", "", nodes)) for name in names.split(", ")]
    outputs = [name for name in made if len(re.findall(rf"\b{name}\b", nodes)) == 1]
    return text_file(folder, f"({', '.join(given)}) => ({', '.join(outputs)}) {{ {nodes} }}", held, opset)
