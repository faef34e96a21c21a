"""What the graphs of convolutional networks are put together from."""

from __future__ import annotations

from typing import Literal

from ..graph import Graph
from ..layers import Layer, gemm
from ..operations import Linear, Operand, Shape, Window

# The tensors whose channels, one after the other, a layer reads.
Sources = tuple[str, ...]

MAX_PAD = -128
"""What a max-pool finds outside of the image: no int8 is below it, so that it never wins."""


def diagonal(name: str, shape: Shape, padding: int = 0) -> Layer:
    """The layer whose weights are one scale per channel: what pools and residual connections multiply by."""
    batch, height, width, channels = shape
    return Layer(
        name=name,
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        outputs=channels,
        padding=((padding, padding), (padding, padding)),
        groups=channels,
    )


class Builder:
    """Collects operations in order; each method adds one and returns its output as the sources of the next."""

    def __init__(self, name: str, inputs: dict[str, Shape]) -> None:
        self._name = name
        self._inputs = inputs
        self._shapes = dict(inputs)
        self._nodes: list[Linear] = []

    def _add(self, operation: Linear) -> Sources:
        self._nodes.append(operation)
        self._shapes[operation.name] = operation.output
        return (operation.name,)

    def _shape(self, sources: Sources) -> Shape:
        batch, height, width, _ = self._shapes[sources[0]]
        return (batch, height, width, sum(self._shapes[source][3] for source in sources))

    def conv(
        self,
        name: str,
        sources: Sources,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | Literal["same"] = 0,
        residual: Sources | None = None,
    ) -> Sources:
        """``residual``: what is added before the activation. It shares the accumulators, as a second operand."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        ph, pw = (kh // 2, kw // 2) if padding == "same" else (padding, padding)
        batch, height, width, channels = self._shape(sources)
        layer = Layer(
            name=name,
            batch=batch,
            height=height,
            width=width,
            channels=channels,
            outputs=outputs,
            kernel=(kh, kw),
            stride=(stride, stride),
            padding=((ph, ph), (pw, pw)),
        )
        operands = [Operand(sources, layer)]
        if residual:
            operands.append(Operand(residual, diagonal(f"{name}_residual", self._shape(residual)), residual=True))
        return self._add(Linear(name, tuple(operands)))

    def pool(
        self, name: str, sources: Sources, reduce: Literal["max", "sum"], kernel: int, stride: int, padding: int = 0
    ) -> Sources:
        """An average is a sum whose division is part of the requantisation."""
        layer = diagonal(name, self._shape(sources), padding)
        operand = Operand(sources, layer, pad_value=MAX_PAD if reduce == "max" else 0)
        return self._add(Linear(name, (operand,), Window(reduce, (kernel, kernel), (stride, stride)), identity=True))

    def global_pool(self, name: str, sources: Sources) -> Sources:
        """Average over the whole image."""
        shape = self._shape(sources)
        operand = Operand(sources, diagonal(name, shape))
        return self._add(Linear(name, (operand,), Window("sum", shape[1:3], (1, 1)), identity=True))

    def dense(self, name: str, sources: Sources, outputs: int) -> Sources:
        """A layer over the channels of images of one pixel."""
        return self._add(Linear(name, (Operand(sources, gemm(1, self._shape(sources)[3], outputs, name=name)),)))

    def graph(self) -> Graph:
        return Graph(self._name, self._inputs, tuple(self._nodes))
