"""Configuration of a chip: every size, and every rule that a legal chip obeys.

The tree is ``ChipConfig`` -> ``PodConfig`` -> ``ArrayConfig``, and ``ChipConfig`` -> ``MemoryConfig``; a chip of several pods also
has a ``NetworkConfig``, a ``PostConfig`` and a ``ProgramConfig``, and one on AXI a ``DmaConfig``. All are frozen and
keyword-only; an illegal value or combination raises `ConfigError` with a sentence that names the rule and the value.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRESET_DIRECTORY = Path(__file__).with_name("presets")


class ConfigError(ValueError):
    """A configuration breaks a rule; the message names the rule and the offending value."""


def _check_range(owner: object, name: str, low: int, high: int) -> None:
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
    """

    rows: int
    cols: int
    group_rows: int = 1
    group_cols: int = 1
    psum_width: int = 32

    def __post_init__(self) -> None:
        _check_range(self, "rows", 1, 256)
        _check_range(self, "cols", 1, 256)
        _check_range(self, "group_rows", 1, 64)
        _check_range(self, "group_cols", 1, 64)
        _check_range(self, "psum_width", 17, 32)
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

    ``accumulator_rows``: depth of the local accumulator memory in rows of ``cols`` partial sums; 0 leaves it out.
    ``load_queue_depth``, ``stream_queue_depth``: jobs. ``time_width``: bits of a start time, so an epoch lasts fewer than
    ``2**time_width`` cycles. ``count_width``: bits of each loop count of a stream job.
    """

    array: ArrayConfig
    accumulator_rows: int = 0
    load_queue_depth: int = 4
    stream_queue_depth: int = 4
    time_width: int = 24
    count_width: int = 16

    def __post_init__(self) -> None:
        _check_range(self, "accumulator_rows", 0, 65536)
        _check_range(self, "load_queue_depth", 2, 64)
        _check_range(self, "stream_queue_depth", 2, 64)
        _check_range(self, "time_width", 8, 32)
        _check_range(self, "count_width", 4, 24)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The fixed-latency memory that a pod sees: ``banks`` of each kind (X, W, P) over ``planes`` copies of the network.

    ``x_words``, ``w_words``, ``p_words``: words of one bank; a word is one row of ``rows`` activations, ``cols`` weights or
    ``cols`` partial sums. ``latency``: cycles from a read request on a pod's port to the word on its data input; None where a
    network stands between pods and banks, which gives it (`ChipConfig.read_latency`).
    """

    banks: int = 1
    planes: int = 1
    x_words: int
    w_words: int
    p_words: int
    latency: int | None = None

    def __post_init__(self) -> None:
        _check_range(self, "banks", 1, 256)
        _check_range(self, "planes", 1, 8)
        for name in ("x_words", "w_words", "p_words"):
            _check_range(self, name, 2, 2**22)
        if self.latency is not None:
            _check_range(self, "latency", 1, 64)


