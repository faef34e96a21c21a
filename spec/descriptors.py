"""Words between memory and the prefetch engines: descriptors, their codes, and how words of a chip lie in memory.

Plain tables without hardware, for the compiler, the runtime and the test bench as much as for the RTL. Memory is little endian.
"""

from __future__ import annotations

import enum
import functools

from .config import ChipConfig
from .layout import Field, Layout
from .load_port import HostSelect, host_widths

RINGS = ("demand", "prefetch")

DESCRIPTOR_BYTES = 64
TAG_WIDTH = 16


class DescriptorKind(enum.IntEnum):
    NOP = 0
    """Nothing but its flags."""
    LOAD = 1
    """Memory to chip."""
    STORE = 2
    """Chip to memory."""


class PrefetchError(enum.IntEnum):
    """Code of the first error of a prefetch engine since its start."""

    NONE = 0
    READ_SLVERR = 1
    """The memory answered a read of data with SLVERR; the address is that of the burst."""
    READ_DECERR = 2
    """The memory answered a read of data with DECERR; the address is that of the burst."""
    WRITE_SLVERR = 3
    """The memory answered a write with SLVERR; the address is that of the burst."""
    WRITE_DECERR = 4
    """The memory answered a write with DECERR; the address is that of the burst."""
    DESCRIPTOR_RESPONSE = 5
    """The memory answered the read of a descriptor with an error; the address is its own, the tag that of the one before."""
    UNKNOWN_KIND = 6
    """A descriptor whose kind is none of `DescriptorKind`, or with a reserved bit set (`reserved_fields`)."""
    ZERO_LENGTH = 7
    """A load or store with a loop count of 0."""
    BEYOND_MEMORY = 8
    """A load or store that would reach beyond the memory, or a ring that does."""
    MISALIGNED = 9
    """A ring that does not begin at a multiple of 64 bytes."""
    BAD_TARGET = 10
    """A select that cannot be loaded (stored), or a node or word outside of the configuration."""
    TAG_ORDER = 11
    """A descriptor with a tag smaller than the one before it in its ring, or behind the last one of its tag."""
    CANCELLED = 12
    """Descriptors of this tag were cancelled before they began."""
    BAD_BASE = 13
    """A load or store with a base register beyond those that there are."""
    BAD_COLUMN = 14
    """A load with `column`, or a column store of runs of more words than there is room for."""
    BAD_BESIDE = 15
    """A load or store with `beside` of what is none of `BESIDE_BANKS`."""


STORABLE = (HostSelect.X, HostSelect.W, HostSelect.P)
"""What a store can read."""
EPOCH_BANKS = (HostSelect.X, HostSelect.P)
"""Banks that belong to pods and post-processors while an epoch is on."""
BESIDE_BANKS = (HostSelect.X,)
"""Of these, banks of which an engine may use parts that the epoch does not use."""


def loadable(config: ChipConfig) -> tuple[HostSelect, ...]:
    """What a load can write."""
    return tuple(s for s in host_widths(config) if s not in (HostSelect.COUNTERS, HostSelect.ERRORS, HostSelect.ROWS))


