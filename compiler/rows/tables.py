"""Jobs of an epoch of row operations as they are written down, and what they take of the stores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit, load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import Layout

from ..chip.tile_jobs import as_stored
from ..jobs import Jobs


class RowJobs:
    """One list of jobs for each kind, each job a dictionary of its fields; what is not said is 0, counts are 1."""

    def __init__(self, config: ChipConfig):
        self.config = config
        self.kinds: dict[str, tuple[str, Layout]] = {
            "loads": ("pod", load_job_layout(config)),
            "streams": ("pod", stream_job_layout(config)),
            "posts": ("bank", post_job_layout(config)),
        }
        self.jobs: dict[str, list[Mapping[str, int]]] = {kind: [] for kind in self.kinds}
        self.counts = {kind: np.zeros(config.pods, np.int64) for kind in self.kinds}

    def add(self, kind: str, unit: int, operation: int, **fields: int) -> None:
        self.jobs[kind].append({self.kinds[kind][0]: unit, "operation": operation, **fields})
        self.counts[kind][unit] += 1

    def load(self, pod: int, operation: int, start: int, rows: int, base: int) -> None:
        """Rows of weights from the pod's own W bank."""
        self.add("loads", pod, operation, start=start, rows=rows, w_bank=pod, w_base=base, w_step=1)

    def stream(
        self,
        pod: int,
        operation: int,
        start: int,
        words: int,
        *,
        bank: int,
        base: int,
        accumulate: Accumulate,
        p_base: int | None,
        adds: bool = False,
    ) -> None:
        """Successive words of an X bank, by new weights; sums go into the pod's own P bank from ``p_base`` on, if there is one."""
        emit = Emit.NONE if p_base is None else Emit.ACCUMULATE if adds else Emit.STORE
        steps = dict.fromkeys([f"{way}_step{i}" for way in "xp" for i in range(3)], 1)
        where = {"x_bank": bank, "x_base": base, "p_bank": pod, "p_base": p_base or 0, "emit": int(emit)}
        codes = {"accumulate": int(accumulate), "swap": 1}
        self.add("streams", pod, operation, start=start, n0=words, n1=1, n2=1, **where, **codes, **steps)

    def tables(self) -> dict[str, Jobs]:
        """Each kind as arrays, sorted by unit and start, with the operation of each job; those of weight tiles joined."""
        found = {}
        for kind, (unit, layout) in self.kinds.items():
            names = ["operation", unit, *(field.name for field in layout.fields)]
            rows = np.array([[job.get(name, 0) for name in names] for job in self.jobs[kind]], np.int64).reshape(-1, len(names))
            order = np.lexsort((rows[:, names.index("start")], rows[:, 1]))
            found[kind] = {name: rows[order, i] for i, name in enumerate(names)}
        found["loads"], found["streams"] = as_stored(found["loads"], found["streams"], self.config)
        return found
