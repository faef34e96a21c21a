"""The compiler for graphs of layers and of operations on rows: two compilers by turns, which share the banks.

What one leaves for the other needs no more than a place. A tensor of layers goes from P banks into the X banks from which rows are
streamed, as any other activations do; a tensor of rows lies in P banks as the sums of a layer would, and post-processors send it
to where layers read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from podweave.ir.constants import Constants
from podweave.spec.config import ChipConfig

from ..chip.epoch_cutter import EpochCutter
from ..chip.epoch_program import EpochProgram, Export
from ..chip.policy import BankPolicy
from ..jobs import Place
from ..rows.compile_rows import Home
from ..rows.front import LOWERINGS, row_compiler
from ..rows.program import ChipEpoch
from .parts import Joined

Progress = Callable[[int, int], None]


def compile_parts(
    joined: Joined,
    config: ChipConfig,
    constants: Constants,
    policy: BankPolicy,
    *,
    partition: int | None = None,
    progress: Progress | None = None,
) -> tuple[ChipEpoch, ...]:
    """The programs of all epochs. Raises `WorkloadError` for what does not fit, with the limit and the excess."""
    turns = Turns(joined, config, constants, policy, partition, progress or (lambda *_: None))
    return turns.run()


class Turns:
    def __init__(
        self,
        joined: Joined,
        config: ChipConfig,
        constants: Constants,
        policy: BankPolicy,
        partition: int | None,
        progress: Progress,
    ):
        self.joined, self.policy = joined, policy
        counts = {"layers": 0, "rows": 0}

        def show(kind: str) -> Progress:
            def shown(done: int, count: int) -> None:
                counts[kind] = done
                progress(sum(counts.values()), sum(len(part) for part in joined.parts))

            return shown

        self.show_rows = show("rows")
        self.exports: dict[str, Export] = {}
        """Of layers that were taken on, by operation."""
        given, taken = frozenset(joined.exports), frozenset(joined.images.values())
        self.rows = row_compiler(joined.rows, config, constants, share=policy.bank_share, given=given, taken=taken)
        self.layers = EpochCutter(
            joined.layers,
            config,
            constants.table_of,
            partition,
            policy,
            show("layers"),
            self.exports,
            fixed_tables=constants.first_tables(each.name for each in joined.rows.operations),
        )
        self.layer_number, self.row_number = (
            {each.name: index for index, each in enumerate(graph.operations)} for graph in (joined.layers, self.rows.graph)
        )
        self.held = np.zeros(config.memory.p_words - 1, bool)
        """P words that layers have left for later ones."""

    def run(self) -> tuple[ChipEpoch, ...]:
        epochs: list[ChipEpoch] = []
        parts = self.joined.parts
        for number, part in enumerate(parts):
            if part[0] in self.row_number:
                epochs += self.rows.run(LOWERINGS, self.row_number[part[-1]] + 1, self.show_rows)
            else:
                epochs += self.run_layers(part)
                self._release(part, (name for later in parts[number + 1 :] for name in later))
            self.layers.first = False
        return tuple(epochs)

    def run_layers(self, part: tuple[str, ...]) -> tuple[EpochProgram, ...]:
        """The epochs of some layers: they begin with what rows leave of banks and rings, and rows go on with what they leave."""
        rows, layers = self.rows, self.layers
        self._place_exports(part)
        for image in self._images(part):
            if image not in layers.imported:
                layers.add(self.layer_number[image], _tile_places(rows.home(self.joined.images[image], "p")))
        rows.pools["p"].free(self.held)
        taken = rows.pools["p"].taken
        layers.storage.hold(taken)
        layers.storage.use_x(*rows.pools["x"].gap)
        layers.storage.starts = {kind: begins.tolist() for kind, begins in rows.epoch.rings.items()}
        programs = layers.run([self.layer_number[name] for name in part])
        rows.epoch.begin(self.policy.bank_share, {kind: np.array(begins) for kind, begins in layers.storage.starts.items()})
        layers.storage.give(taken)
        self.held = layers.storage.held
        rows.pools["p"].hold(self.held)
        return programs

    def _images(self, part: Iterable[str]) -> list[str]:
        """Tensors of rows that layers read, by the names under which they do."""
        operations = (self.joined.layers.operations[self.layer_number[name]] for name in part if name in self.layer_number)
        return sorted({source for operation in operations for source in operation.sources} & self.joined.images.keys())

    def _release(self, part: tuple[str, ...], later: Iterable[str]) -> None:
        """Rows that no later layer reads."""
        names = self.joined.images
        for name in sorted({names[image] for image in self._images(part)} - {names[image] for image in self._images(later)}):
            self.rows.release(name)

    def _place_exports(self, part: tuple[str, ...]) -> None:
        """Room in X banks for what operations on rows read of some layers."""
        rows, lanes = self.rows, self.rows.lanes
        for name, pieces in self.joined.exports.items():
            for operation, channel in pieces:
                if operation not in part:
                    continue
                if (name, "x") not in rows.homes:
                    rows.place(name, "x", rows.layout_of(name))
                first = channel // lanes
                tiles = -(-self.joined.layers.shape(operation)[3] // lanes)
                self.exports[operation] = Export(name, _tile_places(rows.home(name, "x"))[first : first + tiles])


def _tile_places(home: Home) -> tuple[Place, ...]:
    """Where the rows of each tile of a tensor lie, whose channels are in their order, a word for each row."""
    layout = home.layout
    assert layout.parts == layout.words == 1
    assert layout.lead == 0
    return tuple(Place(layout.node(tile), home.base + layout.offset(tile)) for tile in range(layout.tiles))
