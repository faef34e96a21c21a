"""Trains and quantises the network of `podweave.digits` and writes its weights: python -m podweave.digits.train.

In NumPy: the network is small enough for it, and the result depends on nothing but the seed and the BLAS. The weights in the
repository were written with OPENBLAS_NUM_THREADS=1, which is faster too: the order of sums depends on the threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.constants import Parameters, identity_parameters
from podweave.ir.quantise import activation_table, quantize_scale, relu

from ..program import extra, program
from . import (
    CLASSES,
    IMAGE_SCALE,
    LAYERS,
    WEIGHTS,
    FloatLayer,
    columns,
    digits_graph,
    float_conv,
    float_tensors,
    has_relu,
    test_images,
    training_images,
    window_blocks,
)

VALIDATION_IMAGES = 200
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


def initial_layers(rng: np.random.Generator) -> dict[str, FloatLayer]:
    """He's initialisation; the second layer of the residual block begins at nothing but the residual."""
    layers = {}
    for operation in digits_graph(1).operations:
        if not operation.identity:
            layer = operation.operands[0].layer
            weights = rng.normal(0, np.sqrt(2 / layer.reduction), layer.weight_shape) * (0.1 if len(operation.operands) > 1 else 1)
            layers[operation.name] = FloatLayer(weights.astype(np.float32), np.zeros(layer.outputs, dtype=np.float32))
    return layers


def gradients(
    layers: Mapping[str, FloatLayer], images: NDArray[np.int8], labels: NDArray[np.int64]
) -> tuple[float, dict[str, FloatLayer]]:
    """Cross entropy, and its derivatives by weights and biases: the graph walked backwards."""
    tensors = float_tensors(images, layers)
    shifted = tensors["logits"] - tensors["logits"].max(axis=3, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=3, keepdims=True))
    wanted = np.eye(CLASSES, dtype=np.float32)[labels].reshape(logarithms.shape)
    loss = float(-(wanted * logarithms).sum() / len(labels))
    by_tensor = {name: np.zeros_like(tensor) for name, tensor in tensors.items()}
    by_tensor["logits"] = (np.exp(logarithms) - wanted) / np.float32(len(labels))
    by_layer = {}
    for operation in reversed(digits_graph(len(images)).operations):
        source = operation.operands[0].sources[0]
        x, y, by_y = tensors[source], tensors[operation.name], by_tensor[operation.name]
        if operation.window:
            blocks, spread = window_blocks(x, operation.window), by_y[:, :, None, :, None]
            if operation.window.reduce == "max":
                # Equal pixels share: most often they are all 0 behind a ReLU.
                largest = blocks == y[:, :, None, :, None]
                by_x = largest * spread / largest.sum(axis=(2, 4), keepdims=True).astype(np.float32)
            else:
                by_x = np.broadcast_to(spread / np.float32(np.prod(operation.window.kernel)), blocks.shape)
            by_tensor[source] += by_x.reshape(x.shape)
            continue
        if has_relu(operation):
            by_y = by_y * (y > 0)
        for operand in operation.operands[1:]:
            by_tensor[operand.sources[0]] += by_y
        weights = layers[operation.name].weights
        rows = by_y.reshape(-1, weights.shape[3])
        by_layer[operation.name] = FloatLayer((columns(x, weights.shape[0]).T @ rows).reshape(weights.shape), rows.sum(axis=0))
        # The convolution by the kernel turned over, from outputs to channels.
        by_tensor[source] += float_conv(by_y, weights[::-1, ::-1].transpose(0, 1, 3, 2))
    return loss, by_layer


def train(images: NDArray[np.int8], labels: NDArray[np.int64], seed: int) -> dict[str, FloatLayer]:
    """AdamW with a learning rate that falls along a cosine; images are moved by up to a pixel sideways at random."""
    rng = np.random.default_rng(seed)
    layers = initial_layers(rng)
    means = {name: FloatLayer(*(np.zeros_like(part) for part in layer)) for name, layer in layers.items()}
    squares = {name: FloatLayer(*(np.zeros_like(part) for part in layer)) for name, layer in layers.items()}
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            _, by_layer = gradients(layers, moved(images[chosen], rng), labels[chosen])
            rate = LEARNING_RATE * (1 + np.cos(np.pi * step / steps)) / 2
            step += 1
            for name, layer in layers.items():
                for part, slope, mean, square in zip(layer, by_layer[name], means[name], squares[name], strict=True):
                    mean += 0.1 * (slope - mean)
                    square += 0.001 * (slope**2 - square)
                    size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
                    part -= (rate * (mean / (1 - 0.9**step) / size + WEIGHT_DECAY * part)).astype(np.float32)
    # As they are stored: float16 weights.
    return {name: FloatLayer(w.astype(np.float16).astype(np.float32), b) for name, (w, b) in layers.items()}


