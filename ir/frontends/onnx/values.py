"""What flows along the edges of a file: constants, int8 tensors, real numbers that stand for them, results not quantised yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ...layers import Layer
from ...operations import AS_IT_IS, Operand, Upsampling, Window
from ...row_operations import Format
from .pieces import PiecesView
from .views import View

Floats: TypeAlias = NDArray[np.floating[Any]]
"""float32, as far as type checkers know what NumPy makes of it."""


class RefusedError(Exception):
    """An operator that is not taken: why, and what would help."""

    def __init__(self, why: str, helps: str = ""):
        super().__init__(why)
        self.why, self.helps = why, helps


@dataclass(frozen=True)
class Constant:
    """Numbers of the file, or computed from them."""

    values: NDArray


@dataclass(frozen=True)
class Known:
    """Constant integers, less their zero point if they have one (int16 then), and the real numbers that they stand for.

    ``scales``: float32, one, or one for each position along ``axis``.
    """

    integers: NDArray[np.integer]
    scales: NDArray[np.float32]
    axis: int

    @property
    def real(self) -> NDArray[np.float32]:
        shape = [1] * self.integers.ndim
        if self.scales.size > 1:
            shape[self.axis] = self.scales.size
        real: NDArray[np.float32] = self.integers.astype(np.float32) * self.scales.reshape(shape)
        return real


@dataclass(frozen=True)
class Tensor:
    """int8 integers: ``sources`` of the graph, one after the other along the channels. Other members as of a `QuantisedTensor`.

    ``seen``: of each source, how it is seen; empty: all as they are. ``is_cut``: it is as many of the first rows and columns of
    what is seen as ``view`` has. Of 16 bits (``form``) it is one source, which is seen as it is; or a mean, of which readers take
    the ``sums`` themselves, and nothing is in the graph.
    """

    sources: tuple[str, ...]
    view: View
    unsigned: bool
    scale: np.float32 | None = None
    zero_point: int = 0
    seen: tuple[Upsampling, ...] = ()
    is_cut: bool = False
    form: Format = Format.INT8
    sums: Sum | None = None

    @property
    def is_plain(self) -> bool:
        """It is seen as it is."""
        return not self.seen and not self.is_cut

    @property
    def origin(self) -> tuple:
        """What two tensors have in common whose integers are the same."""
        return self.sources, self.seen, self.is_cut

    def operand(self, layer: Layer, pad_value: int = 0, *, residual: bool = False) -> Operand:
        """What reads it by a layer."""
        corners = ((0, 0),) * len(self.sources) if self.is_cut else ()
        return Operand(self.sources, layer, pad_value, residual=residual, corners=corners, upsampled=self.seen)


@dataclass(frozen=True)
class Real:
    """Real numbers that a tensor stands for; its scale is known."""

    tensor: Tensor

    @property
    def view(self) -> View:
        return self.tensor.view

    @property
    def scale(self) -> np.float32:
        assert self.tensor.scale is not None
        return self.tensor.scale


@dataclass(frozen=True)
class Heads:
    """Real numbers of a tensor whose channels are taken apart, times ``factor``: queries, keys or values of attention."""

    tensor: Tensor
    lying: PiecesView
    factor: float = 1.0

    @property
    def view(self) -> PiecesView:
        return self.lying


@dataclass(frozen=True)
class Scores:
    """Queries times keys, head by head, times ``factor``. ``weights``: their softmax."""

    query: Heads
    key: Heads
    factor: float
    weights: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the file."""
        return (*self.query.lying.sizes[:-1], self.key.lying.sizes[-1])


@dataclass(frozen=True)
class Raw:
    """float32 from outside, that a QuantizeLinear is expected to read. ``given``: how it comes; it may be seen otherwise."""

    name: str
    view: View
    given: View


@dataclass(frozen=True)
class Function:
    """A function of one number, in float32. ``clips``: it only limits, so that it may as well come behind a rounding."""

    name: str
    of: Callable[[Floats], Floats]
    clips: bool = False


class Pending:
    """Real numbers that become a tensor when they are quantised.

    Members
    -------
    name, operator : str
        Of the node.
    view : View
    functions : tuple of Function
        What is done to them before they are quantised, the first first.
    """

    name: str
    operator: str
    view: View
    functions: tuple[Function, ...]
    helps: ClassVar[str] = "QuantizeLinear between them"

    def then(self, function: Function) -> Pending:
        """The same with another function behind it; raises `RefusedError` if it has no place."""
        if not self.takes(function):
            raise not_quantised(self, self.helps)
        return replace(cast(Any, self), functions=(*self.functions, function))

    def takes(self, function: Function) -> bool:
        """Whether a function may stand behind it."""
        return False


