"""Small random networks as ONNX files in float32, over all operators that are taken, quantised by onnxruntime itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from . import onnx_functions as functions
from . import onnx_joins as joins
from . import onnx_layers as layers
from . import onnx_moves as moves
from .choices import Choices
from .onnx_graph import Image, OnnxGraph

OPSETS = (13, 17, 20)
_MOST_AREA = 200
_OF_SIZES = ("Shape", "Cast", "ConstantOfShape", "Constant")
"""Operators of numbers that nothing quantises."""


def _anywhere(_: OnnxGraph) -> bool:
    return True


def _may_grow(graph: OnnxGraph) -> bool:
    return 4 * graph.at.area <= _MOST_AREA


def _may_widen(graph: OnnxGraph) -> bool:
    return graph.at.channels <= joins.MOST_CHANNELS // 2


def _has_blocks(graph: OnnxGraph) -> bool:
    return len(graph.at.sizes) == 2 and graph.at.channels <= 6


@dataclass(frozen=True)
class Piece:
    """What a network is made of.

    Members
    -------
    make : callable
        Adds its nodes to a graph, and what is read next.
    weight : int
        How often it is drawn, beside others.
    fits : callable
        Of a graph, whether it may come next.
    opset : int
        The first that has its operators.
    of_integers : bool
        In files with operators on integers (`QuantFormat.QOperator`), too: onnxruntime has it there.
    """

    make: Callable[[OnnxGraph], None]
    weight: int = 1
    fits: Callable[[OnnxGraph], bool] = _anywhere
    opset: int = 0
    of_integers: bool = False


PIECES: dict[str, Piece] = {
    "convolution": Piece(layers.convolution, 12, of_integers=True),
    "transposed convolution": Piece(layers.transposed_convolution, 6, _may_grow),
    "normalisation": Piece(layers.normalisation, 3),
    "pooling": Piece(layers.pooling, 6, lambda graph: graph.at.area > 4, of_integers=True),
    "context": Piece(layers.context, 2, _may_widen),
    "each position": Piece(layers.each_position, 2),
    "residual": Piece(joins.residual, 5, of_integers=True),
    "branches": Piece(joins.branches, 3, of_integers=True),
    "skip": Piece(joins.skip, 3, lambda graph: len(graph.images) > 1, of_integers=True),
    "squeeze-excite": Piece(joins.squeeze_excite, 4, of_integers=True),
    "gate": Piece(joins.gate, 4, of_integers=True),
    "square": Piece(joins.square, 1, of_integers=True),
    "responses": Piece(joins.responses, 2, lambda graph: len(graph.at.sizes) == 2),
    "split": Piece(moves.split, 3, of_integers=True),
    "cut": Piece(moves.cut, 3),
    "border": Piece(moves.border, 3, _may_grow, of_integers=True),
    "enlarged": Piece(moves.enlarged, 3, _may_grow, of_integers=True),
    "blocks to channels": Piece(moves.blocks_to_channels, 2, _has_blocks),
    "channels to blocks": Piece(moves.channels_to_blocks, 2, lambda graph: len(graph.at.sizes) == 2 and _may_grow(graph)),
    "shuffle": Piece(moves.shuffle, 2, lambda graph: len(graph.at.sizes) == 2),
    "chosen": Piece(moves.chosen, 2),
    "other views": Piece(moves.other_views, 2),
    "as rows": Piece(moves.as_rows, 2, lambda graph: len(graph.at.sizes) == 1),
    "Exp": Piece(functions.exponential),
    "Pow": Piece(functions.power),
    "Gelu": Piece(functions.gelu, opset=20),
    "com.microsoft.Gelu": Piece(partial(functions.contributed, operator="Gelu")),
    "PRelu": Piece(functions.slope, 2),
    "written out": Piece(functions.written_out, 3),
    **{
        name: Piece(partial(functions.constant, operator=name), of_integers=name in ("Add", "Mul"))
        for name in ("Add", "Sub", "Mul", "Div")
    },
    **{
        name: Piece(
            partial(functions.function, operator=name),
            2 if name in ("LeakyRelu", "Sigmoid") else 1,
            opset=functions.FIRST.get(name, 0),
            of_integers=name in ("LeakyRelu", "Sigmoid", "Relu"),
        )
        for name in functions.PLAIN
    },
    **{name: Piece(partial(functions.of_positive, operator=name)) for name in functions.POSITIVE},
}
"""All that random files have between their inputs and outputs, by name."""
PRODUCTS = ("convolution", "pooling", "squeeze-excite", "gate")
"""Pieces of networks in which tensors are multiplied."""
FIRST = (
    *[("convolution",)] * 6,
    ("cut", "convolution"),
    ("chosen", "convolution"),
    ("blocks to channels", "convolution"),
    ("Sigmoid",),
)
"""How networks begin: what only moves numbers leaves them in floating point, so a piece that quantises them stands behind it."""


class RandomModel(OnnxGraph):
    """A network of some pieces.

    Parameters
    ----------
    rng : Choices
    size, channels, batch : int
        Of its input; the width is up to two more than ``size``.
    among : collection of str
        Of `PIECES`, those that it may have; by default all of them.
    surely : collection of str
        Of those, some that it has, where they fit, whatever is drawn.
    integer : bool
        It becomes a file with operators on integers.
    opsets : sequence of int
        Of which it is one.
    images : bool
        It has two dimensions of space, and channels in front of them, whatever is drawn.

    Members
    -------
    input : tuple of int
        Shape of x.
    """

    def __init__(
        self,
        rng: Choices,
        *,
        size: int = 9,
        channels: int = 3,
        batch: int = 1,
        surely: Collection[str] = (),
        among: Collection[str] = tuple(PIECES),
        integer: bool = False,
        opsets: Sequence[int] = OPSETS,
        images: bool = False,
    ):
        first = max((PIECES[name].opset for name in surely), default=0)
        opset = int(rng.choice([each for each in opsets if each >= first]))
        super().__init__(rng, batch, opset, integer=integer)
        named = {name: PIECES[name] for name in PIECES if name in among}
        known = {name: each for name, each in named.items() if each.opset <= self.opset and (each.of_integers or not integer)}
        self.pieces, self.surely = list(known.values()), [known[name] for name in surely if name in known]
        sizes = (size * 2,) if not images and rng.random() < 0.15 else (size, size + int(rng.integers(3)))
        last = len(sizes) == 2 and not integer and not images and rng.random() < 0.1
        self.input: tuple[int, ...] = (batch, *sizes, channels) if last else (batch, channels, *sizes)
        source = self.add("Transpose", ["x"], perm=[0, 3, 1, 2]) if last else "x"
        self.at = Image(source, channels, sizes)

    def _piece(self) -> None:
        fitting = [each for each in self.pieces if each.fits(self)]
        weights = np.array([each.weight for each in fitting], float)
        chosen = int(self.rng.choice(len(fitting), p=weights / weights.sum()))
        fitting[chosen].make(self)

    def made(self) -> Any:
        """The file; one network in four has several outputs, and some end with dense layers."""
        for name in FIRST[int(self.rng.integers(len(FIRST)))]:
            if PIECES[name] in self.pieces and PIECES[name].fits(self):
                PIECES[name].make(self)
        if not self.images:
            layers.convolution(self)
        for _ in self.rng.several(3, 7):
            self._piece()
        for piece in self.surely:
            if piece.fits(self):
                piece.make(self)
        outputs: dict[str, tuple[int, ...]] = {}
        if self.rng.random() < 0.25:
            other = self.images[int(self.rng.integers(len(self.images)))]
            outputs[other.name] = self.shape(other)
        if self.rng.random() < 0.4:
            name, count = layers.head(self)
            outputs[name] = (self.batch, count)
        else:
            outputs[self.at.name] = self.shape(self.at)
        return self.model(self.input, list(outputs.items()))


class Samples(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...], seed: int):
        rng = np.random.default_rng(seed)
        self.left: Iterator[dict[str, NDArray[np.float32]]] = iter(
            [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.left, None)


def quantised_file(
    folder: Path,
    seed: int,
    *,
    unsigned: bool,
    per_channel: bool,
    symmetric: bool = False,
    integer: bool = False,
    rng: Choices | None = None,
    **options: Any,
) -> Path:
    """A random network as onnxruntime quantises it; ``integer``: with operators on integers."""
    made = RandomModel(rng or Choices(seed), integer=integer, **options)
    ways: dict[str, Any] = {"unsigned": unsigned, "per_channel": per_channel, "symmetric": symmetric, "integer": integer}
    return quantise(made.made(), folder / f"random{seed}.onnx", made.input, seed, **ways)


def quantise(
    model: Any,
    file: Path,
    shape: tuple[int, ...],
    seed: int,
    *,
    unsigned: bool,
    per_channel: bool,
    symmetric: bool,
    integer: bool = False,
    real: Sequence[str] = (),
) -> Path:
    """The file, quantised by onnxruntime on random numbers of a ``shape``; ``real``: names of nodes that stay as they are."""
    plain = file.with_stem(f"plain{seed}")
    onnx.save(model, plain)
    quantised = sorted({node.op_type for node in model.graph.node} - {*_OF_SIZES})
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            str(plain),
            str(file),
            Samples(shape, seed),
            quant_format=QuantFormat.QOperator if integer else QuantFormat.QDQ,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            op_types_to_quantize=quantised,
            nodes_to_exclude=list(real),
            # Behind what stays real, what only moves numbers is quantised, too.
            extra_options={"ActivationSymmetric": symmetric, "ForceQuantizeNoInputCheck": bool(real)},
        )
    finally:
        logging.disable(logging.NOTSET)
    return file
