"""Graphs of networks of which only the GEMM dimensions are known."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

from ..graph import Graph
from ..layers import Layer, WorkloadError, gemm
from ..operations import Linear, Operand, Shape, Window
from .builder import MAX_PAD, diagonal
from .names import Names

KERNELS = (1, 3, 5, 7, 11)
REACH = 8
"""How many layers back a source is looked for."""
GLOBAL_POSITIONS = 1024
"""An average over more positions than this before a classifier is taken for a coincidence of sizes."""

# (kernel, padding) of the max-pools of stride 2 that may stand between two layers.
_POOLS = ((2, 0), (3, 1), (3, 0))


def chain(name: str, layers: list[Layer]) -> Graph:
    """A graph whose operations multiply exactly the given GEMMs, in their order, with connections guessed from the sizes.

    The M positions of a layer are an image of sqrt(M) x sqrt(M) if that is whole, else one of 1 x M. The source of a layer is
    the closest of the 8 layers before it for which one of these holds, tried in this order; N and image are the source's:

    1. K = N, and the images have the same number of positions.
    2. K = k * k * N for a k of 1, 3, 5, 7, 11 that is no larger than the image, and a k x k convolution with stride 1 or 2,
       padded by k // 2 or not at all, takes the one square image to the other.
    3. The same at stride 1 behind a max-pool of stride 2: 2 x 2, 3 x 3 padded by 1, 3 x 3. The pool becomes an operation of its
    own. 4. K = N and M = 1: an average over the whole image (of at most 1,024 positions), which becomes an operation of its own.

    A layer without a source reads a tensor of M x K that the host provides, and starts after the layer before it. That is what
    becomes of the first layer, of convolutions with other kernels, and of whatever joins or concatenates branches. A guess
    may thus wait for less than the true network would where branches run in parallel, but never changes what is multiplied.

    Layers that are not GEMMs keep their geometry and read the host. Names that occur twice get a number.
    """
    if not layers:
        raise WorkloadError(f"{name}: no layers")
    guess = _Chain()
    guess.reserve([layer.name for layer in layers])
    for layer in layers:
        guess.add(layer)
    return Graph(name, guess.inputs, tuple(guess.operations))


def _image(positions: int) -> tuple[int, int]:
    side = isqrt(positions)
    return (side, side) if side * side == positions else (1, positions)


def _convolution(layer: Layer, shape: Shape, strides: tuple[int, ...] = (1, 2)) -> Layer | None:
    """``layer`` as a convolution of a tensor of this shape, if it can be one."""
    batch, height, width, channels = shape
    m, k, n = layer.positions, layer.reduction, layer.outputs
    if batch != 1:
        return None
    if k == channels and height * width == m:
        if height == 1:
            return gemm(m, k, n, name=layer.name)
        return Layer(name=layer.name, height=height, width=width, channels=k, outputs=n)
    if height != width or _image(m)[0] != _image(m)[1]:
        return None
    for kernel in KERNELS:
        if k != kernel * kernel * channels or kernel > height:
            continue
        for stride in strides:
            for pad in (kernel // 2, 0):
                if (height + 2 * pad - kernel) // stride + 1 == _image(m)[0]:
                    return Layer(
                        name=layer.name,
                        height=height,
                        width=width,
                        channels=channels,
                        outputs=n,
                        kernel=(kernel, kernel),
                        stride=(stride, stride),
                        padding=((pad, pad), (pad, pad)),
                    )
    return None


class _Chain:
    def __init__(self) -> None:
        self.inputs: dict[str, Shape] = {}
        self.operations: list[Linear] = []
        self._names: list[str] = []
        self._unique = Names().unique
        # The layers so far (not the pools between them), and which pools there are by name.
        self._layers: list[Linear] = []
        self._pools: dict[tuple[str, str], Linear] = {}

    def reserve(self, names: list[str]) -> None:
        """Layers have their names before anything else is named."""
        self._names = [self._unique(name) for name in names]

    def add(self, layer: Layer) -> None:
        name = self._names[len(self._layers)]
        operation = self._connected(name, layer) if layer.is_gemm else None
        if operation is None:
            height, width = _image(layer.positions)
            if layer.is_gemm and height > 1:
                layer = Layer(name=name, height=height, width=width, channels=layer.channels, outputs=layer.outputs)
            source = self._unique(f"{name}.input")
            self.inputs[source] = layer.input_shape
            after = (self._layers[-1].name,) if self._layers else ()
            operation = Linear(name, (Operand((source,), replace(layer, name=name)),), after=after)
        self.operations.append(operation)
        self._layers.append(operation)

    def _connected(self, name: str, layer: Layer) -> Linear | None:
        layer = replace(layer, name=name)
        for source in reversed(self._layers[-REACH:]):
            if convolution := _convolution(layer, source.output):
                return Linear(name, (Operand((source.name,), convolution),))
            batch, height, width, channels = source.output
            for kernel, padding in _POOLS:
                if batch == 1 and height == width and kernel <= height + 2 * padding:
                    side = (height + 2 * padding - kernel) // 2 + 1
                    if convolution := _convolution(layer, (1, side, side, channels), strides=(1,)):
                        kind = f"pool{kernel}x{kernel}" + (f"p{padding}" if padding else "")
                        pool = self._pool(source, kind, padding, Window("max", (kernel, kernel), (2, 2)))
                        return Linear(name, (Operand((pool.name,), convolution),))
            if batch == 1 and layer.positions == 1 and height * width <= GLOBAL_POSITIONS and layer.reduction == channels:
                pool = self._pool(source, "average", 0, Window("sum", (height, width), (1, 1)))
                return Linear(name, (Operand((pool.name,), layer),))
        return None

    def _pool(self, source: Linear, kind: str, padding: int, window: Window) -> Linear:
        """The pool of a layer, once for all of its readers."""
        key = (source.name, kind)
        if key not in self._pools:
            name = self._unique(f"{source.name}.{kind}")
            layer = diagonal(name, source.output, padding)
            operand = Operand((source.name,), layer, pad_value=MAX_PAD if window.reduce == "max" else 0)
            self._pools[key] = Linear(name, (operand,), window, identity=True)
            self.operations.append(self._pools[key])
        return self._pools[key]
