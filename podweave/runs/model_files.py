"""Networks of ONNX files as jobs: their constants as a configuration takes them, and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.ir.arrays import ArraysError, read_arrays
from podweave.ir.constants import Constants, Parameters, with_scale_bits, without_zero_points
from podweave.ir.frontends.onnx import LIMITS, Network
from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig

from .jobs import Job, stream_passes


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
    """Uniform integers, the same for the same seed; ``index``: of a pass."""
    rng = np.random.default_rng([seed, index])
    found = {}
    for name, shape in network.given.items():
        form = network.tensors[name].form
        found[name] = rng.integers(*LIMITS[form], shape, dtype=form.dtype, endpoint=True)
    return network.with_caches(found)


def arrays_of(path: Path) -> dict[str, NDArray]:
    """Those of a ``.npz``; raises `WorkloadError` if it is none."""
    try:
        return read_arrays(path)
    except (OSError, ArraysError) as error:
        raise WorkloadError(f"{path} is no file of arrays (.npz): {error}") from error


def require_numbers(path: Path, name: str, values: NDArray) -> None:
    """Raises `WorkloadError` unless all of an array are finite real numbers or integers."""
    if values.dtype.kind not in "fiub":
        raise WorkloadError(f"{path}: {name} must be real numbers or integers, got {values.dtype}")
    count = int(np.count_nonzero(~np.isfinite(values)))
    if count:
        raise WorkloadError(f"{path}: {count:,} of {values.size:,} numbers of {name} are infinite, or no number")


def quantised_inputs(network: Network, given: Mapping[str, NDArray]) -> dict[str, NDArray[np.int8]]:
    """One batch of inputs, by their names in the file, as the graph takes them."""
    found = {}
    for name in network.given:
        tensor = network.tensors[name]
        found[name] = tensor.to_graph(_integers(network, name, given[tensor.name]))
    return network.with_caches(found)


def file_inputs(network: Network, path: Path) -> list[dict[str, NDArray[np.int8]]]:
    """Inputs of a ``.npz``, under the names that the network's file has for them: of one or several batches.

    Real numbers are quantised as the file does it. Raises `WorkloadError` for what does not fit.
    """
    given = arrays_of(path)
    wanted = {network.tensors[name].name: name for name in network.given}
    if set(given) != set(wanted):
        raise WorkloadError(f"{path} must have {', '.join(sorted(wanted))}, got {', '.join(sorted(given)) or 'nothing'}")
    passes: list[dict[str, NDArray[np.int8]]] = []
    for key, name in wanted.items():
        tensor, values = network.tensors[name], given[key]
        require_numbers(path, key, values)
        sizes = tensor.view.sizes
        if values.ndim != len(sizes) or values.shape[1:] != sizes[1:] or not len(values) or len(values) % sizes[0]:
            raise WorkloadError(
                f"{path}: {key} must be {list(sizes)}, or several of them one after the other, got {list(values.shape)}"
            )
        parts = [tensor.to_graph(_integers(network, name, part)) for part in np.split(values, len(values) // sizes[0])]
        passes = passes or [{} for _ in parts]
        if len(parts) != len(passes):
            raise WorkloadError(f"{path}: {key} is for {len(parts)} passes, others for {len(passes)}")
        for one, part in zip(passes, parts, strict=True):
            one[name] = part
    return [network.with_caches(one) for one in passes]


def _integers(network: Network, name: str, values: NDArray) -> NDArray:
    """The integers of the file, as QuantizeLinear makes them."""
    tensor = network.tensors[name]
    dtype = tensor.dtype
    # Those of 16 bits end where two planes do.
    least, most = (end + tensor.offset for end in LIMITS[tensor.form])
    if name not in network.real_inputs:
        if values.dtype != dtype:
            raise WorkloadError(f"{tensor.name} must be {dtype}, got {values.dtype}")
        return values.clip(least, most).astype(dtype)
    assert tensor.scale is not None
    scaled = np.rint(values.astype(np.float32) / tensor.scale) + (tensor.zero_point + tensor.offset)
    return np.clip(scaled, least, most).astype(dtype)


def file_job(network: Network, config: ChipConfig, seed: int, *, images: int | None = None, inputs: Path | None = None) -> Job:
    """A network of a file on the ``inputs`` of another, or on random ones; on so many ``images``, as many passes as those take."""
    if inputs:
        first, *more = file_inputs(network, inputs)
    else:
        passes = stream_passes(network.graph, images) if images else 1
        first, *more = (random_inputs(network, seed, index) for index in range(passes))
    return Job(network.graph, fitted(network.constants, config), first, tuple(more), alone=network.graph if images else None)
