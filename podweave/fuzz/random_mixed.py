"""Random graphs of layers and operations on rows: each reads what is there, of whatever kind of operation gives it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from podweave.ir.constants import Constants
from podweave.ir.frontends.random_mixed import random_mixed_inputs, random_mixed_parameters
from podweave.ir.layers import Layer
from podweave.ir.mixed_graph import MixedGraph, verify_mixed
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.row_operations import Append, Format

from ..runs.jobs import Job
from .choices import Choices
from .random_rows import RandomRows

Size = tuple[int, int]
SIZES = ((1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (4, 4), (5, 3))
"""Heights and widths of images."""


class RandomMixed(RandomRows):
    """A graph in the making; ``seed``: another one for each. What may be read has ``rows`` positions, or rows."""

    narrow = 0.6
    operations: list[Any]

    def __init__(self, seed: int, rng: Choices | None = None):
        super().__init__(seed, rng)
        self.sizes: dict[str, Size] = {}
        """Of layers."""
        self.size: Size = SIZES[self.rng.choice(len(SIZES))]
        self.rows = self.size[0] * self.size[1]
        self.image()

    def image(self) -> str:
        name = f"in{len(self.inputs)}"
        self.inputs[name] = (1, *self.size, self.number(1, 3, 5, 8))
        self.channels[name] = Format.INT8, self.inputs[name][3]
        return name

    def any(self, form: Format, channels: int | None = None) -> str | None:
        """Mostly what was made last, so that graphs are deep."""
        names = [name for name, (f, c) in self.channels.items() if f is form and channels in (None, c)]
        return names[-1] if names and self.rng.random() < 0.7 else super().any(form, channels)

    def size_of(self, name: str) -> Size | None:
        """None for rows, which are an image of any size."""
        return self.inputs[name][1:3] if name in self.inputs else self.sizes.get(name)

    def readable(self, size: Size | None = None) -> list[str]:
        """What layers may read, as images of a size."""
        names = [name for name, (form, _) in self.channels.items() if form is Format.INT8]
        return [name for name in names if size is None or self.size_of(name) in (None, size)]

    def operand(
        self, sources: tuple[str, ...], size: Size, outputs: int | None = None, kernel: int = 1, pad_value: int = 0
    ) -> Operand:
        """``outputs``: by default those of a diagonal."""
        channels = sum(self.channels[source][1] for source in sources)
        pad = (kernel // 2, kernel // 2)
        sizes: dict[str, Any] = {"height": size[0], "width": size[1], "channels": channels, "outputs": outputs or channels}
        groups = 1 if outputs else channels
        layer = Layer(name=self.name, **sizes, kernel=(kernel, kernel), padding=(pad, pad), groups=groups)
        return Operand(sources, layer, pad_value)

    def layer(self) -> str:
        """One layer more: it reads one of the last tensors that it may, and perhaps another."""
        source = self.any(Format.INT8)
        assert source is not None
        size = self.size_of(source) or (self.size if self.rng.random() < 0.7 else (1, self.rows))
        outputs, kernel = self.number(2, 3, 6, 8, 12), self.number(1, 1, 3)
        others = [name for name in self.readable(size) if name != source]
        kind = str(self.rng.choice(["plain", "plain", "residual", "concatenation", "pool", "smaller"]))
        window, identity = None, False
        if kind == "residual" and others:
            other = str(self.rng.choice(others))
            outputs = self.channels[other][1]
            operands: tuple[Operand, ...] = (self.operand((source,), size, outputs, kernel), self.operand((other,), size))
        elif kind == "concatenation" and others:
            operands = (self.operand((source, str(self.rng.choice(others))), size, outputs, kernel),)
        elif kind == "pool" and self.channels[source][1] > 1:
            # As large as it was: over two by two, with padding in front.
            operand = self.operand((source,), size, pad_value=-128)
            operands = (replace(operand, layer=replace(operand.layer, padding=((1, 0), (1, 0)))),)
            window, identity = Window("max", (2, 2), (1, 1)), True
        elif kind == "smaller" and min(size) > 1 and self.rng.random() < 0.5:
            return self.smaller(source, size)
        else:
            operands = (self.operand((source,), size, outputs, kernel),)
        return self.add_layer(Linear(self.name, operands, window, identity))

    def smaller(self, source: str, size: Size) -> str:
        """A pooling; from now on, all is as small as what it gives."""
        reduce = "max" if self.rng.integers(2) else "sum"
        window = Window(reduce, (2, 2), (self.number(1, 2), self.number(1, 2)))  # type: ignore[arg-type]
        made = Linear(self.name, (self.operand((source,), size),), window, identity=True)
        self.channels.clear()
        self.size = made.output[1:3]
        self.rows = self.size[0] * self.size[1]
        return self.add_layer(made)

    def add_layer(self, operation: Linear) -> str:
        self.operations.append(operation)
        self.channels[operation.name] = Format.INT8, operation.output[3]
        self.sizes[operation.name] = operation.output[1:3]
        return operation.name

    def job(self) -> Job:
        on_rows = [self.linear, self.norm, self.product, self.gelu, self.multiply, self.argmax, self.rope, self.attention]
        self.layer()
        for _ in self.rng.among(1, 3, 5, 8):
            if self.rng.random() < 0.1:
                self.image()
            if self.rng.random() < 0.45:
                self.layer()
            else:
                self.linear(Format.INT8) if self.rng.random() < 0.35 else on_rows[self.rng.choice(8)]()
        self.linear()
        names = [o.name for o in self.operations if not isinstance(o, Append)]
        read = {source for operation in self.operations for source in operation.sources}
        spent = {o.add for o in self.operations if getattr(o, "add", None)}
        outputs = tuple(name for name in names if name not in spent and (name not in read or self.rng.random() < 0.25))
        graph = verify_mixed(MixedGraph(f"mixed{self.seed}", self.inputs, tuple(self.operations), outputs, formats=self.formats))
        inputs = random_mixed_inputs(graph, self.seed)
        for name, context in self.lengths.items():
            inputs[name] = self.rng.integers(1, context + 1, inputs[name].shape).astype("int32")
        return Job(graph, Constants(random_mixed_parameters(graph, self.seed)), inputs)


def random_mixed(seed: int, rng: Choices | None = None) -> Job:
    return RandomMixed(seed, rng).job()
