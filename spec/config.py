"""Configuration of a chip: every size, and every rule that a legal chip obeys.

The tree is ``ChipConfig`` -> ``PodConfig`` -> ``ArrayConfig``, and ``ChipConfig`` -> ``MemoryConfig``, ``NetworkConfig``,
``PostConfig`` and ``ProgramConfig``; a chip on AXI also has a ``PrefetchConfig``, and one in a ring of chips a ``LinksConfig``.
All are frozen and keyword-only; an illegal value or combination raises `ConfigError` with a sentence that names the rule and the
value.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from .config_parts import (
    BLOCK_STAGES,
    MODULE_BITS,
    PLANES,
    ArrayConfig,
    ConfigError,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
    bits,
    check_range,
)
from .links_config import LinksConfig


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """A chip of 1 to 256 pods, as many banks of each kind, and networks between them."""

    name: str
    pods: int = 1
    pod: PodConfig
    memory: MemoryConfig
    network: NetworkConfig
    post: PostConfig
    program: ProgramConfig
    prefetch: PrefetchConfig | None = None
    links: LinksConfig | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or not self.name.isascii():
            raise ConfigError(f"name must be an ASCII identifier (letters, digits, underscores), got {self.name!r}")
        check_range(self, "pods", 1, 256)
        self._check_chip()
        if self.memory.x_parts > 1 and self.prefetch is None:
            raise ConfigError(f"x_parts ({self.memory.x_parts}) of more than 1 are for engines: they need a table [prefetch]")
        if self.memory.w_words < self.array.rows:
            raise ConfigError(
                f"w_words ({self.memory.w_words}) must hold at least one weight tile of rows ({self.array.rows}) words"
            )
        if 2**self.pod.time_width < 8 * (self.array.rows + self.write_latency):
            raise ConfigError(
                f"time_width ({self.pod.time_width}) is too small: an epoch of 2**time_width cycles must hold at least "
                f"8 weight loads with their latency ({8 * (self.array.rows + self.write_latency)} cycles)"
            )

    def _check_chip(self) -> None:
        array, memory = self.array, self.memory
        if self.pods & (self.pods - 1):
            raise ConfigError(f"pods must be a power of two, got {self.pods}")
        if memory.banks != self.pods:
            raise ConfigError(f"banks ({memory.banks}) must be as many as pods ({self.pods})")
        for name in PLANES:
            if (planes := getattr(memory, name)) not in (1, 2, 4, 8):
                raise ConfigError(f"{name} must be 1, 2, 4 or 8, got {planes}")
        if max(array.rows, array.cols) % min(array.rows, array.cols):
            raise ConfigError(
                f"of rows ({array.rows}) and cols ({array.cols}) one must be a multiple of the other: outputs become activations"
            )
        if self.pods == 1:
            self._check_one_pod()
        self._check_post()
        self._check_links()
        if self.managers > self.pods:
            raise ConfigError(f"managers ({self.managers}) must be at most as many as pods ({self.pods})")
        row = array.psum_width * array.cols
        # The write ports of all planes and the host's; 64 for its control signals.
        p_bank = (memory.p_planes + self.has_rows) * (row + bits(memory.p_words) + 2) + row + 64
        if p_bank > MODULE_BITS:
            raise ConfigError(
                f"a P bank may have {MODULE_BITS} bits of inputs; {memory.p_planes} planes of {array.cols} columns of "
                f"psum_width {array.psum_width} make {p_bank}"
            )
        widest = self.pods * (array.psum_width * array.cols + bits(memory.p_words) + bits(self.pods) + 4)
        if self.network.kind == "crossbar" and widest > MODULE_BITS:
            raise ConfigError(f"a crossbar may have {MODULE_BITS} bits of inputs; the one for partial sums has {widest}")

    def _check_one_pod(self) -> None:
        """Row functions and links are of chips whose nodes have something to say to each other."""
        if self.post.row_registers:
            raise ConfigError(f"row_registers ({self.post.row_registers}) must be 0 with one pod: row functions need 2 or more")
        if self.links is not None:
            raise ConfigError("table [links] needs 2 or more pods, got pods = 1")

    def _check_post(self) -> None:
        array, post = self.array, self.post
        if post.lanes and self.post_lanes % post.lanes:
            raise ConfigError(f"lanes ({post.lanes}) of a post-processor must divide the {self.post_lanes} lanes of an output word")
        if not isinstance(post.zero_points, bool):
            raise ConfigError(f"zero_points must be true or false, got {post.zero_points!r}")
        if not post.row_registers:
            return
        if array.cols > array.rows:
            raise ConfigError(f"row functions need cols ({array.cols}) of at most rows ({array.rows}): they write whole P words")
        if self.post_lanes // self.post_beats % 2:
            raise ConfigError(f"row functions need an even number of lanes per cycle, got {self.post_lanes // self.post_beats}")

    def _check_links(self) -> None:
        if self.links is None:
            return
        if self.prefetch is None:
            raise ConfigError("table [links] needs a table [prefetch]: collectives are part of programs in memory")
        word, width = self.array.psum_width * self.array.cols, self.links.flit_bits
        if 2 * width > word:
            raise ConfigError(f"flit_bits of [links] ({width}) must be at most half of the {word} bits of a P word")

    @property
    def array(self) -> ArrayConfig:
        return self.pod.array

    @property
    def network_layers(self) -> tuple[int, ...]:
        """Switch stages of each layer of blocks that a butterfly is built of, from the pods to the banks; of one port: none."""
        stages = bits(self.pods)
        if stages <= BLOCK_STAGES:
            return (stages,) if stages else ()
        return (-(-stages // 2), stages // 2)

    @property
    def network_latency(self) -> int:
        """Cycles from one side of a network to the other, in either direction."""
        return sum(-(-stages // self.network.pipeline) for stages in self.network_layers)

    @property
    def bank_latency(self) -> int:
        """Cycles from a request at a bank to its word."""
        return 1

    @property
    def read_latency(self) -> int:
        """Cycles from a read request on a pod's port to the word on its data input."""
        return 2 * self.network_latency + self.bank_latency

    @property
    def post_lanes(self) -> int:
        """Lanes of a word of outputs: what a post-processor writes into an X bank at once."""
        return min(self.array.rows, self.array.cols)

    @property
    def post_latency(self) -> int:
        """Cycles from a post-processor's read of the last partial sum of an output word to that word on its write port."""
        # Row functions multiply before, and a word in several beats, or in two planes, is collected.
        collects = self.has_rows or self.post_beats > 1
        return 6 + 2 * self.has_rows + self.post_beats - 1 + collects

    @property
    def post_beats(self) -> int:
        """Cycles in which a post-processor requantises an output word."""
        return self.post_lanes // (self.post.lanes or self.post_lanes)

    @property
    def scale_bits(self) -> int:
        """Bits that the multipliers of a network may have."""
        return self.post.scale_bits

    @property
    def rounding(self) -> Literal["half_away", "half_even"]:
        """Where a half goes when post-processors requantise; away from zero where there are none."""
        return "half_even" if self.post and self.post.rounding == "half_even" else "half_away"

    @property
    def has_rows(self) -> bool:
        """Whether post-processors have row functions."""
        return self.post.row_registers > 0

    @property
    def statistic_latency(self) -> int:
        """Cycles from a post-processor's read of the last partial sum of a row to the first one in which its register has the
        value.

        A row register is read 2 cycles after the last partial sum of an output word (`PostProcessor`).
        """
        return 10 + self.post_beats - 1 + self.network_stages + 1

    @property
    def network_stages(self) -> int:
        """Stages of 2 x 2 switches between pods and banks."""
        return sum(self.network_layers)

    @property
    def managers(self) -> int:
        """Load ports of a chip, and AXI4 managers if it has any."""
        return self.prefetch.managers if self.prefetch else 1

    @property
    def passes(self) -> int:
        """Of a run, at most; 0 without registers for them."""
        return (1 << self.prefetch.pass_bits) - 1 if self.prefetch else 0

    @property
    def nodes_per_manager(self) -> int:
        return self.pods // self.managers

    @property
    def host_bits(self) -> int:
        """Bits of a beat on a load port of a chip."""
        return self.prefetch.data_width if self.prefetch else 64

    @property
    def host_levels(self) -> int:
        """Registers between the ports of a chip and its nodes, in either direction: one for each factor of 16."""
        return -(-bits(self.pods) // 4)

    @property
    def host_read_latency(self) -> int:
        """Cycles from a host read on the port of a chip to its data."""
        return 2 * self.host_levels + 3

    @property
    def link_bits(self) -> int:
        """Bits of a word between the collective engine of a chip and its nodes: of a P word or an X word, whichever is wider."""
        return max(self.array.psum_width * self.array.cols, 8 * self.array.rows)

    @property
    def link_read_latency(self) -> int:
        """Cycles from a read of the collective engine on the port of a chip to its word."""
        return 2 * self.host_levels + 2

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
        tables = ("network", "post", "program", "prefetch", "links")
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
                if isinstance(value, bool):
                    lines.append(f"{key} = {str(value).lower()}")
                elif not isinstance(value, dict):
                    lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}")
            for key, value in content.items():
                if isinstance(value, dict):
                    table(f"{path}.{key}" if path else key, value)

        table("", self.to_dict())
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ChipConfig:
        top = dict(content)
        if "dma" in top:
            raise ConfigError("table [dma] is named [prefetch] now, with the same keys")
        pod = _table(top.pop("pod", None), "pod")
        array = _build(ArrayConfig, _table(pod.pop("array", None), "pod.array"), "pod.array")
        memory_table = _table(top.pop("memory", None), "memory")
        if "planes" in memory_table:
            raise ConfigError(f"key 'planes' in table [memory] is {', '.join(PLANES)} now: planes of each network")
        if "latency" in memory_table:
            raise ConfigError("key 'latency' in table [memory] is gone: what lies between pods and banks is table [network]")
        memory = _build(MemoryConfig, memory_table, "memory")
        kinds: dict[str, type] = {"network": NetworkConfig, "post": PostConfig, "program": ProgramConfig}
        parts = {name: _build(kind, _table(top.pop(name, None), name), name) for name, kind in kinds.items()}
        more: dict[str, type] = {"prefetch": PrefetchConfig, "links": LinksConfig}
        parts |= {name: _build(kind, _table(top.pop(name), name), name) if name in top else None for name, kind in more.items()}
        return _build(cls, top, "", pod=_build(PodConfig, pod, "pod", array=array), memory=memory, **parts)

    @classmethod
    def from_toml(cls, text: str) -> ChipConfig:
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not valid TOML: {error}") from error
        return cls.from_dict(content)


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
