"""The exact model of runs over AXI, for what the compiler made."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.jobs import Jobs
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.rings import Ring
from podweave.compiler.rows.program import ChipEpoch, RowProgram
from podweave.golden.cycle.accelerator.run import COLLECTIVE_COUNTERS, ENGINE_START, EngineProgram, RunFigures, finished, run_steps
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.golden.cycle.memory.hbm import HbmChannel, Piece
from podweave.golden.cycle.prefetch.words import Descriptor
from podweave.spec.config_parts import FILL_CYCLES
from podweave.spec.descriptors import DESCRIPTOR_BYTES, DescriptorKind, loadable, memory_stride, word_bytes
from podweave.spec.load_port import HostSelect

from .chip import predict
from .engine_geometry import engine_geometry
from .memory_timing import HbmTiming


@dataclass(frozen=True)
class Prediction:
    """``cycles``: from start to done. ``counters``: of the device by name; ``nodes``: by name, one value per node.

    ``hbm_cycles``: that the beats of the busiest manager take at the memory's bandwidth. ``timeline``: per epoch, its operations,
    the cycle in which loading for it may begin (when that for the epoch before is complete; without prefetch, when that epoch is
    over too) and ends, its first and last cycle, its own cycles, cycles waited for words after the epoch before (of them, for
    prefetch rings), multiplications of the operations that end in it, and bytes loaded; of a collective, for how many of its cycles
    the neighbour's first word was waited for. ``ahead``: of each manager, when beats for its prefetch ring come, (pieces, 2): the
    first beat of a piece, in sixteenths of a cycle, and how many follow each other at the memory's rate; ``others``: all others
    that are read.
    """

    cycles: int
    hbm_cycles: int
    counters: dict[str, int]
    nodes: dict[str, NDArray[np.int64]]
    timeline: list[dict[str, Any]]
    ahead: tuple[NDArray[np.int64], ...] = ()
    others: tuple[NDArray[np.int64], ...] = ()

    @property
    def compute_cycles(self) -> int:
        """Those of all epochs."""
        return sum(epoch["cycles"] for epoch in self.timeline)


class AcceleratorRun:
    """A run of a network, of which everything is known but how long collectives take.

    ``beneath``: whether words may be prefetched in collectives. ``bases``: of base registers 1 and on; the others are 0. ``warm``:
    the chip is as a run of this network has left it. ``passes``: of the run, by default all that its memory is for.
    """

    def __init__(
        self,
        network: CompiledNetwork,
        timing: HbmTiming,
        *,
        prefetch: bool = True,
        beneath: bool = True,
        cap: int = 0,
        bases: tuple[int, ...] = (),
        warm: bool = False,
        passes: int | None = None,
    ):
        self.network, self.timing, self.prefetch, self.beneath = network, timing, prefetch, beneath
        self.cap, self.bases = cap, bases
        self.rings = network.memory.rings(warm=warm)
        self.passes = network.memory.passes if passes is None else passes
        of_pass = [None if isinstance(program, CollectiveProgram) else predict(program) for program in network.epochs]
        self.programs = network.epochs * self.passes
        self.epochs: tuple[ChipFigures | None, ...] = tuple(of_pass * self.passes)
        """None: of a collective."""

    def steps(self) -> Generator[int, int, RunFigures]:
        """As `run_steps`."""
        image, config = self.network.memory, self.network.config
        programs = []
        for m in range(config.managers):
            base, end = m * image.channel_bytes, (m + 1) * image.channel_bytes
            channel = HbmChannel(self.timing.of_channel(m), beat_bytes=config.host_bits // 8, base=base, end=end)
            demand, prefetch = (rings[m] for rings in self.rings)
            ordered = _descriptors(demand, self.passes), _descriptors(prefetch, self.passes)
            sizes, bodies = (len(demand), len(prefetch)), (demand.body, prefetch.body)
            programs.append(EngineProgram(ordered, (demand.base, prefetch.base), channel, sizes, bodies))
        return run_steps(
            engine_geometry(config),
            programs,
            [figures.cycles if figures else None for figures in self.epochs],
            fill_cycles=FILL_CYCLES,
            memory_bytes=image.memory_bytes,
            bases=self.bases,
            prefetch=self.prefetch,
            beneath=self.beneath,
            cap=self.cap,
            passes=self.passes,
            pass_stride=image.pass_bytes,
        )

    def identity(self) -> Hashable:
        """All that `steps` and `prediction` depend on, but for timing and options: runs with the same, and with collectives that
        take as long, are the same."""
        image = self.network.memory
        rings = tuple((ring.base, _bytes(ring.fields)) for each in (image.demand, image.prefetch) for ring in each)
        epochs = tuple(figures and (figures.cycles, _bytes(figures.counters)) for figures in self.epochs)
        work = tuple((*one["operations"], one["macs"]) for one in map(_work, self.network.epochs))
        return repr(self.network.config), image.channel_bytes, image.memory_bytes, rings, epochs, work, self.bases

    def prediction(self, run: RunFigures) -> Prediction:
        """What a run took, by names."""
        network, image = self.network, self.network.memory
        own = [figures.counters for figures in self.epochs if figures]
        nodes = {name: np.sum([counters[name] for counters in own], axis=0) for name in own[0]}
        timeline, before, ended = [], 0, 0
        loaded = _bytes_by_tag(image, self.rings, self.passes)
        for number, (times, program, figures) in enumerate(zip(run.epochs, self.programs, self.epochs, strict=True)):
            timeline.append(
                {
                    **_work(program),
                    "load_begins": before if self.prefetch else max(before, ended),
                    "loaded": times.loaded,
                    "begins": times.begins,
                    "ends": times.ends,
                    "cycles": figures.cycles if figures else times.ends + 1 - times.begins,
                    "waits": times.begins - ended - 1,
                    "for_prefetch": times.for_prefetch,
                    "bytes": int(loaded[number]),
                }
            )
            before, ended = times.loaded, times.ends
        beats = max(_beats(image, self.rings, self.passes, m) for m in range(network.config.managers))
        counters = {name: value for name, value in run.counters.items() if network.config.links or name not in COLLECTIVE_COUNTERS}
        arrivals = [tuple(map(_arrivals, each)) for each in zip(*((one.ahead, one.others) for one in run.engines), strict=True)]
        return Prediction(run.cycles, beats * self.timing.beat_sixteenths // 16, counters, nodes, timeline, *arrivals)


def predict_accelerator(
    network: CompiledNetwork,
    timing: HbmTiming,
    *,
    prefetch: bool = True,
    cap: int = 0,
    bases: tuple[int, ...] = (),
    warm: bool = False,
    passes: int | None = None,
) -> Prediction:
    """Cycles and counters of a run of one chip, without RTL. ``bases``: of base registers 1 and on; the others are 0. ``warm``: the
    chip is as a run of this network has left it. ``passes``: of the run, by default all that its memory is for.

    Raises `ValueError` for a network with collectives, of which `predict_system` knows how long they take.
    """
    if network.collectives:
        raise ValueError(f"{network.graph.name} has collectives: how long they take depends on the other chips")
    run = AcceleratorRun(network, timing, prefetch=prefetch, cap=cap, bases=bases, warm=warm, passes=passes)
    return run.prediction(finished(run.steps()))


_LOADED = {
    HostSelect.W: "weights",
    HostSelect.X: "activations_loaded",
    HostSelect.LOAD_STORE: "jobs",
    HostSelect.STREAM_STORE: "jobs",
    HostSelect.POST_STORE: "jobs",
    HostSelect.PARAMETERS: "parameters",
    HostSelect.TABLE: "parameters",
}
"""What words are that are loaded."""


def bytes_by_kind(image: MemoryImage, *, warm: bool = False) -> dict[str, int]:
    """Bytes of the beats of all data buses in a run of all passes, by what they are.

    ``weights``; ``activations_loaded``, inputs among them; ``activations_stored``, outputs among them; ``jobs`` of all program
    stores; ``parameters``, of post-processors, with activation tables; ``descriptors``; ``others``.
    """
    beat = image.config.host_bits // 8
    found = dict.fromkeys([*dict.fromkeys(_LOADED.values()), "activations_stored", "descriptors", "others"], 0)
    for _, fields, moved in _moved(image, image.rings(warm=warm), image.passes):
        found["descriptors"] += DESCRIPTOR_BYTES * len(moved)
        whole = -(-moved // beat) * beat
        for select in np.unique(fields["select"]).tolist():
            mine, loads = fields["select"] == select, fields["kind"] == DescriptorKind.LOAD
            found[_LOADED.get(HostSelect(select), "others")] += int(whole[mine & loads].sum())
            stored = "activations_stored" if select == HostSelect.X else "others"
            found[stored] += int(whole[mine & ~loads].sum())
    return found


def _arrivals(pieces: list[Piece]) -> NDArray[np.int64]:
    """In cycles of the run."""
    return np.array(pieces, np.int64).reshape(-1, 2) + np.array([16 * ENGINE_START, 0])


def _bytes(arrays: Mapping[str, NDArray[np.int64]]) -> Hashable:
    return tuple((name, values.shape, values.dtype.str, values.tobytes()) for name, values in arrays.items())


def _work(program: ChipEpoch) -> dict[str, Any]:
    """Operations that have jobs in an epoch, or whose sums are added; whether it is a collective; multiplications of those that
    end in it."""
    if isinstance(program, CollectiveProgram):
        return {"operations": [program.operation], "collective": True, "macs": 0}
    active = program.active if isinstance(program, RowProgram) else program.operations
    return {
        "operations": [program.operation(index).name for index in active],
        "collective": False,
        "macs": sum(program.operation(index).macs for index in program.operations),
    }


def _descriptors(ring: Ring, passes: int) -> list[Descriptor]:
    """In the order in which a run goes over them, turns not added."""
    names = [name for name in ring.fields if not name.startswith("reserved")]
    columns = [ring.fields[name].tolist() for name in names]
    once = [Descriptor(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    return [once[index] for index in ring.order(passes)[0].tolist()]


Rings = tuple[tuple[Ring, ...], tuple[Ring, ...]]
"""The demand rings and the prefetch rings of all managers."""


def _moved(image: MemoryImage, both: Rings, passes: int) -> Iterator[tuple[int, Jobs, NDArray[np.int64]]]:
    """Of each ring its manager, its descriptors in the order in which a run goes over them, with turns added to tags, and the bytes
    of the beats that each moves."""
    config = image.config
    strides = {int(select): memory_stride(config, select) for select in loadable(config)}
    # A lane of a column store is a beat.
    columns = {int(select): word_bytes(config, select) * config.host_bits // 8 for select in loadable(config)}
    for rings in both:
        for m, ring in enumerate(rings):
            order, turns = ring.order(passes)
            fields = {name: values[order] for name, values in ring.fields.items()}
            fields["tag"] = fields["tag"] + turns * image.epochs
            runs = fields["n1"] * fields["n2"] * (fields["kind"] != DescriptorKind.NOP)
            stride, column = (np.array([of[select] for select in fields["select"].tolist()], np.int64) for of in (strides, columns))
            yield m, fields, runs * np.where(fields["column"] == 1, column, fields["n0"] * stride)


def _bytes_by_tag(image: MemoryImage, rings: Rings, passes: int) -> NDArray[np.int64]:
    """Bytes that are loaded, descriptors included."""
    total = np.zeros(passes * image.epochs + 1, np.int64)
    for _, fields, moved in _moved(image, rings, passes):
        loads = fields["kind"] == DescriptorKind.LOAD
        np.add.at(total, fields["tag"], moved * loads + DESCRIPTOR_BYTES)
    return total


def _beats(image: MemoryImage, rings: Rings, passes: int, manager: int) -> int:
    """Beats of a manager's data bus; what the compiler placed begins at a beat."""
    beat = image.config.host_bits // 8
    return int(
        sum((-(-moved // beat) + DESCRIPTOR_BYTES // beat).sum() for m, _, moved in _moved(image, rings, passes) if m == manager)
    )
