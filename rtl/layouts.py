"""Words that cross the boundary of a pod: job layouts, codes and error bits, derived from a `ChipConfig`.

Plain tables without hardware, so that the compiler and the test bench pack and unpack the same words as the RTL. Field 0
is the least significant.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .config import ChipConfig


class Accumulate(enum.IntEnum):
    """What a stream job does with the local accumulators."""

    BYPASS = 0
    """Leave them alone; the result is the partial sum."""
    INIT = 1
    """Store the partial sum; the result is the partial sum."""
    ADD = 2
    """Add the partial sum to the row; the result is the new content."""


class Emit(enum.IntEnum):
    """What a stream job does with its results."""

    NONE = 0
    STORE = 1
    ACCUMULATE = 2


class PodError(enum.IntEnum):
    """Bit of the sticky error register of a pod. A pod with any bit set starts no further job until reset."""

    LATE_LOAD = 0
    """A load job was still queued, or its engine busy, when its start time had passed."""
    LATE_STREAM = 1
    """A stream job was still queued, or its engine busy, when its start time had passed."""
    LOAD_OVERFLOW = 2
    """A load job was pushed into a full queue and is lost."""
    STREAM_OVERFLOW = 3
    """A stream job was pushed into a full queue and is lost."""
    ILLEGAL_LOAD = 4
    """A load job whose row count, bank or plane is outside the configuration."""
    ILLEGAL_STREAM = 5
    """A stream job with a loop count of 0, a reserved code, or a bank or plane outside the configuration."""
    W_ADDRESS = 6
    """A weight address outside its bank; the word was not requested."""
    X_ADDRESS = 7
    """An activation address outside its bank; the word was dropped."""
    P_ADDRESS = 8
    """A partial-sum address outside its bank; the word was dropped."""
    ACCUMULATOR_ADDRESS = 9
    """A local accumulator row outside its memory; the word was dropped."""
    WEIGHTS_NOT_LOADED = 10
    """A stream job swapped in weights whose load had not finished."""
    WEIGHTS_OVERWRITTEN = 11
    """A load job began before the weights loaded by the previous one were swapped in."""
    EPOCH_OVERFLOW = 12
    """An epoch outlasted the time counter."""


@dataclass(frozen=True)
class Field:
    name: str
    width: int
    doc: str
    signed: bool = False


@dataclass(frozen=True)
class Layout:
    """A packed word; ``fields[0]`` is least significant."""

    name: str
    fields: tuple[Field, ...]

    @property
    def width(self) -> int:
        return sum(field.width for field in self.fields)

    def offset(self, name: str) -> int:
        position = 0
        for field in self.fields:
            if field.name == name:
                return position
            position += field.width
        raise KeyError(name)


def bits_for_index(count: int) -> int:
    """Bits that number ``count`` things from 0; at least 1, so that no port has width 0."""
    return max(1, (count - 1).bit_length())


def step_width(words: int) -> int:
    """Bits of a signed address increment that reaches any word of a bank from any other."""
    return bits_for_index(words) + 1


def load_job_layout(config: ChipConfig) -> Layout:
    memory = config.memory
    return Layout(
        "load_job",
        (
            Field("start", config.pod.time_width, "epoch time of the first request, in cycles"),
            Field("rows", bits_for_index(config.array.rows + 1), "weight rows to fetch, 1 to rows"),
            Field("w_bank", bits_for_index(memory.banks), "W bank"),
            Field("w_plane", bits_for_index(memory.planes), "plane of the W network"),
            Field("w_base", bits_for_index(memory.w_words), "address of weight row 0, in words"),
            Field("w_step", step_width(memory.w_words), "address increment from row to row, in words", signed=True),
        ),
    )


def stream_job_layout(config: ChipConfig) -> Layout:
    memory, pod = config.memory, config.pod
    counts = [Field(f"n{i}", pod.count_width, f"trip count of loop {i} (0 is innermost)") for i in range(3)]
    x_steps = [
        Field(f"x_step{i}", step_width(memory.x_words), f"X address increment when loop {i} advances", signed=True)
        for i in range(3)
    ]
    p_steps = [
        Field(f"p_step{i}", step_width(memory.p_words), f"P address increment when loop {i} advances", signed=True)
        for i in range(3)
    ]
    return Layout(
        "stream_job",
        (
            Field("start", pod.time_width, "epoch time of the first request, in cycles"),
            Field("swap", 1, "1: take the weights loaded last; 0: keep those of the job before"),
            *counts,
            Field("x_bank", bits_for_index(memory.banks), "X bank"),
            Field("x_plane", bits_for_index(memory.planes), "plane of the X network"),
            Field("x_base", bits_for_index(memory.x_words), "address of the first word of activations"),
            *x_steps,
            Field("accumulate", 2, "Accumulate code"),
            Field("accumulator_base", bits_for_index(pod.accumulator_rows), "accumulator row of the first word"),
            Field("emit", 2, "Emit code"),
            Field("p_bank", bits_for_index(memory.banks), "P bank"),
            Field("p_plane", bits_for_index(memory.planes), "plane of the P network"),
            Field("p_base", bits_for_index(memory.p_words), "P address of the first word"),
            *p_steps,
        ),
    )