NETWORK_KINDS = ("butterfly", "crossbar")
# Amaranth refuses a module with more bits of inputs, or outputs: a crossbar is one module.
_MODULE_BITS = 65536
# A butterfly of up to 2**4 ports is one block; a larger one is two layers of such blocks.
_BLOCK_STAGES = 4


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The four networks (X and W read, P and Y write) of a chip.

    ``kind``: butterfly, or a crossbar of the same latency, on which every program for the butterfly also runs.
    ``pipeline``: stages of 2 x 2 switches between registers.
    """

    kind: str = "butterfly"
    pipeline: int = 1

    def __post_init__(self) -> None:
        if self.kind not in NETWORK_KINDS:
            raise ConfigError(f"network kind must be one of {', '.join(NETWORK_KINDS)}, got {self.kind!r}")
        _check_range(self, "pipeline", 1, 8)


@dataclass(frozen=True, kw_only=True)
class PostConfig:
    """The post-processor of each P bank.

    ``parameter_sets``: sets of bias, multiplier and shift per lane. ``tables``: activation tables of 256 entries.
    ``queue_depth``: jobs. ``window_width``: bits of each count of the two reduction loops.
    """

    parameter_sets: int = 64
    tables: int = 2
    queue_depth: int = 4
    window_width: int = 6

    def __post_init__(self) -> None:
        _check_range(self, "parameter_sets", 1, 65536)
        _check_range(self, "tables", 1, 16)
        _check_range(self, "queue_depth", 2, 64)
        _check_range(self, "window_width", 2, 12)


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """Program stores, in jobs: loads and streams of each pod, jobs of each post-processor."""

    load_jobs: int = 1024
    stream_jobs: int = 1024
    post_jobs: int = 1024

    def __post_init__(self) -> None:
        for name in ("load_jobs", "stream_jobs", "post_jobs"):
            _check_range(self, name, 4, 2**20)


@dataclass(frozen=True, kw_only=True)
class DmaConfig:
    """The prefetch engines of a chip, one per AXI4 manager; each serves as many nodes, side by side.

    ``data_width``, ``address_width``: bits. ``buffer_beats``: beats of read data for which there is room; to keep the bus busy, at
    least latency x bandwidth. ``max_burst``: beats of a burst. ``outstanding``: read bursts under way. ``descriptors``: held per
    ring. All but ``address_width`` are powers of two.
    """

    managers: int = 1
    data_width: int = 128
    address_width: int = 40
    buffer_beats: int = 256
    max_burst: int = 32
    outstanding: int = 64
    descriptors: int = 4

    def __post_init__(self) -> None:
        _check_range(self, "managers", 1, 16)
        _check_range(self, "data_width", 64, 512)
        _check_range(self, "address_width", 32, 64)
        _check_range(self, "buffer_beats", 16, 4096)
        _check_range(self, "max_burst", 1, 256)
        _check_range(self, "outstanding", 2, 256)
        _check_range(self, "descriptors", 2, 16)
        for name in ("managers", "data_width", "buffer_beats", "max_burst", "outstanding", "descriptors"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, got {value}")
        # A descriptor is one burst; on the narrowest bus it takes 8 beats.
        least = 2 * max(self.max_burst, 512 // self.data_width)
        if self.buffer_beats < least:
            raise ConfigError(f"buffer_beats ({self.buffer_beats}) must be at least {least}: two bursts of data or descriptors")


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """One pod on a fixed-latency memory (``pods`` 1), or a chip of 2 to 256 pods, as many banks of each kind, and networks."""

    name: str
    pods: int = 1
    pod: PodConfig
    memory: MemoryConfig
    network: NetworkConfig | None = None
    post: PostConfig | None = None
    program: ProgramConfig | None = None
    dma: DmaConfig | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or not self.name.isascii():
            raise ConfigError(f"name must be an ASCII identifier (letters, digits, underscores), got {self.name!r}")
        _check_range(self, "pods", 1, 256)
        if self.pods == 1:
            self._check_single()
        else:
            self._check_chip()
        if self.memory.w_words < self.array.rows:
            raise ConfigError(
                f"w_words ({self.memory.w_words}) must hold at least one weight tile of rows ({self.array.rows}) words"
            )
        if 2**self.pod.time_width < 8 * (self.array.rows + self.write_latency):
            raise ConfigError(
                f"time_width ({self.pod.time_width}) is too small: an epoch of 2**time_width cycles must hold at least "
                f"8 weight loads with their latency ({8 * (self.array.rows + self.write_latency)} cycles)"
            )

    def _check_single(self) -> None:
        for table in ("network", "post", "program", "dma"):
            if getattr(self, table) is not None:
                raise ConfigError(f"table [{table}] is only for chips of 2 or more pods, got pods = 1")
        if self.memory.latency is None:
            raise ConfigError("memory latency is missing: one pod without a network needs it")

    def _check_chip(self) -> None:
        array, memory = self.array, self.memory
        if self.pods & (self.pods - 1):
            raise ConfigError(f"pods must be a power of two, got {self.pods}")
        for table in ("network", "post", "program"):
            if getattr(self, table) is None:
                raise ConfigError(f"table [{table}] is missing: a chip of {self.pods} pods needs it")
        if memory.latency is not None:
            raise ConfigError(f"memory latency must be left out: the network of a chip gives it, got {memory.latency}")
        if memory.banks != self.pods:
            raise ConfigError(f"banks ({memory.banks}) must be as many as pods ({self.pods})")
        if memory.planes not in (1, 2, 4, 8):
            raise ConfigError(f"planes must be 1, 2, 4 or 8, got {memory.planes}")
        if max(array.rows, array.cols) % min(array.rows, array.cols):
            raise ConfigError(
                f"of rows ({array.rows}) and cols ({array.cols}) one must be a multiple of the other: outputs become activations"
            )
        if self.managers > self.pods:
            raise ConfigError(f"managers ({self.managers}) must be at most as many as pods ({self.pods})")
        row = array.psum_width * array.cols
        # The write ports of all planes and the host's; 64 for its control signals.
        p_bank = memory.planes * (row + bits(memory.p_words) + 2) + row + 64
        if p_bank > _MODULE_BITS:
            raise ConfigError(
                f"a P bank may have {_MODULE_BITS} bits of inputs; {memory.planes} planes of {array.cols} columns of "
                f"psum_width {array.psum_width} make {p_bank}"
            )
        widest = self.pods * (array.psum_width * array.cols + bits(memory.p_words) + bits(self.pods) + 4)
        assert self.network is not None
        if self.network.kind == "crossbar" and widest > _MODULE_BITS:
            raise ConfigError(f"a crossbar may have {_MODULE_BITS} bits of inputs; the one for partial sums has {widest}")

    @property
    def array(self) -> ArrayConfig:
        return self.pod.array

    @property
    def network_layers(self) -> tuple[int, ...]:
        """Switch stages of each layer of blocks that a butterfly is built of, from the pods to the banks."""
        stages = bits(self.pods)
        if stages <= _BLOCK_STAGES:
            return (stages,)
        return (-(-stages // 2), stages // 2)

    @property
    def network_latency(self) -> int:
        """Cycles from one side of a network to the other, in either direction."""
        assert self.network is not None
        return sum(-(-stages // self.network.pipeline) for stages in self.network_layers)

    @property
    def bank_latency(self) -> int:
        """Cycles from a request at a bank to its word."""
        return 1

    @property
    def read_latency(self) -> int:
        """Cycles from a read request on a pod's port to the word on its data input."""
        if self.memory.latency is not None:
            return self.memory.latency
        return 2 * self.network_latency + self.bank_latency

    @property
    def post_lanes(self) -> int:
        """Lanes of a word of outputs: what a post-processor writes into an X bank at once."""
        return min(self.array.rows, self.array.cols)

    @property
    def post_latency(self) -> int:
        """Cycles from a post-processor's read of the last partial sum of an output word to that word on its write port."""
        return 6

    @property
    def managers(self) -> int:
        """Load ports of a chip, and AXI4 managers if it has any."""
        return self.dma.managers if self.dma else 1

    @property
    def nodes_per_manager(self) -> int:
        return self.pods // self.managers

    @property
    def host_bits(self) -> int:
        """Bits of a beat on a load port of a chip."""
        return self.dma.data_width if self.dma else 64

    @property
    def host_levels(self) -> int:
        """Registers between the ports of a chip and its nodes, in either direction: one for every factor of 16 nodes."""
        return -(-bits(self.pods) // 4)

    @property
    def host_read_latency(self) -> int:
        """Cycles from a host read on the port of a chip to its data."""
        return 2 * self.host_levels + 3

    @property
    def epoch_overhead(self) -> int:
        """What the cycles of an epoch of a chip are more than the epoch time of the last cycle in which a node was busy."""
        return 2 * self.host_levels + self.network_latency + 5

    @property
    def write_latency(self) -> int:
        """Cycles from a pod's request for a word of activations to the partial sums of that word on its write port."""
        return self.read_latency + self.array.latency + 1

    def replace(self, **changes: int | str) -> ChipConfig:
        """A copy with fields changed, wherever in the tree they stand: ``config.replace(rows=8, latency=2)``."""
        array = _changed(self.pod.array, changes)
        pod = dataclasses.replace(_changed(self.pod, changes), array=array)
        memory = _changed(self.memory, changes)
        tables = ("network", "post", "program", "dma")
        parts = {name: part and _changed(part, changes) for name in tables for part in (getattr(self, name),)}
        top: dict[str, Any] = {name: changes.pop(name) for name in ("name", "pods") if name in changes}
        if changes:
            raise ConfigError(f"unknown configuration fields: {', '.join(sorted(changes))}")
        return dataclasses.replace(self, pod=pod, memory=memory, **parts, **top)

    def to_dict(self) -> dict[str, Any]:
        """Nested tables of plain values; what does not apply is left out."""
        return _without_none(dataclasses.asdict(self))

    def to_toml(self) -> str:
        """The configuration as TOML text that `from_toml` reads back to an equal configuration."""
        lines: list[str] = []

        def table(path: str, content: dict[str, Any]) -> None:
            if path:
                lines.extend(["", f"[{path}]"])
            for key, value in content.items():
                if not isinstance(value, dict):
                    lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}")
            for key, value in content.items():
                if isinstance(value, dict):
                    table(f"{path}.{key}" if path else key, value)

        table("", self.to_dict())
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ChipConfig:
        top = dict(content)
        pod = _table(top.pop("pod", None), "pod")
        array = _build(ArrayConfig, _table(pod.pop("array", None), "pod.array"), "pod.array")
        memory = _build(MemoryConfig, _table(top.pop("memory", None), "memory"), "memory")
        kinds: dict[str, type] = {"network": NetworkConfig, "post": PostConfig, "program": ProgramConfig, "dma": DmaConfig}
        parts = {name: _build(kind, _table(top.pop(name), name), name) if name in top else None for name, kind in kinds.items()}
        return _build(cls, top, "", pod=_build(PodConfig, pod, "pod", array=array), memory=memory, **parts)

    @classmethod
    def from_toml(cls, text: str) -> ChipConfig:
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not valid TOML: {error}") from error
        return cls.from_dict(content)


