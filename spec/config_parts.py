"""Parts of a configuration: fields, and the rules that each obeys by itself."""

from __future__ import annotations

from dataclasses import dataclass

FILL_CYCLES = 8
"""Cycles from the pulse that begins an epoch to the first cycle of ``run``: in them, jobs arrive at the head of their queues."""

MANTISSA_WIDTH = 17
"""Bits of the mantissa of the scale of a row."""

NETWORK_KINDS = ("butterfly", "crossbar")
PLANES = ("x_planes", "w_planes", "p_planes", "y_planes")
"""Fields of a `MemoryConfig`: planes of each network."""
ROUNDINGS = ("half_away", "half_even")
"""A half goes away from zero, or to the even neighbour."""
# Amaranth refuses a module with more bits of inputs, or outputs: a crossbar is one module.
MODULE_BITS = 65536
# A butterfly of up to 2**4 ports is one block; a larger one is two layers of such blocks.
BLOCK_STAGES = 4


class ConfigError(ValueError):
    """A configuration breaks a rule; the message names the rule and the offending value."""


def check_range(owner: object, name: str, low: int, high: int) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low} and {high}, got {value}")


@dataclass(frozen=True, kw_only=True)
class ArrayConfig:
    """Geometry and number formats of one weight-stationary array of int8 multipliers.

    Activations are broadcast over the columns of a group and products of the rows of a group are summed in one adder
    tree; registers stand only between groups. ``1 x 1`` groups are the classic systolic array.

    Parameters
    ----------
    rows, cols : int
        Multipliers, 1 to 256 each way.
    group_rows, group_cols : int
        Multipliers of a group, 1 to 64 each way; they divide ``rows`` and ``cols``.
    psum_width : int
        Bits of a partial sum, 17 to 32.

    Errors
    ------
    ConfigError
        A value is not in its range, or no multiple of what it must be.
    """

    rows: int
    cols: int
    group_rows: int = 1
    group_cols: int = 1
    psum_width: int = 32

    def __post_init__(self) -> None:
        check_range(self, "rows", 1, 256)
        check_range(self, "cols", 1, 256)
        check_range(self, "group_rows", 1, 64)
        check_range(self, "group_cols", 1, 64)
        check_range(self, "psum_width", 17, 32)
        if self.rows % self.group_rows:
            raise ConfigError(f"rows ({self.rows}) must be a multiple of group_rows ({self.group_rows})")
        if self.cols % self.group_cols:
            raise ConfigError(f"cols ({self.cols}) must be a multiple of group_cols ({self.group_cols})")

    @property
    def row_groups(self) -> int:
        return self.rows // self.group_rows

    @property
    def col_groups(self) -> int:
        return self.cols // self.group_cols

    @property
    def multipliers(self) -> int:
        return self.rows * self.cols

    @property
    def latency(self) -> int:
        """Cycles from a row of activations at the skew inputs to its row of partial sums at the deskewed outputs."""
        return self.row_groups + self.col_groups

    @property
    def max_reduction(self) -> int:
        """Largest K of a GEMM for which no partial sum can wrap, whatever the int8 operands."""
        return min(2**16, (2 ** (self.psum_width - 1) - 1) // 2**14)


@dataclass(frozen=True, kw_only=True)
class PodConfig:
    """One pod: an array, its local accumulators and its two job queues.

    Parameters
    ----------
    array : ArrayConfig
        Its array.
    accumulator_rows : int
        Depth of the local accumulator memory in rows of ``cols`` partial sums, 0 to 65536; 0 leaves it out.
    load_queue_depth, stream_queue_depth : int
        Jobs, 2 to 64.
    time_width : int
        Bits of a start time, 8 to 32, so an epoch lasts fewer than ``2**time_width`` cycles.
    count_width : int
        Bits of each loop count of a stream job, and of the period of a job over several tiles, 4 to 24.
    tile_width : int
        Bits of the count of tiles of a job, 0 to 16; 0 leaves it out: every job has one weight tile.

    Errors
    ------
    ConfigError
        A value is not in its range.
    """

    array: ArrayConfig
    accumulator_rows: int = 0
    load_queue_depth: int = 4
    stream_queue_depth: int = 4
    time_width: int = 24
    count_width: int = 16
    tile_width: int = 0

    def __post_init__(self) -> None:
        check_range(self, "accumulator_rows", 0, 65536)
        check_range(self, "load_queue_depth", 2, 64)
        check_range(self, "stream_queue_depth", 2, 64)
        check_range(self, "time_width", 8, 32)
        check_range(self, "count_width", 4, 24)
        check_range(self, "tile_width", 0, 16)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The banks of a chip: as many of each kind (X, W, P) as pods, over one or several planes of each network.

    Parameters
    ----------
    banks : int
        Banks of each kind, 1 to 256.
    x_planes, w_planes, p_planes, y_planes : int
        Planes of each network: copies of it, 1 to 8; Y brings outputs of post-processors to the X banks of a chip.
    x_words, w_words, p_words : int
        Words of one bank, 2 to 2**22; a word is one row of ``rows`` activations, ``cols`` weights or ``cols`` partial sums.
    x_parts : int
        Parts of an X bank, a power of two from 1 to 64: memories that the highest bits of the address of a word select. Engines may
        use one while the network uses others; with 1 nothing of that is built. With more, ``x_words`` is a power of two.

    Errors
    ------
    ConfigError
        A value is not in its range, ``x_parts`` no power of two, or ``x_words`` none with several parts, or fewer than two a part.
    """

    banks: int = 1
    x_planes: int = 1
    w_planes: int = 1
    p_planes: int = 1
    y_planes: int = 1
    x_words: int
    w_words: int
    p_words: int
    x_parts: int = 1

    def __post_init__(self) -> None:
        check_range(self, "banks", 1, 256)
        for name in PLANES:
            check_range(self, name, 1, 8)
        for name in ("x_words", "w_words", "p_words"):
            check_range(self, name, 2, 2**22)
        check_range(self, "x_parts", 1, 64)
        if self.x_parts & (self.x_parts - 1):
            raise ConfigError(f"x_parts must be a power of two, got {self.x_parts}")
        if self.x_parts > 1 and self.x_words & (self.x_words - 1):
            raise ConfigError(f"x_words must be a power of two with several x_parts, got {self.x_words}")
        if self.x_words < 2 * self.x_parts:
            raise ConfigError(f"x_words ({self.x_words}) must be at least two for each of the x_parts ({self.x_parts})")

    @property
    def x_part_words(self) -> int:
        """Words of a part of an X bank."""
        return self.x_words // self.x_parts

    @property
    def planes(self) -> dict[str, int]:
        """Planes of each network: ``x``, ``w``, ``p`` and ``y``."""
        return {name[0]: getattr(self, name) for name in PLANES}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The four networks (X and W read, P and Y write) of a chip.

    Parameters
    ----------
    kind : str
        One of `NETWORK_KINDS`: butterfly, or a crossbar of the same latency, on which every program for the butterfly also runs.
    pipeline : int
        Stages of 2 x 2 switches between registers, 1 to 8.

    Errors
    ------
    ConfigError
        A value is not in its range.
    """

    kind: str = "butterfly"
    pipeline: int = 1

    def __post_init__(self) -> None:
        if self.kind not in NETWORK_KINDS:
            raise ConfigError(f"network kind must be one of {', '.join(NETWORK_KINDS)}, got {self.kind!r}")
        check_range(self, "pipeline", 1, 8)


@dataclass(frozen=True, kw_only=True)
class PostConfig:
    """The post-processor of each P bank.

    Parameters
    ----------
    parameter_sets : int
        Sets of bias, multiplier and shift per lane, 1 to 65536.
    tables : int
        Activation tables of 256 entries, 1 to 16.
    queue_depth : int
        Jobs, 2 to 64.
    window_width : int
        Bits of each count of the two reduction loops, 2 to 12.
    lanes : int
        Lanes of an output word that are requantised in a cycle, a divisor of them, up to 256; 0: all.
    row_registers : int
        Registers for statistics of rows, a power of two from 16 to 4096; 0: no row functions, which networks of convolutions do
        without (`podweave.spec.row_functions`).
    rounding : str
        One of `ROUNDINGS`: how requantisation rounds a half.
    scale_bits : int
        Bits of the multiplier of a lane, 16 to 31 (24: as float32 has); with row functions at least 17, as scales of rows have.
    sum_bits : int
        Bits to which a sum with its bias is saturated before it is scaled, 20 to 33; with row functions 33: it never is.
    zero_points : bool
        A lane adds an int8 to what is rounded, before it is saturated.

    Errors
    ------
    ConfigError
        A value is not in its range, ``row_registers`` no power of two, or ``tables`` odd or ``scale_bits`` or ``sum_bits`` too
        few with row functions.
    """

    parameter_sets: int = 64
    tables: int = 2
    queue_depth: int = 4
    window_width: int = 6
    lanes: int = 0
    row_registers: int = 0
    rounding: str = "half_away"
    scale_bits: int = 31
    sum_bits: int = 33
    zero_points: bool = False

    def __post_init__(self) -> None:
        check_range(self, "parameter_sets", 1, 65536)
        check_range(self, "tables", 1, 16)
        check_range(self, "queue_depth", 2, 64)
        check_range(self, "window_width", 2, 12)
        check_range(self, "lanes", 0, 256)
        if self.rounding not in ROUNDINGS:
            raise ConfigError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {self.rounding!r}")
        check_range(self, "scale_bits", 16, 31)
        check_range(self, "sum_bits", 20, 33)
        if self.row_registers == 0:
            return
        check_range(self, "row_registers", 16, 4096)
        if self.row_registers & (self.row_registers - 1):
            raise ConfigError(f"row_registers must be a power of two, got {self.row_registers}")
        if self.tables % 2:
            raise ConfigError(f"tables must be even with row functions, where two make one of 16 bits, got {self.tables}")
        if self.scale_bits < MANTISSA_WIDTH:
            raise ConfigError(
                f"scale_bits must be at least {MANTISSA_WIDTH} with row functions, which scale by numbers of so many bits, "
                f"got {self.scale_bits}"
            )
        if self.sum_bits < 33:
            raise ConfigError(f"sum_bits must be 33 with row functions, whose results are wide, got {self.sum_bits}")


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """Program stores, in jobs.

    Parameters
    ----------
    load_jobs, stream_jobs : int
        Loads and streams of each pod, 4 to 2**20.
    post_jobs : int
        Jobs of each post-processor, 4 to 2**20.

    Errors
    ------
    ConfigError
        A value is not in its range.
    """

    load_jobs: int = 1024
    stream_jobs: int = 1024
    post_jobs: int = 1024

    def __post_init__(self) -> None:
        for name in ("load_jobs", "stream_jobs", "post_jobs"):
            check_range(self, name, 4, 2**20)


@dataclass(frozen=True, kw_only=True)
class PrefetchConfig:
    """The prefetch engines of a chip, one per AXI4 manager; each serves as many nodes, side by side.

    All but ``address_width``, ``base_registers``, ``column_words`` and ``pass_bits`` are powers of two.

    Parameters
    ----------
    managers : int
        AXI4 managers, 1 to 64.
    data_width : int
        Bits of a beat, 64 to 512.
    address_width : int
        Bits of a byte address, 32 to 64.
    buffer_beats : int
        Beats of read data for which there is room, 16 to 4096, and at least two bursts of data or descriptors; to keep the bus
        busy, at least latency x bandwidth.
    max_burst : int
        Beats of a burst, at most, 1 to 256.
    outstanding : int
        Read bursts under way, at most, 2 to 256.
    descriptors : int
        Held per ring, 2 to 16.
    base_registers : int
        Registers that descriptors can add to their address, 0 to 15; with 0 nothing of them is built.
    column_words : int
        Words of a run of a column store, at most, 0 to 64, and at most the bytes of a beat; with 0 nothing of them is built.
    pass_bits : int
        Bits of the number of passes of a run, 0 to 16: how often a start may go over a network, each time with other inputs; with 0
        nothing of them is built.

    Errors
    ------
    ConfigError
        A value is not in its range, no power of two, too small for two bursts, or too large for a beat.
    """

    managers: int = 1
    data_width: int = 128
    address_width: int = 40
    buffer_beats: int = 256
    max_burst: int = 32
    outstanding: int = 64
    descriptors: int = 4
    base_registers: int = 0
    column_words: int = 0
    pass_bits: int = 0

    def __post_init__(self) -> None:
        check_range(self, "managers", 1, 64)
        check_range(self, "data_width", 64, 512)
        check_range(self, "address_width", 32, 64)
        check_range(self, "buffer_beats", 16, 4096)
        check_range(self, "max_burst", 1, 256)
        check_range(self, "outstanding", 2, 256)
        check_range(self, "descriptors", 2, 16)
        check_range(self, "base_registers", 0, 15)
        check_range(self, "column_words", 0, 64)
        check_range(self, "pass_bits", 0, 16)
        for name in ("managers", "data_width", "buffer_beats", "max_burst", "outstanding", "descriptors"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, got {value}")
        # A descriptor is one burst; on the narrowest bus it takes 8 beats.
        least = 2 * max(self.max_burst, 512 // self.data_width)
        if self.buffer_beats < least:
            raise ConfigError(f"buffer_beats ({self.buffer_beats}) must be at least {least}: two bursts of data or descriptors")
        if self.column_words > self.data_width // 8:
            raise ConfigError(f"column_words ({self.column_words}) must be at most {self.data_width // 8}: the bytes of a beat")


def bits(count: int) -> int:
    """Bits that number ``count`` things from 0; 0 for one thing."""
    return (count - 1).bit_length()
