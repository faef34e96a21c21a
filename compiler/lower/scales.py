"""Scales of a network that the post-processors of a configuration cannot multiply by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from podweave.ir.constants import Parameters
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig


def require_scales_fit(constants: Mapping[str, Parameters], config: ChipConfig) -> None:
    """Raises `WorkloadError` for the first operation with a multiplier of more bits than those of the configuration."""
    if config.post is None:
        return
    bits = config.post.scale_bits
    for name, held in constants.items():
        most = int(np.max(held.multiplier, initial=0))
        if most >= 1 << bits:
            raise WorkloadError(
                f"{name}: its multiplier {most} has {most.bit_length()} bits, more than scale_bits ({bits}) of {config.name}; "
                f"quantise scales to {bits} bits (podweave.ir.quantise.quantize_scale, or podweave.ir.constants.with_scale_bits)"
            )
