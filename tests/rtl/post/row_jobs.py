"""Random row functions for jobs of a post-processor: legal ones, whose registers are ready when they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.chip import rows
from podweave.golden.cycle.chip.host_writes import HostWrites
from podweave.golden.cycle.chip.post import PostGeometry
from podweave.golden.cycle.chip.row_words import RowInputs

LARGEST = (1 << 47) - 1


def random_row_inputs(rng: np.random.Generator, g: PostGeometry, run: NDArray[np.bool_]) -> RowInputs:
    """Totals of all sizes, lengths that are all written at the start, and some again; reads of the host between epochs."""
    cycles = len(run)
    assert g.functions is not None
    depth = g.functions.registers
    sizes = rng.integers(1, 48, cycles)
    total = rng.integers(-(1 << 47), 1 << 47, cycles) >> sizes
    total = np.where(rng.random(cycles) < 0.7, np.abs(total), total)
    total = np.where(rng.random(cycles) < 0.1, rng.choice([0, 1, -1, LARGEST, -LARGEST - 1, 1 << 46], cycles), total)
    valid, address = rng.random(cycles) < 0.05, rng.integers(0, depth, cycles)
    valid[:depth], address[:depth] = True, rng.permutation(depth)
    data = np.where(rng.random(cycles) < 0.9, rng.integers(0, 60, cycles), rng.integers(0, 1 << 18, cycles))
    place, value_row = rng.integers(0, 1 << 18, cycles), rng.integers(0, depth, cycles)
    return RowInputs(total, place, HostWrites(valid, address, data), (rng.random(cycles) < 0.3) & ~run, value_row)


def turning(g: PostGeometry, job: dict[str, int]) -> int:
    """Cycles that an output word takes longer because it is rotated."""
    return g.beats if job.get("combine") == rows.ROTATE else 0


class RowJobs:
    """Knows from when on registers may be read, in cycles of the run."""

    def __init__(self, rng: np.random.Generator, g: PostGeometry):
        self.rng, self.geometry = rng, g
        self.ready: dict[int, int] = {}
        self.scalar_free = 0

    def extend(self, job: dict[str, int], first: int) -> None:
        """Give a legal job row functions. ``first``: the cycle in which the run begins."""
        rng, g = self.rng, self.geometry
        assert g.functions is not None
        depth = g.functions.registers
        job["reduce"] = int(rng.integers(4))
        single = job["n0"] * job["n1"] == 1 and g.beats == 1
        job["destination"] = int(rng.integers(5))
        job["gap"] = int(rng.choice([0, 0, 1, 2, 5]))
        if job["destination"] == rows.PLANES and single:
            job["gap"] = max(job["gap"], 1)
        limits = {rows.PLANES: g.x_words - 1, rows.STORE: g.p_words, rows.ADD: g.p_words}
        size = limits.get(job["destination"], g.x_words)
        # What was inside of an X bank may be one beyond for two planes.
        if self._highest(job) >= size:
            job |= {"x_base": size - 1, "x_step2": 0, "x_step3": 0}
        job["combine"] = int(rng.choice([0, 0, 1, 2]))
        job["saturate"] = int(rng.integers(4))
        job["wide_table"] = int(job["activate"] and rng.random() < 0.5)
        if job["wide_table"]:
            job["table"] &= ~1
        job["level"] = int(rng.integers(g.functions.stages + 1))
        job["masked"] = int(rng.integers(2))
        job["length_step"] = int(rng.integers(2))
        job["length"] = int(rng.integers(depth - job["n3"] + 1))
        job["element"] = int(rng.integers(0, 40)) if rng.random() < 0.9 else int(rng.integers(0, 1 << 18))
        job["element_step"] = int(rng.integers(0, 9)) if rng.random() < 0.9 else int(rng.integers(0, 1 << 18))
        job["parameters_step"] = int(rng.integers(2))
        if job["parameters_step"]:
            job["parameters"] = int(rng.integers(g.parameter_sets - job["n2"] + 1))
        job["row"] = int(rng.integers(depth - job["n3"] + 1))
        job["statistic"] = int(rng.choice([0, 0, 1, 2, 3]))
        self._scalar(job, first)
        self._reads(job, first)

    @staticmethod
    def _highest(job: dict[str, int]) -> int:
        address, highest = job["x_base"], job["x_base"]
        for i in range(1, job["n2"] * job["n3"]):
            address += job["x_step3" if i % job["n2"] == 0 else "x_step2"]
            highest = max(highest, address)
        return highest

    def _period(self, job: dict[str, int]) -> int:
        return job["n0"] * job["n1"] + self.geometry.beats - 1 + turning(self.geometry, job) + job["gap"]

    def _read(self, job: dict[str, int], first: int, row: int, word: int) -> int:
        """The cycle of the last read of an output word."""
        return first + job["start"] + 1 + (row * job["n2"] + word) * self._period(job) + job["n0"] * job["n1"] - 1

    def _arrival(self, job: dict[str, int], first: int, row: int) -> int:
        assert self.geometry.functions is not None
        beats = self.geometry.beats + turning(self.geometry, job)
        return self._read(job, first, row, job["n2"] - 1) + 9 + beats + self.geometry.functions.stages

    def _scalar(self, job: dict[str, int], first: int) -> None:
        assert self.geometry.functions is not None
        cycles = self.geometry.functions.scalar_cycles
        job["scalar"] = int(self.rng.integers(3)) if job["statistic"] else 0
        if not job["scalar"]:
            return
        if job["n3"] > 1:
            job["gap"] = max(job["gap"], min(15, -(-cycles // job["n2"])))
        if (job["n3"] > 1 and job["n2"] * self._period(job) < cycles) or self._arrival(job, first, 0) < self.scalar_free:
            job["scalar"] = 0

    def _reads(self, job: dict[str, int], first: int) -> None:
        """Let it read registers, if some are ready."""
        job["subtract"] = job["row_scale"] = 0
        if self.rng.random() < 0.3:
            return
        bases = self.rng.permutation(self.geometry.functions.registers - job["n3"] + 1).tolist()  # type: ignore[union-attr]
        for base in bases:
            times = [self.ready.get(base + row, LARGEST) for row in range(job["n3"])]
            if all(time <= self._read(job, first, row, 0) + 2 for row, time in enumerate(times)):
                job["row"] = base
                job["subtract"], job["row_scale"] = (int(b) for b in self.rng.integers(0, 2, 2))
                return

    def accept(self, job: dict[str, int], first: int) -> None:
        """The job is part of the stimulus."""
        if not job["statistic"]:
            return
        assert self.geometry.functions is not None
        for row in range(job["n3"]):
            arrival = self._arrival(job, first, row)
            if job["scalar"]:
                self.scalar_free = arrival + self.geometry.functions.scalar_cycles
            later = self.geometry.functions.scalar_cycles if job["scalar"] else 0
            self.ready[job["row"] + row] = arrival + later + 1
