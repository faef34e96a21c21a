"""A small CNN for scikit-learn's 8 x 8 digits: its graph, its int8 parameters, its float form, and the images held out.

``weights.npz`` is what `podweave.digits.train` writes. Of each layer with weights it has ``NAME.float`` float16 and
``NAME.float_bias`` float32, as trained, and ``NAME.weights0``, ``NAME.weights1`` (of a residual), ``NAME.bias``,
``NAME.multiplier`` and ``NAME.shift``, quantised; of the average pool only the last two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from podweave.ir.arrays import read_arrays
from podweave.ir.constants import Parameters, identity_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.quantise import activation_table, relu

from ..program import extra

WEIGHTS = Path(__file__).with_name("weights.npz")
TEST_IMAGES = 500
CLASSES = 10
LAYERS = ("stem", "block_1", "block_2", "wide_1", "wide_2", "logits")
"""The operations with weights; all but the last have a ReLU."""

# Pixels 0..16 times 7 are int8 without rounding; in floating point they are 0..1.
PIXEL_STEP = 7
IMAGE_SCALE = 1 / (16 * PIXEL_STEP)

Floats = NDArray[np.float32]


class FloatLayer(NamedTuple):
    """``weights``: (KH, KW, C, O). ``bias``: (O,)."""

    weights: Floats
    bias: Floats


def digits_graph(batch: int) -> Graph:
    """8 x 8 x 1 image, 16 channels with a residual block, max-pool, 32 channels, average pool, 10 logits.

    >>> digits_graph(2).shape("logits"), digits_graph(1).macs
    ((2, 1, 1, 10), 525632)
    """

    def conv(name: str, source: str, size: int, channels: int, outputs: int, residual: str | None = None) -> Linear:
        layer = Layer(
            name=name,
            batch=batch,
            height=size,
            width=size,
            channels=channels,
            outputs=outputs,
            kernel=(3, 3),
            padding=((1, 1), (1, 1)),
        )
        skip = () if residual is None else (Operand((residual,), diagonal(f"{name}_residual", size, outputs), residual=True),)
        return Linear(name, (Operand((source,), layer), *skip))

    def diagonal(name: str, size: int, channels: int) -> Layer:
        return Layer(name=name, batch=batch, height=size, width=size, channels=channels, outputs=channels, groups=channels)

    dense = Layer(name="logits", batch=batch, height=1, width=1, channels=32, outputs=CLASSES)
    operations = (
        conv("stem", "image", 8, 1, 16),
        conv("block_1", "stem", 8, 16, 16),
        conv("block_2", "block_1", 8, 16, 16, residual="stem"),
        Linear(
            "max_pool", (Operand(("block_2",), diagonal("max_pool", 8, 16), -128),), Window("max", (2, 2), (2, 2)), identity=True
        ),
        conv("wide_1", "max_pool", 4, 16, 32),
        conv("wide_2", "wide_1", 4, 32, 32),
        Linear(
            "average_pool", (Operand(("wide_2",), diagonal("average_pool", 4, 32)),), Window("sum", (4, 4), (4, 4)), identity=True
        ),
        Linear("logits", (Operand(("average_pool",), dense),)),
    )
    return Graph("digits", {"image": (batch, 8, 8, 1)}, operations)


def digits_parameters() -> dict[str, Parameters]:
    """The quantised network of ``weights.npz``, for `golden.graph.evaluate`; good for every batch."""
    stored = read_arrays(WEIGHTS)
    found = {}
    for operation in digits_graph(1).operations:
        if operation.identity:
            found[operation.name] = identity_parameters(operation)
            if operation.name == "average_pool":
                scale: dict[str, Any] = {field: stored[f"average_pool.{field}"] for field in ("multiplier", "shift")}
                found[operation.name] = replace(found[operation.name], **scale)
            continue
        weights = tuple(stored[f"{operation.name}.weights{i}"] for i in range(len(operation.operands)))
        bias, multiplier, shift = (stored[f"{operation.name}.{field}"] for field in ("bias", "multiplier", "shift"))
        found[operation.name] = Parameters(
            weights, bias, multiplier, shift, activation_table(relu) if has_relu(operation) else None
        )
    return found


def has_relu(operation: Linear) -> bool:
    return not operation.identity and operation.name != "logits"


def float_layers() -> dict[str, FloatLayer]:
    """The trained network of ``weights.npz``."""
    stored = read_arrays(WEIGHTS)
    return {
        name: FloatLayer(stored[f"{name}.float"].astype(np.float32), stored[f"{name}.float_bias"].astype(np.float32))
        for name in LAYERS
    }


def float_logits(images: NDArray[np.int8]) -> Floats:
    """The trained network in floating point. ``images``: int8 (B, 8, 8, 1). Returns (B, 10)."""
    return float_tensors(images, float_layers())["logits"].reshape(-1, CLASSES)


def float_tensors(images: NDArray[np.int8], layers: Mapping[str, FloatLayer]) -> dict[str, Floats]:
    """Every tensor of the network in floating point, by its name."""
    tensors: dict[str, Floats] = {"image": images.astype(np.float32) * np.float32(IMAGE_SCALE)}
    for operation in digits_graph(len(images)).operations:
        x = tensors[operation.operands[0].sources[0]]
        if operation.window:
            blocks = window_blocks(x, operation.window)
            y = blocks.max(axis=(2, 4)) if operation.window.reduce == "max" else blocks.mean(axis=(2, 4))
        else:
            layer = layers[operation.name]
            y = float_conv(x, layer.weights) + layer.bias
            for operand in operation.operands[1:]:
                y += tensors[operand.sources[0]]
            if has_relu(operation):
                y = np.maximum(y, np.float32(0))
        tensors[operation.name] = y
    return tensors


def window_blocks(x: Floats, window: Window) -> Floats:
    """(B, H, W, C) as (B, H / h, h, W / w, w, C), for windows of h x w that touch and do not overlap."""
    batch, height, width, channels = x.shape
    h, w = window.kernel
    return x.reshape(batch, height // h, h, width // w, w, channels)


def float_conv(x: Floats, weights: Floats) -> Floats:
    """Stride 1, outputs as large as the input."""
    y: Floats = columns(x, weights.shape[0]) @ weights.reshape(-1, weights.shape[3])
    return y.reshape(*x.shape[:3], -1)


def columns(x: Floats, kernel: int) -> Floats:
    """What each output of `float_conv` sees: (B * H * W, KH * KW * C), in the order of the weights."""
    side = kernel // 2
    padded = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * x.shape[3])


def training_images() -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The 1,297 images that are not held out, int8 (1297, 8, 8, 1), and their labels."""
    return _split()[0]


def test_images() -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The 500 images held out, int8 (500, 8, 8, 1), and their labels: each class in proportion."""
    return _split()[1]


# Pytest would take it for a test where it is imported.
test_images.__test__ = False  # type: ignore[attr-defined]


def _split() -> tuple[tuple[NDArray[np.int8], NDArray[np.int64]], tuple[NDArray[np.int8], NDArray[np.int64]]]:
    with extra("demo", "the data set of the digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images * PIXEL_STEP).astype(np.int8)[..., None]
    kept, held_out = train_test_split(np.arange(len(images)), test_size=TEST_IMAGES, random_state=0, stratify=digits.target)
    labels = digits.target.astype(np.int64)
    return (images[kept], labels[kept]), (images[held_out], labels[held_out])
