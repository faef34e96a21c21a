"""What the graphs of convolutional networks are put together from."""

from __future__ import annotations

from typing import Literal

from ..graph import Graph
from ..layers import Layer, gemm
from ..operations import AS_IT_IS, Linear, Operand, Shape, Upsampling, Window
from ..transposed import TransposedConvolution

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
        self._seen: dict[str, Upsampling] = {}
        """How tensors are seen that readers do not see as they are."""

    def _add(self, operation: Linear) -> Sources:
        self._nodes.append(operation)
        self._shapes[operation.name] = operation.output
        return (operation.name,)

    def _shape(self, sources: Sources) -> Shape:
        shapes = [self._seen.get(source, AS_IT_IS).of(self._shapes[source]) for source in sources]
        return (*shapes[0][:3], sum(shape[3] for shape in shapes))

    def _operand(self, sources: Sources, layer: Layer, pad_value: int = 0, residual: bool = False) -> Operand:
        seen = tuple(self._seen.get(source, AS_IT_IS) for source in sources)
        upsampled = seen if any(source in self._seen for source in sources) else ()
        return Operand(sources, layer, pad_value, residual=residual, upsampled=upsampled)

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
        operands = [self._operand(sources, layer)]
        if residual:
            operands.append(self._operand(residual, diagonal(f"{name}_residual", self._shape(residual)), residual=True))
        return self._add(Linear(name, tuple(operands)))

    def upsampled(self, name: str, sources: Sources, outputs: int, factor: int) -> Sources:
        """A convolution of an image that is enlarged to nearest neighbours, with a kernel of that size: as many outputs.

        Of what is seen enlarged already, there is none.
        """
        assert not any(source in self._seen for source in sources)
        batch, height, width, channels = self._shape(sources)
        layer = Layer(
            name=name,
            batch=batch,
            height=factor * height,
            width=factor * width,
            channels=channels,
            outputs=outputs,
            kernel=(factor, factor),
            # An odd pixel behind, as TensorFlow has it.
            padding=(((factor - 1) // 2, factor // 2), ((factor - 1) // 2, factor // 2)),
        )
        seen = Upsampling(factor, factor)
        return self._add(Linear(name, (Operand(sources, layer, upsampled=(seen,) * len(sources)),)))

    def transposed(self, name: str, sources: Sources, outputs: int, factor: int) -> Sources:
        """A transposed convolution, of which kernel and stride are a factor: readers see its result."""
        square = (factor, factor)
        transposed = TransposedConvolution(name, self._shape(sources), outputs, square, square)
        self._seen[name] = transposed.upsampling
        return self._add(Linear(name, (self._operand(sources, transposed.layer),)))

    def pool(
        self, name: str, sources: Sources, reduce: Literal["max", "sum"], kernel: int, stride: int, padding: int = 0
    ) -> Sources:
        """An average is a sum whose division is part of the requantisation."""
        layer = diagonal(name, self._shape(sources), padding)
        operand = self._operand(sources, layer, MAX_PAD if reduce == "max" else 0)
        return self._add(Linear(name, (operand,), Window(reduce, (kernel, kernel), (stride, stride)), identity=True))

    def global_pool(self, name: str, sources: Sources) -> Sources:
        """Average over the whole image."""
        shape = self._shape(sources)
        operand = self._operand(sources, diagonal(name, shape))
        return self._add(Linear(name, (operand,), Window("sum", shape[1:3], (1, 1)), identity=True))

    def dense(self, name: str, sources: Sources, outputs: int) -> Sources:
        """A layer over the channels of images of one pixel."""
        return self._add(Linear(name, (Operand(sources, gemm(1, self._shape(sources)[3], outputs, name=name)),)))

    def graph(self) -> Graph:
        return Graph(self._name, self._inputs, tuple(self._nodes))
