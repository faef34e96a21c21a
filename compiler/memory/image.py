"""What lies in memory before a run, as the device is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Append
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind, memory_stride
from podweave.spec.links import NO_COLLECTIVE
from podweave.spec.load_port import HostSelect

from .rings import Ring
from .tensors import TensorMap


@dataclass(frozen=True)
class OffsetMap:
    """An input that is no bytes in memory, but moves stores: at most by ``most``.

    ``columns``, ``rows``: the base registers of stores of columns and of rows, of which each further one is ``row_bytes`` away.
    """

    columns: int
    rows: int
    row_bytes: int
    most: int

    def bases(self, offset: int) -> dict[int, int]:
        """By base register, its value."""
        return {self.columns: offset, self.rows: offset * self.row_bytes}


def offset_maps(graph: Graph, config: ChipConfig) -> dict[str, OffsetMap]:
    """Two base registers for each offset. Raises `WorkloadError` if there are too few."""
    prefetch, found = config.prefetch, dict[str, OffsetMap]()
    assert prefetch is not None
    for each in graph.operations if isinstance(graph, RowGraph) else ():
        if isinstance(each, Append) and each.offset:
            first = found[each.offset].columns if each.offset in found else 2 * len(found) + 1
            most = min(each.span - each.rows, found[each.offset].most if each.offset in found else each.span)
            found[each.offset] = OffsetMap(first, first + 1, memory_stride(config, HostSelect.W), most)
    if 2 * len(found) > prefetch.base_registers:
        raise WorkloadError(
            f"{graph.name}: {', '.join(found)} take {2 * len(found)} base registers, {config.name} has "
            f"{prefetch.base_registers} (base_registers)"
        )
    return found


@dataclass(frozen=True)
class MemoryImage:
    """``content``: (first byte, bytes) of what must be written once; the rest of the memory may hold anything.

    Channel m begins at m * ``channel_bytes``. ``demand``, ``prefetch``: the rings of each manager. ``offsets``: inputs that are
    base registers. ``first_collective``: epoch of the first collective, or `NO_COLLECTIVE`.
    """

    config: ChipConfig
    epochs: int
    channel_bytes: int
    content: tuple[tuple[int, NDArray[np.uint8]], ...]
    demand: tuple[Ring, ...]
    prefetch: tuple[Ring, ...]
    inputs: dict[str, TensorMap]
    outputs: dict[str, TensorMap]
    offsets: dict[str, OffsetMap] = field(default_factory=dict)
    first_collective: int = NO_COLLECTIVE

    def bases(self, inputs: Mapping[str, NDArray]) -> tuple[int, ...]:
        """Values of the base registers, from number 1 on, in a run on ``inputs``."""
        prefetch = self.config.prefetch
        assert prefetch is not None
        found = {
            number: value for name, each in self.offsets.items() for number, value in each.bases(int(inputs[name].item())).items()
        }
        return tuple(found.get(number, 0) for number in range(1, prefetch.base_registers + 1))

    @property
    def memory_bytes(self) -> int:
        return self.channel_bytes * self.config.managers

    @property
    def loaded_bytes(self) -> int:
        """Bytes that are loaded in a run, descriptors included."""
        total = 0
        for ring in (*self.demand, *self.prefetch):
            total += DESCRIPTOR_BYTES * len(ring)
            for select in np.unique(ring.fields["select"]).tolist():
                loads = (ring.fields["select"] == select) & (ring.fields["kind"] == DescriptorKind.LOAD)
                words = ring.fields["n0"] * ring.fields["n1"] * ring.fields["n2"]
                total += int(words[loads].sum()) * memory_stride(self.config, HostSelect(select))
        return total