def word_bytes(config: ChipConfig, select: HostSelect) -> int:
    """Bytes of a word, without those that fill its place in memory."""
    return -(-host_widths(config)[select][1] // 8)


@functools.lru_cache(maxsize=256)
def memory_stride(config: ChipConfig, select: HostSelect) -> int:
    """Bytes from one word to the next in memory.

    A word takes whole beats of the bus, and of what bytes are left the next power of two; or one more beat, if it can be stored. So
    it is delivered in pieces of `piece_bytes`, of which the last may be smaller; each has a power of two of bytes.
    """
    beat = config.host_bits // 8
    whole, left = divmod(word_bytes(config, select), beat)
    if left and whole and select in STORABLE:
        return (whole + 1) * beat
    return whole * beat + (1 << (left - 1).bit_length() if left else 0)


def piece_bytes(config: ChipConfig, select: HostSelect) -> int:
    """Bytes of a word that are delivered at once; the last piece has what is left."""
    return min(memory_stride(config, select), config.host_bits // 8)


def word_pieces(config: ChipConfig, select: HostSelect) -> int:
    """Pieces in which a word is delivered."""
    return -(-memory_stride(config, select) // piece_bytes(config, select))


def words_of(config: ChipConfig, select: HostSelect) -> int:
    """Words that a select has in a node."""
    memory, post, program = config.memory, config.post, config.program
    jobs = config.links.jobs if config.links else 0
    return {
        HostSelect.X: memory.x_words,
        HostSelect.W: memory.w_words,
        HostSelect.P: memory.p_words,
        HostSelect.LOAD_STORE: program.load_jobs,
        HostSelect.STREAM_STORE: program.stream_jobs,
        HostSelect.POST_STORE: program.post_jobs,
        HostSelect.PARAMETERS: post.parameter_sets,
        HostSelect.TABLE: 256 * post.tables,
        HostSelect.LENGTHS: post.row_registers,
        HostSelect.SEND_STORE: jobs,
        HostSelect.RECEIVE_STORE: jobs,
    }[select]


def reserved_fields(config: ChipConfig) -> frozenset[str]:
    """Fields of a descriptor that must be 0: reserved ones, and those of what this configuration does not have."""
    prefetch = config.prefetch
    assert prefetch is not None
    found = [field.name for field in descriptor_layout().fields if field.name.startswith("reserved")]
    if not prefetch.base_registers:
        found.append("base_register")
    if config.memory.x_parts == 1:
        found.append("beside")
    if not prefetch.column_words:
        found += ["column", "lane_stride"]
    if not prefetch.pass_bits:
        found += ["moves", "turns"]
    return frozenset(found)


def descriptor_layout() -> Layout:
    """A descriptor; reserved bits are 0. Loops as in a job: 0 is innermost, a step or stride is added when its loop advances."""
    return Layout(
        "descriptor",
        (
            Field("kind", 4, "DescriptorKind code"),
            Field("select", 4, "HostSelect code: which words of the node"),
            Field("last", 1, "1: the last descriptor of its tag in its ring"),
            Field("broadcast", 1, "1: a load goes to all nodes of the manager, whatever unit says"),
            Field("column", 1, "1: a store writes the words of a run as columns, byte i of all of them side by side"),
            Field("beside", 1, "1: the epoch that is on uses none of these parts of X banks: neither it nor tag is waited for"),
            Field("reserved0", 4, "0"),
            Field("unit", 8, "node, counted from the first one of the manager"),
            Field("base_register", 4, "r: BASEr is added to address; 0: nothing is"),
            Field("moves", 1, "1: of each turn before, PASS_STRIDE is added to address"),
            Field("turns", 1, "1: a turn of its ring, for what comes behind: the last descriptor of a pass"),
            Field("reserved1", 2, "0"),
            Field("tag", TAG_WIDTH, "epoch that needs it; of each turn before, EPOCHS are added"),
            Field("after", TAG_WIDTH, "epochs that must be done before it may begin; the same is added"),
            Field("address", 64, "first byte in memory of the first run, less what is added to it"),
            Field("n0", 24, "words of a run: they lie side by side in memory"),
            Field("n1", 20, "trip count of loop 1, over runs"),
            Field("n2", 20, "trip count of loop 2"),
            Field("base", 24, "first word on the chip"),
            Field("step0", 24, "word address increment inside a run", signed=True),
            Field("reserved2", 16, "0"),
            Field("step1", 24, "word address increment when loop 1 advances", signed=True),
            Field("step2", 24, "word address increment when loop 2 advances", signed=True),
            Field("reserved3", 16, "0"),
            Field("stride1", 32, "bytes from the start of a run to that of the next when loop 1 advances", signed=True),
            Field("stride2", 32, "bytes from the start of a run to that of the next when loop 2 advances", signed=True),
            Field("lane_stride", 32, "of a column store: from byte i of the first word of a run to byte i + 1", signed=True),
            Field("reserved4", 32, "0"),
            Field("reserved5", 64, "0"),
        ),
    )
