"""The compiler for operations on rows: each becomes tiles that pods multiply by, and passes of post-processors over rows.

Tensors lie spread over all nodes (`RowLayout`). Pods work in step: in a cycle all stream the same words, each with a tile of its
own. What an operation leaves for post-processors stays in P banks; what will be streamed goes into X banks, from every node into
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from podweave.ir.constants import Constants
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Attention, Format, GatedRows, RowLinear, RowOperation
from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect

from ..chip.bank_words import EpochFullError
from ..collective.program import CollectiveProgram
from ..collective.ring import all_reduce_program
from ..collective.walks import BankWords
from ..lower.job_count import MAX_JOBS
from .epoch import Epoch, Ints
from .formats import byte_numbers
from .layout import RowLayout, head_layout, plain_layout
from .pool import Pool
from .program import CacheWords, OutputWords, RowProgram, Words
from .spread import Spreads

Progress = Callable[[int, int], None]


def require_row_functions(graph: RowGraph, config: ChipConfig) -> None:
    """Raises `WorkloadError` for a configuration that runs no operations on rows."""
    name = f"{graph.name} has operations on rows"
    if not config.has_rows:
        raise WorkloadError(
            f"{name}, which {config.name} lacks: its row_registers (of [post]) are 0; llm8x16 and chip16x32_attention have them"
        )
    if config.array.rows != config.array.cols:
        raise WorkloadError(f"{name}, which need a square array, got {config.array.rows} rows and {config.array.cols} cols")
    if config.array.psum_width != 32:
        raise WorkloadError(f"{name}: residuals and norms need a psum_width of 32, got {config.array.psum_width}")
    if config.pod.accumulator_rows < 2:
        raise WorkloadError(f"{name}: sums of two planes need accumulator_rows of at least 2, got {config.pod.accumulator_rows}")
    if config.prefetch is None:
        raise WorkloadError(f"{name}, which run from memory, over AXI: {config.name} has no table [prefetch]")


def require_ring(graph: RowGraph, config: ChipConfig, chips: int, rank: int) -> None:
    """Raises `WorkloadError` for a rank that is none of so many chips, and for sums of several chips on one chip, or without
    links."""
    if not 0 <= rank < chips:
        raise WorkloadError(f"{graph.name}: the rank of one of {chips} chips is 0 to {chips - 1}, got {rank}")
    reduced = [each.name for each in graph.operations if isinstance(each, RowLinear) and each.reduced]
    if chips == 1 and reduced:
        raise WorkloadError(f"{reduced[0]}: its sums are added over several chips, and it is compiled for one")
    if reduced and config.links is None:
        raise WorkloadError(f"{reduced[0]}: its sums are added over {chips} chips, and {config.name} has no table [links]")


def require_tiles_fit(graph: RowGraph, config: ChipConfig) -> None:
    """Raises `WorkloadError` if a graph has more weight tiles, each a job, than are compiled."""
    operations = graph.rows if isinstance(graph, MixedGraph) else graph.operations
    count = sum(operation.macs // operation.rows for operation in operations) // config.array.multipliers
    if count > MAX_JOBS:
        raise WorkloadError(
            f"{graph.name}: {config.name} takes about {count:,} jobs for it, more than the {MAX_JOBS:,} that a program may have; "
            "larger pods take fewer"
        )


@dataclass
class Home:
    """Where a tensor lies: in X or P banks, from ``base`` on in each. ``ready``: by epoch, the cycle from which all of it may be
    read; ``used``: from which nobody reads it."""

    kind: str
    layout: RowLayout
    base: int
    epoch: int = -1
    ready: int = 0
    read_epoch: int = -1
    read: int = 0

    def ready_in(self, epoch: int) -> int:
        return self.ready if epoch == self.epoch else 0

    def read_until(self, epoch: int, cycle: int) -> None:
        """Somebody reads it, up to a cycle."""
        self.read = max(self.used_in(epoch), cycle)
        self.read_epoch = epoch

    def used_in(self, epoch: int) -> int:
        """The cycle from which nobody reads it."""
        return self.read if epoch == self.read_epoch else 0


@dataclass
class RowCompiler:
    """``share``: of what an epoch may take of W banks, parameter sets and program stores. ``capacity``: keys for which caches have
    room in memory, if they are more than an attention sees.

    Beside layers, ``given`` are inputs that they compute, and leave in X banks, and ``taken`` tensors that they read in P banks.
    ``chips``, ``rank``: of a ring in which sums are reduced, and which of its chips this is. ``ends``: by how many steps have been
    placed, where an epoch ends though there may be room in it.
    """

    graph: RowGraph
    constants: Constants
    config: ChipConfig
    share: float = 0.25
    capacity: int = 0
    given: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    chips: int = 1
    rank: int = 0
    ends: frozenset[int] = frozenset()
    homes: dict[tuple[str, str], Home] = field(default_factory=dict)
    programs: list[RowProgram | CollectiveProgram] = field(default_factory=list)

    def __post_init__(self) -> None:
        config, memory = self.config, self.config.memory
        require_row_functions(self.graph, config)
        require_ring(self.graph, config, self.chips, self.rank)
        self.lanes, self.nodes = config.array.cols, config.pods
        self.pools = {"x": Pool("X", memory.x_words), "p": Pool("P", memory.p_words - 1)}
        self.spreads = Spreads(self.graph, self.taken)
        self.operations, self.readers = self.spreads.operations, self.spreads.readers
        self.unread = Counter(source for operation in self.graph.operations for source in operation.sources)
        """How many have not read a tensor yet."""
        self.unread.update(self.taken)
        self.angles: dict[str, Home] = {}
        """By rotation, where its angles lie: as what it rotates."""
        self.lengths: dict[object, int] = {}
        self.length_count = 0
        self.awaited = {name for operation in self.graph.operations for name in operation.after}
        """Operations that others come after."""
        zeros = np.zeros(config.pods, np.int64)
        # Nothing hides what the first epoch loads.
        self.epoch = Epoch(config, 0, self.share / 4, {"w": zeros, "set": zeros})
        self.begun = 0
        """How many operations have been taken on."""
        self.done: list[int] = []
        self.waiting: dict[str, int] = {}
        """Linear operations that are computed where the product that reads them is."""
        self.appended: list[CacheWords] = []
        self.held: list[tuple[int, int]] = []
        """X words that go out when the epoch is over: the first, and how many."""
        self.collectives = 0
        self.steps, self.begins = 0, 0
        """How many have been placed, and before this epoch."""

    # What operations ask for.

    def home(self, name: str, kind: str) -> Home:
        """Where a tensor lies in banks of a kind."""
        return self.homes[name, kind]

    def homes_of(self, operation: RowOperation) -> tuple[str, ...]:
        """The kinds of banks into which an operation's tensor goes."""
        kinds = {self.kind_for(reader, operation.name) for reader in self.readers[operation.name]}
        if operation.name in self.graph.outputs:
            kinds.add("p" if operation.format is Format.WIDE else "x")
        if operation.name in self.taken:
            kinds.add("p")
        return tuple(sorted(kinds))

    @staticmethod
    def kind_for(reader: RowOperation, name: str) -> str:
        streamed = {RowLinear: "source", Attention: "query"}.get(type(reader))
        return "x" if streamed and getattr(reader, streamed) == name else "p"

    def waits_for_product(self, operation: RowLinear) -> bool:
        """Whether a product is all that reads an operation, and its other factor if there is one."""
        if operation.name in self.graph.outputs:
            return False

        def only_reader(name: str) -> RowOperation | None:
            readers = self.readers[name]
            alone = len(readers) == 1 and name not in self.awaited
            linear = self.operations.get(name)
            return readers[0] if alone and isinstance(linear, RowLinear) and not linear.reduced else None

        product = only_reader(operation.name)
        if not isinstance(product, GatedRows) or len(set(product.factors)) < len(product.factors):
            return False
        return all(only_reader(name) is product and name not in self.graph.outputs for name in product.factors)

    def layout_of(self, name: str, words: int = 1) -> RowLayout:
        """The layout of a tensor: by heads if it becomes part of an attention, queries that share keys side by side; else as it
        is."""
        _, _, rows, channels = self.graph.shape(name)
        sizes = {"nodes": self.nodes, "lanes": self.lanes, "words": words}
        heads = self.spreads.of(name)
        if heads is None:
            return plain_layout(rows, channels, **sizes)
        tiles = heads.kv_heads * -(-heads.size // self.lanes)
        lead = self.nodes // 2 if tiles % self.nodes and heads.later else 0
        return head_layout(rows, heads.kv_heads * heads.shared, heads.shared, heads.size, **sizes, lead=lead)

    def key_tiles(self, context: int) -> int:
        """Tiles of keys for which a cache has room in memory."""
        return -(-max(context, self.capacity) // self.lanes)

    def place(self, name: str, kind: str, layout: RowLayout) -> tuple[Home, int]:
        """Room for a tensor, and the cycle from which it may be written."""
        base, free = self.pools[kind].take(layout.node_words, name)
        home = Home(kind, layout, base, self.epoch.number)
        self.homes[name, kind] = home
        return home, free

    def scratch(self, what: str, words: int) -> tuple[int, int]:
        return self.pools["p"].take(words, what)

    def release(self, name: str) -> None:
        """An operation has read a tensor."""
        self.unread[name] -= 1
        if self.unread[name] > 0 or name in self.graph.outputs:
            return
        for kind in ("x", "p"):
            home = self.homes.pop((name, kind), None)
            if home:
                self.pools[kind].give(home.base, home.layout.node_words, home.used_in(self.epoch.number))

    def length(self, length: int) -> int:
        """Where a length stands that all nodes know."""
        return self._lengths(length, None, None, np.array([length]))

    def lengths_of(self, tensor: str, rows: range, copies: int) -> int:
        """Where those of some rows of an input stand, so many times one after the other."""
        numbers = np.tile(np.array(rows), copies)[:, None] * 4 + np.arange(3)
        return self._lengths((tensor, rows, copies), tensor, numbers, np.zeros(len(rows) * copies, np.int64))

    def _lengths(self, key: object, tensor: str | None, numbers: Ints | None, values: Ints) -> int:
        post = self.config.post
        if key not in self.lengths:
            base = self.length_count
            excess = base + len(values) - post.row_registers
            if excess > 0:
                raise WorkloadError(
                    f"{self.graph.name}: there are {base + len(values)} lengths of rows, {excess} more than row_registers "
                    f"({post.row_registers})"
                )
            self.lengths[key], self.length_count = base, base + len(values)
            content = (values[:, None] >> np.arange(0, 24, 8) & 0xFF).astype(np.uint8)
            for node in range(self.nodes):
                self.epoch.words.append(Words(HostSelect.LENGTHS, node, base, content, tensor, numbers))
        return self.lengths[key]

    # The graph, one operation after the other.

    def run(
        self, lowerings: Mapping[type, Callable], end: int, progress: Progress | None = None
    ) -> tuple[RowProgram | CollectiveProgram, ...]:
        """The programs of the epochs of the next operations, up to number ``end``."""
        for index in range(self.begun, end):
            operation = self.graph.operations[index]
            try:
                lowerings[type(operation)](self, index, operation)
            except EpochFullError as error:
                raise WorkloadError(f"{operation.name}: {error}") from error
            for name in operation.sources:
                # A linear operation, which may wait, does so itself.
                if not (isinstance(operation, RowLinear) and name == operation.source):
                    self.release(name)
            self.done.append(index)
            if progress:
                progress(index + 1, len(self.graph.operations))
        self.begun = end
        if not self.epoch.is_empty:
            self.close()
        programs, self.programs = tuple(self.programs), []
        return programs

    def close(self) -> None:
        """End the epoch, and begin the next."""
        epoch = self.epoch
        loads, streams, posts = epoch.jobs.tables()
        outputs = tuple(self._outputs(index) for index in self.done if self.graph.operations[index].name in self.graph.outputs)
        self.programs.append(
            RowProgram(
                self.config,
                self.graph,
                loads,
                streams,
                posts,
                tuple(epoch.words),
                tuple(words for found in outputs for words in found),
                tuple(self.appended),
                tuple(self.done),
                self.begins,
            )
        )
        self.done, self.appended, self.begins = [], [], self.steps
        rings = {name: (epoch.rings[name] + epoch.used[name]) % epoch.depths[name] for name in epoch.rings}
        self.epoch = Epoch(self.config, epoch.number + 1, self.share, rings)
        for pool in self.pools.values():
            pool.next_epoch()
        for base, count in self.held:
            self.pools["x"].give(base, count, 0)
        self.held = []

    def reduce(self, name: str, words: BankWords) -> None:
        """Add words of P banks over all chips of the ring, between this epoch and the next. Raises `WorkloadError` for more jobs
        than a collective engine holds."""
        links = self.config.links
        assert links is not None
        self.close()
        program = all_reduce_program(self.config, self.collectives, words, self.chips, self.rank, name)
        jobs = max(len(program.sends["n0"]), len(program.receives["n0"]))
        if jobs > links.jobs:
            raise WorkloadError(
                f"{name}: its collective takes {jobs} jobs, {jobs - links.jobs} more than jobs ({links.jobs}) of [links]"
            )
        self.programs.append(program)
        self.collectives += 1
        self.epoch.number += 1

    def attempt(self, step: Callable[[], None]) -> None:
        """A step that places jobs; if they do not fit into this epoch any more, in the next one, and if they are more than the
        share of one, in one that may take all."""
        if self.steps in self.ends and not self.epoch.is_empty:
            self.close()
        before = self.epoch.mark()
        try:
            step()
            self.epoch.require_room()
            self.steps += 1
            return
        except EpochFullError:
            self.epoch.back_to(before)
        if not self.epoch.is_empty:
            self.close()
        before = self.epoch.mark()
        try:
            step()
            self.epoch.require_room()
        except EpochFullError:
            self.epoch.back_to(before)
            self.epoch.take_all()
            step()
            self.epoch.require_room()
        self.steps += 1

    def _outputs(self, index: int) -> list[OutputWords]:
        operation = self.graph.operations[index]
        kind = "p" if operation.format is Format.WIDE else "x"
        home = self.homes[operation.name, kind]
        select = HostSelect.P if kind == "p" else HostSelect.X
        return [
            OutputWords(select, node, home.base, operation.name, numbers)
            for node, numbers in enumerate(byte_numbers(home.layout, operation.format))
            if (numbers >= 0).any()
        ]
