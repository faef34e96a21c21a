"""Engines of many shapes, by name, each with the smallest chip that has it."""

from __future__ import annotations

import functools

from .prefetch_cases import engine_config
from .prefetch_lockstep import PrefetchLockstep

ENGINES: dict[str, dict[str, int]] = {
    "64_small": {"data_width": 64, "max_burst": 8, "buffer_beats": 16, "outstanding": 4, "descriptors": 2},
    # X banks with parts are loaded and stored beside epochs.
    "64_bases": {
        "data_width": 64,
        "max_burst": 8,
        "buffer_beats": 16,
        "outstanding": 4,
        "base_registers": 3,
        "pass_bits": 4,
        "x_parts": 4,
    },
    "128_columns": {
        "data_width": 128,
        "max_burst": 4,
        "buffer_beats": 16,
        "outstanding": 8,
        "rows": 12,
        "cols": 4,
        "column_words": 7,
    },
    # Of words of parameters and jobs, the last piece is smaller than others.
    "64_odd_words": {"data_width": 64, "max_burst": 8, "buffer_beats": 32, "outstanding": 4, "rows": 12, "cols": 12},
}
# Jobs of collectives have more beats than a parameter set.
ENGINES["64_links"] = {"data_width": 64, "max_burst": 8, "buffer_beats": 32, "outstanding": 4, "cols": 2, "jobs": 21}
MORE_ENGINES: dict[str, dict[str, int]] = {
    "128": {"data_width": 128, "max_burst": 4, "buffer_beats": 32, "outstanding": 8},
    "512_wide_words": {"data_width": 512, "max_burst": 4, "buffer_beats": 32, "outstanding": 8, "rows": 16, "cols": 32},
    "256_one_manager": {"data_width": 256, "max_burst": 64, "buffer_beats": 128, "outstanding": 4, "descriptors": 8, "managers": 1},
    "128_one_node": {"data_width": 128, "max_burst": 8, "buffer_beats": 16, "outstanding": 64, "descriptors": 16, "managers": 4},
    "64_long_bursts": {"data_width": 64, "max_burst": 256, "buffer_beats": 512, "outstanding": 32, "rows": 32, "pods": 32},
    "64_least": {"data_width": 64, "max_burst": 1, "buffer_beats": 16, "outstanding": 2, "descriptors": 2},
    "512_single_beats": {"data_width": 512, "max_burst": 1, "buffer_beats": 16, "outstanding": 16, "descriptors": 2, "cols": 16},
    "64_parts": {"data_width": 64, "max_burst": 8, "buffer_beats": 16, "outstanding": 4, "x_parts": 4},
    "128_parts": {"data_width": 128, "max_burst": 4, "buffer_beats": 32, "outstanding": 8, "x_parts": 2, "jobs": 21, "cols": 2},
    "64_columns": {"data_width": 64, "max_burst": 1, "buffer_beats": 16, "outstanding": 2, "column_words": 8, "base_registers": 2},
    "64_passes": {"data_width": 64, "max_burst": 8, "buffer_beats": 16, "outstanding": 4, "pass_bits": 16},
    "256_columns": {
        "data_width": 256,
        "max_burst": 64,
        "buffer_beats": 128,
        "managers": 1,
        "rows": 32,
        "cols": 16,
        "column_words": 1,
    },
    # Everything that an engine may have, of chips without links.
    "64_whole": {**ENGINES["64_bases"], "column_words": 5, "row_registers": 16},
    "512_columns": {"data_width": 512, "max_burst": 4, "buffer_beats": 32, "rows": 16, "cols": 32, "column_words": 32},
}


@functools.cache
def lockstep_of(name: str) -> PrefetchLockstep:
    return PrefetchLockstep.of(engine_config(address_width=34, **(ENGINES | MORE_ENGINES)[name]))
