"""Configurations and the ranges of their values."""

import dataclasses

from hypothesis import strategies as st

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PLANES, ArrayConfig, ConfigError, NetworkConfig, PostConfig, ProgramConfig
from podweave.spec.presets import load_config

POD4 = load_config("pod4")
SMALL = POD4.replace(name="small", rows=2, cols=2, group_rows=1, group_cols=1)
CHIP = load_config("chip2x4")
# Field: smallest and largest legal value, and what must change beside it for them to be legal in SMALL.
RANGES: dict[str, tuple[int, int, dict[str, int]]] = {
    "rows": (1, 256, {}),
    "cols": (1, 256, {}),
    "group_rows": (1, 64, {"rows": 64}),
    "group_cols": (1, 64, {"cols": 64}),
    "psum_width": (17, 32, {}),
    "accumulator_rows": (0, 65536, {}),
    "load_queue_depth": (2, 64, {}),
    "stream_queue_depth": (2, 64, {}),
    "time_width": (8, 32, {}),
    "count_width": (4, 24, {}),
    "tile_width": (0, 16, {}),
    "x_planes": (1, 8, {}),
    "w_planes": (1, 8, {}),
    "p_planes": (1, 8, {}),
    "y_planes": (1, 8, {}),
    "x_words": (2, 2**22, {}),
    "w_words": (2, 2**22, {}),
    "p_words": (2, 2**22, {}),
}
_DRAWN = ("psum_width", "accumulator_rows", "load_queue_depth", "stream_queue_depth", "count_width", "tile_width")
_DRAWN += ("x_words", "p_words")
# Likewise for what lies around the pods.
CHIP_RANGES: dict[str, tuple[int, int]] = {
    "pipeline": (1, 8),
    "parameter_sets": (1, 65536),
    "tables": (1, 16),
    "queue_depth": (2, 64),
    "window_width": (2, 12),
    "scale_bits": (16, 31),
    "sum_bits": (20, 33),
    "load_jobs": (4, 2**20),
    "stream_jobs": (4, 2**20),
    "post_jobs": (4, 2**20),
}


@st.composite
def legal_chips(draw: st.DrawFn) -> ChipConfig:
    single = POD4.replace(
        name=draw(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)),
        **{name: draw(st.integers(*RANGES[name][:2])) for name in _DRAWN},
        time_width=draw(st.integers(14, 32)),
    )
    pods = 2 ** draw(st.integers(0, 8))
    rows = draw(st.integers(1, 64))
    cols = rows * draw(st.integers(1, 256 // rows))
    rows, cols = draw(st.permutations([rows, cols]))
    config = ChipConfig(
        name=single.name,
        pods=pods,
        pod=dataclasses.replace(single.pod, array=ArrayConfig(rows=rows, cols=cols, psum_width=single.array.psum_width)),
        memory=dataclasses.replace(
            single.memory,
            banks=pods,
            **{name: draw(st.sampled_from([1, 2, 4, 8])) for name in PLANES},
            w_words=max(rows, 300),
        ),
        network=NetworkConfig(),
        post=PostConfig(),
        program=ProgramConfig(),
    )
    config = config.replace(**{name: draw(st.integers(low, high)) for name, (low, high) in CHIP_RANGES.items()})
    try:
        return config.replace(kind=draw(st.sampled_from(["butterfly", "crossbar"])))
    except ConfigError:
        return config
