"""Points of studies: one network on one chip by the exact model, computed on all cores or on a cluster, kept by content."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from podweave import compiler, golden, ir, predict, spec, studies
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.processes.pool import pool_of
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, ConfigError, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig
from podweave.tb.build.kept import cache_directory, read_json, write_json
from podweave.tb.build.sources import sources_hash
from podweave.tb.build.toolchain import ToolchainError

from ..program import extra
from ..runs.chip import model_network
from ..runs.workloads import load_graph
from .counts import MOST_PODS, gemms, macs, packed_cycles, tera_ops

Progress = Callable[[str], None]
Figures = dict[str, Any]
Changes = Mapping[str, int | str]
Computed = Generator[tuple[str, Figures], None, None]


class Work(Protocol):
    """What a sweep computes; it can be sent to another process."""

    def identity(self) -> object:
        """All that its figures depend on beside the sources of podweave; equal figures if its ``repr`` is equal."""

    def cost(self) -> float:
        """How long it takes, relative to other work."""

    def figures(self) -> Figures: ...


COMPUTING = tuple(Path(str(room.__file__)).parent for room in (spec, ir, golden, compiler, predict, studies))
"""Folders whose content decides figures."""
# What shows figures does not change them: a new colour of a plot must not throw away hours of compiling.
SHOWING = tuple(Path(__file__).with_name(f"{name}.py") for name in ("run", "frame", "sweeps", "decode", "preserve", "tables"))


@dataclass(frozen=True)
class Point:
    """``series``: where in the sweep it stands, as tables name it. ``changes``: fields of `study_config`'s chip that differ.

    ``partition``: that of `compiler.chip.epoch_scheduler.compile_graph`. ``study`` and ``series`` do not change its figures:
    studies share points.
    """

    study: str
    network: str
    series: str
    changes: tuple[tuple[str, int | str], ...] = ()
    partition: int | None = None

    def identity(self) -> object:
        # The graph itself, not its name: a CSV file may change under its name.
        return (sorted(self.changes), self.partition, repr(study_graph(self.network)))

    def cost(self) -> float:
        return macs(gemms(study_graph(self.network)))

    def figures(self) -> Figures:
        return run_point(self)


def study_config(changes: Changes) -> ChipConfig:
    """SOSA's chip with fields changed: 256 pods of 32x32 in 16x16 groups, two planes of Y, and stores too large to be felt.

    Stores grow as pods become fewer or arrays smaller, so that a network that fits one chip of a sweep fits the others.
    """
    fields = dict(changes)
    kind = fields.pop("kind", "butterfly")
    pods, rows = int(fields.pop("pods", 256)), int(fields.pop("rows", 32))
    cols = int(fields.pop("cols", rows))
    if not 2 <= pods <= MOST_PODS:
        raise ConfigError(f"pods of a study must be between 2 and {MOST_PODS}, got {pods}")
    more = MOST_PODS // pods * max(1, 32 // max(1, min(rows, cols)))
    jobs = min(2**20, 65536 * more)
    array = ArrayConfig(rows=rows, cols=cols, group_rows=min(rows, 16), group_cols=min(cols, 16), psum_width=32)
    config = ChipConfig(
        name="study",
        pods=pods,
        pod=PodConfig(array=array, accumulator_rows=128),
        memory=MemoryConfig(
            banks=pods,
            y_planes=2,
            x_words=min(2**22, 65536 * more),
            w_words=min(2**22, 65536 * more),
            p_words=min(2**22, 8192 * more),
        ),
        network=NetworkConfig(kind="butterfly", pipeline=2),
        post=PostConfig(parameter_sets=min(65536, 1024 * more)),
        program=ProgramConfig(load_jobs=jobs, stream_jobs=jobs, post_jobs=jobs),
    ).replace(**fields)
    return _crossbar(config) if kind == "crossbar" else config


def is_model_only(config: ChipConfig) -> bool:
    """Whether the generator would refuse the chip: it breaks the rule on how wide a crossbar in one module may be."""
    try:
        config.replace()
    except ConfigError:
        return True
    return False


def _crossbar(config: ChipConfig) -> ChipConfig:
    # The rule on a crossbar's width is one of Verilog emission (bits of one module). The exact model emits nothing, and SOSA's
    # comparison is of 128 and 256 ports: everything else was checked with the butterfly, and figures say `model_only`.
    changed = copy.copy(config)
    object.__setattr__(changed, "network", NetworkConfig(kind="crossbar", pipeline=config.network.pipeline))
    return changed


@functools.lru_cache(maxsize=64)
def study_graph(network: str) -> Graph:
    """A network as studies compile it; raises `WorkloadError` for a name that none has, and for rows."""
    graph = load_graph(network)
    if isinstance(graph, RowGraph):
        raise WorkloadError(f"{network} has operations on rows, and studies are of networks of layers")
    return graph


def run_point(point: Point) -> Figures:
    """What the exact model says of a point, or ``{"refused": sentence}`` if the chip is illegal or the network does not fit.

    ``tops`` and ``utilization`` count the MACs of the network's GEMMs only. ``busy``: share of pod cycles in which a word of
    activations streams, those of poolings and residual additions among them. ``tile_share``: what the bound of perfectly packed
    tiles is of the cycles.
    """
    graph = study_graph(point.network)
    try:
        config = study_config(dict(point.changes))
        report = model_network(graph, config, partition=point.partition)
    except (ConfigError, WorkloadError) as error:
        return {"refused": str(error)}
    sizes = gemms(graph)
    cycles, count = report["cycles"], macs(sizes)
    array = min(config.array.rows, config.array.cols)
    return {
        "pods": config.pods,
        "cycles": cycles,
        "macs": count,
        "tops": tera_ops(count, cycles),
        "busy": report["busy"],
        "utilization": count / (cycles * config.pods * config.array.multipliers),
        "tile_share": packed_cycles(sizes, config.pods, array) / cycles,
        "used": report["used"],
        "jobs": report["jobs"],
        "model_only": is_model_only(config),
        "compile_s": report["wall_s"]["compile"],
        "model_s": report["wall_s"]["model"],
    }


@functools.cache
def sources_version() -> str:
    """A hash of all sources that can change a figure."""
    return sources_hash(COMPUTING, without=SHOWING)


def point_key(point: Work) -> str:
    """Points of equal key have equal figures."""
    identity = (point.identity(), sources_version())
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:24]


def store_directory() -> Path:
    return cache_directory() / "studies"


def stored_figures(key: str) -> Figures | None:
    found = read_json(store_directory() / f"{key}.json")
    return found if isinstance(found, dict) else None


def store_figures(key: str, figures: Figures) -> None:
    write_json(store_directory() / f"{key}.json", figures)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep(
    points: Sequence[Work],
    *,
    jobs: int | None = None,
    cluster: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> list[Figures]:
    """Figures of each point, in order; each is stored as it comes, and taken from the store unless ``fresh``.

    ``jobs``: processes (all cores by default). ``cluster``: address of a Dask scheduler that runs the points instead.
    """
    keys = [point_key(point) for point in points]
    wanted = dict(zip(keys, points, strict=True))
    results: dict[str, Figures] = {}
    for key in wanted:
        known = None if fresh else stored_figures(key)
        if known is not None:
            results[key] = known
    # The longest first, so that the last to end is a short one.
    order = sorted((key for key in wanted if key not in results), key=lambda key: -wanted[key].cost())
    todo = {key: wanted[key] for key in order}
    taken, began = len(results), time.monotonic()

    def tell() -> None:
        if progress:
            note = f" ({taken} from the store)" if taken else ""
            progress(f"{len(results)}/{len(wanted)} points done{note}, {time.monotonic() - began:.0f} s")

    tell()
    # Closed here, not whenever it is collected: an interrupt must cancel what has not begun.
    with contextlib.closing(_run(todo, jobs or cores(), cluster)) as done:
        for key, figures in done:
            store_figures(key, figures)
            results[key] = figures
            tell()
    return [results[key] for key in keys]


def _run(todo: Mapping[str, Work], jobs: int, cluster: str | None) -> Computed:
    if not todo:
        return
    if cluster:
        yield from _on_cluster(todo, cluster)
    elif min(jobs, len(todo)) == 1:
        for key, point in todo.items():
            yield key, point.figures()
    else:
        yield from _on_cores(todo, jobs)


def _on_cores(todo: Mapping[str, Work], jobs: int) -> Computed:
    with pool_of(min(jobs, len(todo))) as pool:
        futures = {pool.submit(run_elsewhere, point): key for key, point in todo.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], _of_same_sources(*future.result())
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process of the sweep was killed, most likely for lack of memory: run again with fewer --jobs "
                "(points that are done are kept)"
            ) from error


def run_elsewhere(point: Work) -> tuple[str, Figures]:
    """A point, and the version of the sources that this process has."""
    return sources_version(), point.figures()


def _of_same_sources(version: str, figures: Figures) -> Figures:
    # Figures are kept under the version of this process: those of other sources would stay wrong for ever.
    if version != sources_version():
        raise ToolchainError(
            "a process of the sweep has other sources of podweave than this one: they changed since it began, or the cluster has "
            "another version"
        )
    return figures


def _on_cluster(todo: Mapping[str, Work], address: str) -> Computed:
    with extra("dask", "--dask"):
        import distributed
    with distributed.Client(address) as client:
        futures = {client.submit(run_elsewhere, point, pure=False): key for key, point in todo.items()}
        for future in distributed.as_completed(futures):
            yield futures[future], _of_same_sources(*future.result())
