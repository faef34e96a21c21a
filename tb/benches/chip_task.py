"""What is run on a chip bench and what comes back. Free of Amaranth: the simulator imports it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import Jobs
from podweave.spec.config import ChipConfig
from podweave.spec.errors import NetworkId, network_error_layout
from podweave.spec.jobs import load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import Layout
from podweave.spec.load_port import HostSelect

ACCESSES = 16384
"""Host accesses that the harness plays back in one go."""

Words = tuple[int, int, NDArray[np.int8]]
Parameters = tuple[int, int, NDArray[np.integer]]


class ChipEpoch(Protocol):
    """Jobs of one epoch, and what the host loads before it.

    ``loads``, ``streams``: every field of their job layouts plus "pod"; ``posts``: those of the post job layout plus "bank"; all
    sorted by (pod or bank, start). ``x_image``, ``w_image``: (bank, base, int8 words (n, lanes)). ``zero_words``: words of the P
    banks, at that address, that are to be 0. ``parameters``: (bank, set,
    bias (cols,), multiplier (cols,), shift (cols,)). ``tables``: (table, int8 (256,)), for all post-processors.
    """

    @property
    def loads(self) -> Jobs: ...
    @property
    def streams(self) -> Jobs: ...
    @property
    def posts(self) -> Jobs: ...
    @property
    def x_image(self) -> Sequence[Words]: ...
    @property
    def w_image(self) -> Sequence[Words]: ...
    @property
    def zero_words(self) -> Sequence[int]: ...
    @property
    def parameters(self) -> Sequence[Parameters]: ...
    @property
    def tables(self) -> Sequence[tuple[int, NDArray[np.int8]]]: ...


@dataclass
class SimpleEpoch:
    """A `ChipEpoch` to be filled by hand; job tables may stay empty."""

    loads: Jobs = field(default_factory=dict)
    streams: Jobs = field(default_factory=dict)
    posts: Jobs = field(default_factory=dict)
    x_image: list[Words] = field(default_factory=list)
    w_image: list[Words] = field(default_factory=list)
    zero_words: list[int] = field(default_factory=list)
    parameters: list[Parameters] = field(default_factory=list)
    tables: list[tuple[int, NDArray[np.int8]]] = field(default_factory=list)


@dataclass(frozen=True)
class Readback:
    """Words ``base`` to ``base + words`` of a bank to bring back after an epoch; ``kind``: X, W or P."""

    kind: str
    bank: int
    base: int
    words: int


@dataclass
class EpochResult:
    """What the RTL did in one epoch.

    ``cycles``: those with ``run`` high. ``counters``: by name of `spec.load_port.Counter` in lower case, and "busy", the same as
    "x_words"; one value per node. ``errors``: in words. ``readback``: int8 (words, lanes) of X and W banks, int32 of P banks, one
    per `Readback`. ``finished``: ``busy`` fell within the limit.
    """

    cycles: int
    counters: dict[str, NDArray[np.int64]]
    errors: list[str]
    readback: list[NDArray[Any]]
    finished: bool


@dataclass
class ChipRun:
    """``wall_s``: seconds by phase (start, load, simulate, read). ``peak_bytes``: of memory, that the simulator took."""

    epochs: list[EpochResult] = field(default_factory=list)
    simulated_cycles: int = 0
    peak_bytes: int = 0
    wall_s: dict[str, float] = field(default_factory=lambda: {"load": 0.0, "simulate": 0.0, "read": 0.0})


def stores(config: ChipConfig) -> tuple[tuple[str, str, HostSelect, Layout], ...]:
    """Table of an epoch, its column of nodes, host select and job layout of each program store."""
    return (
        ("loads", "pod", HostSelect.LOAD_STORE, load_job_layout(config)),
        ("streams", "pod", HostSelect.STREAM_STORE, stream_job_layout(config)),
        ("posts", "bank", HostSelect.POST_STORE, post_job_layout(config)),
    )


def beats(config: ChipConfig, width: int) -> int:
    """Accesses that a word of ``width`` bits takes."""
    return -(-width // config.host_bits)


def describe_network_error(config: ChipConfig, word: int) -> str | None:
    """A record of the networks, in words."""
    layout = network_error_layout(config)
    values = {f.name: word >> layout.offset(f.name) & (1 << f.width) - 1 for f in layout.fields}
    if not values["valid"]:
        return None
    network = NetworkId(values["network"]).name
    return f"network {network}, plane {values['plane']}: two words met at stage {values['stage']}, port {values['port']}"
