"""From P banks to X banks: which outputs go where, when, and on which wires."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from podweave.ir.layers import WorkloadError
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Upsampling
from podweave.spec.load_port import HostSelect

from ..jobs import Place
from ..lower.boxes import Box, Rect
from ..lower.layer import Region, Unit
from .arrivals import Arrivals
from .bank_words import zero_word
from .epoch_program import ConstantSet, Exported, ParameterSet, Stored
from .producers import Fragment, Producer
from .regions import Padding, every, padding, unpadded
from .reservations import Timeline, earliest, path
from .state import SchedulerState


class Copies:
    """Words of activations in X banks, and the jobs that send them there.

    What was sent once is not sent again to the same block. A job takes its post-processor, the read port of its P bank, and on
    one plane of the Y network every wire on its way, of which it leaves to others the cycles in which it sends nothing if all its
    words are a period apart; it starts as early as all are free.
    """

    def __init__(self, state: SchedulerState):
        self.state, self.config = state, state.config
        # What jobs ask for again and again.
        self._crossbar = state.config.network.kind == "crossbar"
        self._beats, self._rows, self._lanes = self.config.post_beats, self.config.array.rows, self.config.post_lanes
        # From the end of an output to when it may be read.
        self._after = self.config.post_latency + self.config.network_latency - (self._beats - 1)

    def _key(self, operand: Operand, unit: Unit, region: Region) -> tuple[str, Upsampling, int, Rect, Padding | None]:
        # Positions of the tensor itself: operands with other padding may share what they read.
        block, seen = unit.source_channel // self._rows, operand.upsampling(unit.source)
        return (unit.source, seen, block, unpadded(operand, unit, region), padding(operand, unit, region))

    def banks_with(self, operand: Operand, unit: Unit, region: Region) -> list[int]:
        """Banks that hold a unit over a region."""
        return [found.place.bank for found in self.state.places.get(self._key(operand, unit, region), ())]

    def fetch(self, operation: Linear, operand: Operand, unit: Unit, region: Region, banks: range) -> Arrivals:
        """Where in ``banks`` a unit over a region lies, and when its words may be read."""
        key = self._key(operand, unit, region)
        known = self.state.places.setdefault(key, [])
        for found in known:
            if found.place.bank in banks:
                return found
        found = Arrivals(self.state.storage.place("x", banks, region.words, operation), region)
        source, seen, block, rect, pads = key
        producer = self.state.producers[source]
        self.send(producer, block, rect, pads.inside if pads else rect, found.place, seen, found)
        if pads:
            self._pad(producer, seen, block, rect, pads.inside, found, pads.value)
        known.append(found)
        self.state.sent.append(known)
        return found

    def send(
        self,
        producer: Producer,
        block: int,
        rect: Rect,
        valid: Rect,
        place: Place,
        seen: Upsampling = AS_IT_IS,
        arrivals: Arrivals | None = None,
    ) -> None:
        """Have outputs of a block of channels in ``valid`` sent to where ``rect`` lies; ``arrivals`` is told of all jobs.

        Boxes and channels are those of the outputs as they are ``seen``: of each position as several, all that stand in the same
        row and column of it are sent by a job, which leaves the words between them to others. A single position that is seen as
        many is sent to all of them by one.
        """
        (image0, _), (row0, _), (column0, _) = rect
        high, wide = rect[1][1] - rect[1][0], rect[2][1] - rect[2][0]
        if producer.operation.output[1:3] == (1, 1) and seen.positions > 1 and not seen.interleaved:
            self._spread(producer, block, rect, valid, place, arrivals)
            return
        strides = (seen.rows * wide, seen.columns)
        for (down, right), slot, part, tile, common, fragment in self.sent_pieces(producer, block, valid, seen):
            size = (common[1][1] - common[1][0], common[2][1] - common[2][0])
            row, column = common[1][0] * seen.rows + down - row0, common[2][0] * seen.columns + right - column0
            for image in range(*common[0]):
                target = Place(place.bank, place.base + ((image - image0) * high + row) * wide + column)
                corner = (image, common[1][0], common[2][0])
                self._jobs(producer, tile, fragment, corner, size, (part, slot), target, strides, arrivals)

    def _spread(self, producer: Producer, block: int, rect: Rect, valid: Rect, place: Place, arrivals: Arrivals | None) -> None:
        """`send` of images of one position, each of which fills all of ``valid``."""
        (image0, _), (row0, row_end), (column0, column_end) = rect
        (high, wide), most = (row_end - row0, column_end - column0), 2**self.config.pod.count_width - 1
        if any(begin >= end for begin, end in valid):
            return
        ((*_, positions),) = producer.scaled_alike(0, 1, 0, 1)
        for _, slot, part, tile, common, fragment in self.sent_pieces(producer, block, (valid[0], (0, 1), (0, 1))):
            for image, row, column in itertools.product(range(*common[0]), range(*valid[1], most), range(*valid[2], most)):
                target = Place(place.bank, place.base + ((image - image0) * high + row - row0) * wide + column - column0)
                size = (min(most, valid[1][1] - row), min(most, valid[2][1] - column))
                to = (size, (part, slot), target, (wide, 1), positions, arrivals)
                self._job(producer, tile, fragment, (image, 0, 0), *to, p_strides=(0, 0))

    def sent_pieces(
        self, producer: Producer, block: int, valid: Rect, seen: Upsampling = AS_IT_IS
    ) -> Iterator[tuple[tuple[int, int], int, int, int, Rect, Fragment]]:
        """(which of the positions that each is seen as, slot, slice of the tile, tile, outputs, fragment) of what is sent of a
        block of channels, each image by itself; outputs are as they are, and not as they are seen."""
        cols, lanes, channels = self.config.array.cols, self._lanes, seen.of(producer.operation.output)[3]
        for down, right in itertools.product(range(seen.rows), range(seen.columns)):
            apart = (valid[0], every(valid[1], down, seen.rows), every(valid[2], right, seen.columns))
            if any(begin >= end for begin, end in apart):
                continue
            first = (down * seen.columns + right) * channels if seen.interleaved else 0
            for slot, channel in self._slots(producer, seen, block):
                tile, part = (first + channel) // cols, (first + channel) % cols // lanes
                for common, fragment in producer.overlapping(apart, tile):
                    yield (down, right), slot, part, tile, common, fragment

    def _slots(self, producer: Producer, seen: Upsampling, block: int) -> Iterator[tuple[int, int]]:
        """(slot, channel) of the slots of a word of activations into which something is sent."""
        lanes, channels = self._lanes, seen.of(producer.operation.output)[3]
        for slot in range(self._rows // lanes):
            channel = block * self._rows + slot * lanes
            if channel >= channels:
                break
            yield slot, channel

    def _pad(
        self, producer: Producer, seen: Upsampling, block: int, rect: Rect, valid: Rect, arrivals: Arrivals, value: int
    ) -> None:
        """Have ``value`` written into the words of a region that are padding."""
        (image, end), (top, bottom), (left, right) = rect
        high, wide = bottom - top, right - left
        inner_high, inner_wide = (max(0, high_end - low) for low, high_end in valid[1:])
        runs: list[tuple[int, int, int]] = []
        # (offset, rows, columns) of boxes as wide as the region: those between two rows of what is sent are one box.
        if not inner_high or not inner_wide:
            runs.append((0, 1, high * wide))
        else:
            before = (valid[1][0] - top) * wide + valid[2][0] - left
            between = wide - inner_wide
            last = before + (inner_high - 1) * wide + inner_wide
            runs += [(0, 1, before), (before + inner_wide, inner_high - 1, between), (last, 1, high * wide - last)]
        place, most = arrivals.place, 2**self.config.pod.count_width - 1
        for number in range(end - image):
            for offset, rows, columns in runs:
                for slot, _ in self._slots(producer, seen, block):
                    for down, right_of in itertools.product(range(0, rows, most), range(0, columns, most)):
                        target = Place(place.bank, place.base + (number * high + down) * wide + offset + right_of)
                        size = (min(most, rows - down), min(most, columns - right_of))
                        self._pad_job(producer, slot, size, target, (wide, 1), value, arrivals)

    def _pad_job(
        self,
        producer: Producer,
        slot: int,
        size: tuple[int, int],
        target: Place,
        x_strides: tuple[int, int],
        value: int,
        arrivals: Arrivals,
    ) -> None:
        # Of the block's post-processors the one beside the X bank: no wire but its own.
        bank, words = target.bank, size[0] * size[1]
        start, plane = self._reserve(bank, bank, 0, words)
        self.state.book.post(
            bank,
            start,
            operation=producer.index,
            size=size,
            window=None,
            p_base=zero_word(self.config),
            p_strides=(0, 0),
            row_words=0,
            parameters=self._constant(producer, value, bank),
            table=None,
            slices=(0, slot),
            place=target,
            plane=plane,
            x_strides=x_strides,
        )
        arrivals.add(target, size, x_strides, start + self._cycles(1) + self._after, self._cycles(1))

    def _jobs(
        self,
        producer: Producer,
        tile: int,
        fragment: Fragment,
        corner: tuple[int, int, int],
        size: tuple[int, int],
        slices: tuple[int, int],
        target: Place,
        x_strides: tuple[int, int],
        arrivals: Arrivals | None = None,
    ) -> None:
        """`_job` for all outputs, those that are scaled alike by one each."""
        image, row0, column0 = corner
        for (row, rows), (column, columns), positions in producer.scaled_alike(row0, size[0], column0, size[1]):
            at = Place(target.bank, target.base + (row - row0) * x_strides[0] + (column - column0) * x_strides[1])
            where = (fragment, (image, row, column), (rows, columns), slices, at, x_strides)
            self._job(producer, tile, *where, positions, arrivals)

    def _job(
        self,
        producer: Producer,
        tile: int,
        fragment: Fragment,
        corner: tuple[int, int, int],
        size: tuple[int, int],
        slices: tuple[int, int],
        target: Place,
        x_strides: tuple[int, int],
        positions: int = 0,
        arrivals: Arrivals | None = None,
        *,
        p_strides: tuple[int, int] | None = None,
    ) -> None:
        """One job for ``size`` (rows, columns) outputs from ``corner`` (image, row, column) on, to words of an X bank that are
        ``x_strides`` apart from row to row and column to column; ``p_strides``: of the P bank, if they do not follow each other."""
        config, bank = self.config, fragment.place.bank
        window = producer.operation.window
        (image0, _), (row0, high), (column0, wide) = fragment.box
        stride = window.stride if window else (1, 1)
        kernel = window.kernel if window else (1, 1)
        most = 2**config.post.window_width - 1
        if max(kernel) > most:
            raise WorkloadError(
                f"{producer.operation.name}: the window spans {max(kernel)} positions, {max(kernel) - most} more than window_width "
                f"({config.post.window_width}) allows ({most})"
            )
        first = ((corner[0] - image0) * high + corner[1] * stride[0] - row0) * wide + corner[2] * stride[1] - column0
        outputs, words = size[0] * size[1], kernel[0] * kernel[1]
        # Read behind the words as they arrive, one per cycle: of what takes longer to arrive than to be read, the last is
        # furthest ahead of its turn, and of the rest the first.
        period, apart = self._cycles(1, words), p_strides or (stride[0] * wide, stride[1])
        last = first + max(0, (size[0] - 1) * (apart[0] - size[1] * period)) + max(0, (size[1] - 1) * (apart[1] - period))
        last += max(0, (kernel[0] - 1) * (wide - kernel[1]))
        begin = max(0, fragment.arrival + 2 + last)
        start, plane = self._reserve(bank, target.bank, begin, outputs, words)
        self.state.book.post(
            bank,
            start,
            operation=producer.index,
            size=size,
            window=window,
            p_base=fragment.place.base + first,
            p_strides=apart,
            row_words=wide,
            parameters=self._set(producer, tile, bank, positions),
            table=self.state.table(producer.operation),
            slices=slices,
            place=target,
            plane=plane,
            x_strides=x_strides,
        )
        if arrivals:
            arrivals.add(target, size, x_strides, start + period + self._after, period)

    def _cycles(self, outputs: int, window: int = 1) -> int:
        """How long a post-processor is at work on so many outputs of windows of so many words."""
        return outputs * (window + self._beats - 1)

    def _reserve(self, source: int, target: int, begin: int, outputs: int, window: int = 1) -> tuple[int, int]:
        """The first cycle from ``begin`` on in which a job may start, and on which plane."""
        self.state.storage.bring(source, HostSelect.POST_STORE)
        port, cycles, beats = self.state.p_ports[source], self._cycles(outputs, window), self._beats
        *inner, last = path(self.config.pods, self._crossbar, source, target)
        # The write port of the X bank is one for all planes.
        write = self.state.wires[0][last]
        # Words of windows of one are as many cycles apart as there are phases: jobs of other phases may share a wire.
        shared = [[port, line] for line in write] if window == 1 else [[port, *write]]
        step = beats if window == 1 else 1
        soonest = [earliest(lines, begin, cycles, phase=phase, beats=step) for phase, lines in enumerate(shared)]
        best: tuple[int, list[Timeline]] | None = None
        where, least = 0, min(soonest)
        for plane, wires in enumerate(self.state.wires):
            for phase, time in enumerate(soonest):
                if best and time >= best[0]:
                    continue
                if window == 1:
                    lines = [wires[index][phase] for index in inner] + shared[phase]
                else:
                    lines = [line for index in inner for line in wires[index]] + shared[phase]
                start = earliest(lines, time, cycles, phase=phase, beats=step, before=best[0] if best else None)
                if best is None or start < best[0]:
                    best, where = (start, lines), plane
            if best and best[0] == least:
                break
        assert best is not None
        start, lines = best
        self.state.reserve(lines, start, cycles)
        return start, where

    def _set(self, producer: Producer, tile: int, bank: int, positions: int = 0) -> int:
        key = (f"operation {positions}", producer.index, tile, bank)
        if key not in self.state.sets:
            if key in self.state.promised_sets:
                self.state.promised_sets.remove(key)
                self.state.storage.redeem("set", bank, 1)
            self.state.sets[key] = self.state.storage.place("set", (bank,), 1, producer.operation).base
            self.state.parameters.append(ParameterSet(producer.index, tile, bank, self.state.sets[key], positions))
        return self.state.sets[key]

    def _constant(self, producer: Producer, value: int, bank: int) -> int:
        key = ("constant", value, 0, bank)
        if key not in self.state.sets:
            self.state.sets[key] = self.state.storage.place("set", (bank,), 1, producer.operation).base
            self.state.parameters.append(ConstantSet(value, bank, self.state.sets[key]))
        return self.state.sets[key]

    def promise_outputs(self, producer: Producer) -> None:
        """Keep what storing and exporting an operation's outputs will take; raises `EpochFullError` at once, and not when all is
        scheduled."""
        state, name = self.state, producer.operation.name
        uses = (name in state.outputs) + (name in state.exports)
        for tile, fragment, (_, (row, rows), (column, columns)), _ in self._output_pieces(producer) if uses else ():
            bank = fragment.place.bank
            if name in state.outputs:
                state.storage.promise("x", bank, rows * columns, producer.operation)
            for _ in range(uses):
                self.promise_jobs(producer, tile, bank, (row, row + rows), (column, column + columns))

    def promise_jobs(self, producer: Producer, tile: int, bank: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Keep what sending outputs of a column tile in some rows and columns will take: jobs, and their sets of parameters."""
        self.state.table(producer.operation)
        for *_, positions in producer.scaled_alike(rows[0], rows[1] - rows[0], columns[0], columns[1] - columns[0]):
            key = (f"operation {positions}", producer.index, tile, bank)
            if key not in self.state.sets and key not in self.state.promised_sets:
                self.state.promised_sets.add(key)
                self.state.storage.promise("set", bank, 1, producer.operation)
            self.state.book.promise_post(bank)

    def redeem_jobs(self, producer: Producer, bank: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Jobs that were promised are about to be written down."""
        for _ in producer.scaled_alike(rows[0], rows[1] - rows[0], columns[0], columns[1] - columns[0]):
            self.state.book.redeem_post(bank)

    def store_outputs(self) -> None:
        """Send outputs of the graph that were computed in this epoch to the X bank beside their P bank."""
        state = self.state
        for producer in self.scheduled(state.outputs):
            for tile, fragment, ((image, _), (row, rows), (column, columns)), part in self._output_pieces(producer):
                bank = fragment.place.bank
                state.storage.redeem("x", bank, rows * columns)
                self.redeem_jobs(producer, bank, (row, row + rows), (column, column + columns))
                place = state.storage.place("x", range(bank, bank + 1), rows * columns, producer.operation)
                self._jobs(producer, tile, fragment, (image, row, column), (rows, columns), (part, 0), place, (columns, 1))
                rect = ((image, image + 1), (row, row + rows), (column, column + columns))
                state.stored.append(Stored(producer.index, tile, part, rect, place, 0))

    def export(self) -> None:
        """Send tensors that were computed in this epoch to where operations on rows read them: positions are rows."""
        state = self.state
        for producer in self.scheduled(state.exports):
            export, (_, height, width, _) = state.exports[producer.operation.name], producer.operation.output
            for tile, fragment, ((image, _), (row, rows), (column, columns)), part in self._output_pieces(producer):
                self.redeem_jobs(producer, fragment.place.bank, (row, row + rows), (column, column + columns))
                target = Place(export.places[tile].bank, export.places[tile].base + row * width + column)
                self._jobs(producer, tile, fragment, (image, row, column), (rows, columns), (part, part), target, (width, 1))
            pieces = enumerate(export.places)
            state.exported += [Exported(producer.index, tile, place, height * width, export.tensor) for tile, place in pieces]

    def scheduled(self, names: Collection[str]) -> Iterator[Producer]:
        """Of those operations, the ones of this epoch."""
        operations = [self.state.graph.operations[index].name for index in self.state.scheduled]
        return (self.state.producers[name] for name in operations if name in names)

    def _output_pieces(self, producer: Producer) -> Iterator[tuple[int, Fragment, Box, int]]:
        """(tile, fragment, box of outputs, slice of the tile's lanes) of every job that stores outputs of an operation."""
        lanes, cols = self.config.post_lanes, self.config.array.cols
        for (patch, tile), fragments in producer.fragments.items():
            width = min(cols, producer.operation.output[3] - tile * cols)
            for fragment in fragments:
                for box in self._output_boxes(producer, patch, fragment):
                    for part in range(-(-width // lanes)):
                        yield tile, fragment, box, part

    def _output_boxes(self, producer: Producer, patch: int, fragment: Fragment) -> list[Box]:
        """The outputs of a fragment, image by image."""
        box = fragment.box
        if producer.operation.window:
            rows, columns = len(producer.patches.rows), len(producer.patches.columns)
            box = (box[0], producer.patches.rows[patch // columns % rows], producer.patches.columns[patch % columns])
        (image, images), row, column = box
        return [((i, 1), row, column) for i in range(image, image + images)]
