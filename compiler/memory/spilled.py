"""Tensors that lie in memory as words of activations: stored by some epochs, loaded by others.

In each channel of the memory that has words of it, a tensor has a place for all of them: a plane of positions for each image of
each block of channels, with the padding that its readers see around it (`frames`). So a load or a store of any box is one
descriptor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.graph import Graph
from podweave.ir.operations import Shape
from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.epoch_program import EpochProgram, ExternalUnit, Spilled
from ..chip.regions import unpadded, valid_part
from ..chip.spills import stored_views
from ..lower.boxes import Rect
from .channel import Channel
from .frames import Frame, Frames
from .moves import Move
from .tensors import OutputPlaces, byte_number
from .words import Runs, joined_boxes

_MOST_WORDS = 1 << 20
"""Of a descriptor."""


class SpilledTensors:
    """All tensors that programs of a network store and load again.

    They are stored in the gaps between epochs, by the demand rings, and loaded there too: what one stores, the next one may load.
    If X banks have parts, what is there before an epoch may be loaded beside it. Passes follow each other, and have the same
    places but for outputs of the network.

    ``programs``: of all epochs of a network that was cut, if it was.
    """

    def __init__(self, programs: Sequence[EpochProgram], graph: Graph, channels: Sequence[Channel], passes: int):
        self.outputs, self.channels, self.passes = frozenset(graph.outputs), channels, passes
        self.shapes: dict[str, Shape] = {}
        """Of tensors, as they lie in memory."""
        if programs:
            self.shapes = graph.inputs | {each.name: each.output for each in graph.operations}
            self.shapes |= {name: seen.of(self.shapes[name]) for name, seen in stored_views(graph, programs[0].config).items()}
        self.stride = memory_stride(programs[0].config, HostSelect.X) if programs else 0
        self.frames: dict[str, Frames] = {}
        for program in programs:
            rows = program.config.array.rows
            for name in (program.operation(piece.operation).name for piece in program.spilled):
                self._frames(name, rows)
            for item in program.external_units:
                unit = program.unit(item)
                if unit.is_stored:
                    self._frames(unit.source, rows).see(*self._of(program, item))
        self.storing: dict[tuple[str, int], list[tuple[int, Rect]]] = {}
        """By tensor and block of channels, the epochs that store some of it, and which positions."""
        for epoch, program in enumerate(programs):
            for piece in program.spilled:
                name = program.operation(piece.operation).name
                stored = self.storing.setdefault((name, piece.block), [])
                stored.append((epoch, _stored(program, piece)))

    def _frames(self, name: str, rows: int) -> Frames:
        if name not in self.frames:
            is_output = name in self.outputs
            self.frames[name] = Frames(self.shapes[name], rows, self.passes > 1 and is_output, is_output)
        return self.frames[name]

    @staticmethod
    def _of(program: EpochProgram, item: ExternalUnit) -> tuple[int, Rect, Rect]:
        """What is in the padding of a unit's region; its box in the network's tensor, and that without padding."""
        operand = program.operation(item.operation).operands[item.operand]
        unit = program.unit(item)
        region, corner = unpadded(operand, unit, item.region), program.corners[unit.source]
        inner = valid_part(operand, unit, region)
        return operand.pad_value, moved(region, corner), moved(inner, corner)

    def loads(self, epoch: int, program: EpochProgram) -> Iterator[Move]:
        """What an epoch reads of them: apart, what is there before the last epoch begins."""
        found: dict[tuple[bool, bool], list[Runs]] = {}
        stored = {True: -1, False: -1}
        has_parts = program.config.memory.x_parts > 1
        rows, per_manager = program.config.array.rows, program.config.nodes_per_manager
        for item in program.external_units:
            unit = program.unit(item)
            if unit.is_stored:
                value, box, part = self._of(program, item)
                frame = self.frames[unit.source].of(value, box, part)
                address = self._place(frame, item.place.bank // per_manager)
                block = unit.block[1] // rows
                piece = frame.runs(item.place.bank, item.place.base, block, box, address, self.stride)
                last = max((by for by, there in self.storing.get((unit.source, block), ()) if overlap(box, there)), default=-1)
                early = has_parts and last + 2 < epoch
                stored[early] = max(stored[early], last)
                found.setdefault((frame.of_pass, early), []).append(piece)
        for (of_pass, early), pieces in found.items():
            yield from self._moves(program, {of_pass: pieces}, DescriptorKind.LOAD, stored[early] if early else None)

    def stores(self, program: EpochProgram, places: OutputPlaces) -> Iterator[Move]:
        """What an epoch leaves of them; ``places``: is told where bytes of outputs of the network are."""
        found: dict[bool, list[Runs]] = {}
        for item in program.spilled:
            name = program.operation(item.operation).name
            box = _stored(program, item)
            for frame in self.frames[name].all:
                inside = frame.inside(box)
                if inside is None:
                    continue
                address = self._place(frame, item.place.bank // program.config.nodes_per_manager)
                piece = frame.runs(item.place.bank, item.place.base, item.block, inside, address, self.stride, within=box)
                found.setdefault(frame.of_pass, []).append(piece)
        for name in dict.fromkeys(program.operation(item.operation).name for item in program.spilled):
            if name in self.outputs:
                for channel, part, addresses in self._numbers(program, name):
                    places.add_part(name, self.shapes[name], part, byte_number(np.array(channel), addresses))
        return self._moves(program, found, DescriptorKind.STORE)

    def _moves(
        self, program: EpochProgram, pieces: dict[bool, list[Runs]], kind: DescriptorKind, stored: int | None = None
    ) -> Iterator[Move]:
        """Words of X banks, in as few descriptors as there can be; ``pieces``: by whether their memory is that of a pass."""
        for of_pass, found in pieces.items():
            for piece in joined_boxes(found, _MOST_WORDS):
                channel, unit = divmod(piece.node, program.config.nodes_per_manager)
                yield Move(
                    channel=channel,
                    unit=unit,
                    select=HostSelect.X,
                    base=piece.base,
                    count=piece.words,
                    address=piece.address,
                    kind=kind,
                    late=kind == DescriptorKind.LOAD,
                    stored=stored,
                    of_pass=of_pass,
                    places=piece.places,
                    fields=piece.loops,
                )

    def _numbers(self, program: EpochProgram, name: str) -> list[tuple[int, tuple[slice, ...], NDArray[np.int64]]]:
        """Of an output that an epoch stores: the channel, the part of the tensor, and the address of each of its bytes there."""
        rows = program.config.array.rows
        found: list[tuple[int, tuple[slice, ...], NDArray[np.int64]]] = []
        frame = self.frames[name].whole
        for item in program.spilled:
            if program.operation(item.operation).name != name:
                continue
            channel = item.place.bank // program.config.nodes_per_manager
            images, high, wide = _stored(program, item)
            first, end = item.block * rows, min(frame.shape[3], (item.block + 1) * rows)
            image, row, column = np.ogrid[slice(*images), slice(*high), slice(*wide)]
            plane = (item.block * frame.shape[0] + image) * frame.height + row + frame.pads[0, 0]
            word = plane * frame.width + column + frame.pads[1, 0]
            address = self._place(frame, channel) + self.stride * word[..., None] + np.arange(end - first)
            found.append((channel, (slice(*images), slice(*high), slice(*wide), slice(first, end)), address))
        return found

    def _place(self, frame: Frame, channel: int) -> int:
        if channel not in frame.places:
            room = frame.words * self.stride
            of = self.channels[channel]
            frame.places[channel] = of.reserve_of_pass(room) if frame.of_pass else of.reserve(room)
            if frame.value is not None:
                self._write_pads(frame, channel)
        return frame.places[channel]

    def _write_pads(self, frame: Frame, channel: int) -> None:
        """What stands around a tensor is there from the beginning, and nobody stores it."""
        assert frame.value is not None
        words = np.arange(frame.words).reshape(-1, frame.height, frame.width)
        (top, bottom), (left, right) = frame.pads.tolist()
        inside = np.zeros(words.shape, bool)
        inside[:, top : frame.height - bottom, left : frame.width - right] = True
        outside = np.flatnonzero(~inside.reshape(-1))
        value = np.full(self.stride * len(outside), frame.value, np.int8).view(np.uint8)
        begins = np.flatnonzero(np.diff(outside, prepend=-2) != 1)
        pieces = self.channels[channel].of_pass if frame.of_pass else self.channels[channel].pieces
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(outside)], strict=True):
            at = frame.places[channel] + self.stride * int(outside[begin])
            pieces.append((at, value[: self.stride * (end - begin)]))


def overlap(one: Rect, other: Rect) -> bool:
    """Whether two boxes share a position."""
    return all(begin < there_end and there < end for (begin, end), (there, there_end) in zip(one, other, strict=True))


def moved(box: Rect, corner: tuple[int, int, int]) -> Rect:
    """A box of a band's tensor in that of the network."""
    spans = [(begin + by, end + by) for (begin, end), by in zip(box, corner, strict=True)]
    return spans[0], spans[1], spans[2]


def _stored(program: EpochProgram, item: Spilled) -> Rect:
    """Which positions of a tensor, as it lies in memory, a piece is."""
    image, row, column = program.corners[program.operation(item.operation).name]
    return moved(item.box, (image, row * item.seen.rows, column * item.seen.columns))


def part_of(program: EpochProgram, name: str) -> tuple[slice, ...]:
    """The part of an input of the network that an epoch's graph has as its own."""
    corner, sizes = program.corners[name], program.graph.inputs[name][:3]
    return tuple(slice(begin, begin + size) for begin, size in zip(corner, sizes, strict=True))
