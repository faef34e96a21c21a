"""Jobs of an epoch of row operations as they are written down, and what they take of the stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit, load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import Layout

from ..chip.tile_jobs import as_stored
from ..jobs import Jobs
from ..lower.address_walk import increments

_STEP = ("operation", "start", "rows", "n0", "n1", "x_step1", "x_bank", "x_base", "accumulate", "emit")
_PLANES = {"load_job": ("w_plane",), "stream_job": ("x_plane", "p_plane"), "post_job": ("x_plane",)}
"""By layout: fields that jobs have whether the layout needs them or not."""
Mark = tuple[int, int, list[int], list[int]]


@dataclass(frozen=True)
class TileStep:
    """Some pods multiply the same words at the same time, each by a tile of its own.

    Parameters
    ----------
    operation : int
        Whose sums they make, as an index.
    weights : mapping
        By pod, the first word of its tile in its own W bank.
    rows : int
        Of a tile.
    words : tuple
        What streams: the X bank, the first word, and how many.
    parts : tuple
        In how many parts they lie, and how many words it is from one to the next.
    accumulate : Accumulate
        What becomes of sums in the pod.
    into : mapping, optional
        By pod, the word of its own P bank for the first sum; the last tile of a sum says so.
    adds : bool
        Sums are added to what is there.
    """

    operation: int
    weights: Mapping[int, int]
    rows: int
    words: tuple[int, int, int]
    accumulate: Accumulate
    into: Mapping[int, int] | None
    adds: bool = False
    parts: tuple[int, int] = (1, 0)


class RowJobs:
    """Steps, in each of which some pods load a tile and stream through it at the same time, and posts.

    ``tiles``, ``passes``: how many loads and streams, and how many posts, each node has.
    """

    def __init__(self, config: ChipConfig):
        self.config = config
        self._steps: list[tuple[int, ...]] = []
        # Of each step by pod, the first word of its weights, and the first of its sums, if it emits them.
        self._weights: list[Mapping[int, int]] = []
        self._sums: list[Mapping[int, int] | None] = []
        self._posts: list[Mapping[str, int]] = []
        self.tiles, self.passes = [0] * config.pods, [0] * config.pods

    @property
    def is_empty(self) -> bool:
        return not self._steps and not self._posts

    def mark(self) -> Mark:
        """What `back_to` needs to undo all that comes."""
        return len(self._steps), len(self._posts), self.tiles.copy(), self.passes.copy()

    def back_to(self, mark: Mark) -> None:
        steps, posts, self.tiles, self.passes = mark
        for several in (self._steps, self._weights, self._sums):
            del several[steps:]
        del self._posts[posts:]

    def post(self, bank: int, operation: int, **fields: int) -> None:
        """What is not said is 0."""
        self._posts.append({"bank": bank, "operation": operation, **fields})
        self.passes[bank] += 1

    def step(self, step: TileStep, start: int) -> None:
        """Words begin to stream in cycle ``start``; weights have been loaded by then."""
        bank, first, count = step.words
        parts, apart = step.parts
        each = count // parts
        _, between, _ = increments((each, parts, 1), (1, apart, 0))
        emit = Emit.NONE if step.into is None else Emit.ACCUMULATE if step.adds else Emit.STORE
        what = step.operation, start, step.rows
        self._steps.append((*what, each, parts, between, bank, first, int(step.accumulate), int(emit)))
        self._weights.append(step.weights)
        self._sums.append(step.into)
        for pod in step.weights:
            self.tiles[pod] += 1

    def tables(self) -> tuple[Jobs, Jobs, Jobs]:
        """Loads, streams and posts as arrays, sorted by unit and start, with the operation of each job; those of weight tiles
        joined."""
        sizes = [len(weights) for weights in self._weights]
        steps = np.array(self._steps, np.int64).reshape(-1, len(_STEP))
        column = {name: np.repeat(steps[:, i], sizes) for i, name in enumerate(_STEP)}
        pod, first = (
            _ints(chain.from_iterable(self._weights)),
            _ints(chain.from_iterable(weights.values() for weights in self._weights)),
        )
        sums = zip(self._weights, self._sums, strict=True)
        p_base = _ints(chain.from_iterable(map(into.__getitem__, pods) if into else [0] * len(pods) for pods, into in sums))
        started = {name: column[name] for name in ("operation", "start")} | {"pod": pod}
        loads = started | {"rows": column["rows"], "w_bank": pod, "w_base": first, "w_step": np.ones_like(pod)}
        ones = dict.fromkeys(["swap", "n2", *(f"{way}_step{i}" for way in "xp" for i in range(3))], np.ones_like(pod))
        streamed = {name: column[name] for name in ("n0", "n1", "x_step1", "x_bank", "x_base", "accumulate", "emit")}
        streams = started | ones | streamed | {"p_bank": pod, "p_base": p_base}
        # A load ends as its stream begins.
        loads["start"] = loads["start"] - loads["rows"]
        config = self.config
        sorted_loads = _sorted(loads, "pod", load_job_layout(config))
        sorted_streams = _sorted(streams, "pod", stream_job_layout(config))
        return *as_stored(sorted_loads, sorted_streams, config), self._post_table()

    def _post_table(self) -> Jobs:
        layout = post_job_layout(self.config)
        names = _names("bank", layout)
        rows = np.array([[job.get(name, 0) for name in names] for job in self._posts], np.int64).reshape(-1, len(names))
        return _sorted({name: rows[:, i] for i, name in enumerate(names)}, "bank", layout)


def _ints(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64)


def _sorted(jobs: Jobs, unit: str, layout: Layout) -> Jobs:
    """By unit and start; what is not said is 0."""
    order = np.lexsort((jobs["start"], jobs[unit]))
    nothing = np.zeros(len(order), np.int64)
    names = _names(unit, layout)
    return {name: jobs[name][order] if name in jobs else nothing for name in names}


def _names(unit: str, layout: Layout) -> list[str]:
    """Of the columns of a table of jobs."""
    return list(dict.fromkeys(["operation", unit, *(field.name for field in layout.fields), *_PLANES[layout.name]]))
