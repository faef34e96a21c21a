"""What lies in memory before a run, as the device is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from podweave.spec.register_types import MAX_EPOCHS

from ..rows.program import ChipEpoch, RowProgram
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


def require_passes(programs: Sequence[ChipEpoch], passes: int, *, alone: bool) -> None:
    """Raises `WorkloadError` for passes over the epochs of a network that there cannot be. ``alone``: nothing in its memory is
    another's, or changes from run to run but inputs and outputs."""
    config, epochs = programs[0].config, len(programs)
    if passes == 1:
        return
    if not 1 <= passes <= config.passes:
        has = f"at most {config.passes}" if config.passes else "one"
        raise WorkloadError(f"{passes} passes asked for, a run on {config.name} has {has} (pass_bits of [prefetch])")
    if passes * epochs > MAX_EPOCHS:
        raise WorkloadError(f"{passes} passes of {epochs} epochs are {passes * epochs} epochs, a run has at most {MAX_EPOCHS}")
    rows = [program for program in programs if isinstance(program, RowProgram)]
    if not alone or any(program.appended or any(words.place for words in program.words) for program in rows):
        raise WorkloadError("networks with caches, offsets or collectives, or in a shared memory, have one pass in a run")


@dataclass(frozen=True)
class MemoryImage:
    """``content``: (first byte, bytes) of what must be written once; the rest of the memory may hold anything.

    Channel m begins at m * ``channel_bytes``. ``demand``, ``prefetch``: the rings of each manager. ``offsets``: inputs that are
    base registers. ``first_collective``: epoch of the first collective, or `NO_COLLECTIVE`. ``warm_demand``, ``warm_prefetch``: the
    rings of a run on a chip as a run before has left it: what still lies there is not loaded again. None if every run loads all.
    ``passes``: how often one start may go over the network. ``inputs`` and ``outputs`` are those of the first pass, ``pass_bytes``
    from those of the next.
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
    warm_demand: tuple[Ring, ...] = ()
    warm_prefetch: tuple[Ring, ...] = ()
    passes: int = 1
    pass_bytes: int = 0

    def rings(self, *, warm: bool = False) -> tuple[tuple[Ring, ...], tuple[Ring, ...]]:
        """The demand and the prefetch ring of each manager, of a cold run or of a warm one."""
        return (self.warm_demand, self.warm_prefetch) if warm else (self.demand, self.prefetch)

    @property
    def may_stay(self) -> bool:
        """Whether there are warm runs."""
        return bool(self.warm_demand)

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

    def loaded_bytes(self, *, warm: bool = False, passes: int | None = None) -> int:
        """Bytes that are loaded in a run, descriptors included; by default one of all passes."""
        total = 0
        for ring in (ring for rings in self.rings(warm=warm) for ring in rings):
            order, _ = ring.order(self.passes if passes is None else passes)
            fields = {name: ring.fields[name][order] for name in ("select", "kind", "n0", "n1", "n2")}
            total += DESCRIPTOR_BYTES * len(order)
            for select in np.unique(fields["select"]).tolist():
                loads = (fields["select"] == select) & (fields["kind"] == DescriptorKind.LOAD)
                words = fields["n0"] * fields["n1"] * fields["n2"]
                total += int(words[loads].sum()) * memory_stride(self.config, HostSelect(select))
        return total
