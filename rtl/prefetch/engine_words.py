"""Words that pass between the parts of a prefetch engine, and the sizes that they derive from a configuration."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Signal
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig, bits
from podweave.spec.descriptors import (
    RINGS,
    TAG_WIDTH,
    PrefetchError,
    descriptor_layout,
    loadable,
    memory_stride,
    piece_bytes,
    reserved_fields,
    word_bytes,
    word_pieces,
    words_of,
)
from podweave.spec.layout import Field, Layout, bits_for_index
from podweave.spec.load_port import HostSelect, host_address_width, host_beat_width

from ..parts.blocks import struct

CODE_WIDTH = 4
WORDS_WIDTH = 33
"""Bits of a count of words that stops at 2**32: more than any cap."""
COMPLETE_EXTRA = 2
"""Cycles beyond ``host_levels`` from the last piece of a tag on the load port until the tag is complete."""


class ReadClass(enum.IntEnum):
    """What a read burst is for."""

    DESCRIPTOR = 0
    DEMAND = 1
    PREFETCH = 2


@dataclass(frozen=True)
class Target:
    """What a load can write.

    Parameters
    ----------
    words : int
        Words in a node.
    stride : int
        Bytes of each word in memory.
    pieces : int
        Pieces in which a word is delivered.
    piece_bytes : int
        Bytes of a piece.
    bytes : int
        Bytes of a word that do not only fill its place in memory.
    last_bytes : int
        Bytes of the last piece of a word.
    """

    words: int
    stride: int
    pieces: int
    piece_bytes: int
    bytes: int
    last_bytes: int


def prefetch_of(config: ChipConfig) -> PrefetchConfig:
    assert config.prefetch is not None
    return config.prefetch


def base_members(config: ChipConfig) -> dict[str, Any]:
    """The port with the base registers, if there are any."""
    prefetch = prefetch_of(config)
    return {"bases": In(prefetch.base_registers * prefetch.address_width)} if prefetch.base_registers else {}


def pass_members(config: ChipConfig) -> dict[str, Any]:
    """What a turn of a ring adds, if there are passes."""
    return {"pass_epochs": In(TAG_WIDTH), "pass_stride": In(prefetch_of(config).address_width)} if config.passes else {}


def body_members(config: ChipConfig) -> dict[str, Any]:
    """How often a run goes over the bodies of its rings, demand least significant, and where these are; if there are passes."""
    return {"passes": In(prefetch_of(config).pass_bits), **dict.fromkeys(("body", "body_end"), In(2 * 32))} if config.passes else {}


def shared_pass_members(config: ChipConfig) -> dict[str, Any]:
    """What all engines are told of passes alike."""
    return pass_members(config) | {name: member for name, member in body_members(config).items() if name == "passes"}


def ring_pass_members(config: ChipConfig) -> dict[str, Any]:
    """What an engine is told of passes."""
    bodies = {f"{name}_{port}": In(32) for port in ("body", "body_end") for name in RINGS}
    return shared_pass_members(config) | (bodies if config.passes else {})


def targets(config: ChipConfig) -> dict[HostSelect, Target]:
    found = {}
    for select in loadable(config):
        stride, piece, pieces = memory_stride(config, select), piece_bytes(config, select), word_pieces(config, select)
        last = stride - (pieces - 1) * piece
        found[select] = Target(words_of(config, select), stride, pieces, piece, word_bytes(config, select), last)
    return found


def beat_bits(config: ChipConfig) -> int:
    """Bits that number the bytes of a beat."""
    return bits(prefetch_of(config).data_width // 8)


def run_bytes_width(config: ChipConfig) -> int:
    """Bits of the bytes of a run that fits into memory."""
    return prefetch_of(config).address_width + 1


def _descriptor_fields(*names: str) -> list[Field]:
    fields = {field.name: field for field in descriptor_layout().fields}
    return [fields[name] for name in names]


def fetched_layout(config: ChipConfig) -> Layout:
    """A descriptor as it came from memory, with where it was and how that went."""
    reserved = reserved_fields(config)
    fields = [field for field in descriptor_layout().fields if field.name not in reserved]
    return Layout(
        "fetched_descriptor",
        (
            *fields,
            Field("reserved", 1, "a reserved bit is set"),
            Field("failed", 1, "the memory answered with an error"),
            Field("ring", 1, "0: demand, 1: prefetch"),
            Field("where", prefetch_of(config).address_width, "byte address of the descriptor"),
        ),
    )


def _column_fields(config: ChipConfig) -> list[Field]:
    return _descriptor_fields("column", "lane_stride") if prefetch_of(config).column_words else []


def held_layout(config: ChipConfig) -> Layout:
    """A checked descriptor. Beside ``tag`` and ``where``, fields are only meaningful without an error."""
    address, word = prefetch_of(config).address_width, host_address_width(config)
    return Layout(
        "held_descriptor",
        (
            Field("error", CODE_WIDTH, "PrefetchError code; 0: legal"),
            *_descriptor_fields("kind", "select", "last", "broadcast"),
            Field("unit", bits_for_index(config.nodes_per_manager), "node of the manager"),
            *_descriptor_fields("tag", "after"),
            Field("address", address, "first byte in memory of the first run, with its base register"),
            *_descriptor_fields("n0", "n1", "n2"),
            Field("base", word, "first word on the chip"),
            *(Field(f"step{i}", word, "as in the descriptor, modulo 2**width") for i in range(3)),
            *_descriptor_fields("stride1", "stride2"),
            *_column_fields(config),
            *(_descriptor_fields("beside") if config.memory.x_parts > 1 else ()),
            Field("words", WORDS_WIDTH, "words of all runs, at most 2**32"),
            Field("run_bytes", run_bytes_width(config), "bytes of a run; of a column store, of a lane of it"),
            Field("where", address, "byte address of the descriptor"),
        ),
    )


def walk_layout(config: ChipConfig) -> Layout:
    """What the burst issuer walks over: the runs of a descriptor in memory."""
    held = {field.name: field for field in held_layout(config).fields}
    columns = ("select", "column", "lane_stride") if prefetch_of(config).column_words else ()
    names = ("address", "run_bytes", "n1", "n2", "stride1", "stride2", "tag", *columns)
    store = (Field("store", 1, "1: write bursts"), Field("ring", 1, "0: demand, 1: prefetch"))
    return Layout("run_walk", (*(held[name] for name in names), *store))


def item_layout(config: ChipConfig) -> Layout:
    """What the realigner walks over: the words of a descriptor on the chip, and where in a beat its runs begin."""
    held = {field.name: field for field in held_layout(config).fields}
    columns = prefetch_of(config).column_words > 0
    names = ("kind", "select", "broadcast", "unit", "n0", "n1", "n2", "base", "step0", "step1", "step2", *["column"] * columns)
    byte = beat_bits(config)
    lane_stride = Field("lane_stride", byte, "bytes from lane to lane, modulo those of a beat")
    return Layout(
        "delivery_item",
        (
            *(held[name] for name in names),
            Field("offset", byte, "byte of a beat at which the first run begins"),
            *(Field(f"stride{i}", byte, "bytes from run to run, modulo those of a beat") for i in (1, 2)),
            *[lane_stride] * columns,
            Field("ring", 1, "0: demand, 1: prefetch"),
            Field("counts", 1, "its end completes a tag"),
        ),
    )


def walker_members(
    config: ChipConfig, *, asks: Sequence[str], flags: Sequence[str], fields: Sequence[str], **more: Any
) -> dict[str, Any]:
    """Ports of a block that walks over the words of one item after the other.

    ``asks``: inputs without which some steps wait. ``flags``: what a step does. ``fields``: of the item, as steps hand them on.
    """
    widths = {field.name: field.width for field in item_layout(config).fields}
    return {
        "clear": In(1),
        "stopped": In(1),
        "item_valid": In(1),
        "item": In(item_layout(config).width),
        "item_pop": Out(1),
        **{name: In(1) for name in asks},
        **{name: Out(1) for name in flags},
        "offset": Out(beat_bits(config)),
        **{name: Out(widths[name]) for name in fields},
        "address": Out(host_address_width(config)),
        "beat": Out(host_beat_width(config)),
        **more,
        "active": Out(1),
    }


def item_registers(config: ChipConfig) -> tuple[Any, Any]:
    """Of a walker: the item that comes in, which is no register, and the one that it holds."""
    layout = struct(item_layout(config))
    return Signal(layout, name="incoming"), Signal(layout, name="item_held", reset_less=True)


def burst_layout(config: ChipConfig) -> Layout:
    """A read burst under way."""
    return Layout(
        "read_burst",
        (
            Field("read_class", 2, "ReadClass code"),
            Field("ring", 1, "0: demand, 1: prefetch"),
            Field("tag", TAG_WIDTH, "of its descriptor"),
            Field("address", prefetch_of(config).address_width, "byte address of its first beat"),
        ),
    )


def fault_layout(config: ChipConfig) -> Layout:
    """An error, as it is reported."""
    return Layout(
        "fault",
        (
            Field("code", CODE_WIDTH, f"PrefetchError code, up to {max(PrefetchError)}"),
            Field("ring", 1, "0: demand, 1: prefetch"),
            Field("tag", TAG_WIDTH, "tag"),
            Field("address", prefetch_of(config).address_width, "byte address of the burst or descriptor"),
        ),
    )
