"""Operations on rows of channels, as in language models: each row is a token, with channels of 8 or 16 bits, or of 32 as they
sum up.

Shapes are (1, 1, rows, channels), as those of all tensors. Numbers are as in `podweave.golden.layers`: what is streamed through an
array has 16 bits, in two planes; what is stationary has 8; residuals have 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .operations import Shape
from .row_operation import Format as Format
from .row_operation import Read as Read
from .row_operation import RowOperation as RowOperation


@dataclass(frozen=True, kw_only=True)
class RowLinear(RowOperation):
    """Rows of 16 or 8 bits times int8 weights, scaled per channel: ``width`` channels of ``source`` to ``outputs`` of ``form``.

    ``add``: a tensor of 32 or 16 bits to which the result is added; nobody may read that after. ``reduced``: it is one chip's part
    of an operation of several: sums are added over all chips of a ring before there is a bias and they are scaled, on every one.
    """

    source: str
    width: int
    outputs: int
    form: Format = Format.INT16
    add: str | None = None
    reduced: bool = False

    def __post_init__(self) -> None:
        forms, found = (Format.INT8, Format.INT16, Format.WIDE), self.form.value
        self.require(self.form in forms, f"results are int8, int16 or int32, got {found}")
        self.require(self.add is None or self.form is Format.WIDE, f"what is added to a residual is int32, got {found}")

    @property
    def channels(self) -> int:
        return self.outputs

    @property
    def format(self) -> Format:
        return self.form

    @property
    def inputs(self) -> Mapping[str, Read]:
        read: dict[str, Read] = {self.source: (self.rows, self.width, (Format.INT16, Format.INT8))}
        # What is added to lies in P banks, where 16 bits are 32 as well.
        return read | ({self.add: (self.rows, self.outputs, (Format.WIDE, Format.INT16))} if self.add else {})

    @property
    def macs(self) -> int:
        return self.rows * self.width * self.outputs

    @property
    def weights(self) -> int:
        return self.width * self.outputs


@dataclass(frozen=True, kw_only=True)
class SameWidth(RowOperation):
    """As many channels as what it reads has: ``width``."""

    width: int

    @property
    def channels(self) -> int:
        return self.width


@dataclass(frozen=True, kw_only=True)
class Norm(SameWidth):
    """Wide rows by a root of their squares.

    ``scale_shift``: by how many bits values are shifted right before they are squared. ``epsilon``: added to the sum of squares.
    """

    source: str
    scale_shift: int
    epsilon: int = 0

    def __post_init__(self) -> None:
        self.require(0 <= self.scale_shift <= 31, f"scale_shift must be between 0 and 31, got {self.scale_shift}")
        self.require(0 <= self.epsilon < 2**30, f"epsilon must be between 0 and 2**30 - 1, got {self.epsilon}")

    @property
    def inputs(self) -> Mapping[str, Read]:
        return {self.source: (self.rows, self.width, (Format.WIDE,))}


@dataclass(frozen=True, kw_only=True)
class RmsNorm(Norm):
    """By the root of the mean of squares (`golden.layers.norm.rms_norm`)."""


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Norm):
    """Less their mean, by their standard deviation, with gain and bias (`golden.layers.norm.layer_norm`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.width >= 2, f"of less than 2 channels nothing is left without their mean, got {self.width}")
        self.require(self.width <= 2**16, f"values are multiplied by the number of channels, at most 65536, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Rope(RowOperation):
    """Neighbouring channels of every head rotated by the position of the row (`golden.layers.rope.rope`), then scaled."""

    source: str
    angles: str
    heads: int
    head_size: int
    form: Format = Format.INT16

    def __post_init__(self) -> None:
        self.require(self.head_size % 2 == 0, f"a head has pairs of channels, got head_size {self.head_size}")
        self.require(self.form in (Format.INT8, Format.INT16), f"results are int8 or int16, got {self.form.value}")

    @property
    def channels(self) -> int:
        return self.heads * self.head_size

    @property
    def format(self) -> Format:
        return self.form

    @property
    def inputs(self) -> Mapping[str, Read]:
        return {
            self.source: (self.rows, self.channels, (Format.INT16,)),
            self.angles: (self.rows, self.head_size, (Format.ANGLES,)),
        }


@dataclass(frozen=True, kw_only=True)
class GatedRows(SameWidth):
    """``gate`` times a function of it that is a table.

    ``fraction``: bits behind the point of ``gate``, 4 to 15.
    """

    gate: str
    fraction: int

    @property
    def factors(self) -> tuple[str, ...]:
        """What is multiplied by the function of ``gate``, which is the first."""
        return (self.gate,)

    def __post_init__(self) -> None:
        self.require(4 <= self.fraction <= 15, f"fraction must be between 4 and 15, got {self.fraction}")

    @property
    def inputs(self) -> Mapping[str, Read]:
        return dict.fromkeys(self.factors, (self.rows, self.width, (Format.INT16,)))


@dataclass(frozen=True, kw_only=True)
class Gelu(GatedRows):
    """Times the normal distribution function of it (`golden.layers.product.gate`), then scaled."""


@dataclass(frozen=True, kw_only=True)
class SiluProduct(GatedRows):
    """Times the sigmoid of it times ``up``, channel by channel (`golden.layers.product.silu_product`)."""

    up: str

    @property
    def factors(self) -> tuple[str, ...]:
        return (self.gate, self.up)


@dataclass(frozen=True, kw_only=True)
class Product(SameWidth):
    """``left`` times ``right``, channel by channel, then scaled (`golden.layers.product.product`).

    ``right_rows``: of ``right``, as many as ``rows``, or one by which all are multiplied.
    """

    left: str
    right: str
    right_rows: int

    def __post_init__(self) -> None:
        fits = self.right_rows in (1, self.rows)
        self.require(fits, f"rows are multiplied by as many, or by one, got {self.rows} and {self.right_rows}")
        self.require(self.left != self.right or self.right_rows == self.rows, "a tensor times itself has all of its rows")

    @property
    def inputs(self) -> Mapping[str, Read]:
        left, right = ((rows, self.width, (Format.INT16,)) for rows in (self.rows, self.right_rows))
        return {self.right: right, self.left: left}


@dataclass(frozen=True, kw_only=True)
class Argmax(RowOperation):
    """The channel of the largest value of each wide row, the lowest of equals (`golden.layers.residual.argmax`)."""

    source: str
    width: int

    @property
    def channels(self) -> int:
        return 1

    @property
    def scales(self) -> int:
        return 0

    @property
    def format(self) -> Format:
        return Format.WIDE

    @property
    def inputs(self) -> Mapping[str, Read]:
        return {self.source: (self.rows, self.width, (Format.WIDE,))}


@dataclass(frozen=True, kw_only=True)
class KeyValues:
    """Keys and values that ``rows`` rows of an attention see, ``context`` of each."""

    key: str
    value: str
    context: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class SharedKeys:
    """Keys and values that several sequences begin with: the first ``count`` of the ``context`` of a cache."""

    key: str
    value: str
    context: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Attention(RowOperation):
    """Queries over keys and values, head by head (`golden.layers.attention.attention`).

    ``lengths``: how many keys each row sees, the first ones; None: all of them. ``heads`` divide into groups that share keys,
    ``kv_heads`` of them. ``further``: what the last rows see instead, those of other sequences. ``shared``: where
    the first keys and values of all sequences are; of those in caches of their own, nobody reads as many.
    """

    query: str
    key: str
    value: str
    lengths: str | None = None
    context: int
    heads: int
    kv_heads: int
    head_size: int
    further: tuple[KeyValues, ...] = ()
    shared: SharedKeys | None = None

    def __post_init__(self) -> None:
        self.require(self.heads % self.kv_heads == 0, f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        for each in self.sequences:
            self.require(each.context >= 1, f"context must be at least 1, got {each.context}")
            self.require(each.rows >= 1, f"a sequence must have at least one of the {self.rows} rows, got {each.rows}")
        caches = [name for each in self.sequences for name in (each.key, each.value)]
        self.require(not self.further or len(set(caches)) == len(caches), "sequences have keys and values of their own")
        if self.shared:
            least = min(self.shared.context, *self.contexts)
            fits = 1 <= self.shared.count <= least
            self.require(fits, f"of the keys that all see, 1 to {least} are shared, got {self.shared.count}")

    @property
    def sequences(self) -> tuple[KeyValues, ...]:
        """What the rows see, in their order."""
        first = self.rows - sum(each.rows for each in self.further)
        return (KeyValues(key=self.key, value=self.value, context=self.context, rows=first), *self.further)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(each.key for each in self.sequences)

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(each.value for each in self.sequences)

    @property
    def all_keys(self) -> tuple[str, ...]:
        """With those that are shared."""
        return (*self.keys, self.shared.key) if self.shared else self.keys

    @property
    def all_values(self) -> tuple[str, ...]:
        return (*self.values, self.shared.value) if self.shared else self.values

    @property
    def contexts(self) -> tuple[int, ...]:
        """By row, how many keys there are."""
        return tuple(each.context for each in self.sequences for _ in range(each.rows))

    @property
    def channels(self) -> int:
        return self.heads * self.head_size

    @property
    def scales(self) -> int:
        return self.heads

    @property
    def group(self) -> int:
        """Heads that share keys."""
        return self.heads // self.kv_heads

    @property
    def inputs(self) -> Mapping[str, Read]:
        read: dict[str, Read] = {self.query: (self.rows, self.channels, (Format.INT16,))}
        for each in self.sequences:
            read |= dict.fromkeys((each.key, each.value), (each.context, self.kv_heads * self.head_size, (Format.INT8,)))
        if self.shared:
            shared = self.shared
            read |= dict.fromkeys((shared.key, shared.value), (shared.context, self.kv_heads * self.head_size, (Format.INT8,)))
        return read | ({self.lengths: (1, self.rows, (Format.LENGTHS,))} if self.lengths else {})

    @property
    def weights(self) -> int:
        """Keys and values, by which it multiplies."""
        return 2 * sum(each.context for each in self.sequences) * self.kv_heads * self.head_size

    @property
    def macs(self) -> int:
        return 2 * sum(self.contexts) * self.heads * self.head_size

    @property
    def largest(self) -> int:
        return max(super().largest, sum(self.contexts) * self.heads)


@dataclass(frozen=True, kw_only=True)
class Append(SameWidth):
    """A cache of ``context`` rows in memory in which rows from ``position`` on become those of ``source``; it outlives the run.

    ``cache``: an input, which nobody else appends to or reads. ``offset``: an input that says by how many rows further they go:
    they stay within ``span`` rows from ``position`` on. So one program serves as many positions as there are offsets.
    ``first_row``: of the ``source_rows`` rows of ``source`` those from this one on; by default it has no others.
    """

    source: str
    cache: str
    context: int
    position: int
    offset: str | None = None
    span: int = 0
    first_row: int = 0
    source_rows: int | None = None

    def __post_init__(self) -> None:
        last = self.first_row + self.rows
        self.require(
            self.first_row >= 0 and last <= self.all_rows,
            f"rows {self.first_row} to {last - 1} are not among the {self.all_rows} of {self.source}",
        )
        end = self.position + self.places
        self.require(self.position >= 0, f"position must be at least 0, got {self.position}")
        self.require(end <= self.context, f"rows {self.position} to {end - 1} are beyond the {self.context} of the cache")
        if self.offset is None:
            self.require(self.span == 0, f"there is no offset, but a span of {self.span}")
        else:
            self.require(self.span >= self.rows, f"span must be at least its {self.rows} rows, got {self.span}")

    @property
    def all_rows(self) -> int:
        """Of the source."""
        return self.rows if self.source_rows is None else self.source_rows

    @property
    def places(self) -> int:
        """Rows of the cache that may become others, from ``position`` on."""
        return self.rows if self.offset is None else self.span

    @property
    def scales(self) -> int:
        return 0

    @property
    def output(self) -> Shape:
        return (1, 1, self.context, self.width)

    @property
    def format(self) -> Format:
        return Format.INT8

    @property
    def inputs(self) -> Mapping[str, Read]:
        read: dict[str, Read] = {
            self.source: (self.all_rows, self.width, (Format.INT8,)),
            self.cache: (self.context, self.width, (Format.INT8,)),
        }
        return read | ({self.offset: (1, 1, (Format.OFFSET,))} if self.offset else {})
