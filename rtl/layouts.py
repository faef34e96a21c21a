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


class Reduce(enum.IntEnum):
    """What the two inner loops of a post-processor job do with the words they read."""

    MAX = 0
    SUM = 1


class PostError(enum.IntEnum):
    """Bit of the sticky error register of a post-processor. With any bit set it starts no further job until reset."""

    LATE = 0
    """A job was still queued, or the engine busy, when its start time had passed."""
    OVERFLOW = 1
    """A job was pushed into a full queue and is lost."""
    ILLEGAL = 2
    """A job with a loop count of 0, or a bank, plane, parameter set, table, slice or slot outside the configuration."""
    P_ADDRESS = 3
    """A partial-sum address outside its bank; the word was not read."""
    X_ADDRESS = 4
    """An activation address outside its bank; the word was dropped."""


class BankError(enum.IntEnum):
    """Bit of the sticky error register of the X, W and P bank of one index."""

    X_HAZARD = 0
    """A word of the X bank was read in the cycle in which it was written."""
    X_CONFLICT = 1
    """Two planes asked the X bank for different words, or wrote it, in the same cycle."""
    W_CONFLICT = 2
    """Two planes asked the W bank for different words in the same cycle."""
    P_CONFLICT = 3
    """Two planes wrote the P bank in the same cycle."""
    P_BUSY = 4
    """The post-processor read the P bank in a cycle in which a word to be accumulated needs the read port."""
    P_HAZARD = 5
    """The post-processor read a word of the P bank in the cycle in which it was written."""


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


