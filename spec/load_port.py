"""What is reached through the load ports of a chip: kinds of words, their widths, and counters."""

from __future__ import annotations

import enum

from .config import ChipConfig
from .errors import NodeErrors, PodError
from .jobs import load_job_layout, post_job_layout, post_parameters_layout, store_layout, stream_job_layout
from .layout import bits_for_index
from .links import receive_job_layout, send_job_layout
from .row_functions import ELEMENT_WIDTH, STATISTIC_WIDTH


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
    LENGTHS = 10
    """Lengths of rows, by row; write only. Only with row functions."""
    ROWS = 11
    """Values of statistics, by row register; read only. Only with row functions."""
    SEND_STORE = 12
    """Jobs of the sender of the collective engine; write only, as unit 0 of manager 0. Only with links."""
    RECEIVE_STORE = 13
    """Jobs of its receiver, likewise."""


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


def host_widths(config: ChipConfig) -> dict[HostSelect, tuple[int, int]]:
    """Bits of address and of data of each kind of host access."""
    memory, array, post, program = config.memory, config.array, config.post, config.program
    stores = (
        (HostSelect.LOAD_STORE, load_job_layout(config), program.load_jobs),
        (HostSelect.STREAM_STORE, stream_job_layout(config), program.stream_jobs),
        (HostSelect.POST_STORE, post_job_layout(config), program.post_jobs),
    )
    rows: dict[HostSelect, tuple[int, int]] = {}
    if config.has_rows:
        register = bits_for_index(post.row_registers)
        rows = {HostSelect.LENGTHS: (register, ELEMENT_WIDTH), HostSelect.ROWS: (register, STATISTIC_WIDTH)}
    links: dict[HostSelect, tuple[int, int]] = {}
    if config.links:
        job = bits_for_index(config.links.jobs)
        links = {
            HostSelect.SEND_STORE: (job, send_job_layout(config).width),
            HostSelect.RECEIVE_STORE: (job, receive_job_layout(config).width),
        }
    return {
        HostSelect.X: (bits_for_index(memory.x_words), 8 * array.rows),
        HostSelect.W: (bits_for_index(memory.w_words), 8 * array.cols),
        HostSelect.P: (bits_for_index(memory.p_words), array.psum_width * array.cols),
        **{select: (bits_for_index(depth), store_layout(layout).width) for select, layout, depth in stores},
        HostSelect.PARAMETERS: (bits_for_index(post.parameter_sets), post_parameters_layout(config).width * array.cols),
        HostSelect.TABLE: (bits_for_index(256 * post.tables), 8),
        HostSelect.COUNTERS: (bits_for_index(len(Counter)), 32),
        HostSelect.ERRORS: (bits_for_index(len(NodeErrors)), max(config.pod.time_width, len(PodError))),
        **rows,
        **links,
    }


def host_address_width(config: ChipConfig) -> int:
    return max(address for address, _ in host_widths(config).values())


def host_beat_width(config: ChipConfig) -> int:
    return bits_for_index(max(-(-data // config.host_bits) for _, data in host_widths(config).values()))
