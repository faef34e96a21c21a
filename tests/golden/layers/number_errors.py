"""How far the integer functions of language models are from real ones: the table of docs/numbers.md.

``python -m tests.golden.layers.number_errors`` prints it.
"""

from collections.abc import Iterator
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from podweave.golden.layers.attention import attention, attention_float
from podweave.golden.layers.attention_blocks import attend_block, finish, merge
from podweave.golden.layers.norm import layer_norm, layer_norm_float, rms_norm, rms_norm_float
from podweave.golden.layers.product import NORMAL, SIGMOID, gate, silu_product, silu_product_float
from podweave.golden.layers.residual import embedding, embedding_float
from podweave.golden.layers.rope import rope, rope_float
from podweave.golden.layers.scalars import (
    reciprocal,
    reciprocal_float,
    reciprocal_square_root,
    reciprocal_square_root_float,
)
from podweave.golden.layers.softmax import softmax, softmax_float
from podweave.ir.mean_norms import layer_norm_epsilon
from podweave.ir.quantise import (
    exp_table,
    fixed_point,
    gelu,
    norm_epsilon,
    normal_distribution,
    quantize_scale,
    rope_tables,
    sigmoid,
    silu,
)

HEADER = "| function | inputs | error | max | rms |\n|---|---|---|---|---|\n"
Row = tuple[str, str, str, NDArray[np.float64]]
_EVERY = np.arange(-32768, 32640).astype(np.int16)


def table() -> str:
    """The table, as it stands on the page."""
    lines = [
        f"| {name} | {inputs} | {kind} | {np.abs(error).max():.1e} | {np.sqrt((error**2).mean()):.1e} |\n"
        for part in (_of_tables(), _of_scalars(), _of_norms(), _of_attention(), _of_products())
        for name, inputs, kind, error in part
    ]
    return HEADER + "".join(lines)


def _of_tables() -> Iterator[Row]:
    exp, entries = exp_table() / 4095, np.arange(256)
    yield "exp: the entries", "all 256", "absolute", exp - np.exp(-entries / 16)
    x = np.arange(16 * 1024) / 1024
    index = np.minimum(np.floor(16 * x + 0.5), 255).astype(int)
    yield "exp: the nearest entry", "0 to 16 by 1/1024", "absolute", exp[index] - np.exp(-x)
    signed = entries.astype(np.uint8).view(np.int8) / 16
    x = np.arange(-8 * 1024, 8 * 1024) / 1024
    index = np.clip(np.floor(16 * x + 0.5), -128, 127).astype(int)
    for name, table, function in (("sigmoid", SIGMOID, sigmoid), ("normal distribution", NORMAL, normal_distribution)):
        yield f"{name}: the entries", "all 256", "absolute", table / 2**15 - function(signed)
        yield f"{name}: the nearest entry", "-8 to 8 by 1/1024", "absolute", table[index] / 2**15 - function(x)


def _of_scalars() -> Iterator[Row]:
    mantissas = np.arange(1 << 15, 1 << 16)
    total = np.concatenate([mantissas << 15, ((mantissas + 1) << 15) - 1])
    mantissa, bits = reciprocal(total)
    error = mantissa / 2.0 ** (15 + bits) / reciprocal_float(total) - 1
    yield "reciprocal", "first and last number of 31 bits for every mantissa", "relative", error
    mantissas = np.arange(1 << 14, 1 << 16)
    squares = np.concatenate([mantissas << 24, ((mantissas + 1) << 24) - 1])
    squares = squares[squares < 1 << 40]
    squares = np.concatenate([squares, squares >> 24])
    mantissa, bits = reciprocal_square_root(squares)
    error = mantissa / 2.0 ** (15 + bits // 2) / reciprocal_square_root_float(squares) - 1
    yield "reciprocal square root", "first and last number of 39, 40 and of 15, 16 bits for every mantissa", "relative", error


def _of_norms() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((2000, 576)) * np.exp(rng.uniform(1, 3, (2000, 1)))
    real[:, 507] *= 20
    x, shift = fixed_point(real), 9
    rows = "2,000 rows of 576, one channel 20 times the others, in units of 2^-12"
    unit, epsilon = np.sqrt(576) / 2**15, norm_epsilon(1e-5, 576, shift)
    centred = layer_norm_epsilon(1e-5, 576, shift)
    yield "rms_norm", rows, "absolute; rms of a row is 1", rms_norm(x, shift, epsilon) * unit - rms_norm_float(x / 4096, 1e-5)
    yield "layer_norm", "the same", "the same", layer_norm(x, shift, centred) * unit - layer_norm_float(x / 4096, 1e-5)


def _of_attention() -> Iterator[Row]:
    rng = np.random.default_rng(1)
    x = rng.integers(-32768, 32640, (10_000, 16)).astype(np.int16)
    positions = rng.integers(0, 8192, 10_000)
    error = rope(x, *rope_tables(positions, 16)) / 2**14 - rope_float(x, positions, 16)
    yield "rope", "10,000 random rows of 16, positions to 8191", "of the largest value", error / 32768

    step = 1 / 16 / 2**14
    scores = np.rint(rng.standard_normal((10_000, 64)) * rng.uniform(0, 4, (10_000, 1)) / step).astype(np.int32)
    weights, total = softmax(scores, 1 << 16, 30)
    error = weights / total[:, None] - softmax_float(scores * step)
    yield "softmax", "10,000 rows of 64 keys, scores of up to 4 nats rms", "absolute", error

    q = rng.integers(-9000, 9000, (1250, 8, 64)).astype(np.int16)
    k, v = (rng.integers(-128, 128, (64, 2, 64)).astype(np.int8) for _ in "kv")
    step = 4e-7
    scale = quantize_scale(16 * step)
    real = attention_float(q, k, v, step)
    of_range = "of the largest value"
    inputs = "10,000 rows of 64 keys, random int8 values"
    yield "attention", inputs, of_range, (attention(q, k, v, *scale) / 256 - real) / 128
    parts = [attend_block(q, k[a : a + 8], v[a : a + 8], *scale) for a in range(0, 64, 8)]
    yield "attention, 8 blocks merged", "the same", of_range, (finish(reduce(merge, parts)) / 256 - real) / 128


def _of_products() -> Iterator[Row]:
    for fraction in (8, 11):
        x = _EVERY / 2.0**fraction
        for name, table, function in (("SiLU", SIGMOID, silu), ("GELU", NORMAL, gelu)):
            error = gate(_EVERY, fraction, table) / 2.0**fraction - function(x)
            end = 2 ** (15 - fraction)
            yield f"{name}", f"every 16-bit value, unit 2^-{fraction}: -{end} to {end}", "absolute", error
    rng = np.random.default_rng(2)
    g, u = (np.rint(rng.standard_normal((10_000, 12)) * 2 * 2**11).astype(np.int16) for _ in "gu")
    found = silu_product(g, u, 11, *quantize_scale(2.0**-13)) / 2.0**9
    error = found - silu_product_float(g / 2**11, u / 2**11)
    yield "silu_product", "10,000 rows of 12, 2 rms, units 2^-11, result 2^-9", "absolute", error
    rows = rng.standard_normal((1000, 64)) * 0.2
    tokens = rng.integers(0, 1000, 10_000)
    error = embedding(tokens, fixed_point(rows)) / 4096 - embedding_float(tokens, rows)
    yield "embedding", "10,000 rows, unit 2^-12", "absolute", error


if __name__ == "__main__":
    print(table(), end="")
