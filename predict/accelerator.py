"""The exact model of runs over AXI, for what the compiler made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.rings import Ring
from podweave.compiler.rows.program import RowProgram
from podweave.golden.cycle.accelerator.run import EngineProgram, predict_run
from podweave.golden.cycle.memory.hbm import HbmChannel
from podweave.golden.cycle.prefetch.words import Descriptor
from podweave.spec.config_parts import FILL_CYCLES
from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind, loadable, memory_stride, word_bytes

from .chip import predict
from .engine_geometry import engine_geometry
from .memory_timing import HbmTiming


@dataclass(frozen=True)
class Prediction:
    """``cycles``: from start to done. ``counters``: of the device by name; ``nodes``: by name, one value per node.

    ``hbm_cycles``: that the beats of the busiest manager take at the memory's bandwidth. ``timeline``: per epoch, its operations,
    the cycle in which loading for it may begin (when that for the epoch before is complete; without prefetch, when that epoch is
    over too) and ends, its first and last cycle, its own cycles, cycles waited for words after the epoch before (of them, for
    prefetch rings), multiplications of the operations that end in it, and bytes loaded.
    """

    cycles: int
    hbm_cycles: int
    counters: dict[str, int]
    nodes: dict[str, NDArray[np.int64]]
    timeline: list[dict[str, Any]]

    @property
    def compute_cycles(self) -> int:
        """Those of all epochs."""
        return sum(epoch["cycles"] for epoch in self.timeline)


def predict_accelerator(
    network: CompiledNetwork, timing: HbmTiming, *, prefetch: bool = True, cap: int = 0, bases: tuple[int, ...] = ()
) -> Prediction:
    """Cycles and counters of a run, without RTL. ``bases``: of base registers 1 and on; the others are 0."""
    image, config = network.memory, network.config
    beat = config.host_bits // 8
    programs = []
    for m in range(config.managers):
        channel = HbmChannel(timing.of_channel(m), beat_bytes=beat, base=m * image.channel_bytes, end=(m + 1) * image.channel_bytes)
        rings = tuple(_descriptors(ring) for ring in (image.demand[m], image.prefetch[m]))
        programs.append(EngineProgram(rings, (image.demand[m].base, image.prefetch[m].base), channel))  # type: ignore[arg-type]
    epochs = tuple(predict(program) for program in network.epochs)
    cycles = [figures.cycles for figures in epochs]
    run = predict_run(
        engine_geometry(config),
        programs,
        cycles,
        fill_cycles=FILL_CYCLES,
        memory_bytes=image.memory_bytes,
        bases=bases,
        prefetch=prefetch,
        cap=cap,
    )
    nodes = {name: np.sum([figures.counters[name] for figures in epochs], axis=0) for name in epochs[0].counters}
    timeline, before, ended = [], 0, 0
    loaded = _bytes_by_tag(image)
    for number, (times, program, own) in enumerate(zip(run.epochs, network.epochs, cycles, strict=True)):
        timeline.append(
            {
                "operations": [program.operation(index).name for index in _operations(program)],
                "load_begins": before if prefetch else max(before, ended),
                "loaded": times.loaded,
                "begins": times.begins,
                "ends": times.ends,
                "cycles": own,
                "waits": times.begins - ended - 1,
                "for_prefetch": times.for_prefetch,
                "macs": sum(program.operation(index).macs for index in program.operations),
                "bytes": int(loaded[number]),
            }
        )
        before, ended = times.loaded, times.ends
    beats = max(_beats(image, m) for m in range(config.managers))
    return Prediction(run.cycles, beats * timing.beat_sixteenths // 16, run.counters, nodes, timeline)


def _operations(program: EpochProgram | RowProgram) -> tuple[int, ...]:
    """Those that have jobs in an epoch."""
    return program.active if isinstance(program, RowProgram) else program.operations


def _descriptors(ring: Ring) -> list[Descriptor]:
    names = [name for name in ring.fields if not name.startswith("reserved")]
    columns = [ring.fields[name].tolist() for name in names]
    return [Descriptor(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _moved(image: MemoryImage) -> Iterator[tuple[int, Ring, NDArray[np.int64]]]:
    """Manager, ring, and the bytes of the beats that each of its descriptors moves."""
    config = image.config
    strides = {int(select): memory_stride(config, select) for select in loadable(config)}
    # A lane of a column store is a beat.
    columns = {int(select): word_bytes(config, select) * config.host_bits // 8 for select in loadable(config)}
    for rings in (image.demand, image.prefetch):
        for m, ring in enumerate(rings):
            fields = ring.fields
            runs = fields["n1"] * fields["n2"] * (fields["kind"] != DescriptorKind.NOP)
            stride, column = (np.array([of[select] for select in fields["select"].tolist()], np.int64) for of in (strides, columns))
            yield m, ring, runs * np.where(fields["column"] == 1, column, fields["n0"] * stride)


def _bytes_by_tag(image: MemoryImage) -> NDArray[np.int64]:
    """Bytes that are loaded, descriptors included."""
    total = np.zeros(image.epochs + 1, np.int64)
    for _, ring, moved in _moved(image):
        loads = ring.fields["kind"] == DescriptorKind.LOAD
        np.add.at(total, ring.fields["tag"], moved * loads + DESCRIPTOR_BYTES)
    return total


def _beats(image: MemoryImage, manager: int) -> int:
    """Beats of a manager's data bus; what the compiler placed begins at a beat."""
    beat = image.config.host_bits // 8
    return int(sum((-(-moved // beat) + DESCRIPTOR_BYTES // beat).sum() for m, _, moved in _moved(image) if m == manager))
