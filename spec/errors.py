"""Bits of the sticky error registers of pods, post-processors and banks, and what a network reports."""

from __future__ import annotations

import enum

from .config import ChipConfig
from .layout import Field, Layout, bits_for_index


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


class PostError(enum.IntEnum):
    """Bit of the sticky error register of a post-processor. With any bit set it starts no further job until reset."""

    LATE = 0
    """A job was still queued, or the engine busy, when its start time had passed."""
    OVERFLOW = 1
    """A job was pushed into a full queue and is lost."""
    ILLEGAL = 2
    """A job with a loop count of 0, or a bank, parameter set, table, slice or slot outside the configuration."""
    P_ADDRESS = 3
    """A partial-sum address outside its bank; the word was not read."""
    X_ADDRESS = 4
    """An activation address (or that of a word for the own P bank) outside its bank; the word was dropped."""
    ROW_NOT_READY = 5
    """A row register was read before the statistic that it was last given to had arrived."""
    SCALAR_BUSY = 6
    """A statistic to make a scale of arrived while the scale of another one was being made, and has none."""


class BankError(enum.IntEnum):
    """Bit of the sticky error register of the X, W and P bank of one index."""

    X_HAZARD = 0
    """A word of the X bank was read in the cycle in which it was written."""
    X_CONFLICT = 1
    """Two planes asked the X bank for different words, or wrote it, in the same cycle. With several ``x_parts`` also: a load port
    or the collective engine read (wrote) a part in a cycle in which the network did, or both had an access in one cycle."""
    W_CONFLICT = 2
    """Two planes asked the W bank for different words in the same cycle."""
    P_CONFLICT = 3
    """Two planes, or a plane and the post-processor, wrote the P bank in the same cycle."""
    P_BUSY = 4
    """The post-processor read the P bank in a cycle in which a word to be accumulated needs the read port."""
    P_HAZARD = 5
    """The post-processor read a word of the P bank in the cycle in which it was written."""


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
    STATISTICS = 4
    """Nodes of a block that did not all send a statistic of the same kind."""


def network_error_layout(config: ChipConfig) -> Layout:
    stages = bits_for_index(config.pods)
    return Layout(
        "network_error",
        (
            Field("valid", 1, "there was a conflict"),
            Field("network", 3 if config.has_rows else 2, "NetworkId code"),
            Field("plane", bits_for_index(max(config.memory.planes.values())), "plane of the network"),
            Field("stage", bits_for_index(stages), "stage of switches, counted from the pods"),
            Field("port", stages, "wire after that stage that two words wanted"),
        ),
    )
