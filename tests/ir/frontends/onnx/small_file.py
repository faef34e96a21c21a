"""Small quantised files: nodes in the text of ONNX, with those of some inputs and constants that they read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.ir.frontends.text_file import text_file

RNG = np.random.default_rng(12)


def weights(*shape: int) -> NDArray[np.int8]:
    return RNG.integers(-9, 10, shape).astype(np.int8)


CONSTANTS: dict[str, NDArray] = {
    "scale": np.float32(0.25),
    "zero": np.int8(3),
    "fine": np.float32(0.03),
    "coarse": np.float32(2),
    "third": np.float32(0.3),
    "none": np.float32(0),
    "unsigned": np.uint8(100),
    "wide": np.int16(5),
    "zeros": np.int8([3, 3]),
    "scales": np.float32([0.25, 0.5]),
    "by_channel": np.float32([0.02, 0.05, 0.03]),
    "not_a_number": np.float32(np.nan),
    "endless": np.float32([1, np.inf, 2]),
    "ones": np.float32([1, 2, 3]),
    "pair": np.float32([1, 2]),
    "image": np.ones((1, 3, 4, 1), np.float32),
    "five": np.ones((1, 1, 3, 1, 1), np.float32),
    "i": weights(2, 3, 1, 1),
    "k3": weights(2, 3, 3, 3),
    "i2": weights(2, 2, 1, 1),
    "i3": weights(3, 3, 1, 1),
    "long": weights(2, 3, 1),
    "cube": weights(2, 3, 4),
    "m": weights(4, 5),
    "n": weights(5, 2),
    "rows": weights(3, 5),
    "all": weights(48, 5),
    "real": RNG.normal(0, 0.5, (2, 3, 1, 1)).astype(np.float32),
    "biases": np.float32([0.4, -0.7]),
    "many": np.float32([1, 2, 3, 4, 5]),
    "short": weights(2, 3, 1, 1).astype(np.int16),
    "double": np.float32([1, 1, 2, 2]),
}
INPUTS = {
    "x": "float[1, 3, 4, 4]",
    "two": "float[2, 3, 4, 4]",
    "line": "float[1, 3, 6]",
    "flat": "float[1, 3]",
    "r": "float[1, 5, 8]",
    "r2": "float[2, 5, 8]",
    "long_image": "float[1, 3, 3001, 1]",
    "x3": "float[3]",
    "x8": "float[1, 3, 8, 8]",
    "x12": "float[1, 12, 4, 4]",
    "rows5": "float[5, 3]",
    "b8": "int8[1, 3, 4, 4]",
    "u8": "uint8[1, 3, 4, 4]",
    "f64": "double[1, 3, 4, 4]",
    "five_d": "float[1, 3, 2, 2, 2]",
    "count": "int64[2]",
}


def expanded(nodes: str) -> str:
    """``a := b``: a is b, quantised with the scale 0.25 and the zero point 3. ``w @ i``: w is the constant i, times 0.03."""
    nodes = re.sub(r"(\w+) := (\w+)", r"\1_q = QuantizeLinear(\2, scale, zero) \1 = DequantizeLinear(\1_q, scale, zero)", nodes)
    return re.sub(r"(\w+) @ (\w+)", r"\1 = DequantizeLinear(\2, fine)", nodes)


def small(folder: Path, nodes: str, opset: int = 17, **constants: NDArray) -> Path:
    """A file with those of the inputs and constants that nodes read; it gives what none of them reads."""
    nodes = expanded(nodes)
    read = set(re.findall(r"\w+", nodes))
    # Numbers are named by what they are: n_2_m1 is 2, -1.
    lists = {
        name: np.array([int(each.replace("m", "-")) for each in name.split("_")[1:]])
        for name in read
        if re.fullmatch(r"n(_m?\d+)+", name)
    }
    held = lists | {name: values for name, values in (CONSTANTS | constants).items() if name in read}
    given = [f"{kind} {name}" for name, kind in INPUTS.items() if name in read]
    made = [name for names in re.findall(r"(\w+(?:, \w+)*) = ", re.sub(r"<[^>]*>", "", nodes)) for name in names.split(", ")]
    outputs = [name for name in made if len(re.findall(rf"\b{name}\b", nodes)) == 1]
    return text_file(folder, f"({', '.join(given)}) => ({', '.join(outputs)}) {{ {nodes} }}", held, opset)
