"""What lies in memory before a run: descriptors of the prefetch engines, weights, programs, parameters, and room for data.

Every manager has a channel of the memory, and in it rings of descriptors (`RunWriter`): in the demand ring what X and P banks need
between epochs, in the prefetch ring all else.
Weights, keys and values beyond their `Ahead` are in the demand ring too, when all epochs before theirs are done: so they hold up
nothing that may be ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format
from podweave.spec.descriptors import DescriptorKind, loadable, memory_stride, words_of
from podweave.spec.links import NO_COLLECTIVE
from podweave.spec.load_port import HostSelect

from ..chip.bank_image import outputs, parameter_image, w_image, x_image
from ..chip.bank_words import zero_word
from ..chip.epoch_program import EpochProgram
from ..collective.program import CollectiveProgram
from ..jobs import Jobs
from ..rows.program import CachePlace, ChipEpoch, RowProgram
from .ahead import limited
from .channel import Channel
from .image import MemoryImage, offset_maps, require_passes
from .moves import EpochMoves, Move, Rings, RunWriter
from .repeated_jobs import STORES, store_pads
from .rings import Ring
from .row_words import cached_pieces, first_tables, row_pieces
from .shared import SharedMemory
from .spilled import SpilledTensors, part_of
from .tensors import ByteNumbers, InputPlaces, OutputPlaces, byte_number
from .words import in_all_nodes, joined_stores, packed_collective, packed_store, parameter_words, runs, strided, with_pads
from .x_banks import XBanks

_CHUNK_BYTES, _ROW_CHUNK_BYTES, _RING_CHUNK_BYTES = 16384, 32768, 8192
"""Of one descriptor: a demand waits for as long, and a place is free again that much earlier; of rows, which demand little and free
places epoch by epoch; with collectives, in which memory gets ahead: then what is demanded is what is waited for."""


def memory_image(
    programs: Sequence[ChipEpoch],
    constants: Constants,
    graph: Graph,
    *,
    channel_bytes: int | None = None,
    shared: SharedMemory | None = None,
    passes: int = 1,
    ratios: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MemoryImage:
    """The memory for a graph, as it runs, whose epochs are ``programs``, in order.

    ``channel_bytes``: size of each manager's channel; by default the next power of two. ``shared``: where other programs lie, which
    has that size; ``content`` is what this one adds. ``passes``: how often one start may go over the network, each time with inputs
    and outputs of its own. ``ratios``: of tensors as they run, as `Ahead` takes them. ``progress``: is told how many epochs, of
    how many, are placed. Raises `WorkloadError` if a channel is too small, with the excess, and for passes that there cannot be.
    """
    builder = _Builder(programs, constants, graph, shared, passes, ratios or {})
    return builder.build(shared.channel_bytes if shared else channel_bytes, progress or (lambda *_: None))


class _Builder:
    def __init__(
        self,
        programs: Sequence[ChipEpoch],
        constants: Constants,
        graph: Graph,
        shared: SharedMemory | None,
        passes: int,
        ratios: Mapping[str, float],
    ):
        self.passes, self.ratios = passes, ratios
        self.programs, self.constants, self.graph, self.shared = programs, constants, graph, shared
        self.config = programs[0].config
        self.memory = shared or SharedMemory(self.config, 0)
        self.channels = [Channel(self.memory, number) for number in range(self.config.managers)]
        self.stride = {select: memory_stride(self.config, select) for select in loadable(self.config)}
        self.depth = {select: words_of(self.config, select) for select in self.stride}
        self.moves = [EpochMoves() for _ in programs]
        self.store_at = {select: np.zeros(self.config.pods, np.int64) for select in self.depth}
        self.collectives = [n for n, program in enumerate(programs) if isinstance(program, CollectiveProgram)]
        self.row_chunk = _RING_CHUNK_BYTES if self.collectives else _ROW_CHUNK_BYTES
        forms = self.graph.formats if isinstance(self.graph, RowGraph) else {}
        placed = {name: shape for name, shape in self.graph.inputs.items() if forms.get(name) is not Format.OFFSET}
        self.inputs, self.outputs = InputPlaces(placed, forms), OutputPlaces()
        cut = [program for program in programs if isinstance(program, EpochProgram) and program.corners]
        self.is_cut = bool(cut)
        self.store_pads = store_pads(cut, self.config, self.depth) if len(cut) == len(programs) else {}
        self.spilled = SpilledTensors(cut, self.graph, self.channels, passes)
        self.offsets = offset_maps(graph, self.config)
        require_passes(programs, passes, alone=not (shared or self.collectives or self.offsets))

    def build(self, channel_bytes: int | None, progress: Callable[[int, int], None]) -> MemoryImage:
        for epoch, program in enumerate(self.programs):
            progress(epoch, len(self.programs))
            self._epoch(epoch, program)
        written = self._written()
        bases = [[self.channels[m].reserve_rings(pair) for m, pair in enumerate(pairs)] for pairs in written]
        most = max(self.memory.sizes)
        if channel_bytes is None:
            channel_bytes = max(4096, 1 << (most - 1).bit_length())
        if most > channel_bytes:
            what = "with the programs before it, the network" if self.shared else "the network"
            raise WorkloadError(f"{what} needs {most} bytes of a memory channel, {most - channel_bytes} more than it has")
        content = [(m * channel_bytes + at, piece) for m, channel in enumerate(self.channels) for at, piece in channel.pieces]
        # The demand and the prefetch rings of a cold run, then those of a warm one.
        rings: list[tuple[Ring, ...]] = [(), (), (), ()]
        for run, (pairs, places) in enumerate(zip(written, bases, strict=True)):
            for m, (pair, at) in enumerate(zip(pairs, places, strict=True)):
                built = [ring.build(base, m * channel_bytes) for ring, base in zip(pair, at, strict=True)]
                content += [(ring.base, ring.packed()) for ring in built]
                rings[2 * run], rings[2 * run + 1] = (*rings[2 * run], built[0]), (*rings[2 * run + 1], built[1])
        return MemoryImage(
            self.config,
            len(self.programs),
            channel_bytes,
            tuple(content),
            rings[0],
            rings[1],
            self.inputs.maps(channel_bytes, self.frames),
            self.outputs.maps(channel_bytes, self.frames, *self._shapes(self.outputs.names)),
            self.offsets,
            min(self.collectives, default=NO_COLLECTIVE),
            rings[2],
            rings[3],
            self.passes,
            self.frame_bytes,
        )

    def _written(self) -> list[list[Rings]]:
        """Descriptors of each manager: of a run on a chip of which nothing is known, and of one on a chip as such a run leaves it.

        Programs that share a memory run in turns, and chips of a ring together: every run of theirs begins with nothing.
        """
        frames = [channel.frames(self.passes, self.frame_bytes) for channel in self.channels] if self.passes > 1 else None
        self.frames = frames or [0] * len(self.channels)
        writer = RunWriter(XBanks(self.programs, self.config), self.moves, frames, self.frame_bytes, self.ratios)
        return [writer.run(passes=self.passes > 1) for _ in ("cold", "warm")[: 1 if self.shared or self.collectives else 2]]

    @property
    def frame_bytes(self) -> int:
        """What a pass has of each channel to itself, if there are several."""
        return max(channel.frame_bytes for channel in self.channels) if self.passes > 1 else 0

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
                self._store(epoch, select, 0, strided(words, self.stride[select]))
            return
        if isinstance(program, RowProgram):
            self._stores(epoch, program)
            self._row_words(epoch, program)
            self._row_outputs(epoch, program)
            return
        self._tables(epoch, program.tables)
        self._inputs(epoch, program)
        self.moves[epoch].loads += self.spilled.loads(epoch, program)
        self._stores(epoch, program)
        self._parameters(epoch, program)
        self._weights(epoch, program)
        self._outputs(epoch, program)
        self.moves[epoch].stores += self.spilled.stores(program, self.outputs)

    def _cache_address(self, tensor: str, node: int, place: CachePlace) -> int:
        tile_bytes = self.config.array.rows * self.stride[HostSelect.W]
        return self.memory.region(tensor, node, place.region, place.count) + place.index * tile_bytes

    def _row_words(self, epoch: int, program: RowProgram) -> None:
        """All that an epoch of row operations needs."""
        for select, node, base, content, numbers, tensor in row_pieces(program, self.inputs, self.ratios):
            self._load(epoch, select, node, base, content, numbers, tensor)
        for late in (False, True):
            for piece, tensor in cached_pieces(program, self.inputs, self.ratios, self._cache_address, self.row_chunk, late=late):
                where = self._where(HostSelect.W, piece.node, piece.base, piece.words, piece.address)
                self.moves[epoch].loads.append(Move(**where, late=late, places=piece.places, fields=piece.loops, limited=tensor))

    def _row_outputs(self, epoch: int, program: RowProgram) -> None:
        """What an epoch leaves: outputs, and rows of caches, which the next epoch reads."""
        stride = self.stride[HostSelect.W]
        where = [
            self._cache_address(each.tensor, each.node, each.place) + each.first * (1 if each.column else stride)
            for each in program.appended
        ]
        for store in joined_stores(program.appended, where):
            fields = dict(store.loops)
            if store.offset:
                moved = self.offsets[store.offset]
                fields["base_register"] = moved.columns if store.column else moved.rows
            if store.column:
                fields |= {"column": 1, "lane_stride": self.stride[HostSelect.W]}
            self._store_words(epoch, HostSelect.X, store.node, store.base, store.words, store.address, fields=fields)
        for words in program.outputs:
            channel, stride = words.node // self.config.nodes_per_manager, self.stride[words.select]
            address = self._reserve_output(channel, len(words.numbers) * stride)
            self._store_words(epoch, words.select, words.node, words.base, len(words.numbers), address, of_pass=True)
            shape, form = self.graph.shape(words.tensor), program.graph.format(words.tensor)
            word, byte = np.nonzero(words.numbers >= 0)
            found = np.zeros(int(np.prod(shape)) * form.dtype.itemsize, np.int64)
            found[words.numbers[word, byte]] = byte_number(np.array(channel), address + stride * word + byte)
            self.outputs.add(words.tensor, found)

    def _first(self) -> None:
        """What all epochs use."""
        zeros = np.zeros((1, self.stride[HostSelect.P]), np.uint8)
        for channel in self.channels:
            self._broadcast(0, channel, HostSelect.P, zero_word(self.config), zeros, channel.append(zeros), once=True)
        self._tables(0, first_tables(self.programs))

    def _tables(self, epoch: int, tables: Mapping[int, int]) -> None:
        """Activation tables, by slot, in all nodes."""
        for slot, number in tables.items():
            content = np.asarray(self.constants.tables[number], np.int8).view(np.uint8).reshape(-1, 1)
            for channel in self.channels:
                self._broadcast(epoch, channel, HostSelect.TABLE, 256 * slot, content, channel.append_once(content)[0])

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
            channel = node // self.config.nodes_per_manager
            address = self._append_input(channel, content)
            where = self._where(HostSelect.X, node, base, len(content), address)
            self.moves[epoch].loads.append(Move(**where, of_pass=True))
            numbered = np.zeros((values.shape[0], stride), np.int64)
            numbered[:, : sources.shape[1]] = sources
            self.inputs.add(channel, address, numbered)

    def _stores(self, epoch: int, program: EpochProgram | RowProgram) -> None:
        """Jobs behind those of the epoch before, and around the end of the store."""
        for name, column, select, layout_of in STORES:
            jobs: Jobs = getattr(program, name)
            layout = layout_of(self.config)
            nodes = jobs[column]
            counts = np.bincount(nodes, minlength=self.config.pods)
            ends = np.cumsum(counts)
            words = packed_store(layout, jobs, nodes, self.stride[select])
            nothing = packed_store(layout, {}, np.zeros(0, np.int64), self.stride[select])
            pads = self.store_pads.get((select, epoch), counts * 0).tolist()
            for node in range(self.config.pods):
                mine = words[ends[node] - counts[node] : ends[node]] if counts[node] else nothing
                self._store(epoch, select, node, with_pads(mine, nothing, pads[node]) if pads[node] else mine)

    def _store(self, epoch: int, select: HostSelect, node: int, words: NDArray[np.uint8]) -> None:
        at, depth = int(self.store_at[select][node]), self.depth[select]
        first = min(len(words), depth - at)
        for base, part in ((at, words[:first]), (0, words[first:])):
            if len(part):
                self._load(epoch, select, node, base, part)
        self.store_at[select][node] = (at + len(words)) % depth

    def _parameters(self, epoch: int, program: EpochProgram) -> None:
        places = parameter_words(self.config, list(parameter_image(program, self.constants)), self.stride[HostSelect.PARAMETERS])
        alone, common = in_all_nodes(places, self.config.nodes_per_manager)
        for node, base, part in runs(iter(alone)):
            self._load(epoch, HostSelect.PARAMETERS, node, base, part)
        for node, base, part in runs(iter(common)):
            channel = self.channels[node // self.config.nodes_per_manager]
            address = channel.append_once(part)[0] if self.is_cut else channel.append(part)
            self._broadcast(epoch, channel, HostSelect.PARAMETERS, base, part, address)

    def _weights(self, epoch: int, program: EpochProgram) -> None:
        kinds: dict[str | None, list[tuple[int, int, NDArray[np.int8]]]] = {}
        for item, (place, tile) in zip(program.weights, w_image(program, self.constants), strict=True):
            tensor = limited(self.ratios, program.operation(item.operation).name)
            kinds.setdefault(tensor, []).append((place.bank, place.base, tile))
        for tensor, found in kinds.items():
            for node, base, words in runs(iter(found)):
                content = strided(np.ascontiguousarray(words).view(np.uint8), self.stride[HostSelect.W])
                self._load(epoch, HostSelect.W, node, base, content, tensor=tensor)

    def _outputs(self, epoch: int, program: EpochProgram) -> None:
        """Stores of outputs of the graph, before the next epoch begins."""
        if not program.stored:
            return
        memory, stride = self.config.memory, self.stride[HostSelect.X]
        where = np.full((memory.banks, memory.x_words), -1, np.int64)
        owner = np.zeros((memory.banks, memory.x_words), np.int64)
        used = (
            (item.place.bank, item.place.base, np.zeros((int(np.prod([e - b for b, e in item.box])), 1))) for item in program.stored
        )
        for node, base, words in runs(used):
            channel = node // self.config.nodes_per_manager
            address = self._reserve_output(channel, len(words) * stride)
            self._store_words(epoch, HostSelect.X, node, base, len(words), address, of_pass=True)
            where[node, base : base + len(words)] = address + stride * np.arange(len(words))
            owner[node, base : base + len(words)] = channel
        for name, found in outputs(program, ByteNumbers(byte_number(owner, where))).items():
            self.outputs.add(name, found)

    def _load(
        self,
        epoch: int,
        select: HostSelect,
        node: int,
        base: int,
        words: NDArray[np.uint8],
        numbers: NDArray[np.int64] | None = None,
        tensor: str | None = None,
    ) -> None:
        """The words (n, stride) of a node: their bytes and their descriptors. ``numbers``: of those of inputs among them
        (`InputPlaces`). ``tensor``: the operation whose weights they are, if not all of those may be ahead."""
        channel = node // self.config.nodes_per_manager
        if self.shared and select == HostSelect.W and numbers is None:
            for begin, count, address, fresh in self.shared.weights(channel, words):
                if fresh:
                    self.channels[channel].pieces.append((address, words[begin : begin + count].reshape(-1)))
                self._load_placed(epoch, select, node, base + begin, count, address, words[begin : begin + count], tensor)
            return
        if numbers is None:
            place = self.channels[channel]
            address, words = place.append_once(words) if self.is_cut else (place.append(words), words)
            self._load_placed(epoch, select, node, base, len(words), address, words, tensor)
            return
        address = self._append_input(channel, words)
        self.inputs.add(channel, address, numbers)
        self._load_placed(epoch, select, node, base, len(words), address, None, tensor)

    def _append_input(self, channel: int, content: NDArray[np.uint8]) -> int:
        """Words with inputs among them."""
        if self.passes == 1:
            return self.channels[channel].append(content)
        address = self.channels[channel].reserve_of_pass(content.size)
        self.channels[channel].of_pass.append((address, content.reshape(-1)))
        return address

    def _reserve_output(self, channel: int, count: int) -> int:
        place = self.channels[channel]
        return place.reserve(count) if self.passes == 1 else place.reserve_of_pass(count)

    def _load_placed(
        self,
        epoch: int,
        select: HostSelect,
        node: int,
        base: int,
        count: int,
        address: int,
        content: NDArray[np.uint8] | None,
        tensor: str | None,
    ) -> None:
        """Words of a node, in pieces that may begin as soon as their place is free."""
        whole = _CHUNK_BYTES if isinstance(self.programs[epoch], EpochProgram) else self.row_chunk
        chunk = max(1, whole // self.stride[select])
        where = self._where(select, node, base, count, address)
        # Weights of rows may be zeros that stand for others (`model_constants`): what they are says nothing of what lies there.
        rows = select == HostSelect.W and isinstance(self.programs[epoch], RowProgram)
        self.moves[epoch].loads.append(
            Move(**where, content=None if rows else content, chunk=chunk, of_pass=content is None, limited=tensor)
        )

    def _broadcast(
        self, epoch: int, channel: Channel, select: HostSelect, base: int, words: NDArray[np.uint8], address: int, **more: Any
    ) -> None:
        """The same words in all nodes of a channel; ``more``: of the `Move`."""
        where = self._where(select, channel.number * self.config.nodes_per_manager, base, len(words), address)
        self.moves[epoch].loads.append(Move(**where, broadcast=True, content=words, **more))

    def _store_words(self, epoch: int, select: HostSelect, node: int, base: int, count: int, address: int, **more: Any) -> None:
        """Words that an epoch leaves in a node; ``more``: of the `Move`."""
        where = self._where(select, node, base, count, address)
        self.moves[epoch].stores.append(Move(**where, kind=DescriptorKind.STORE, **more))

    def _where(self, select: HostSelect, node: int, base: int, count: int, address: int) -> dict[str, Any]:
        """Members of a `Move` that say where."""
        channel, unit = divmod(node, self.config.nodes_per_manager)
        return {"channel": channel, "unit": unit, "select": select, "base": base, "count": count, "address": address}
