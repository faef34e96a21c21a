"""What lies in memory before a run: descriptors of the prefetch engines, weights, programs, parameters, and room for data.

Every manager has a channel of the memory, and in it two rings of descriptors. An epoch's words may be loaded as soon as the last
epoch that used their place is done (`after`). What X and P banks need is in the demand ring, all else in the prefetch ring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format
from podweave.spec.descriptors import DESCRIPTOR_BYTES, EPOCH_BANKS, DescriptorKind, loadable, memory_stride, words_of
from podweave.spec.jobs import load_job_layout, post_job_layout, post_parameters_layout, stream_job_layout
from podweave.spec.links import NO_COLLECTIVE
from podweave.spec.load_port import HostSelect

from ..chip.bank_image import outputs, parameter_image, w_image, x_image
from ..chip.bank_words import zero_word
from ..chip.epoch_program import EpochProgram
from ..collective.program import CollectiveProgram
from ..jobs import Jobs
from ..rows.program import CachePlace, ChipEpoch, RowProgram, Words
from .channel import Channel
from .held import HeldWords
from .image import MemoryImage, offset_maps
from .shared import SharedMemory
from .spilled import SpilledTensors, part_of
from .tensors import InputPlaces, OutputPlaces, byte_number
from .words import Runs, joined_runs, joined_stores, joined_words, packed_collective, packed_sets, packed_store, runs

_CHUNK_BYTES = 16384
"""Of one descriptor: a demand waits for as long, and a place is free again that much earlier."""
_ROW_CHUNK_BYTES = 32768
"""The same of rows, which demand little and free places epoch by epoch."""
_RING_CHUNK_BYTES = 8192
"""The same with collectives, in which memory gets ahead: then what is demanded is what is waited for."""
_STORES = (
    ("loads", "pod", HostSelect.LOAD_STORE, load_job_layout),
    ("streams", "pod", HostSelect.STREAM_STORE, stream_job_layout),
    ("posts", "bank", HostSelect.POST_STORE, post_job_layout),
)


def memory_image(
    programs: Sequence[ChipEpoch],
    constants: Constants,
    graph: Graph,
    *,
    channel_bytes: int | None = None,
    shared: SharedMemory | None = None,
) -> MemoryImage:
    """The memory for a graph, as it runs, whose epochs are ``programs``, in order.

    ``channel_bytes``: size of each manager's channel; by default the next power of two. ``shared``: where other programs lie, which
    has that size; ``content`` is what this one adds. Raises `WorkloadError` if a channel is too small, with the excess.
    """
    return _Builder(programs, constants, graph, shared).build(shared.channel_bytes if shared else channel_bytes)


class _Builder:
    def __init__(self, programs: Sequence[ChipEpoch], constants: Constants, graph: Graph, shared: SharedMemory | None):
        self.programs, self.constants, self.graph, self.shared = programs, constants, graph, shared
        self.config = programs[0].config
        self.memory = shared or SharedMemory(self.config, 0)
        self.channels = [Channel(self.memory, number) for number in range(self.config.managers)]
        self.stride = {select: memory_stride(self.config, select) for select in loadable(self.config)}
        self.depth = {select: words_of(self.config, select) for select in self.stride}
        # Per word of each node, how many epochs must be done before it may be written.
        self.free = {select: np.zeros((self.config.pods, depth), np.int64) for select, depth in self.depth.items()}
        self.store_at = {select: np.zeros(self.config.pods, np.int64) for select in self.depth}
        self.collectives = [n for n, program in enumerate(programs) if isinstance(program, CollectiveProgram)]
        self.row_chunk = _RING_CHUNK_BYTES if self.collectives else _ROW_CHUNK_BYTES
        forms = self.graph.formats if isinstance(self.graph, RowGraph) else {}
        placed = {name: shape for name, shape in self.graph.inputs.items() if forms.get(name) is not Format.OFFSET}
        self.inputs, self.outputs = InputPlaces(placed, forms), OutputPlaces()
        held = (HostSelect.W, HostSelect.PARAMETERS)
        self.held = HeldWords(self.config.pods, {s: self.depth[s] for s in held}, {s: self.stride[s] for s in held})
        cut = [program for program in programs if isinstance(program, EpochProgram) and program.corners]
        shapes = self.graph.inputs | {each.name: each.output for each in self.graph.operations} if cut else {}
        self.spilled = SpilledTensors(cut, shapes, self.channels)
        self.offsets = offset_maps(graph, self.config)

    def build(self, channel_bytes: int | None) -> MemoryImage:
        for epoch, program in enumerate(self.programs):
            self._epoch(epoch, program)
        self._end_tag()
        bases = [[channel.reserve(DESCRIPTOR_BYTES * len(ring)) for ring in channel.rings] for channel in self.channels]
        most = max(self.memory.sizes)
        if channel_bytes is None:
            channel_bytes = max(4096, 1 << (most - 1).bit_length())
        if most > channel_bytes:
            what = "with the programs before it, the network" if self.shared else "the network"
            raise WorkloadError(f"{what} needs {most} bytes of a memory channel, {most - channel_bytes} more than it has")
        content, demand, prefetch = [], [], []
        for m, (channel, places) in enumerate(zip(self.channels, bases, strict=True)):
            offset = m * channel_bytes
            rings = [ring.build(base, offset) for ring, base in zip(channel.rings, places, strict=True)]
            content += [(offset + at, piece) for at, piece in channel.pieces]
            content += [(ring.base, ring.packed()) for ring in rings]
            demand.append(rings[0])
            prefetch.append(rings[1])
        return MemoryImage(
            self.config,
            len(self.programs),
            channel_bytes,
            tuple(content),
            tuple(demand),
            tuple(prefetch),
            self.inputs.maps(channel_bytes),
            self.outputs.maps(channel_bytes, *self._shapes(self.outputs.names)),
            self.offsets,
            min(self.collectives, default=NO_COLLECTIVE),
        )

    def _shapes(self, names: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, Format]]:
        """Shapes and formats of tensors."""
        shapes: dict[str, tuple[int, ...]] = {name: self.graph.shape(name) for name in names}
        return shapes, {name: self.graph.format(name) for name in names} if isinstance(self.graph, RowGraph) else {}

    def _epoch(self, epoch: int, program: ChipEpoch) -> None:
        if epoch == 0:
            self._first()
        if isinstance(program, CollectiveProgram):
            later = next((number for number in self.collectives if number > epoch), NO_COLLECTIVE)
            for select, words in packed_collective(program, epoch, later):
                self._store(epoch, select, 0, self._strided(select, words))
            self._end_tag()
            return
        if isinstance(program, RowProgram):
            self._stores(epoch, program)
            self._row_words(epoch, program)
            self._end_tag()
            self._row_outputs(epoch, program)
            return
        self._inputs(epoch, program)
        self.spilled.load(epoch, program)
        self._stores(epoch, program)
        self._parameters(epoch, program)
        self._weights(epoch, program)
        self._end_tag()
        self._outputs(epoch, program)
        self.spilled.store(epoch, program, self.graph.outputs, self.outputs)

    def _row_pieces(
        self, program: RowProgram
    ) -> Iterator[tuple[HostSelect, int, int, NDArray[np.uint8], NDArray[np.int64] | None]]:
        """(select, node, first word, content, numbers if it is of an input) of words of row operations but those of caches, runs
        joined."""
        kinds: dict[tuple[HostSelect, str | None], list[Words]] = {}
        for words in program.words:
            if words.place is None:
                kinds.setdefault((words.select, words.tensor), []).append(words)
        for (select, tensor), found in kinds.items():
            pieces = []
            for words in found:
                content = self._strided(
                    select, words.content if select != HostSelect.PARAMETERS else packed_sets(self.config, words.content)
                )
                if tensor is not None:
                    assert words.numbers is not None
                    numbers = np.zeros(content.shape, np.int64)
                    numbers[:, : words.numbers.shape[1]] = self.inputs.number(tensor, words.numbers)
                    content = np.stack([content.astype(np.int64), numbers])
                pieces.append((words.node, words.base, content))
            for node, base, joined in runs(iter(pieces)):
                if tensor is None:
                    yield select, node, base, joined, None
                else:
                    yield select, node, base, joined[0].astype(np.uint8), joined[1]

    def _cache_address(self, tensor: str, node: int, place: CachePlace) -> int:
        tile_bytes = self.config.array.rows * self.stride[HostSelect.W]
        return self.memory.region(tensor, node, place.region, place.count) + place.index * tile_bytes

    def _row_words(self, epoch: int, program: RowProgram) -> None:
        """All that an epoch of row operations needs."""
        for select, node, base, content, numbers in self._row_pieces(program):
            self._load(epoch, select, node, base, content, numbers)
        for late in (False, True):
            for piece in self._cached(program, late=late):
                channel, unit = divmod(piece.node, self.config.nodes_per_manager)
                begins = np.arange(piece.groups)[:, None] * piece.group_step + np.arange(piece.runs) * piece.step
                runs = piece.base + begins.reshape(-1, 1) + np.arange(piece.words)
                free = self.free[HostSelect.W][piece.node]
                # Late ones are in the ring of the stores, which are over when these words are read.
                ring = self.channels[channel].demand if late else self.channels[channel].prefetch
                after = epoch if late else int(free[runs].max())
                ring.add(HostSelect.W, unit, piece.base, piece.words, piece.address, after=after)
                ring.descriptors[-1] |= piece.loops
                free[runs] = epoch + 1
                self.held.forget(HostSelect.W, piece.node, runs)

    def _cached(self, program: RowProgram, *, late: bool) -> list[Runs]:
        """Words of caches, in as few loads as there can be."""
        stride, found = self.stride[HostSelect.W], []
        for words in program.words:
            if words.place is None or words.late != late:
                continue
            assert words.tensor is not None
            assert words.numbers is not None
            address = self._cache_address(words.tensor, words.node, words.place)
            found.append(Runs(words.node, words.base, len(words.numbers), address))
            numbers = np.zeros((len(words.numbers), stride), np.int64)
            numbers[:, : words.numbers.shape[1]] = self.inputs.number(words.tensor, words.numbers)
            self.inputs.add(words.node // self.config.nodes_per_manager, address, numbers)
        return joined_runs(joined_words(found, stride), self.row_chunk // stride)

    def _row_outputs(self, epoch: int, program: RowProgram) -> None:
        """What an epoch leaves: outputs, and rows of caches, which the next epoch reads."""
        stride = self.stride[HostSelect.W]
        where = [
            self._cache_address(each.tensor, each.node, each.place) + each.first * (1 if each.column else stride)
            for each in program.appended
        ]
        for store in joined_stores(program.appended, where):
            channel, unit = divmod(store.node, self.config.nodes_per_manager)
            ring = self.channels[channel].demand
            ring.add(HostSelect.X, unit, store.base, store.words, store.address, after=epoch + 1, kind=DescriptorKind.STORE)
            ring.descriptors[-1] |= store.loops
            if store.offset:
                moved = self.offsets[store.offset]
                ring.descriptors[-1] |= {"base_register": moved.columns if store.column else moved.rows}
            if store.column:
                ring.descriptors[-1] |= {"column": 1, "lane_stride": self.stride[HostSelect.W]}
        for words in program.outputs:
            channel, unit = divmod(words.node, self.config.nodes_per_manager)
            stride = self.stride[words.select]
            address = self.channels[channel].reserve(len(words.numbers) * stride)
            ring = self.channels[channel].demand
            count = len(words.numbers)
            ring.add(words.select, unit, words.base, count, address, after=epoch + 1, kind=DescriptorKind.STORE)
            shape, form = self.graph.shape(words.tensor), program.graph.format(words.tensor)
            word, byte = np.nonzero(words.numbers >= 0)
            found = np.zeros(int(np.prod(shape)) * form.dtype.itemsize, np.int64)
            found[words.numbers[word, byte]] = byte_number(np.array(channel), address + stride * word + byte)
            self.outputs.add(words.tensor, found)

    def _first(self) -> None:
        """What all epochs use."""
        for channel in self.channels:
            zeros = np.zeros(self.stride[HostSelect.P], np.uint8)
            channel.demand.add(HostSelect.P, 0, zero_word(self.config), 1, channel.append(zeros), broadcast=1)
            for number, table in enumerate(self.constants.tables):
                address = channel.append(np.asarray(table, np.int8).view(np.uint8))
                channel.prefetch.add(HostSelect.TABLE, 0, 256 * number, 256, address, broadcast=1)

    def _inputs(self, epoch: int, program: EpochProgram) -> None:
        if all(program.unit(item).is_stored for item in program.external_units):
            return
        numbers = self.inputs.numbers()
        if program.corners:
            numbers = {name: numbers[name][part_of(program, name)] for name in program.graph.inputs if name in numbers}
        places = list(x_image(program, numbers, pad_value=0))
        zeros = {name: np.zeros(of.shape, np.int8) for name, of in numbers.items()}
        constant = [words for _, words in x_image(program, zeros)]
        stride = self.stride[HostSelect.X]
        for node, base, (values, sources) in runs(
            (place.bank, place.base, np.stack([words.astype(np.int64), number]))
            for (place, number), words in zip(places, constant, strict=True)
        ):
            content = np.zeros((values.shape[0], stride), np.uint8)
            content[:, : values.shape[1]] = values.astype(np.int8).view(np.uint8)
            channel, unit = divmod(node, self.config.nodes_per_manager)
            address = self.channels[channel].append(content)
            self.channels[channel].demand.add(HostSelect.X, unit, base, len(content), address, after=epoch)
            numbered = np.zeros((values.shape[0], stride), np.int64)
            numbered[:, : sources.shape[1]] = sources
            self.inputs.add(channel, address, numbered)

    def _stores(self, epoch: int, program: EpochProgram | RowProgram) -> None:
        """Jobs behind those of the epoch before, and around the end of the store."""
        for name, column, select, layout_of in _STORES:
            jobs: Jobs = getattr(program, name)
            layout = layout_of(self.config)
            nodes = jobs[column]
            counts = np.bincount(nodes, minlength=self.config.pods)
            ends = np.cumsum(counts)
            words = packed_store(layout, jobs, nodes, self.stride[select])
            nothing = packed_store(layout, {}, np.zeros(0, np.int64), self.stride[select])
            for node in range(self.config.pods):
                mine = words[ends[node] - counts[node] : ends[node]] if counts[node] else nothing
                self._store(epoch, select, node, mine)

    def _store(self, epoch: int, select: HostSelect, node: int, words: NDArray[np.uint8]) -> None:
        at, depth = int(self.store_at[select][node]), self.depth[select]
        first = min(len(words), depth - at)
        for base, part in ((at, words[:first]), (0, words[first:])):
            if len(part):
                self._load(epoch, select, node, base, part)
        self.store_at[select][node] = (at + len(words)) % depth

    def _parameters(self, epoch: int, program: EpochProgram) -> None:
        items = list(parameter_image(program, self.constants))
        if not items:
            return
        fields = {
            field.name: np.concatenate([np.asarray(item[2 + i], np.int64) for item in items])
            for i, field in enumerate(post_parameters_layout(self.config).fields)
        }
        sets = np.stack([values.reshape(len(items), -1) for values in fields.values()], axis=1)
        words = self._strided(HostSelect.PARAMETERS, packed_sets(self.config, sets))
        for node, base, part in runs((bank, index, words[i : i + 1]) for i, (bank, index, *_) in enumerate(items)):
            self._load(epoch, HostSelect.PARAMETERS, node, base, part)

    def _weights(self, epoch: int, program: EpochProgram) -> None:
        for node, base, words in runs((place.bank, place.base, tile) for place, tile in w_image(program, self.constants)):
            self._load(epoch, HostSelect.W, node, base, self._strided(HostSelect.W, np.ascontiguousarray(words).view(np.uint8)))

    def _outputs(self, epoch: int, program: EpochProgram) -> None:
        """Stores of outputs of the graph, before the next epoch begins."""
        if not program.stored:
            return
        memory, rows = self.config.memory, self.config.array.rows
        stride = self.stride[HostSelect.X]
        where = np.full((memory.banks, memory.x_words), -1, np.int64)
        owner = np.zeros((memory.banks, memory.x_words), np.int64)
        used = (
            (item.place.bank, item.place.base, np.zeros((int(np.prod([e - b for b, e in item.box])), 1))) for item in program.stored
        )
        for node, base, words in runs(used):
            channel, unit = divmod(node, self.config.nodes_per_manager)
            address = self.channels[channel].reserve(len(words) * stride)
            ring = self.channels[channel].demand
            ring.add(HostSelect.X, unit, base, len(words), address, after=epoch + 1, kind=DescriptorKind.STORE)
            where[node, base : base + len(words)] = address + stride * np.arange(len(words))
            owner[node, base : base + len(words)] = channel
        numbers = byte_number(owner, where)[..., None] + np.arange(rows)
        for name, found in outputs(program, numbers).items():
            self.outputs.add(name, found)

    def _load(
        self,
        epoch: int,
        select: HostSelect,
        node: int,
        base: int,
        words: NDArray[np.uint8],
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        """The words (n, stride) of a node: their bytes and their descriptors. ``numbers``: of those of inputs among them
        (`InputPlaces`)."""
        channel = node // self.config.nodes_per_manager
        if self.shared and select == HostSelect.W and numbers is None:
            for begin, count, address, fresh in self.shared.weights(channel, words):
                if fresh:
                    self.channels[channel].pieces.append((address, words[begin : begin + count].reshape(-1)))
                self._load_placed(epoch, select, node, base + begin, count, address)
            return
        program = self.programs[epoch]
        banded = isinstance(program, EpochProgram) and bool(program.corners)
        if select in self.held and isinstance(program, EpochProgram):
            for begin, count in self.held.missing(select, node, base, words):
                address = self.channels[channel].append(words[begin : begin + count], again=banded)
                self._load_placed(epoch, select, node, base + begin, count, address)
            self.free[select][node, base : base + len(words)] = epoch + 1
            return
        address = self.channels[channel].append(words, again=banded)
        if numbers is not None:
            self.inputs.add(channel, address, numbers)
        self._load_placed(epoch, select, node, base, len(words), address)

    def _load_placed(self, epoch: int, select: HostSelect, node: int, base: int, count: int, address: int) -> None:
        """Descriptors for words of a node, in pieces that may begin as soon as their place is free."""
        channel, unit = divmod(node, self.config.nodes_per_manager)
        stride = self.stride[select]
        whole = _CHUNK_BYTES if isinstance(self.programs[epoch], EpochProgram) else self.row_chunk
        chunk = max(1, whole // stride)
        if select in self.held and isinstance(self.programs[epoch], RowProgram):
            self.held.forget(select, node, slice(base, base + count))
        for begin in range(0, count, chunk):
            some = min(chunk, count - begin)
            place = self.free[select][node, base + begin : base + begin + some]
            # X and P banks are the engines' between epochs.
            between = select in EPOCH_BANKS
            ring = self.channels[channel].demand if between else self.channels[channel].prefetch
            after = epoch if between else int(place.max())
            ring.add(select, unit, base + begin, some, address + begin * stride, after=after)
            place[:] = epoch + 1

    def _end_tag(self) -> None:
        for channel in self.channels:
            for ring in channel.rings:
                ring.end_tag()

    def _strided(self, select: HostSelect, words: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Words (n, bytes) as far apart as in memory."""
        result = np.zeros((len(words), self.stride[select]), np.uint8)
        result[:, : words.shape[1]] = words
        return result
