"""Links between chips in a ring, and collectives: jobs of the collective engine, flits, errors.

A collective is an epoch of another kind: in it the collective engine of every chip of a ring reads words of its banks and sends
them to the next chip, and receives words from the chip before and stores or adds them. What is done in which order is a program of
jobs, as for pods: a reduce-scatter, an all-gather, an all-reduce or a broadcast is a choice of jobs.
"""

from __future__ import annotations

import enum

from .config import ChipConfig
from .layout import Field, Layout, bits_for_index, step_width

ID_WIDTH = 16
"""Bits of the id of a collective, which all chips of a ring give it."""
COUNT_WIDTH = 24
"""Bits of counts of words of a collective."""
RUN_WIDTH = 4
"""Bits of the number of a run, by which flits and credits of one before are told from those of this one: runs of a ring that
follow each other have different numbers, and all chips of a ring the same."""
CRC_WIDTH = 16
MAX_CREDITS = 1024
"""Most credits that a neighbour may have given and not got a word for."""
NO_COLLECTIVE = 0xFFFF
"""As the epoch of the next collective: there is none."""


class CollectiveKind(enum.IntEnum):
    """What is in a collective, and therefore how wide its words are."""

    P = 0
    """Words of P banks."""
    X = 1
    """Words of X banks; a receiver stores them."""


class FlitKind(enum.IntEnum):
    WORD = 0
    """A part of a word, the least significant first."""
    HEAD = 1
    """Begins the words of a collective: a word of `head_layout`."""
    FAULT = 2
    """The sender's run has failed or was aborted: nothing more will come in this run."""


class LinkError(enum.IntEnum):
    """Code of the first error of a collective engine since its start."""

    NONE = 0
    TIMEOUT = 1
    """For LINK_TIMEOUT cycles of a collective no flit was received or sent: a neighbour has not started, or has stopped."""
    WRONG_ID = 2
    """The neighbour is in another collective."""
    WRONG_LENGTH = 3
    """The neighbour sends another number of words, or of another kind, than are expected, or a word where a head should be."""
    CRC = 4
    """A flit arrived corrupted."""
    LINK_DOWN = 5
    """A link was down in a collective."""
    NEIGHBOUR = 6
    """The chip before has failed or was aborted."""
    OVERFLOW = 7
    """A flit came for which there was no room: the neighbour does not keep to credits."""
    ILLEGAL_JOB = 8
    """A job with a loop count of 0, a unit or word outside of the chip, sums in X banks, the id of another collective than the one
    that has begun, or another kind than the first; or jobs with more or fewer words together than the first of them says."""
    WRONG_MANAGER = 9
    """A load of jobs came from another manager than the first."""


def head_layout() -> Layout:
    """The payload of a head; it fits the narrowest flit."""
    fields = (
        Field("id", 7, "the low bits of the id"),
        Field("kind", 1, "CollectiveKind"),
        Field("words", COUNT_WIDTH, "that follow"),
    )
    return Layout("head", fields)


def flit_user_layout() -> Layout:
    """What goes beside the payload of a flit."""
    return Layout("flit_user", (Field("kind", 2, "FlitKind"), Field("run", RUN_WIDTH, "number of the run, LINK_RUN")))


def _walk(config: ChipConfig) -> tuple[Field, ...]:
    """Where the words of a job are: as many as ``n0 * n1 * n2``. Increments are added to what the word before has."""
    units, address = bits_for_index(config.pods), access_address_width(config)
    step = step_width(max(config.memory.x_words, config.memory.p_words))
    return (
        Field("unit", units, "node of the first word"),
        Field("address", address, "its place in the bank"),
        Field("n0", 16, "trip count of loop 0, the innermost"),
        Field("n1", 12, "trip count of loop 1"),
        Field("n2", 12, "trip count of loop 2"),
        Field("step0", step, "address increment when loop 0 advances", signed=True),
        Field("step1", step, "address increment when loop 1 advances", signed=True),
        Field("step2", step, "address increment when loop 2 advances", signed=True),
        Field("unit1", units + 1, "node increment when loop 1 advances", signed=True),
        Field("unit2", units + 1, "node increment when loop 2 advances", signed=True),
    )


def _collective() -> tuple[Field, ...]:
    """The same in all jobs of one collective, of one store."""
    return (
        Field("id", ID_WIDTH, "of the collective"),
        Field("kind", 1, "CollectiveKind"),
        Field("words", COUNT_WIDTH, "of all jobs of the collective in this store, in the first; 0: not even a head is sent"),
        Field("last", 1, "1: the last job of the collective in this store"),
    )


def send_job_layout(config: ChipConfig) -> Layout:
    """A job of the sender: words that are read and sent to the next chip.

    With ``follows``, word j of the job, from 0 on, is read when more than ``needs`` + j words of the collective have been received.
    A job of a collective in which nothing is sent has ``words`` 0, ``last`` 1, and its walk does not matter.
    """
    return Layout(
        "send_job",
        (
            *_walk(config),
            *_collective(),
            Field("follows", 1, "1: words wait for those received"),
            Field("needs", COUNT_WIDTH, "words received before the first one that is sent here"),
            Field("next", 16, "with last: epoch of the next collective, or NO_COLLECTIVE"),
        ),
    )


def receive_job_layout(config: ChipConfig) -> Layout:
    """A job of the receiver: words that come from the chip before and are written."""
    return Layout("receive_job", (*_walk(config), *_collective(), Field("add", 1, "1: P words are added to what is there")))


def word_bits(config: ChipConfig, kind: CollectiveKind) -> int:
    """Bits of a word of a bank."""
    return config.array.psum_width * config.array.cols if kind is CollectiveKind.P else 8 * config.array.rows


def word_flits(config: ChipConfig, kind: CollectiveKind) -> int:
    """Flits of a word."""
    assert config.links is not None
    return -(-word_bits(config, kind) // config.links.flit_bits)


def access_address_width(config: ChipConfig) -> int:
    """Bits of a place in a bank, as the collective engine gives it."""
    return bits_for_index(max(config.memory.x_words, config.memory.p_words))
