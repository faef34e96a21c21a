"""What a prefetch engine must do for a descriptor, from the description of descriptors alone: accesses, bytes, bursts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import (
    DESCRIPTOR_BYTES,
    DescriptorKind,
    descriptor_layout,
    memory_stride,
    piece_bytes,
    word_bytes,
    word_pieces,
)
from podweave.spec.load_port import HostSelect


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """Fields of `descriptor_layout`; ``reserved0`` is there to be set by who tests that."""

    kind: int = DescriptorKind.LOAD
    select: int = HostSelect.W
    last: int = 0
    broadcast: int = 0
    unit: int = 0
    tag: int = 0
    after: int = 0
    address: int = 0
    n0: int = 1
    n1: int = 1
    n2: int = 1
    base: int = 0
    step0: int = 1
    step1: int = 0
    step2: int = 0
    stride1: int = 0
    stride2: int = 0
    base_register: int = 0
    column: int = 0
    lane_stride: int = 0
    beside: int = 0
    reserved0: int = 0

    def pack(self) -> bytes:
        word, layout = 0, descriptor_layout()
        values = dataclasses.asdict(self)
        for field in layout.fields:
            value = int(values.get(field.name, 0))
            low = -(1 << (field.width - 1)) if field.signed else 0
            if not low <= value < low + (1 << field.width):
                raise ValueError(f"{field.name} has {field.width} bits, got {value}")
            word |= (value & (1 << field.width) - 1) << layout.offset(field.name)
        return word.to_bytes(DESCRIPTOR_BYTES, "little")

    @property
    def words(self) -> int:
        return 0 if self.kind == DescriptorKind.NOP else self.n0 * self.n1 * self.n2

    def run_addresses(self) -> NDArray[np.int64]:
        """First byte of each run, in order: (n2 * n1,)."""
        outer = (self.n1 - 1) * self.stride1 + self.stride2
        return (self.address + np.arange(self.n2)[:, None] * outer + np.arange(self.n1) * self.stride1).reshape(-1)

    def word_addresses(self) -> NDArray[np.int64]:
        """Words on the chip, in order: (n2 * n1, n0)."""
        inner = (self.n0 - 1) * self.step0
        middle = inner + self.step1
        outer = (self.n1 - 1) * middle + inner + self.step2
        runs = (self.base + np.arange(self.n2)[:, None] * outer + np.arange(self.n1) * middle).reshape(-1)
        return runs[:, None] + np.arange(self.n0) * self.step0


def byte_indices(config: ChipConfig, descriptor: Descriptor) -> NDArray[np.int64]:
    """Addresses of the bytes of a descriptor, in the order of the load port: (pieces, bytes of a piece).

    Of bytes that are not stored, those that only fill the place of a word in memory, -1. Of a piece with fewer bytes than others,
    the last again and again.
    """
    select = HostSelect(descriptor.select)
    if descriptor.column:
        return _column_indices(config, descriptor, select)
    stride, size, pieces = memory_stride(config, select), piece_bytes(config, select), word_pieces(config, select)
    word = np.minimum(np.arange(pieces * size), stride - 1)
    run = (np.arange(descriptor.n0)[:, None] * stride + word).reshape(-1)
    return (descriptor.run_addresses()[:, None] + run).reshape(-1, size)


def _column_indices(config: ChipConfig, descriptor: Descriptor, select: HostSelect) -> NDArray[np.int64]:
    """The same of a column store: of each run, piece by piece of its words, word by word."""
    stride, piece, words = memory_stride(config, select), piece_bytes(config, select), np.arange(descriptor.n0)
    byte = np.arange(stride).reshape(-1, 1, piece)
    found = byte * descriptor.lane_stride + words[:, None]
    stored = np.broadcast_to(byte < word_bytes(config, select), found.shape)
    runs = descriptor.run_addresses()[:, None, None, None] + found
    return np.where(stored, runs, -1).reshape(-1, piece)


def access_dtype(config: ChipConfig) -> np.dtype:
    fields = [(name, "<i8") for name in ("write", "commit", "select", "unit", "broadcast", "address", "beat")]
    return np.dtype([*fields, ("data", "u1", (config.host_bits // 8,))])


def accesses(config: ChipConfig, descriptor: Descriptor, memory: NDArray[np.uint8]) -> NDArray:
    """Accesses on the load port in order, as `access_dtype`; of a broadcast without the unit, of a read without the data."""
    if descriptor.kind == DescriptorKind.NOP:
        return np.zeros(0, access_dtype(config))
    indices = byte_indices(config, descriptor)
    pieces = word_pieces(config, HostSelect(descriptor.select))
    found = np.zeros(len(indices), access_dtype(config))
    found["write"] = descriptor.kind == DescriptorKind.LOAD
    if descriptor.column:
        # Piece by piece of a run, word by word.
        words = np.repeat(descriptor.word_addresses()[:, None, :], pieces, axis=1)
        beats = np.broadcast_to(np.arange(pieces)[:, None], words.shape)
    else:
        words = np.repeat(descriptor.word_addresses()[:, :, None], pieces, axis=2)
        beats = np.broadcast_to(np.arange(pieces), words.shape)
    found["beat"] = beats.reshape(-1)
    found["commit"] = found["write"] & (found["beat"] == pieces - 1)
    found["select"] = descriptor.select
    found["unit"] = 0 if descriptor.broadcast else descriptor.unit
    found["broadcast"] = descriptor.broadcast
    found["address"] = words.reshape(-1)
    if descriptor.kind == DescriptorKind.LOAD:
        inside = np.diff(indices, axis=1, prepend=-1) != 0
        found["data"][:, : indices.shape[1]] = np.where(inside, memory[indices], 0)
    return found


def beats_left(config: ChipConfig, loads: Sequence[Descriptor]) -> NDArray[np.int64]:
    """How many beats can have left the buffer when 0, 1, ... of the accesses of ``loads`` are on the load port.

    A beat leaves with the first piece that ends in it, but the first one of a run before its first piece if that needs a second.
    """
    beat = config.host_bits // 8
    left, total = [np.zeros(1, np.int64)], 0
    for descriptor in loads:
        indices = byte_indices(config, descriptor)
        per_run = len(indices) // (descriptor.n1 * descriptor.n2)
        first, last = indices[:, 0].reshape(-1, per_run), indices[:, -1].reshape(-1, per_run)
        inside = last // beat - first[:, :1] // beat + 1
        before = np.cumsum(inside[:, -1]) - inside[:, -1]
        early = np.zeros(inside.shape, np.int64)
        early[:, 0] = first[:, 0] // beat != last[:, 0] // beat
        left[-1][-1] += early[0, 0]
        next_early = np.append(early.reshape(-1)[1:], 0)
        left.append(total + (before[:, None] + inside).reshape(-1) + next_early)
        total += int(inside[:, -1].sum())
    return np.concatenate(left)


def bus_beats(config: ChipConfig, descriptor: Descriptor) -> int:
    """Beats on the bus."""
    if descriptor.kind == DescriptorKind.NOP:
        return 0
    beat = config.host_bits // 8
    run = descriptor.n0 * memory_stride(config, HostSelect(descriptor.select))
    starts = descriptor.run_addresses()
    if descriptor.column:
        run, lanes = descriptor.n0, np.arange(word_bytes(config, HostSelect(descriptor.select)))
        starts = starts[:, None] + lanes * descriptor.lane_stride
    return int((((starts % beat) + run + beat - 1) // beat).sum())


def content(found: NDArray, lanes: int) -> NDArray[np.uint8]:
    """What the harness answers to the reads in ``found``: (reads, 8 * lanes) bytes."""
    fields = {name: found[name].astype(np.uint64)[:, None] for name in ("select", "unit", "address", "beat")}
    x = fields["select"] << np.uint64(60) | fields["unit"] << np.uint64(52) | fields["address"] << np.uint64(20)
    x = x | fields["beat"] << np.uint64(8) | np.arange(lanes, dtype=np.uint64)
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = x ^ (x >> np.uint64(29))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    return np.ascontiguousarray(x).view(np.uint8).reshape(len(found), 8 * lanes)


def store(config: ChipConfig, descriptor: Descriptor, memory: NDArray[np.uint8]) -> None:
    """What a store leaves in memory, where the load port answers with `content`."""
    indices = byte_indices(config, descriptor)
    words = content(accesses(config, descriptor, memory), config.host_bits // 64)
    if descriptor.column:
        # Lane by lane: where they overlap, the later one stays.
        lanes = (-1, descriptor.n0, indices.shape[1])
        words = words[:, : indices.shape[1]].reshape(lanes).transpose(0, 2, 1).reshape(-1, descriptor.n0)
        indices = indices.reshape(lanes).transpose(0, 2, 1).reshape(-1, descriptor.n0)
    # Row by row: where runs overlap, the later one stays.
    for row, data in zip(indices, words, strict=True):
        if row[0] >= 0:
            memory[row] = data[: indices.shape[1]]