class Limited(Pending):
    """One behind which numbers may be limited."""

    def takes(self, function: Function) -> bool:
        return function.clips


def not_quantised(found: Pending, helps: str = Pending.helps) -> RefusedError:
    """Of what reads real numbers that must be quantised first."""
    return RefusedError(f"it reads what {found.operator} {found.name} gives before that is quantised", helps)


@dataclass(frozen=True)
class Sum(Limited):
    """Operands times weights, with a bias. ``unit``: what one of its integers is worth, float32 or float64, () or (outputs,).

    ``off``: by how much a bias that was rounded to units may be off. ``seen``: how readers see the result. ``scaled``: of a tensor
    times a number, that, as attention takes it. ``rows``: of each position of one image times a matrix, what is multiplied.
    """

    name: str
    operator: str
    view: View
    operands: tuple[Operand, ...]
    weights: tuple[NDArray[np.int8], ...]
    bias: NDArray[np.int64]
    unit: NDArray[np.floating]
    window: Window | None = None
    identity: bool = False
    functions: tuple[Function, ...] = ()
    off: float = 0.0
    seen: Upsampling = AS_IT_IS
    scaled: Heads | None = None
    rows: Tensor | None = None

    @property
    def is_mean(self) -> bool:
        """Of one tensor, over whole images."""
        window, layer = self.window, self.operands[0].layer if self.operands else None
        whole = window is not None and layer is not None and window.kernel == layer.output_size
        return whole and self.identity and window is not None and window.reduce == "sum" and not self.functions

    helps = "QuantizeLinear and DequantizeLinear between them, as static quantisers write them"

    def then(self, function: Function) -> Pending:
        return replace(cast(Sum, super().then(function)), scaled=None)


@dataclass(frozen=True)
class Mapped(Pending):
    """Functions of each number of one tensor."""

    name: str
    operator: str
    real: Real
    functions: tuple[Function, ...]

    @property
    def view(self) -> View:  # type: ignore[override]
        return self.real.view

    def takes(self, function: Function) -> bool:
        return True


@dataclass(frozen=True)
class Affine(Limited):
    """A tensor times ``factor``, plus ``added``: float64 (channels,)."""

    name: str
    operator: str
    real: Real
    factor: NDArray[np.float64]
    added: NDArray[np.float64]
    functions: tuple[Function, ...] = ()

    @property
    def view(self) -> View:  # type: ignore[override]
        return self.real.view


@dataclass(frozen=True)
class Weighted(Limited):
    """Tensors of one shape, each added times float64 numbers, () or (channels,)."""

    name: str
    operator: str
    terms: tuple[tuple[Real, NDArray[np.float64]], ...]
    functions: tuple[Function, ...] = ()

    @property
    def view(self) -> View:  # type: ignore[override]
        return self.terms[0][0].view


@dataclass(frozen=True)
class Joined(Pending):
    """Tensors one after the other along the channels."""

    name: str
    operator: str
    parts: tuple[Real, ...]
    view: View
    functions: tuple[Function, ...] = field(default=())


@dataclass(frozen=True)
class Bordered(Pending):
    """A tensor with ((top, bottom), (left, right)) rows and columns more, of a number that its integers do not have."""

    name: str
    operator: str
    real: Real
    view: View
    padding: tuple[tuple[int, int], tuple[int, int]]
    value: np.float32
    functions: tuple[Function, ...] = field(default=())


@dataclass(frozen=True)
class Normed(Pending):
    """Each position less the mean of its channels, by their standard deviation, times ``gain``, plus ``bias``."""

    name: str
    operator: str
    real: Real
    gain: NDArray[np.float64]
    bias: NDArray[np.float64]
    epsilon: float
    functions: tuple[Function, ...] = ()

    @property
    def view(self) -> View:  # type: ignore[override]
        return self.real.view


@dataclass(frozen=True)
class Attended(Pending):
    """Values of all keys, by the softmax of ``scores``, head by head. ``lying``: how that lies."""

    name: str
    operator: str
    scores: Scores
    values: Heads
    lying: PiecesView
    functions: tuple[Function, ...] = ()

    @property
    def view(self) -> View:  # type: ignore[override]
        found = self.lying.whole
        if found is None:
            raise RefusedError(f"heads of {self.operator} {self.name} are apart", "a Transpose and a Reshape to whole channels")
        return found


Value: TypeAlias = Constant | Known | Tensor | Real | Raw | Pending | Heads | Scores
