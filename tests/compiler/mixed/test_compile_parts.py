"""compiler.mixed.compile_parts: two compilers share banks and rings, and what goes wrong if they do not is seen."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from podweave.compiler.chip.bank_image import w_image
from podweave.compiler.chip.bank_words import BankWords
from podweave.compiler.chip.copies import Copies
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.jobs import ProgramError
from podweave.compiler.mixed.compile_parts import Turns
from podweave.compiler.rows.check.program import check_rows
from podweave.compiler.rows.pool import Pool
from podweave.compiler.rows.program import RowProgram
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_mixed import random_mixed_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph
from podweave.ir.row_operations import Format
from podweave.spec.config import ChipConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from tests.mixed_graphs import conv, linear
from tests.podweave.runs.row_jobs import small_chip

SIZE, ROWS = (4, 4), 16
GRAPH = MixedGraph(
    "g",
    {"image": (1, 4, 4, 3), "x": (1, 1, ROWS, 6)},
    (
        conv("a", "image", SIZE, 3, 6, 3),
        linear("wide", ROWS, "a", 6, 6, Format.WIDE, add="x"),
        linear("r", ROWS, "a", 6, 7, Format.INT8),
        # Reads what layers left before the rows, and rows.
        conv("b", ("r", "a"), SIZE, 13, 5, 3),
        conv("c", "b", SIZE, 5, 9),
        linear("s", ROWS, "c", 9, 6, Format.WIDE, add="wide"),
        linear("t", ROWS, "a", 6, 4, Format.INT8),
        conv("d", ("t", "r"), SIZE, 11, 3),
        # Reads what layers have left in X banks, past other layers.
        linear("u", ROWS, "a", 6, 6, Format.WIDE, add="s", after=("d",)),
    ),
    ("u", "d"),
    formats={"x": Format.WIDE},
)


def compiled(config: ChipConfig | None = None, graph: MixedGraph = GRAPH) -> CompiledNetwork:
    constants = Constants(random_mixed_parameters(graph, 1))
    return compile_network(graph, config or small_chip(), constants, CompileOptions(from_memory=True, check="always"))


def computed(program: EpochProgram | RowProgram) -> list[str]:
    return [program.operation(index).name for index in program.operations]


def test_parts_are_epochs_of_one_kind() -> None:
    network = compiled()
    assert network.checked
    assert [(type(program), computed(program)) for program in network.epochs] == [
        (EpochProgram, ["a"]),
        (RowProgram, ["wide", "r", "t"]),
        (EpochProgram, ["b", "d", "c"]),
        (RowProgram, ["s", "u"]),
    ]
    assert network.image is not None
    assert (set(network.image.inputs), set(network.image.outputs)) == ({"image", "x"}, {"u", "d"})


def test_layers_and_rows_take_turns_in_the_rings() -> None:
    """What an epoch loads is not where the one before has its words, so that they are there before it begins."""
    network = compiled()
    assert network.constants is not None
    words = []
    for program in network.epochs:
        if isinstance(program, EpochProgram):
            tiles = [(place.bank, place.base, len(tile)) for place, tile in w_image(program, network.constants)]
        else:
            tiles = [(each.node, each.base, len(each.content)) for each in program.words if each.select is HostSelect.W]
        words.append({(bank, base + i) for bank, base, count in tiles for i in range(count)})
    assert all(words)
    assert not any(one & other for one, other in itertools.pairwise(words))


def test_room_is_given_back() -> None:
    """A chain of many parts needs no more of the banks than a short one."""

    def chain(length: int) -> MixedGraph:
        operations: list = []
        source, channels = "image", 3
        for number in range(length):
            operations.append(conv(f"a{number}", source, SIZE, channels, 8))
            operations.append(linear(f"r{number}", ROWS, f"a{number}", 8, 8, Format.INT8))
            source, channels = f"r{number}", 8
        return MixedGraph("g", {"image": (1, 4, 4, 3)}, tuple(operations))

    config = small_chip().replace(x_words=128, p_words=128)
    assert len(compiled(config, chain(2)).epochs) == 4
    assert len(compiled(config, chain(12)).epochs) == 24


@pytest.mark.parametrize("size", [(2, 40), (1, 100), (3, 70)])
def test_images_wider_than_accumulators_are_read_by_rows(size: tuple[int, int]) -> None:
    """Sums of a row of an image are in several patches, which lie one after the other for rows; every word is written once."""
    operations = (
        conv("a", "image", size, 3, 6, 3),
        linear("r", size[0] * size[1], "a", 6, 7, Format.INT8),
        conv("b", ("r", "a"), size, 13, 5),
    )
    network = compiled(graph=MixedGraph("wide", {"image": (1, *size, 3)}, operations))
    first = network.epochs[0]
    assert network.checked
    assert isinstance(first, EpochProgram)
    # Two tiles of channels, each of more patches than rows of the image.
    assert len(first.posts["start"]) > 2 * size[0]


def nothing(*_: object) -> None:
    """In place of what keeps words."""


def export_less(copies: Copies) -> None:
    """All but the last job of what is exported."""
    EXPORT(copies)
    if copies.state.exported:
        copies.state.book.posts.pop()


def hold_free(storage: BankWords, words: np.ndarray) -> None:
    """Those that are."""
    HOLD(storage, words & ~storage.held)


def taken_back(name: str) -> Callable:
    """Layers may write over a tensor of rows."""

    def layers(turns: Turns, part: tuple[str, ...]) -> tuple[EpochProgram, ...]:
        pool, words = turns.rows.pools["p"], np.zeros(len(turns.held), bool)
        home = turns.rows.homes.get((name, "p"))
        if home:
            words[home.base : home.base + home.layout.node_words] = True
        pool.free(words)
        programs = LAYERS(turns, part)
        pool.hold(words)
        return programs

    return layers


EXPORT, HOLD, LAYERS = Copies.export, BankWords.hold, Turns.run_layers
FAULTS: dict[str, tuple[dict[tuple[type, str], object], str]] = {
    "layers write over rows that they read": (
        {(Turns, "run_layers"): taken_back("t")},
        r"^epoch 2: stream job \d+ \(pod \d, start \d+\): stores P bank 0 address 32, which an earlier epoch left there$",
    ),
    "layers write over rows that others read": (
        {(Turns, "run_layers"): taken_back("wide")},
        r"^epoch 3: post job 0 \(bank 0, start 62\): adds to P bank 0 address 0 in cycle 71, where b is, which is nothing that",
    ),
    "layers write where rows are in X banks": (
        {(BankWords, "use_x"): nothing},
        "^epoch 2: .*: writes X bank 0 address 16 slot 0 in cycle 17, which is written twice$",
    ),
    "rows write over sums of layers": (
        {(Pool, "hold"): nothing, (Pool, "free"): nothing, (BankWords, "hold"): hold_free, (BankWords, "give"): nothing},
        "^epoch 2: P bank 0 address 16: sums of a should be there, and are not$",
    ),
    "layers export nothing": (
        {(Copies, "export"): nothing},
        r"^epoch 1: stream job 0 tile 0 \(pod 0, start 4\): reads X bank 0 address 0 in cycle 5, where nothing is yet$",
    ),
    "layers export less than all": (
        {(Copies, "export"): export_less},
        "^epoch 0: X bank 1 address 0: rows of a should be there, and are not$",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, sentence = FAULTS[name]
    for (where, what), instead in parts.items():
        monkeypatch.setattr(where, what, instead)
    with pytest.raises(ProgramError, match=sentence):
        compiled()


def test_sums_that_are_not_there_are_seen() -> None:
    """An epoch of layers that takes for rows what lies beside them."""
    network = compiled()
    program = network.epochs[2]
    assert isinstance(program, EpochProgram)
    number = [each.name for each in program.graph.operations].index("r/image")
    (first, *_) = (i for i, item in enumerate(program.carried) if item.operation == number)
    place = dataclasses.replace(program.carried[first].place, base=900)
    carried = list(program.carried)
    carried[first] = dataclasses.replace(carried[first], place=place)
    epochs = list(network.epochs)
    epochs[2] = dataclasses.replace(program, carried=(*carried, program.carried[first]))
    assert network.constants is not None
    assert network.joined is not None
    with pytest.raises(ProgramError, match=r"^epoch 2: P bank 0 address 900: sums of r should be there, and are not$"):
        check_rows(epochs, len(network.constants.tables), images=network.joined.images)


REFUSED: dict[str, tuple[ChipConfig, str]] = {
    "no row functions": (
        load_config("chip2x4"),
        r"^g has operations on rows, which chip2x4 lacks: its row_registers \(of \[post\]\) are 0; llm8x16 and",
    ),
    "little room in P banks": (
        small_chip().replace(p_words=64),
        r"^r: every P bank must hold 16 words more, 1 more than are free in one piece \(15 of 63\)$",
    ),
    "little room in X banks": (
        small_chip().replace(x_words=32),
        r"^a: X bank 0 is full: 36 words more are 20 more than the 16 that others leave of x_words \(32\)$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    config, sentence = REFUSED[name]
    with pytest.raises(WorkloadError, match=sentence):
        compiled(config)


def test_runs_from_memory_only() -> None:
    constants = random_mixed_parameters(GRAPH)
    with pytest.raises(WorkloadError, match=r"^g has operations on rows, which run from memory, over AXI$"):
        compile_network(GRAPH, small_chip(), constants)
