"""The smallest configurations that have what is proven."""

from __future__ import annotations

from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config


def small(**changes: int) -> ChipConfig:
    """Two pods of 2 x 2, banks of 5 words (so that addresses can be out of range), counts of 4 bits; with ``changes``."""
    sizes = {"rows": 2, "cols": 2, "group_rows": 2, "group_cols": 2, "psum_width": 17}
    sizes |= {"x_words": 5, "w_words": 5, "p_words": 5, "accumulator_rows": 2}
    sizes |= {"time_width": 8, "count_width": 4, "tile_width": 2, "window_width": 2, "parameter_sets": 2}
    return load_config("chip2x4").replace(**(sizes | changes))
