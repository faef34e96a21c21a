"""Graphs of rows for several chips in a ring: which tensors are cut, what each chip computes of them, and whole tensors again.

Tensor parallel: every chip has some channels of what is between two linear operations, and of attentions some heads. What they
add up to is the sum over all chips, so that the next norm is computed on every chip, of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .constants import Constants, Parameters
from .layers import WorkloadError
from .mixed_graph import MixedGraph
from .row_graph import RowGraph
from .row_operations import Append, Argmax, Attention, Format, GatedRows, Norm, Product, Rope, RowLinear, RowOperation

CHIPS = range(2, 17)
"""How many there may be in a ring."""


@dataclass(frozen=True)
class Piece:
    """Elements [``begin``, ``end``) along an axis of a tensor: 2 for rows, 3 for channels."""

    axis: int
    begin: int
    end: int

    def of(self, tensor: NDArray) -> NDArray:
        return np.ascontiguousarray(tensor[(slice(None),) * self.axis + (slice(self.begin, self.end),)])


@dataclass(frozen=True)
class Share:
    """What a chip computes: its graph, in which names are as in the whole one, and what its operations hold.

    ``pieces``: of which tensors it has a piece; it has all of the others in its graph.
    """

    graph: RowGraph
    constants: Constants
    pieces: Mapping[str, Piece]

    @cached_property
    def tensors(self) -> frozenset[str]:
        return frozenset((*self.graph.inputs, *(each.name for each in self.graph.operations)))


@dataclass(frozen=True)
class Partition:
    """A graph of rows, and its ``shares`` by the ranks of chips."""

    whole: RowGraph
    shares: tuple[Share, ...]

    @property
    def chips(self) -> int:
        return len(self.shares)

    @property
    def split(self) -> frozenset[str]:
        """Tensors of which chips have pieces."""
        return frozenset(name for share in self.shares for name in share.pieces)

    def cut(self, tensors: Mapping[str, NDArray]) -> tuple[dict[str, NDArray], ...]:
        """By chip, what it has of inputs, caches among them, or of other tensors."""
        return tuple(
            {
                name: share.pieces[name].of(tensor) if name in share.pieces else tensor
                for name, tensor in tensors.items()
                if name in share.tensors
            }
            for share in self.shares
        )

    def join(self, tensors: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
        """Whole tensors of those of all chips, by rank. Raises `ValueError` if chips differ in one of which each has all."""
        found: dict[str, NDArray] = {}
        for name in dict.fromkeys(name for each in tensors for name in each):
            having = [(rank, each[name]) for rank, each in enumerate(tensors) if name in each]
            first, tensor = having[0]
            if name in self.split:
                axis = self.shares[first].pieces[name].axis
                found[name] = np.concatenate([each for _, each in having], axis=axis)
                continue
            for rank, other in having:
                if not np.array_equal(tensor, other):
                    raise ValueError(f"{self.whole.name}: {name} of chip {rank} is not that of chip {first}")
            found[name] = tensor
        return found


def partition(graph: RowGraph, constants: Mapping[str, Parameters], chips: int) -> Partition:
    """A graph of rows among chips.

    A linear operation of which only operations channel by channel, attentions and linear operations read gives each chip some of
    its columns; one that reads channels which are cut has some rows of the weights, and is ``reduced``. What comes of reduced sums
    is on every chip, as is what norms read and give, and residuals. Logits stay columns.

    Parameters
    ----------
    graph : RowGraph
        One that obeys the rules (`podweave.ir.row_graph.verify_rows`).
    constants : mapping
        Of its operations.
    chips : int
        2 to 16.

    Raises
    ------
    WorkloadError
        For heads or channels that so many chips cannot share, with the numbers of chips that can; for a graph of which nothing can
        be shared.
    """
    if chips not in CHIPS:
        raise WorkloadError(f"{graph.name}: a ring has {CHIPS[0]} to {CHIPS[-1]} chips, got {chips}")
    if isinstance(graph, MixedGraph):
        raise WorkloadError(f"{graph.name}: graphs of rows are shared by chips, and it has layers")
    for operation in graph.operations:
        if isinstance(operation, RowLinear) and operation.reduced:
            raise WorkloadError(f"{graph.name}: {operation.name} is of one chip of several already")
    split = _Groups(graph, chips).split
    return Partition(graph, tuple(_share(graph, constants, split, chips, rank) for rank in range(chips)))


def undivided(graph: RowGraph, constants: Mapping[str, Parameters]) -> Partition:
    """A graph of which one chip computes all."""
    return Partition(graph, (Share(graph, constants if isinstance(constants, Constants) else Constants(constants), {}),))


def _share(graph: RowGraph, constants: Mapping[str, Parameters], split: frozenset[str], chips: int, rank: int) -> Share:
    pieces = {}
    for name in sorted(split):
        count = graph.shape(name)[3] // chips
        pieces[name] = Piece(3, count * rank, count * (rank + 1))
    return Share(_graph(graph, split, chips), _constants(graph, constants, split, chips, rank), pieces)


def which_can(counts: Iterable[int]) -> str:
    """Which numbers of chips can share so many things evenly, as the end of a sentence.

    >>> which_can([12, 8])
    '2 or 4 can'
    """
    found = list(counts)
    fits = [str(chips) for chips in CHIPS if all(count % chips == 0 for count in found)]
    if not fits:
        return f"no number from {CHIPS[0]} to {CHIPS[-1]} fits"
    return f"{', '.join(fits[:-1])} or {fits[-1]} can" if fits[1:] else f"{fits[0]} can"


def _alike(operation: RowOperation) -> tuple[str, ...]:
    """Tensors that an operation reads or gives channel by channel, or head by head: they are cut alike."""
    match operation:
        case Rope():
            return operation.source, operation.name
        case GatedRows():
            return *operation.factors, operation.name
        case Product():
            return operation.left, operation.right, operation.name
        case Append():
            return operation.source, operation.cache, operation.name
        case Attention():
            return operation.query, *operation.all_keys, *operation.all_values, operation.name
    return (operation.name,)


def _needs_whole(operation: RowOperation) -> tuple[str, ...]:
    """Tensors that an operation reads or gives with all channels on every chip."""
    match operation:
        case Norm() | Argmax():
            return operation.source, operation.name
        case RowLinear() if operation.add:
            return operation.add, operation.name
    return ()


def _pieces(operation: RowOperation) -> tuple[int, str]:
    """What of an operation cannot be cut further: how many, and what they are called."""
    match operation:
        case Attention():
            return operation.kv_heads, f"{operation.heads} heads and {operation.kv_heads} KV heads"
        case Rope():
            return operation.heads, f"{operation.heads} heads"
    return operation.channels, f"{operation.channels} channels"


class _Groups:
    """Tensors that are cut alike, and whether they are."""

    def __init__(self, graph: RowGraph, chips: int):
        self.graph, self.chips = graph, chips
        self.of: dict[str, list[str]] = {name: [name] for name in (*graph.inputs, *(each.name for each in graph.operations))}
        """By tensor, its group."""
        for operation in graph.operations:
            self._join(_alike(operation))
        self.operations = {operation.name: operation for operation in graph.operations}
        self.decided: dict[str, bool] = {}
        """By tensor, whether it is cut."""
        self._decide()

    @cached_property
    def split(self) -> frozenset[str]:
        found = frozenset(name for name, cut in self.decided.items() if cut)
        if not found:
            raise WorkloadError(f"{self.graph.name}: nothing of it can be shared by {self.chips} chips")
        return found

    def _join(self, names: Iterable[str]) -> None:
        first, *others = names
        for other in others:
            if self.of[other] is not self.of[first]:
                self.of[first] += self.of[other]
                for name in self.of[other]:
                    self.of[name] = self.of[first]

    def _decide(self) -> None:
        # Norms, residuals, and what no operation gives or cuts are whole; so are angles, lengths and offsets.
        whole = [name for operation in self.graph.operations for name in _needs_whole(operation)]
        whole += [name for name in self.graph.inputs if self.graph.format(name) not in (Format.WIDE, Format.INT16, Format.INT8)]
        whole += [name for name, group in self.of.items() if not any(each in self.operations for each in group)]
        for name in whole:
            self._set(name, False)
        waiting = [name for name in self.operations if name not in self.decided]
        while waiting:
            ready = [name for name in waiting if all(source in self.decided for source in self._multiplied(name))]
            # Groups that wait for each other stay whole.
            name = ready[0] if ready else waiting[0]
            sums = any(self.decided.get(source, True) for source in self._multiplied(name))
            self._set(name, not sums and self._shared(name))
            waiting = [name for name in waiting if name not in self.decided]

    def _set(self, name: str, cut: bool) -> None:
        self.decided |= dict.fromkeys(self.of[name], cut)

    def _multiplied(self, name: str) -> list[str]:
        """What linear operations read whose results are in a group."""
        linears = (self.operations.get(each) for each in self.of[name])
        return [each.source for each in linears if isinstance(each, RowLinear)]

    def _shared(self, name: str) -> bool:
        """Whether a group can be; raises `WorkloadError` for one that should, but is no multiple of the number of chips."""
        members = [self.operations[each] for each in self.of[name] if each in self.operations]
        for each in sorted(members, key=lambda each: not isinstance(each, Attention)):
            count, what = _pieces(each)
            if count % self.chips:
                if all(isinstance(other, RowLinear) for other in members):
                    return False
                raise WorkloadError(f"{self.graph.name}: {self.chips} chips cannot share the {what} of {each.name}; {self._fits()}")
        return True

    def _fits(self) -> str:
        """Which numbers of chips would."""
        some = [
            each
            for each in self.graph.operations
            if len(_alike(each)) > 1 and not any(self._is_whole(n) for n in self.of[each.name])
        ]
        return which_can(_pieces(each)[0] for each in some)

    def _is_whole(self, name: str) -> bool:
        return not self.decided.get(name, True)


def _graph(graph: RowGraph, split: frozenset[str], chips: int) -> RowGraph:
    """That of a chip."""

    def one(operation: RowOperation) -> RowOperation:
        cut = operation.name in split
        match operation:
            case RowLinear():
                reduced = operation.source in split
                outputs, width = operation.outputs // (chips if cut else 1), operation.width // (chips if reduced else 1)
                return replace(operation, outputs=outputs, width=width, reduced=reduced)
            case _ if not cut:
                return operation
            case Attention():
                return replace(operation, heads=operation.heads // chips, kv_heads=operation.kv_heads // chips)
            case Rope():
                return replace(operation, heads=operation.heads // chips)
            case GatedRows() | Product() | Append():
                return replace(operation, width=operation.width // chips)
        raise AssertionError(operation)

    inputs = {name: (*shape[:3], shape[3] // (chips if name in split else 1)) for name, shape in graph.inputs.items()}
    return replace(graph, inputs=inputs, operations=tuple(one(operation) for operation in graph.operations))


def _constants(graph: RowGraph, constants: Mapping[str, Parameters], split: frozenset[str], chips: int, rank: int) -> Constants:
    """Those of a chip."""

    def part(size: int, cut: bool) -> slice:
        return slice(size * rank // chips, size * (rank + 1) // chips) if cut else slice(None)

    found = {}
    for operation in graph.operations:
        if operation.name not in constants:
            continue
        held = constants[operation.name]
        own = part(len(held.multiplier), operation.name in split)
        weights = held.weights
        if isinstance(operation, RowLinear):
            weights = (weights[0][part(operation.width, operation.source in split), own],)
        found[operation.name] = replace(
            held, weights=weights, bias=held.bias[own], multiplier=held.multiplier[own], shift=held.shift[own]
        )
    return Constants(found)
