"""Attention: keys and values are tiles that pods multiply by; scores stay in P banks until their maximum is known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from podweave.ir.layers import WorkloadError
from podweave.ir.row_operations import Append, Attention, KeyValues
from podweave.spec.row_functions import Destination, Saturate, Scalar, Statistic

from .compile_rows import RowCompiler
from .epoch import Ints, Pass
from .layout import plain_layout
from .passes import Targets, When, alike, destination_of, multiply, of_tiles, place, targets_of, tiles_of_nodes, uniform
from .program import CachePlace, CacheWords


def key_place(compiler: RowCompiler, context: int, of_keys: int, tile: int, tiles: int, without: int = 0) -> CachePlace:
    """Where a tile of keys lies: ``tile`` of the ``tiles`` tiles of channels of all heads. Those of the same keys are side by side:
    what is appended is in one row of the memory, or a few. ``without``: so many tiles of keys in front are in another cache."""
    slot, node = divmod(of_keys, compiler.nodes)
    before = max(0, -(-(without - node) // compiler.nodes))
    slots = -(-compiler.key_tiles(context) // compiler.nodes)
    return CachePlace(0, (slot - before) * tiles + tile, (slots - before) * tiles)


def value_place(compiler: RowCompiler, context: int, tile: int, of_keys: int, without: int = 0) -> CachePlace:
    """Where values lie: those of a tile of keys, in a tile of channels of all heads. ``without``: as of `key_place`."""
    return CachePlace(tile, of_keys - without, compiler.key_tiles(context) - without)


def shared_tiles(compiler: RowCompiler, operation: Attention) -> int:
    """How many tiles of keys all sequences of an attention have in one cache."""
    count = operation.shared.count if operation.shared else 0
    if count % compiler.lanes:
        raise WorkloadError(f"{operation.name}: keys are shared in whole tiles of {compiler.lanes}, got {count} keys")
    return count // compiler.lanes


class _Heads:
    """Heads that share keys: rows of their queries are streamed together. ``seen``: the keys and values of a sequence, whose rows
    are those from ``first_row`` on."""

    def __init__(
        self, compiler: RowCompiler, index: int, operation: Attention, number: int, seen: KeyValues, first_row: int, length: int
    ):
        self.compiler, self.index, self.operation, self.number = compiler, index, operation, number
        self.seen, self.first_row, self.length = seen, first_row, length
        self.query = compiler.home(operation.query, "x")
        self.rows = operation.group * seen.rows
        self.each = (self.query.layout.tiles - self.query.layout.lead) // operation.kv_heads
        self.first = self.query.layout.lead + number * self.each
        self.shared = shared_tiles(compiler, operation)
        self.scores: tuple[int, When]
        self.keys = plain_layout(self.rows, seen.context, nodes=compiler.nodes, lanes=compiler.lanes, words=2)

    def score(self) -> None:
        """Let pods compute the scores."""
        scores, cycle = self.compiler.scratch(self.operation.name, self.keys.node_words)
        self.scores = scores, self._scores(scores, When(self.compiler, cycle))

    def finish(self, row: int, targets: Targets) -> None:
        """What becomes of them. ``row``: the first of their row registers."""
        weights, cycle = self.compiler.pools["x"].take(self.keys.node_words, self.operation.name)
        scores, there = self.scores
        ready, sums = self._softmax(scores, weights, there, When(self.compiler, cycle), row)
        self._values(weights, ready, sums, row, targets)

    def _scores(self, scores: int, free: When) -> When:
        """Queries times keys: a tile of keys in each node of a slot."""
        compiler, seen, query, keys = self.compiler, self.seen, self.query, self.keys
        # Rows of one sequence among others lie head by head.
        whole = seen.rows == query.layout.rows
        spread = (1, 0) if whole else (query.layout.parts, query.layout.part_words)
        first = self.first_row * query.layout.words
        tiles = range(self.first, self.first + self.each)
        ready = When(compiler)
        for slot in range(keys.slots):

            def stream(slot: int = slot) -> None:
                nonlocal ready
                held = {keys.node(t): t for t in keys.tiles_of(slot)}
                steps = []
                for tile in tiles:
                    channels = query.layout.channel[tile, 0]
                    lead, all_tiles = query.layout.lead, query.layout.tiles
                    weights = {}
                    for node, t in held.items():
                        tensor, context, without = self._cache(t, keys=True)
                        place = key_place(compiler, context, t, tile - lead, all_tiles - lead, without)
                        weights[node] = self._cached(node, tensor, keys.channel[t, 0][None, :], channels[:, None], place)
                    steps.append((weights, query.layout.node(tile), query.base + query.layout.offset(tile) + first))
                into = dict.fromkeys(held, scores + slot * keys.tile_words)
                there = When(compiler, query.ready_in(compiler.epoch.number))
                parts, apart = spread
                ready = multiply(compiler, self.index, steps, self.rows, into, there, free, parts=parts, apart=apart)

            compiler.attempt(stream)
        query.read_until(compiler.epoch.number, compiler.epoch.pods_free)
        return ready

    def _cache(self, tile: int, *, keys: bool) -> tuple[str, int, int]:
        """Where a tile of keys is, or its values: the tensor, its context, and how many tiles of it are in another cache."""
        seen, shared = self.seen, self.operation.shared
        if shared and tile < self.shared:
            return (shared.key if keys else shared.value), shared.context, 0
        own = seen.key if keys else seen.value
        holds = shared is None or own in (shared.key, shared.value)
        return own, seen.context, 0 if holds else self.shared

    def _cached(self, pod: int, tensor: str, key: Ints, channel: Ints, place: CachePlace) -> int:
        """A tile of the bytes of keys or values: of those keys and of channels of the queries; 0 where there is none."""
        operation = self.operation
        width = operation.kv_heads * operation.head_size
        there = (key >= 0) & (channel >= 0)
        number = np.where(there, key * width + self.number * operation.head_size + channel % operation.head_size, -1)
        append, late = self.compiler.operations.get(tensor), False
        if isinstance(append, Append):
            new = (number >= append.position * width) & (number < (append.position + append.places) * width)
            tensor, late = append.cache, bool(new.any())
        return self.compiler.epoch.cached(pod, tensor, number, place, late=late)

    def _softmax(self, scores: int, weights: int, ready: When, free: When, row: int) -> tuple[When, list[tuple[When, Ints]]]:
        """The largest score of each row; then the weights, and their sums. Returns when those are there, by head."""
        compiler, operation, keys = self.compiler, self.operation, self.keys
        nodes, lanes = range(compiler.nodes), compiler.lanes
        held = compiler.constants[operation.name]
        step = int(operation.lengths is not None)
        largest = place(
            compiler,
            Pass(
                operation=self.index,
                counts=(2, keys.slots, self.rows),
                strides=(1, keys.tile_words, 2),
                bases=dict.fromkeys(nodes, (scores, 0)),
                sets=alike(nodes, uniform(lanes)),
                statistic=Statistic.MAX,
                row=row,
                length=self.length,
                length_step=step,
                lanes=lanes,
            ),
            None,
            ready,
        )
        maxima, sums = When(compiler), []
        for head in range(operation.group):
            first, number = head * self.seen.rows, self.number * operation.group + head
            scale = uniform(lanes, int(held.multiplier[number]), int(held.shift[number]))
            done = place(
                compiler,
                Pass(
                    operation=self.index,
                    counts=(2, keys.slots, self.seen.rows),
                    strides=(1, keys.tile_words, 2),
                    bases=dict.fromkeys(nodes, (scores + 2 * first, weights + 2 * first)),
                    written=(keys.tile_words, 2),
                    sets=alike(nodes, scale),
                    saturate=Saturate.UINT8,
                    table=compiler.constants.table_of[operation.name],
                    destination=Destination.PLANES,
                    statistic=Statistic.SUM,
                    scalar=Scalar.RECIPROCAL,
                    subtract=True,
                    row=row + first,
                    length=self.length + step * first,
                    length_step=step,
                    lanes=lanes,
                ),
                None,
                ready,
                free,
                (maxima, largest.registers[first : first + self.seen.rows]),
            )
            sums.append((When(compiler), done.registers))
        compiler.pools["p"].give(scores, keys.node_words, done.read)
        return When(compiler, done.written), sums

    def _values(self, weights: int, ready: When, sums: list[tuple[When, Ints]], row: int, targets: Targets) -> None:
        """Weights times values, a tile of channels in each of some nodes; divided by the sums of the weights on the way out."""
        compiler, operation, seen, keys = self.compiler, self.operation, self.seen, self.keys
        target = self.query.layout
        tiles = range(self.first, self.first + self.each)
        rounds = [tiles[i : i + compiler.nodes] for i in range(0, self.each, compiler.nodes)]
        for group in rounds:
            results, cycle = compiler.scratch(operation.name, 2 * self.rows)
            free, found = When(compiler, cycle), When(compiler)

            def stream(group: range = group, free: When = free, results: int = results) -> None:
                nonlocal found
                pods = {target.node(tile): tile for tile in group}
                steps = []
                for number in range(keys.tiles):
                    key = keys.channel[number, 0][:, None]
                    tensor, context, without = self._cache(number, keys=False)
                    held = {
                        pod: self._cached(
                            pod,
                            tensor,
                            key,
                            target.channel[tile, 0][None, :],
                            value_place(compiler, context, tile - target.lead, number, without),
                        )
                        for pod, tile in pods.items()
                    }
                    steps.append((held, keys.node(number), weights + keys.offset(number)))
                found = multiply(compiler, self.index, steps, self.rows, dict.fromkeys(pods, results), ready, free)

            compiler.attempt(stream)
            read = When(compiler)
            for head, (kind, (home, written)) in itertools.product(range(operation.group), targets.items()):
                first, words = head * seen.rows, home.layout
                to = home.base + self.first_row * words.words
                done = place(
                    compiler,
                    Pass(
                        operation=self.index,
                        counts=(2, 1, seen.rows),
                        strides=(1, 0, 2),
                        bases={words.node(tile): (results + 2 * first, to + words.offset(tile, head)) for tile in group},
                        written=(0, words.words),
                        sets=alike(map(words.node, group), uniform(compiler.lanes, 0, 7)),
                        saturate=Saturate.INT16,
                        destination=destination_of(kind, operation.format),
                        row_scale=True,
                        row=row + first,
                    ),
                    home,
                    found,
                    written,
                    sums[head],
                )
                read = When(compiler, done.read)
            compiler.pools["p"].give(results, 2 * self.rows, read.now())
        compiler.pools["x"].give(weights, keys.node_words, compiler.epoch.pods_free)


def lower_attention(compiler: RowCompiler, index: int, operation: Attention) -> None:
    """Heads that share keys, one group after the other."""
    post = compiler.config.post
    rows = operation.group * max(each.rows for each in operation.sequences)
    if rows > post.row_registers:
        raise WorkloadError(
            f"{operation.name}: {rows // operation.group} rows of {operation.group} heads each need {rows} row registers, "
            f"{rows - post.row_registers} more than row_registers ({post.row_registers})"
        )
    sequences, at = [], 0
    for seen in operation.sequences:
        # Where the lengths of its rows stand, or that of all.
        own, lengths = range(at, at + seen.rows), operation.lengths
        length = compiler.lengths_of(lengths, own, operation.group) if lengths else compiler.length(seen.context)
        sequences.append((seen, at, length))
        at += seen.rows
    if compiler.appended:
        # What was appended goes out before the next epoch, and comes back for it.
        compiler.close()
    targets = targets_of(compiler, operation, compiler.home(operation.query, "x").layout)
    heads = [_Heads(compiler, index, operation, number, *each) for number in range(operation.kv_heads) for each in sequences]
    # While post-processors are at a softmax, pods compute the scores of the next heads, if there is room for them.
    ahead = int(compiler.pools["p"].largest >= 2 * max(each.keys.node_words for each in heads) + 4 * rows)
    for number in range(len(heads) + ahead):
        if number < len(heads):
            heads[number].score()
        if number >= ahead:
            base = (number - ahead) % 2 * rows if 2 * rows <= post.row_registers else 0
            heads[number - ahead].finish(base, targets)


def lower_append(compiler: RowCompiler, index: int, operation: Append) -> None:
    """Rows of keys become columns of the tiles in which they will be loaded, rows of values rows of theirs.

    They go out of an X bank beside the pod that will load them: memory belongs to the nodes of a manager. Keys of a tile are
    loaded by one pod, whichever channels they have, and values of a channel by one, whichever their keys are.
    """
    readers = [each for each in compiler.graph.operations if isinstance(each, Attention)]
    columns = {operation.name in each.all_keys for each in readers if operation.name in (*each.all_keys, *each.all_values)}
    if len(columns) != 1:
        raise WorkloadError(f"{operation.name}: a cache is read as keys or as values of attentions, and as one of both")
    (column,) = columns
    without = _tiles_elsewhere(compiler, operation, readers)
    prefetch, lanes = compiler.config.prefetch, compiler.lanes
    assert prefetch is not None
    most = min(prefetch.column_words, lanes) if column else lanes
    if most < 1:
        raise WorkloadError(f"{operation.name}: keys are stored in columns, for which {compiler.config.name} needs column_words")
    if operation.offset is not None:
        _require_offset(compiler, operation, most)
    source, rows = compiler.home(operation.source, "p"), operation.rows
    read = source.layout
    layout, first_word = replace(read, rows=rows), source.base + operation.first_row
    pieces = _pieces(operation, most, lanes, layout.nodes)
    longest = max(piece.rows for piece in pieces)
    # Keys of all nodes come together in one bank, that of the pod that will load them.
    size = (1 + max(piece.share for piece in pieces)) * layout.tiles * longest if column else layout.node_words
    base, cycle = compiler.pools["x"].take(size, operation.name)
    free, ready = When(compiler, cycle), When(compiler, source.ready_in(compiler.epoch.number))
    work: dict[str, Any] = {"operation": index, "saturate": Saturate.INT8, "destination": Destination.X}
    tiles = range(layout.lead, layout.tiles)
    if not column:
        count = tiles_of_nodes(layout)
        every = Pass(
            **work,
            counts=(1, layout.slots, rows),
            counts_of=count,
            strides=(0, read.tile_words, 1),
            bases=dict.fromkeys(count, (first_word, base)),
            written=(layout.tile_words, 1),
            sets=of_tiles(layout, range(layout.slots), uniform(lanes)),
        )
        done = place(compiler, every, None, ready, free)
    for piece in pieces:
        for tile in tiles:
            at = (piece.share * layout.tiles + tile) * longest if column else layout.offset(tile) + piece.row
            if column:
                one = Pass(
                    **work,
                    counts=(1, 1, piece.rows),
                    strides=(0, 0, 1),
                    bases={layout.node(tile): (first_word + read.offset(tile) + piece.row, base + at)},
                    written=(0, 1),
                    sets=alike([layout.node(tile)], uniform(lanes)),
                    bank=piece.bank,
                )
                done = place(compiler, one, None, ready, free)
            bank = piece.bank if column else layout.node(tile)
            of_keys, first = divmod(operation.position + piece.row, lanes)
            if column:
                found = key_place(compiler, operation.context, of_keys, tile - layout.lead, len(tiles), without)
            else:
                found = value_place(compiler, operation.context, tile - layout.lead, of_keys, without)
            compiler.appended.append(
                CacheWords(bank, base + at, piece.rows, operation.cache, found, first, column, operation.offset)
            )
    source.read_until(compiler.epoch.number, done.read)
    compiler.held.append((base, size))


def _tiles_elsewhere(compiler: RowCompiler, operation: Append, readers: list[Attention]) -> int:
    """How many tiles of keys in front of a cache are in another one. Raises `WorkloadError` for rows among them."""
    found = {
        0 if each.shared is None or operation.name in (each.shared.key, each.shared.value) else shared_tiles(compiler, each)
        for each in readers
        if operation.name in (*each.all_keys, *each.all_values)
    }
    without = max(found)
    if len(found) > 1 or operation.position < without * compiler.lanes:
        raise WorkloadError(
            f"{operation.name}: row {operation.position} is one of the {without * compiler.lanes} that are shared, which are in "
            "another cache"
        )
    return without


def _require_offset(compiler: RowCompiler, operation: Append, most: int) -> None:
    """Wherever an offset moves rows, they are in the same tile of keys, and go out at once."""
    first, last, lanes = operation.position, operation.position + operation.span - 1, compiler.lanes
    if first // lanes != last // lanes:
        raise WorkloadError(
            f"{operation.name}: rows {first} to {last}, among which an offset chooses, lie in more than one tile of {lanes} keys"
        )
    if operation.rows > most:
        raise WorkloadError(f"{operation.name}: an offset moves at most {most} rows (column_words), got {operation.rows}")


@dataclass(frozen=True)
class _Piece:
    """Rows of keys that are columns of the same tiles: ``bank`` of the pod that will load them, in which ``share`` other pieces are
    before."""

    row: int
    rows: int
    bank: int
    share: int


def _pieces(operation: Append, most: int, lanes: int, nodes: int) -> list[_Piece]:
    """Of at most so many rows each."""
    found: list[_Piece] = []
    row = 0
    while row < operation.rows:
        tile, first = divmod(operation.position + row, lanes)
        bank, rows = tile % nodes, min(operation.rows - row, lanes - first, most)
        found.append(_Piece(row, rows, bank, sum(piece.bank == bank for piece in found)))
        row += rows
    return found
