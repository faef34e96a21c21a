"""Jobs as tables, one array per field, and where words lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import load_job_layout, stream_job_layout
from podweave.spec.layout import Layout

Jobs = dict[str, NDArray[np.int64]]


_SINGLE_LOAD = {"tiles": 1, "period": 0}
_SINGLE_STREAM = _SINGLE_LOAD | {"x_tile_step": 0, "x_turn": 0}


def with_single_tiles(jobs: Jobs) -> Jobs:
    """Loads, or streams, as jobs of a weight tile each."""
    values = _SINGLE_STREAM if "x_base" in jobs else _SINGLE_LOAD
    return jobs | {name: np.full_like(jobs["start"], value) for name, value in values.items()}


def words_of_tile(streams: Jobs) -> NDArray[np.int64]:
    """Words of activations that streams read for each of their weight tiles."""
    return streams["n0"] * streams["n1"] * streams["n2"]


class EpochJobs:
    """What programs of an epoch of a chip have in common, whatever they compute: jobs as stores hold them."""

    streams: Jobs
    posts: Jobs

    @property
    def words_streamed(self) -> NDArray[np.int64]:
        """Words of each stream job, of all its tiles."""
        return words_of_tile(self.streams) * self.streams["tiles"]

    @property
    def words_read(self) -> NDArray[np.int64]:
        """Words of the P bank that each post-processor job reads."""
        jobs = self.posts
        return jobs["n0"] * jobs["n1"] * jobs["n2"] * jobs["n3"]


@dataclass(frozen=True)
class Place:
    """Words at ``base`` of ``bank``."""

    bank: int
    base: int


class ProgramError(AssertionError):
    """A program breaks a rule of the hardware; the message names the job."""


class JobFieldError(ValueError):
    """A field of a job is too small for its value; the message names it, and what it holds."""


def pack_jobs(layout: Layout, jobs: Jobs) -> NDArray[np.uint8]:
    """(jobs, bytes) of packed words, least significant byte first; refuses a value that its field cannot hold."""
    count = len(jobs[layout.fields[0].name])
    bits = np.zeros((count, layout.width), np.uint8)
    for field in layout.fields:
        values = jobs[field.name]
        low = -(1 << (field.width - 1)) if field.signed else 0
        high = (1 << (field.width - field.signed)) - 1
        wrong = np.flatnonzero((values < low) | (values > high))
        if len(wrong):
            value = values[wrong[0]]
            raise JobFieldError(f"{layout.name} {wrong[0]}: {field.name} is {value}, but its field holds {low} to {high}")
        offset = layout.offset(field.name)
        bits[:, offset : offset + field.width] = (values[:, None] >> np.arange(field.width)) & 1
    return np.packbits(bits, axis=1, bitorder="little")


def job_layouts(config: ChipConfig) -> tuple[Layout, Layout]:
    return load_job_layout(config), stream_job_layout(config)