def post_job_layout(config: ChipConfig) -> Layout:
    """A job of a post-processor: loops 0 and 1 (innermost) are reduced to one word, loops 2 and 3 walk over output words.

    When loop i advances (all loops inside it wrap), the P address grows by ``p_step<i>``; when loop 2 or 3 advances, the X
    address grows by ``x_step<i>``.
    """
    memory, array, post = config.memory, config.array, config.post
    assert post is not None
    lanes = config.post_lanes
    p_steps = [
        Field(f"p_step{i}", step_width(memory.p_words), f"P address increment when loop {i} advances", True) for i in range(4)
    ]
    x_steps = [Field(f"x_step{i}", step_width(memory.x_words), f"X address increment when loop {i} advances", True) for i in (2, 3)]
    return Layout(
        "post_job",
        (
            Field("start", config.pod.time_width, "epoch time of the first read of the P bank, in cycles"),
            Field("n0", post.window_width, "trip count of loop 0, reduced"),
            Field("n1", post.window_width, "trip count of loop 1, reduced"),
            Field("n2", config.pod.count_width, "trip count of loop 2"),
            Field("n3", config.pod.count_width, "trip count of loop 3"),
            Field("p_base", bits_for_index(memory.p_words), "P address of the first word read"),
            *p_steps,
            Field("reduce", 1, "Reduce code"),
            Field("parameters", bits_for_index(post.parameter_sets), "set of bias, multiplier and shift"),
            Field("activate", 1, "1: look the result up in the activation table"),
            Field("table", bits_for_index(post.tables), "activation table"),
            Field("slice", bits_for_index(array.cols // lanes), "which lanes of a P word, in units of an output word"),
            Field("slot", bits_for_index(array.rows // lanes), "which lanes of an X word, in units of an output word"),
            Field("x_bank", bits_for_index(memory.banks), "X bank"),
            Field("x_plane", bits_for_index(memory.planes), "plane of the Y network"),
            Field("x_base", bits_for_index(memory.x_words), "X address of the first output word"),
            *x_steps,
        ),
    )


def post_parameters_layout() -> Layout:
    """Parameters of one lane; a parameter set is one such word for each of the ``cols`` lanes of a P word."""
    return Layout(
        "post_parameters",
        (
            Field("bias", 32, "added to the reduced partial sum", signed=True),
            Field("multiplier", 31, "times this"),
            Field("shift", 6, "divided by 2**shift, 0 to 62, rounding a half away from zero"),
        ),
    )


def store_layout(layout: Layout) -> Layout:
    """A word of the program store of a feeder: a job, and where epochs end."""
    return Layout(
        f"{layout.name}_store",
        (
            *layout.fields,
            Field("valid", 1, "1: the word is a job; 0: it is passed over"),
            Field("last", 1, "1: the epoch ends with this word"),
        ),
    )


class HostSelect(enum.IntEnum):
    """What a host access is about, in the node that ``host_unit`` names."""

    X = 0
    """The X bank, by word."""
    W = 1
    """The W bank, by word."""
    P = 2
    """The P bank, by word. A word must not be read in the cycle after its write was committed."""
    LOAD_STORE = 3
    """The program store of load jobs, by word of its `store_layout`; write only, as are the five up to TABLE."""
    STREAM_STORE = 4
    """The program store of stream jobs."""
    POST_STORE = 5
    """The program store of post-processor jobs."""
    PARAMETERS = 6
    """A parameter set: one word of `post_parameters_layout` for each of the ``cols`` lanes."""
    TABLE = 7
    """An entry of an activation table, at 256 times the table plus the index."""
    COUNTERS = 8
    """Read only, by `Counter`."""
    ERRORS = 9
    """Read only, by `NodeErrors`."""


class Counter(enum.IntEnum):
    """Counters of a node, cleared by a start. Requests and writes are those of its pod, reads and stores those of its banks."""

    X_WORDS = 0
    """X words requested by the pod: cycles in which its array is busy."""
    WAITING = 1
    """Cycles of the epoch without an X request, before the last one of the epoch: a stream job is queued and none in progress."""
    W_WORDS = 2
    """W words requested by the pod."""
    P_WORDS = 3
    """P words written by the pod."""
    X_READS = 4
    """Words read from the X bank: one for all pods that ask for the same word at once."""
    X_WRITES = 5
    """Words of outputs written into the X bank."""
    W_READS = 6
    """Words read from the W bank."""
    P_STORES = 7
    """Words stored in the P bank."""
    P_ACCUMULATES = 8
    """Words added to the P bank."""
    POST_WORDS = 9
    """Words of outputs sent by the post-processor."""


class NodeErrors(enum.IntEnum):
    """Sticky error registers of a node."""

    POD = 0
    """Bits of `PodError`."""
    POD_TIME = 1
    """Epoch time at which POD was first seen to be set."""
    POST = 2
    """Bits of `PostError`."""
    POST_TIME = 3
    """Epoch time at which POST was first seen to be set."""
    BANK = 4
    """Bits of `BankError`."""


class NetworkId(enum.IntEnum):
    X = 0
    W = 1
    P = 2
    Y = 3


def network_error_layout(config: ChipConfig) -> Layout:
    stages = bits_for_index(config.pods)
    return Layout(
        "network_error",
        (
            Field("valid", 1, "there was a conflict"),
            Field("network", 2, "NetworkId code"),
            Field("plane", bits_for_index(config.memory.planes), "plane of the network"),
            Field("stage", bits_for_index(stages), "stage of switches, counted from the pods"),
            Field("port", stages, "wire after that stage that two words wanted"),
        ),
    )


def host_widths(config: ChipConfig) -> dict[HostSelect, tuple[int, int]]:
    """Bits of address and of data of each kind of host access."""
    memory, array, post, program = config.memory, config.array, config.post, config.program
    assert post is not None
    assert program is not None
    stores = (
        (HostSelect.LOAD_STORE, load_job_layout(config), program.load_jobs),
        (HostSelect.STREAM_STORE, stream_job_layout(config), program.stream_jobs),
        (HostSelect.POST_STORE, post_job_layout(config), program.post_jobs),
    )
    return {
        HostSelect.X: (bits_for_index(memory.x_words), 8 * array.rows),
        HostSelect.W: (bits_for_index(memory.w_words), 8 * array.cols),
        HostSelect.P: (bits_for_index(memory.p_words), array.psum_width * array.cols),
        **{select: (bits_for_index(depth), store_layout(layout).width) for select, layout, depth in stores},
        HostSelect.PARAMETERS: (bits_for_index(post.parameter_sets), post_parameters_layout().width * array.cols),
        HostSelect.TABLE: (bits_for_index(256 * post.tables), 8),
        HostSelect.COUNTERS: (bits_for_index(len(Counter)), 32),
        HostSelect.ERRORS: (bits_for_index(len(NodeErrors)), max(config.pod.time_width, len(PodError))),
    }


def host_address_width(config: ChipConfig) -> int:
    return max(address for address, _ in host_widths(config).values())


def host_beat_width(config: ChipConfig) -> int:
    return bits_for_index(max(-(-data // config.host_bits) for _, data in host_widths(config).values()))
