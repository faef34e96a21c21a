"""Jobs of pods and post-processors: their words and codes."""

from __future__ import annotations

import enum

from .config import ChipConfig
from .layout import Field, Layout, bits_for_index, step_width
from .row_functions import row_fields


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


class Reduce(enum.IntEnum):
    """What the two inner loops of a post-processor job do with the words they read."""

    MAX = 0
    SUM = 1
    HORNER = 2
    """256 times what there is plus the next one, modulo 2**32: sums of the high and of the low plane become those of 16 bits. Only
    with row functions."""
    PAIR = 3
    """The low 16 bits of the last two, the earlier one above. Only with row functions."""


def _tile_fields(config: ChipConfig, tile: str) -> tuple[Field, ...]:
    """What makes one job of as many as there are tiles, if the configuration has such jobs; ``tile``: what it has several of."""
    if not config.pod.tile_width:
        return ()
    return (
        Field("tiles", config.pod.tile_width, f"{tile} of the job, one or more"),
        Field(
            "period", config.pod.count_width, "cycles from the first request of a tile to that of the next, if there are several"
        ),
    )


def _plane_field(name: str, network: str, planes: int) -> tuple[Field, ...]:
    """Which plane of a network a job uses, if there are several."""
    return (Field(name, bits_for_index(planes), f"plane of the {network} network"),) if planes > 1 else ()


def load_job_layout(config: ChipConfig) -> Layout:
    """A load job fetches tiles of ``rows`` words; the W address advances from tile to tile as from row to row."""
    memory = config.memory
    return Layout(
        "load_job",
        (
            Field("start", config.pod.time_width, "epoch time of the first request, in cycles"),
            Field("rows", bits_for_index(config.array.rows + 1), "weight rows to fetch, 1 to rows"),
            Field("w_bank", bits_for_index(memory.banks), "W bank"),
            *_plane_field("w_plane", "W", memory.w_planes),
            Field("w_base", bits_for_index(memory.w_words), "address of weight row 0, in words"),
            Field("w_step", step_width(memory.w_words), "address increment from row to row, in words", signed=True),
            *_tile_fields(config, "weight tiles"),
        ),
    )


def stream_job_layout(config: ChipConfig) -> Layout:
    """A stream job walks the same loops for each of its tiles, and swaps in weights before each if there are several.

    With ``x_turn`` k, the X bank of a tile is that behind the one of the tile before, in the same aligned block of 2**k banks;
    when it is the first of the block again, the X address advances by ``x_tile_step``. Sums of all tiles go to the same
    accumulators, of which the last tile emits; in BYPASS, every tile emits, and all but the first accumulate in the P bank.
    """
    memory, pod = config.memory, config.pod
    advance: tuple[Field, ...] = ()
    if pod.tile_width:
        advance = (
            *_tile_fields(config, "K steps"),
            Field("x_tile_step", step_width(memory.x_words), "X address increment from tile to tile, or turn to turn", signed=True),
            Field("x_turn", bits_for_index(memory.banks.bit_length()), "the X bank turns among 2**x_turn; 0: it stays"),
        )
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
            *_plane_field("x_plane", "X", memory.x_planes),
            Field("x_base", bits_for_index(memory.x_words), "address of the first word of activations"),
            *x_steps,
            Field("accumulate", 2, "Accumulate code"),
            Field("accumulator_base", bits_for_index(pod.accumulator_rows), "accumulator row of the first word"),
            Field("emit", 2, "Emit code"),
            Field("p_bank", bits_for_index(memory.banks), "P bank"),
            *_plane_field("p_plane", "P", memory.p_planes),
            Field("p_base", bits_for_index(memory.p_words), "P address of the first word"),
            *p_steps,
            *advance,
        ),
    )


def post_job_layout(config: ChipConfig) -> Layout:
    """A job of a post-processor: loops 0 and 1 (innermost) are reduced to one word, loops 2 and 3 walk over output words.

    When loop i advances (all loops inside it wrap), the P address grows by ``p_step<i>``; when loop 2 or 3 advances, the X
    address grows by ``x_step<i>``. With row functions, results may go into the own P bank: then what is said of the X bank is of
    it.
    """
    memory, array, post = config.memory, config.array, config.post
    lanes = config.post_lanes
    written = max(memory.x_words, memory.p_words) if post.row_registers else memory.x_words
    p_steps = [
        Field(f"p_step{i}", step_width(memory.p_words), f"P address increment when loop {i} advances", True) for i in range(4)
    ]
    x_steps = [Field(f"x_step{i}", step_width(written), f"X address increment when loop {i} advances", True) for i in (2, 3)]
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
            Field("reduce", 2 if post.row_registers else 1, "Reduce code"),
            Field("parameters", bits_for_index(post.parameter_sets), "set of bias, multiplier and shift"),
            Field("activate", 1, "1: look the result up in the activation table"),
            Field("table", bits_for_index(post.tables), "activation table"),
            Field("slice", bits_for_index(array.cols // lanes), "which lanes of a P word, in units of an output word"),
            Field("slot", bits_for_index(array.rows // lanes), "which lanes of an X word, in units of an output word"),
            Field("x_bank", bits_for_index(memory.banks), "X bank"),
            *_plane_field("x_plane", "Y", memory.y_planes),
            Field("x_base", bits_for_index(written), "X address of the first output word"),
            *x_steps,
            *(row_fields(config) if post.row_registers else ()),
        ),
    )


def post_parameters_layout(config: ChipConfig) -> Layout:
    """Parameters of one lane; a parameter set is one such word for each of the ``cols`` lanes of a P word."""
    return Layout(
        "post_parameters",
        (
            Field("bias", 32, "added to the reduced partial sum", signed=True),
            Field("multiplier", config.post.scale_bits, "times this"),
            Field("shift", 6, "divided by 2**shift, 0 to 62, rounding to nearest"),
            *([Field("zero_point", 8, "added to what is rounded", signed=True)] if config.post.zero_points else []),
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
