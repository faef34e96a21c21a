"""All jobs of a program, as they are written down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podweave.ir.operations import Window
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Reduce
from podweave.spec.row_functions import Combine, Destination, row_fields

from ..jobs import Jobs, Place, words_of_tile
from ..lower.address_walk import increments_of_each
from .bank_words import EpochFullError
from .gang_jobs import GangJobs
from .policy import BankPolicy
from .tile_jobs import as_stored

_REDUCE = {"max": Reduce.MAX, "sum": Reduce.SUM, "product": Reduce.PAIR}
_POST_P = ("p_base", "p_step0", "p_step1", "p_step2", "p_step3")
_POST_X = ("slice", "slot", "x_bank", "x_plane", "x_base", "x_step2", "x_step3")
_POSTS = ("operation", "bank", "start", "n0", "n1", "n2", "n3", *_POST_P, "reduce", "parameters", "activate", "table", *_POST_X)


class JobTables:
    """``policy``: how much of each program store they may take; if all must fit, jobs beyond it are refused when all are known."""

    def __init__(self, config: ChipConfig, policy: BankPolicy):
        program = config.program
        self.config, self.policy = config, policy
        depths = {"load_jobs": program.load_jobs, "stream_jobs": program.stream_jobs, "post_jobs": program.post_jobs}
        self._depths = depths
        self._limits = {name: max(2, int(depth * policy.bank_share)) for name, depth in depths.items()}
        self._counts = {name: [0] * config.pods for name in depths}
        self.gangs = GangJobs()
        self.posts: list[tuple[int, ...]] = []

    def mark(self) -> tuple[tuple[int, ...], int, dict[str, list[int]]]:
        """What `back_to` needs to forget all jobs that are written down or promised from now on."""
        return self.gangs.mark, len(self.posts), {name: list(counts) for name, counts in self._counts.items()}

    def back_to(self, mark: tuple[tuple[int, ...], int, dict[str, list[int]]]) -> None:
        gangs, posts, counts = mark
        self.gangs.back_to(gangs)
        del self.posts[posts:]
        self._counts = {name: list(of) for name, of in counts.items()}

    def promise_post(self, bank: int) -> None:
        """Keep room for a job of a post-processor; raises `EpochFullError` if there is none."""
        self._count("post_jobs", bank)

    def redeem_post(self, bank: int) -> None:
        """A job that was promised is about to be written down."""
        self._counts["post_jobs"][bank] -= 1

    def _count(self, name: str, unit: int) -> None:
        self._counts[name][unit] += 1
        if not self.policy.must_fit:
            self._check_store(name, unit)

    def _check_store(self, name: str, unit: int) -> None:
        count, limit, depth = self._counts[name][unit], self._limits[name], self._depths[name]
        if count > limit:
            of = "" if limit == depth else f"an epoch's share of {limit} of "
            raise EpochFullError(
                f"the program has {count} jobs for the store of unit {unit}, {count - limit} more than {of}{name} ({depth})"
            )

    def gang(self, pod: int, loads: int, streams: int) -> None:
        """Count jobs of a pod; raises `EpochFullError` if there are too many. What they are is for `gangs`."""
        for name, count in (("load_jobs", loads), ("stream_jobs", streams)):
            self._counts[name][pod] += count
            if not self.policy.must_fit:
                self._check_store(name, pod)

    def post(
        self,
        bank: int,
        start: int,
        *,
        operation: int,
        size: tuple[int, int],
        window: Window | None,
        p_base: int,
        p_strides: tuple[int, int],
        row_words: int,
        parameters: int,
        table: int | None,
        slices: tuple[int, int],
        place: Place,
        plane: int,
        x_strides: tuple[int, int],
    ) -> None:
        """Post-process ``size`` (rows, columns) outputs; ``p_strides``, ``x_strides``: from row to row and column to column of the
        words of the P and of the X bank. ``row_words``: from row to row of a window; one from column to column."""
        self._count("post_jobs", bank)
        rows, columns = size
        kernel = window.kernel if window else (1, 1)
        counts = (kernel[1], kernel[0], columns, rows)
        reduce = _REDUCE[window.reduce] if window else Reduce.MAX
        self.posts.append(
            (
                *(operation, bank, start, *counts, p_base, 1, row_words if window else 0, p_strides[1], p_strides[0]),
                *(int(reduce), parameters, int(table is not None), table or 0, *slices),
                *(place.bank, plane, place.base, x_strides[1], x_strides[0]),
            )
        )

    def tables(self) -> tuple[Jobs, Jobs, Jobs]:
        """Loads, streams and posts, each sorted by unit and start; raises `EpochFullError` for what no store holds."""
        posts = _table(self.posts, _POSTS, "bank")
        # What is written down as strides.
        posts |= _increments(posts, "p", ("n0", "n1", "n2", "n3"), range(4)) | _increments(posts, "x", ("n2", "n3"), (2, 3))
        if self.config.has_rows:
            # One word of int8 of each window, which may be a pair, into an X bank, and nothing else of what rows have.
            posts |= {field.name: np.zeros_like(posts["start"]) for field in row_fields(self.config)}
            posts["destination"] = np.full_like(posts["start"], Destination.X)
            posts["combine"] = np.where(posts["reduce"] == Reduce.PAIR, Combine.PRODUCT, Combine.VALUE)
        loads, streams = as_stored(*self.gangs.tables(), self.config)
        for name, units in (("load_jobs", loads["pod"]), ("stream_jobs", streams["pod"]), ("post_jobs", posts["bank"])):
            self._counts[name] = np.bincount(units, minlength=self.config.pods).tolist()
            self._check_store(name, int(np.argmax(self._counts[name])))
        self._check_length(loads, streams, posts)
        return loads, streams, posts

    def _check_length(self, loads: Jobs, streams: Jobs, posts: Jobs) -> None:
        config = self.config
        pause = config.post_beats - 1
        # When the last word of each kind of job has left the unit; a node is busy until then.
        ends = (
            loads["start"] + (loads["tiles"] - 1) * loads["period"] + loads["rows"],
            streams["start"] + (streams["tiles"] - 1) * streams["period"] + words_of_tile(streams) + config.write_latency,
            posts["start"] + posts["n2"] * posts["n3"] * (posts["n0"] * posts["n1"] + pause) - pause + config.post_latency,
        )
        lasts = max(int(end.max(initial=0)) for end in ends) - 1 + config.epoch_overhead
        limit = 2**config.pod.time_width - 1
        if lasts > limit:
            raise EpochFullError(f"the epoch would last {lasts} cycles, {lasts - limit} more than time_width allows ({limit})")


def _table(rows: list[tuple[int, ...]], names: tuple[str, ...], unit: str) -> Jobs:
    array = np.array(rows, np.int64).reshape(len(rows), len(names))
    order = np.lexsort((array[:, names.index("start")], array[:, names.index(unit)]))
    return {name: array[order, i] for i, name in enumerate(names)}


def _increments(jobs: Jobs, port: str, loops: Sequence[str], steps: Sequence[int]) -> Jobs:
    names = [f"{port}_step{step}" for step in steps]
    return dict(zip(names, increments_of_each([jobs[loop] for loop in loops], [jobs[name] for name in names]), strict=True))
