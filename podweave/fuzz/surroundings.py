"""Small chips on which random networks run, and random memories and links around them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.system_bench import SystemBench

from .choices import Choices

CHIP2, CHIP4 = load_config("chip2x4"), load_config("chip4x16")
_LARGE = {"x_words": 4096, "w_words": 4096, "p_words": 4096, "parameter_sets": 64, "time_width": 20}
_LARGE |= {"load_jobs": 8192, "stream_jobs": 8192, "post_jobs": 8192}
_WHOLE = dataclasses.replace(CHIP2, prefetch=None).replace(**_LARGE, x_parts=1)
CHIPS = {
    each.name: each
    for each in (
        _WHOLE.replace(name="whole2x4"),
        _WHOLE.replace(name="whole1x4", pods=1, banks=1, accumulator_rows=16, tile_width=8),
        _WHOLE.replace(name="whole4x2x1", pods=4, banks=4, rows=2, cols=1, group_rows=1, group_cols=1, y_planes=2),
        _WHOLE.replace(name="whole4x4x8", pods=4, banks=4, cols=8, x_planes=2, w_planes=2, p_planes=2, y_planes=2, psum_width=27),
        _WHOLE.replace(name="crossbar4x8x4", pods=4, banks=4, rows=8, x_planes=2, y_planes=2, kind="crossbar", accumulator_rows=0),
        _WHOLE.replace(name="lanes8x2", pods=8, banks=8, rows=2, cols=2, lanes=1, pipeline=2, group_rows=1, group_cols=1),
    )
}
"""Chips that hold a network as one epoch."""
_ENGINE: dict[str, int] = {"buffer_beats": 32, "max_burst": 8, "outstanding": 8, "descriptors": 2}
_TWO = PrefetchConfig(managers=2, data_width=128, address_width=33, base_registers=2, column_words=8, pass_bits=5, **_ENGINE)
ACCELERATORS = {
    "two managers": dataclasses.replace(CHIP2.replace(pods=4, banks=4, x_parts=4), prefetch=_TWO),
    "one pod": CHIP2.replace(pods=1, banks=1, x_parts=2, pass_bits=5, base_registers=2),
    "some lanes": dataclasses.replace(
        CHIP2.replace(pods=4, banks=4, y_planes=2, rows=8, psum_width=27, lanes=2),
        prefetch=PrefetchConfig(managers=1, data_width=256),
    ),
}
"""Chips that run networks from memory, with banks of 256 words."""
_ROWS = {"x_words": 1024, "p_words": 1024, "w_words": 1024, "parameter_sets": 64, "tables": 6}
_LITTLE = {"time_width": 11, "w_words": 128, "post_jobs": 32, "parameter_sets": 24, "accumulator_rows": 7, "tile_width": 2}
_ROWS2 = CHIP2.replace(name="rows2x4", row_registers=64, column_words=4, base_registers=2, **_ROWS)
ROW_CHIPS = {
    each.name: each
    for each in (
        _ROWS2,
        _ROWS2.replace(name="rows_with_little", pods=4, banks=4, managers=2, y_planes=2, lanes=2, **_LITTLE),
    )
}
"""Chips with row functions."""
LINKED = dataclasses.replace(_ROWS2.replace(name="linked2x4"), links=LinksConfig(flit_bits=32, buffer_words=8, jobs=64))
"""One of a ring."""
EVEN = CHIP2.replace(
    name="even2x4",
    scale_bits=24,
    sum_bits=33,
    lanes=2,
    tables=8,
    rounding="half_even",
    zero_points=True,
    parameter_sets=64,
    row_registers=16,
)
"""A chip whose results are those of a file that onnxruntime quantised."""
ATTENDING = EVEN.replace(name="attending2x4", column_words=4, base_registers=2, **_ROWS)
"""One that runs norms and attention among layers, too."""
_BUILT: dict[str, Any] = {"optimize": "build", "random_initial_state": True}


@functools.lru_cache(maxsize=16)
def chip_bench(config: ChipConfig, checking: bool) -> ChipBench:
    return ChipBench.of(config, **_BUILT, checking=checking)


@functools.lru_cache(maxsize=16)
def accelerator_bench(config: ChipConfig, checking: bool) -> AcceleratorBench:
    return AcceleratorBench.of(config, **_BUILT, checking=checking)


@functools.lru_cache(maxsize=16)
def system_bench(config: ChipConfig, chips: int, checking: bool) -> SystemBench:
    return SystemBench.of(config, chips, **_BUILT, checking=checking)


def random_checking(rng: Choices) -> bool:
    """Now and then, whether what the simulation leaves out makes a difference: it takes three times as long then."""
    return bool(rng.integers(0, 12) == 11)


def random_timing(rng: Choices) -> HbmTiming:
    """A memory, from one that answers at once to one that hardly does."""
    refresh = int(rng.choice([0, 400, 700, 3900]))
    return HbmTiming(
        latency=2 + int(rng.integers(0, 300)),
        beat_sixteenths=int(rng.choice([16, 16, 24, 41, 100])),
        row_bytes=int(rng.choice([1024, 256, 4096])),
        row_miss=int(rng.integers(0, 40)),
        banks=int(rng.choice([16, 1, 4])),
        refresh_interval=refresh,
        refresh_cycles=int(rng.integers(0, 200)) if refresh else 0,
        queue=int(rng.choice([32, 1, 4, 255])),
        jitter=int(rng.choice([0, 3, 30, 200])),
        seed=1 + int(rng.integers(0, 1 << 31)),
    )


def random_link(rng: Choices) -> LinkTiming:
    """A link, short or long."""
    return LinkTiming(
        latency=1 + int(rng.integers(0, 400)),
        beat_sixteenths=16 + int(rng.integers(0, 65)),
        jitter=int(rng.choice([0, 3, 100])),
        seed=1 + int(rng.integers(0, 1 << 31)),
    )
