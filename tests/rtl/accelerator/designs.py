"""Configurations of all kinds, and what is emitted of them."""

from __future__ import annotations

import dataclasses
import functools
import re

from podweave.rtl.accelerator.emit import Emitted, emit
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config

POD4 = load_config("pod4")
# Chips of one pod, for what is in a pod.
PODS: dict[str, ChipConfig] = {
    "pod4": POD4,
    "pod32": load_config("pod32"),
    "no_accumulators": POD4.replace(accumulator_rows=0),
    "odd": POD4.replace(
        **{"rows": 6, "cols": 12, "group_rows": 3, "group_cols": 4, "psum_width": 27, "accumulator_rows": 13},
        **{"x_planes": 4, "w_planes": 1, "p_planes": 8, "x_words": 100, "w_words": 77, "p_words": 33},
        **{"load_queue_depth": 3, "stream_queue_depth": 5},
    ),
    # Fields that their limits fill to the end: rows of 3 in 2 bits.
    "full_fields": POD4.replace(rows=3, cols=1, group_rows=1, group_cols=1, accumulator_rows=1, w_words=3, x_words=2),
}
CHIP = load_config("chip2x4")
CHIPS: dict[str, ChipConfig] = {
    "chip2x4": CHIP,
    "crossbar": CHIP.replace(
        pods=4, banks=4, w_planes=2, y_planes=4, cols=8, kind="crossbar", accumulator_rows=0, psum_width=21, tables=3
    ),
    # Networks of two layers, two levels of host registers.
    "32 pods": CHIP.replace(pods=32, banks=32, rows=2, cols=1, group_rows=1, group_cols=1, pipeline=2, post_jobs=100),
    "4 managers": dataclasses.replace(CHIP.replace(pods=4, banks=4), prefetch=PrefetchConfig(managers=4, data_width=128)),
    "no managers": dataclasses.replace(CHIP, prefetch=None),
}
PREFETCH_CHIP = CHIP.replace(pods=4, banks=4)
ACCELERATORS: dict[str, ChipConfig] = {
    "accelerator": CHIP,
    "links": dataclasses.replace(
        CHIP.replace(x_parts=2), prefetch=PrefetchConfig(managers=2), links=LinksConfig(flit_bits=64, buffer_words=4, jobs=20)
    ),
    "4 managers of 512 bits": dataclasses.replace(
        PREFETCH_CHIP.replace(x_parts=4), prefetch=PrefetchConfig(managers=4, data_width=512, address_width=64)
    ),
    "32 bits of address": dataclasses.replace(
        PREFETCH_CHIP,
        prefetch=PrefetchConfig(
            **{"managers": 2, "data_width": 256, "address_width": 32, "buffer_beats": 16, "max_burst": 1},
            **{"outstanding": 2, "descriptors": 2},
        ),
    ),
}


@functools.cache
def emitted(name: str) -> Emitted:
    return emit((PODS | CHIPS | ACCELERATORS)[name], top=None if name in ACCELERATORS else "chip")


def bodies(verilog: str) -> dict[str, list[str]]:
    """Text of each definition of each module."""
    found: dict[str, list[str]] = {}
    for name, text in re.findall(r"^module (\S+?) ?\((.*?)^endmodule", verilog, re.MULTILINE | re.DOTALL):
        found.setdefault(name, []).append(text)
    return found
