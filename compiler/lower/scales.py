"""Scales of a network that the post-processors of a configuration cannot multiply by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear
from podweave.spec.config import ChipConfig

_WHOLE = 33
"""Bits of a sum with its bias."""


def require_scales_fit(graph: Graph, constants: Mapping[str, Parameters], config: ChipConfig) -> None:
    """Raises `WorkloadError` for the first operation with a multiplier of more bits than the configuration has, or with sums that
    it saturates though they are not beyond every result."""
    bits = config.post.scale_bits
    for operation in graph.operations:
        if operation.name not in constants:
            # What only moves rows has none.
            continue
        name, held = operation.name, constants[operation.name]
        # Those of norms may be negative.
        multipliers = (held.multiplier, *(multiplier for multiplier, _ in held.border_scales.values()))
        most = max(int(np.max(np.abs(each.astype(np.int64)), initial=0)) for each in multipliers)
        if most >= 1 << bits:
            raise WorkloadError(
                f"{name}: its multiplier {most} has {most.bit_length()} bits, more than scale_bits ({bits}) of {config.name}; "
                f"quantise scales to {bits} bits (podweave.ir.quantise.quantize_scale, or podweave.ir.constants.with_scale_bits)"
            )
        if held.zero_point and not config.post.zero_points:
            raise WorkloadError(
                f"{name}: its results have the zero point {held.zero_point}, and {config.name} adds none (zero_points of [post]); "
                "podweave.ir.constants.without_zero_points puts them into biases"
            )
        if config.post.sum_bits < _WHOLE and isinstance(operation, Linear):
            _require_sums_kept(operation, held, config.name, config.post.sum_bits)


def _require_sums_kept(operation: Linear, held: Parameters, name: str, bits: int) -> None:
    """Sums of more than ``bits`` bits must give -128 or 127, as the saturated ones do; or there are none."""
    multiplier, shift = (part.astype(np.int64) for part in np.broadcast_arrays(held.multiplier, held.shift))
    # What is just beyond ``bits`` bits is 2**(bits - 1), and must become 128 or more; with a zero point, which may take
    # as much off, 256.
    least = bits - (9 if held.zero_point else 8)
    kept = (multiplier << least >= np.int64(1) << shift) | (multiplier == 0)
    if kept.all():
        return
    largest = _largest_sums(operation, held)
    lost = ~kept & (largest >= 1 << bits - 1)
    if lost.any():
        channel = int(np.flatnonzero(lost)[0])
        m, s = (np.broadcast_to(part, largest.shape)[channel] for part in (multiplier, shift))
        raise WorkloadError(
            f"{operation.name}: sums of channel {channel} may be {largest[channel]}, more than sum_bits ({bits}) of {name} hold, "
            f"and its scale is {m} / 2**{s}: then it must be at least 2**-{least}; quantise its weights in larger steps"
        )


def _largest_sums(operation: Linear, held: Parameters) -> NDArray[np.int64]:
    """Of each output, the largest magnitude that a sum with its bias can have, whatever the inputs."""
    total = np.zeros(operation.output[3], np.int64)
    for weights in held.weights:
        total = total + 128 * np.abs(weights.astype(np.int64)).sum(axis=(0, 1, 2))
    if operation.window is not None and operation.window.reduce == "sum":
        total = total * int(np.prod(operation.window.kernel))
    # Sums are modulo 2**32.
    return np.minimum(total, 1 << 31) + np.abs(held.bias.astype(np.int64))
