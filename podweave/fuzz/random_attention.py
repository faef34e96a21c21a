"""Small random networks with norms and attention among their layers, as ONNX files in float32, quantised by onnxruntime itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..runs.float_blocks import real_nodes
from . import onnx_layers as layers
from . import onnx_rows as on_rows
from .choices import Choices
from .onnx_graph import Image
from .random_files import RandomModel, quantise

OPSETS = (17, 20)
"""With `LayerNormalization`."""
_MOST_ROWS = 12
_IMAGES = ("convolution", "pooling", "residual", "squeeze-excite", "gate", "written out", "LeakyRelu", "Mul", "border", "Sigmoid")
"""Pieces around, of images."""


class AttendingModel(RandomModel):
    """A network of images, whose positions become rows, and an image again, or leave as rows."""

    def __init__(self, rng: Choices, *, size: int = 6, channels: int = 3):
        super().__init__(rng, size=size, channels=channels, among=_IMAGES, opsets=OPSETS, images=True)

    def made(self) -> Any:
        """The file. Convolutions come first: positions that are rows are of an image that was computed."""
        rng = self.rng
        layers.convolution(self)
        for _ in rng.several(0, 3, 0):
            self._piece()
        heads = int(rng.integers(1, 4))
        self.give(self._small(heads * int(rng.integers(1 if heads > 1 else 2, 6))))
        rows = self._blocks(on_rows.rows_of(self, self.at), heads)
        if rng.random() < 0.3:
            classes = on_rows.linear(self, rows, int(rng.integers(2, 9)))
            return self.model(self.input, [(classes.name, (1, classes.count, classes.channels))])
        self.give(on_rows.image_of(self, rows))
        layers.convolution(self)
        for _ in rng.several(0, 3, 0):
            self._piece()
        return self.model(self.input, [(self.at.name, self.shape(self.at))])

    def _small(self, channels: int) -> Image:
        """An image of so many channels, and of few positions: the largest of each window."""
        at = self.at
        while at.area > _MOST_ROWS:
            kernel = [min(2, n) for n in at.sizes]
            name = self.add("MaxPool", [at.name], kernel_shape=kernel, strides=kernel)
            at = Image(name, at.channels, tuple(n // k for n, k in zip(at.sizes, kernel, strict=True)))
        return layers.same(self, at, channels, int(self.rng.choice([1, 3])))

    def _blocks(self, rows: on_rows.Rows, heads: int) -> on_rows.Rows:
        """One to three of them, with norms in front, behind, or none; attention is in one of them surely."""
        rng, earlier = self.rng, rows
        count = int(rng.integers(1, 4))
        attends = int(rng.integers(count))
        for block in range(count):
            kind = "attention" if block == attends else str(rng.choice(["attention", "feed forward", "norm"]))
            place = str(rng.choice(["in front", "in front", "behind", ""]))
            read = on_rows.norm(self, rows) if place == "in front" or kind == "norm" else rows
            if kind == "attention":
                # Now and then, what is attended to is that of before.
                seen = earlier if rng.random() < 0.2 else read
                found = on_rows.attention(self, read, heads, seen)
            else:
                found = on_rows.feed_forward(self, read) if kind == "feed forward" else read
            if kind != "norm" and rng.random() < 0.7:
                found = on_rows.residual(self, rows, found)
            if place == "behind" and kind != "norm":
                found = on_rows.norm(self, found)
            earlier, rows = rows, found
        return rows


def attending_file(
    folder: Path,
    seed: int,
    *,
    unsigned: bool,
    per_channel: bool,
    symmetric: bool = False,
    rng: Choices | None = None,
    **options: Any,
) -> Path:
    """A random network with attention as onnxruntime quantises it, with real numbers inside of norms and attention."""
    made = AttendingModel(rng or Choices([seed, 1]), **options)
    model = made.made()
    return quantise(
        model,
        folder / f"attending{seed}.onnx",
        made.input,
        seed,
        unsigned=unsigned,
        per_channel=per_channel,
        symmetric=symmetric,
        real=real_nodes(model),
    )