def moved(images: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int8]:
    """Each image one pixel to the left, to the right, or where it is; digits are as high as their images, so never up."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)))
    offsets = rng.integers(0, 3, len(images))[:, None] + np.arange(images.shape[2])
    return np.take_along_axis(padded, offsets[:, None, :, None], axis=2)


def quantise(layers: Mapping[str, FloatLayer], images: NDArray[np.int8]) -> dict[str, Parameters]:
    """Symmetric int8: one scale per output channel of weights, one per tensor, by its largest magnitude over ``images``."""
    tensors = float_tensors(images, layers)
    scales = {"image": IMAGE_SCALE}
    found: dict[str, Parameters] = {}
    for operation in digits_graph(1).operations:
        source = operation.operands[0].sources[0]
        if operation.window and operation.window.reduce == "max":
            scales[operation.name] = scales[source]
            found[operation.name] = identity_parameters(operation)
            continue
        output_scale = scales[operation.name] = float(np.abs(tensors[operation.name]).max()) / 127
        if operation.window:
            found[operation.name] = identity_parameters(
                operation, scales[source] / float(np.prod(operation.window.kernel)) / output_scale
            )
            continue
        weights, bias = (part.astype(np.float64) for part in layers[operation.name])
        # What 1 in an accumulator stands for: the finest step at which a channel's weights fit int8.
        step = scales[source] * np.maximum(np.abs(weights).max(axis=(0, 1, 2)), 1e-6) / 127
        skips = []
        for operand in operation.operands[1:]:
            # The residual shares the accumulator: its weight is what its own step is in units of the accumulator's, which is
            # made coarser until that is a whole number of int8.
            residual_scale = scales[operand.sources[0]]
            factor = np.clip(np.floor(residual_scale / step), 1, 127)
            if (residual_scale / factor < step).any():
                raise ValueError(f"{operation.name}: weights are too large beside the residual to share an accumulator with it")
            step = residual_scale / factor
            skips.append(factor.astype(np.int8).reshape(operand.layer.weight_shape))
        multiplier, shift = quantize_scale(step / output_scale)
        found[operation.name] = Parameters(
            weights=(np.rint(weights * scales[source] / step).astype(np.int8), *skips),
            bias=np.rint(bias / step).astype(np.int32),
            multiplier=multiplier,
            shift=shift,
            table=activation_table(relu) if has_relu(operation) else None,
        )
    return found


def write(path: Path, layers: Mapping[str, FloatLayer], parameters: Mapping[str, Parameters]) -> None:
    arrays: dict[str, NDArray] = {}
    for name in LAYERS:
        arrays[f"{name}.float"] = layers[name].weights.astype(np.float16)
        arrays[f"{name}.float_bias"] = layers[name].bias
        arrays |= {f"{name}.weights{i}": weights for i, weights in enumerate(parameters[name].weights)}
        arrays[f"{name}.bias"] = parameters[name].bias
    for name in (*LAYERS, "average_pool"):
        arrays |= {f"{name}.multiplier": parameters[name].multiplier, f"{name}.shift": parameters[name].shift}
    # Names and types of the arguments of savez are not those of arrays.
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def training_parts() -> tuple[tuple[NDArray[np.int8], NDArray[np.int64]], tuple[NDArray[np.int8], NDArray[np.int64]]]:
    """Of the images that are not held out: those to train on, and 200 by which what is above was chosen."""
    with extra("demo", "the data set of the digits"):
        from sklearn.model_selection import train_test_split

    images, labels = training_images()
    kept, checked = train_test_split(np.arange(len(images)), test_size=VALIDATION_IMAGES, random_state=0, stratify=labels)
    return (images[kept], labels[kept]), (images[checked], labels[checked])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with program():
        (images, labels), validation = training_parts()
        layers = train(images, labels, options.seed)
        parameters = quantise(layers, images)
        write(options.output, layers, parameters)
        print(f"{options.output}: {options.output.stat().st_size} bytes")
        # The images held out had no part in any choice above.
        for part, (x, y) in {"training": (images, labels), "validation": validation, "held out": test_images()}.items():
            real, integer = float_tensors(x, layers)["logits"], evaluate(digits_graph(len(x)), parameters, {"image": x})["logits"]
            figures = [float((logits.reshape(-1, CLASSES).argmax(axis=1) == y).mean()) for logits in (real, integer)]
            print(f"{part}, {len(y)} images: accuracy {figures[0]:.2%} in floating point, {figures[1]:.2%} in int8")


if __name__ == "__main__":
    main()
