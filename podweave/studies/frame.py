"""What studies have in common: points are computed, and shown in tables and a picture, with all figures beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .points import Figures, Progress, Work, sweep

Point = TypeVar("Point", bound=Work)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Of a report: ``points``, each with its figures; ``tables`` and ``chart``, as `tables` makes them; ``more``: other entries."""

    points: Sequence[Mapping[str, Any]]
    tables: Sequence[Mapping[str, Any]]
    chart: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A study. ``title``: what it is of; ``source``: of the values beside its own; ``pods``: of its chips."""

    name: str
    title: str
    source: str
    networks: Sequence[str]
    pods: int

    def swept(
        self,
        points: Sequence[Point],
        show: Callable[[Mapping[Point, Figures]], Shown],
        *,
        jobs: int | None = None,
        cluster: str | None = None,
        fresh: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """The report of points, each of which is computed once; ``jobs`` and what follows as `sweep` takes it."""
        needed, began = list(dict.fromkeys(points)), time.perf_counter()
        tell = progress and (lambda text: progress(f"study {self.name}: {text}"))
        found = sweep(needed, jobs=jobs, cluster=cluster, fresh=fresh, progress=tell)
        seconds = time.perf_counter() - began
        return self.report(show(dict(zip(needed, found, strict=True))), seconds)

    def report(self, shown: Shown, seconds: float) -> dict[str, Any]:
        """What is printed, drawn and written as JSON; ``seconds``: that computing took."""
        return {
            "study": self.name,
            "title": f"study {self.name}: {self.title}",
            "source": self.source,
            "networks": list(self.networks),
            "pods": self.pods,
            "points": list(shown.points),
            **shown.more,
            "tables": list(shown.tables),
            "chart": shown.chart,
            "wall_s": {"sweep": seconds},
        }