def bits(count: int) -> int:
    """Bits that number ``count`` things from 0; 0 for one thing."""
    return (count - 1).bit_length()


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in content.items() if v is not None}


def _changed(node: Any, changes: dict[str, Any]) -> Any:
    own = {f.name for f in dataclasses.fields(node)} & changes.keys()
    return dataclasses.replace(node, **{name: changes.pop(name) for name in own})


def _table(value: object, path: str) -> dict[str, Any]:
    if value is None:
        raise ConfigError(f"table [{path}] is missing")
    if not isinstance(value, dict):
        raise ConfigError(f"[{path}] must be a table, got {value!r}")
    return dict(value)


def _build(kind: type, content: dict[str, Any], path: str, **children: object) -> Any:
    where = f"table [{path}]" if path else "the top level"
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in children}
    unknown = sorted(content.keys() - fields.keys())
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} in {where}; allowed: {', '.join(fields)}")
    missing = sorted(n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in content)
    if missing:
        raise ConfigError(f"key {missing[0]!r} is missing in {where}")
    return kind(**content, **children)


def preset_names() -> list[str]:
    """Names of the configurations that come with the generator, smallest first."""
    found = [path.stem for path in PRESET_DIRECTORY.glob("*.toml")]
    return sorted(found, key=lambda name: (_preset(name).pods * _preset(name).array.multipliers, name))


def _preset(name: str) -> ChipConfig:
    return ChipConfig.from_toml((PRESET_DIRECTORY / f"{name}.toml").read_text())


def load_config(name_or_path: str | Path) -> ChipConfig:
    """The configuration named: a preset, or the path of a TOML file."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ConfigError(f"configuration file {str(path)!r} does not exist")
        try:
            return ChipConfig.from_toml(path.read_text(encoding="utf-8"))
        except (ConfigError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
    if str(name_or_path) not in preset_names():
        raise ConfigError(
            f"unknown preset {str(name_or_path)!r}; presets are {', '.join(preset_names())} "
            "(a path that ends in .toml names a file)"
        )
    return _preset(str(name_or_path))
