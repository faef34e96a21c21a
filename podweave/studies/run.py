"""Sweeps by the exact model: SOSA's beside the published figures, of prefetching, of language models; how one is run by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from podweave.ir.layers import WorkloadError

from . import from_memory, sweeps
from .counts import MOST_PODS
from .decode import MODELS, USUALLY, decode_study
from .frame import Frame, Shown
from .points import Figures, Point, Progress, study_config, study_graph
from .prefetch import NETWORKS as PREFETCH_NETWORKS
from .prefetch import prefetch_study
from .preserve import MODELS as RING_MODELS
from .preserve import USUALLY as RING_USUALLY
from .preserve import preserve_study
from .published import load_published
from .sweeps import Outcome
from .tables import SHARED, TEN, Results


@dataclass(frozen=True)
class Study:
    """``networks``: those of a run without --networks; ``all``: those of ``--networks all``."""

    title: str
    pods: int
    networks: tuple[str, ...]
    all: tuple[str, ...]
    points: Callable[[Sequence[str], int], list[Point]]
    outcome: Callable[[Results], Outcome]


_BENCHMARKS = (*SHARED, "resnet50_224", "bert_tiny_100")
_PAIR = ("resnet50_299", "bert_medium_100")
STUDIES = {
    "granularity": Study("size of the array at 400 W", MOST_PODS, _PAIR, SHARED, sweeps.granularity_points, sweeps.granularity),
    "interconnect": Study("interconnect", 128, _BENCHMARKS, _BENCHMARKS, sweeps.interconnect_points, sweeps.interconnect),
    "partition": Study("size to which M is cut", 256, SHARED, SHARED, sweeps.partition_points, sweeps.partition),
    "banks": Study("size of the banks", 256, _PAIR, SHARED, sweeps.banks_points, sweeps.banks),
    "throughput": Study("throughput of the chip", 256, TEN, TEN, sweeps.throughput_points, sweeps.throughput),
}
_FROM_MEMORY = Study("throughput of the chip, from memory", 256, TEN, TEN, from_memory.memory_points, from_memory.memory_throughput)

STUDY_NAMES = (*STUDIES, "prefetch", "decode", "preserve")
_MODELS = {"decode": (tuple(MODELS), USUALLY), "preserve": (tuple(RING_MODELS), RING_USUALLY)}
"""Studies of language models: all models, and those of a run without --networks."""


def chosen_networks(study: str, text: str | None) -> tuple[str, ...]:
    """Networks by the text of --networks: names with commas between, ``all``, or None; raises `WorkloadError` for unknown ones."""
    if text is None or text == "all":
        if study in _MODELS:
            return _MODELS[study][0 if text else 1]
        if study not in STUDIES:
            return PREFETCH_NETWORKS
        return STUDIES[study].all if text else STUDIES[study].networks
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise WorkloadError(f"--networks {text!r} names no network")
    for name in names:
        if study not in _MODELS:
            study_graph(name)
        elif name not in _MODELS[study][0]:
            raise WorkloadError(f"study {study} is of {', '.join(_MODELS[study][0])}, got {name!r}")
    return names


def run_study(
    name: str,
    *,
    networks: str | None = None,
    pods: int | None = None,
    memory: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report of a study: every point's figures, tables beside the published values, and what a plot shows.

    ``pods``: of the chip; of `granularity` the most that a chip may have. ``memory``: of `throughput`, from memory too. Raises
    `ConfigError` if no chip has so many pods, and `WorkloadError` for what a study does not take: `prefetch` takes ``networks``
    only, `decode` and `preserve` no ``pods``.
    """
    chosen = chosen_networks(name, networks)
    if memory and name != "throughput":
        raise WorkloadError(f"--memory is of study throughput, not of {name}")
    if name in _MODELS:
        if pods:
            raise WorkloadError(f"study {name} is of {'one chip' if name == 'decode' else 'chips'}, llm8x16: leave out --pods")
        of_models = decode_study if name == "decode" else preserve_study
        return of_models(chosen, jobs=jobs, cluster=cluster, fresh=fresh, progress=progress)
    if name == "prefetch":
        for option, given in (("--pods", pods), ("--jobs", jobs), ("--dask", cluster), ("--fresh", fresh)):
            if given:
                raise WorkloadError(f"study prefetch is of one chip, chip16x32, computed here and anew: leave out {option}")
        return prefetch_study(chosen, progress=progress)
    study = _FROM_MEMORY if memory else STUDIES[name]
    pods = study.pods if pods is None else pods
    study_config({"pods": pods})
    points = study.points(chosen, pods)
    frame = Frame(name=name, title=study.title, source=load_published("sosa").source, networks=chosen, pods=pods)

    def show(figures: Mapping[Point, Figures]) -> Shown:
        tables, drawn = study.outcome(Results.of(chosen, pods, points, [figures[point] for point in points]))
        listed = [asdict(point) | {"changes": dict(point.changes), "figures": figures[point]} for point in points]
        return Shown(points=listed, tables=tables, chart=drawn)

    return frame.swept(points, show, jobs=jobs, cluster=cluster, fresh=fresh, progress=progress)
