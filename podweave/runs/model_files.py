"""Networks of ONNX files as jobs: their constants as a configuration takes them, and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters, with_scale_bits, without_zero_points
from podweave.ir.frontends.onnx import Network
from podweave.spec.config import ChipConfig

from .jobs import Job, in_batches, stream_passes


def fitted(constants: Mapping[str, Parameters], config: ChipConfig) -> Constants:
    """With multipliers of as many bits as the post-processors have, and zero points in biases where they add none."""
    adds = config.post is not None and config.post.zero_points
    # Zero points first: they are in units of the scales of the file.
    return with_scale_bits(constants if adds else without_zero_points(constants), config.scale_bits)


def keeps_numbers(network: Network, config: ChipConfig) -> list[str]:
    """What a configuration changes of the numbers of a file, in words; nothing where results are those of the file."""
    found = []
    if config.rounding != "half_even":
        found.append('a half is rounded away from zero (rounding = "half_even")')
    fewer = with_scale_bits(network.constants, config.scale_bits)
    count = sum(bool((_scales(held) != _scales(fewer[name])).any()) for name, held in network.constants.items())
    if count:
        found.append(f"scales of {count} operations are rounded to {config.scale_bits} bits (scale_bits = 24)")
    count = sum(held.zero_point != 0 for held in network.constants.values())
    if count and not (config.post and config.post.zero_points):
        found.append(f"zero points of {count} operations are rounded to units of their sums (zero_points = true)")
    return found


def _scales(held: Parameters) -> NDArray[np.float64]:
    return np.ldexp(held.multiplier.astype(np.float64), -held.shift)


def random_inputs(network: Network, seed: int, index: int = 0) -> dict[str, NDArray[np.int8]]:
    """Uniform int8, the same for the same seed; ``index``: of a pass."""
    rng = np.random.default_rng([seed, index])
    return {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in network.graph.inputs.items()}


def file_job(network: Network, config: ChipConfig, seed: int, *, images: int | None = None, batch: int | None = None) -> Job:
    """A network of a file on random inputs; on so many ``images``, as many passes as those take, of ``batch`` images each."""
    alone, network = network.graph, replace(network, graph=in_batches(network.graph, batch))
    passes = stream_passes(network.graph, images) if images else 1
    first, *more = (random_inputs(network, seed, index) for index in range(passes))
    return Job(network.graph, fitted(network.constants, config), first, tuple(more), alone=alone if images else None)
