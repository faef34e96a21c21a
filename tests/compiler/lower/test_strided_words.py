"""Words of inputs at strides: only those that some step reads, and the same sums."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from podweave.compiler.lower.layer import PackedLayer, Region, pack_layer, unit_words
from podweave.golden.layers.conv import conv2d
from podweave.ir.layers import Layer
from podweave.spec.config_parts import ArrayConfig

ARRAY = ArrayConfig(rows=16, cols=8, group_rows=4, group_cols=4, psum_width=32)
LAYERS = {
    "7x7 by 2": {
        "height": 13,
        "width": 16,
        "channels": 3,
        "outputs": 5,
        "kernel": (7, 7),
        "stride": (2, 2),
        "padding": ((3, 3), (3, 2)),
    },
    "1x1 by 3": {"height": 8, "width": 7, "channels": 20, "outputs": 9, "kernel": (1, 1), "stride": (3, 3)},
    "dilated": {"height": 12, "width": 15, "channels": 2, "outputs": 4, "kernel": (3, 4), "stride": (2, 3), "dilation": (2, 1)},
    "by 1": {"height": 6, "width": 6, "channels": 5, "outputs": 4, "kernel": (3, 3), "padding": ((1, 1), (1, 1))},
}


def sums(packed: PackedLayer, weights: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """What the arrays sum up: each step multiplies the words that it reads, a stride apart in the words of its unit."""
    layer, (out_high, out_wide) = packed.layer, packed.layer.output_size
    found = np.zeros((layer.batch, out_high, out_wide, layer.outputs), np.int64)
    for tile in packed.tiles:
        for step in tile.steps:
            unit, (sh, sw) = packed.units[step.unit], packed.stride(step.unit)
            high, wide = (out_high - 1) * sh + step.dh + 1, (out_wide - 1) * sw + step.dw + 1
            words = unit_words(layer, unit, activations, Region(0, layer.batch, 0, high, 0, wide), ARRAY.rows)
            words = words.reshape(layer.batch, high, wide, -1)[:, step.dh :: sh, step.dw :: sw, : unit.weight_rows]
            tile_words = packed.weight_tile(weights, tile, step, ARRAY.cols)[:, : len(tile.outputs)]
            found[..., tile.outputs] += words.astype(np.int64) @ tile_words.astype(np.int64)
    return found


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("word_steps", [None, 0.0, 0.5, 4.0])
def test_the_same_sums(name: str, word_steps: float | None) -> None:
    layer, rng = Layer(name=name, batch=2, **LAYERS[name]), np.random.default_rng(7)  # type: ignore[arg-type]
    activations = rng.integers(-128, 128, (2, layer.height, layer.width, layer.channels), dtype=np.int8)
    weights = rng.integers(-128, 128, (*layer.kernel, layer.channels, layer.outputs), dtype=np.int8)
    padded = np.pad(activations, ((0, 0), *layer.padding, (0, 0)))
    expected = conv2d(padded, weights, stride=layer.stride, dilation=layer.dilation, groups=1)
    assert np.array_equal(sums(pack_layer(layer, ARRAY, word_steps=word_steps), weights, activations), expected)


def test_words_that_no_step_reads_are_not_there() -> None:
    layer = Layer(name="first", **LAYERS["7x7 by 2"])  # type: ignore[arg-type]
    words = {}
    for word_steps in (None, 0.0, 4.0):
        packed = pack_layer(layer, ARRAY, word_steps=word_steps)
        words[word_steps] = sum(1 / prod(unit.grid) for unit in packed.units), len(packed.tiles[0].steps)
    # Four taps of three channels in a word: one for each position; a quarter of those, at two phases; or fewer, for more steps.
    assert words == {None: (1, 14), 0.0: (0.5, 14), 4.0: (0.25, 16)}
