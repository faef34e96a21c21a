"""compiler.memory.spilled: networks that are cut, executed from their images, and faults that are seen there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram, Spilled, SpillRequest
from podweave.compiler.chip.producers import Producer
from podweave.compiler.chip.spills import Spills
from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.compiler.jobs import ProgramError
from podweave.compiler.memory import spilled
from podweave.compiler.memory.frames import Frame, Frames
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.moves import Move, RunWriter
from podweave.compiler.memory.resident import RESIDENT, ChipContents
from podweave.compiler.plan.demands import Demands
from podweave.fuzz.random_layers import random_graph
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.builder import Builder
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Window
from podweave.ir.rewrites import with_batch
from podweave.spec.load_port import HostSelect
from tests.compiler.memory.test_image import config_of, conv, network, run
from tests.fast import fast_of


def wrong(found: dict[str, NDArray], expected: dict[str, NDArray]) -> list[str]:
    return [name for name, tensor in found.items() if (tensor != expected[name]).any()]


def pooled() -> Graph:
    """A tensor that one reader pads with 0 and another with -128."""
    around = Layer(name="pool", height=8, width=8, channels=8, outputs=8, groups=8, padding=((1, 1), (1, 1)))
    flat = Linear("pool", (Operand(("a",), around, pad_value=-128),), Window("max", (2, 2), (2, 2)), identity=True)
    operations = (Linear("a", (conv("a", ("in",), 8, 3, 8),)), Linear("b", (conv("b", ("a",), 8, 8, 6, 3),)), flat)
    return Graph("pooled", {"in": (1, 8, 8, 3)}, operations)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("managers", fast_of([1, 2, 4], "1", "4"))
@pytest.mark.parametrize("cut", [1, 2])
def test_cut_networks_run_from_their_images(managers: int, cut: int, eager: bool) -> None:
    for graph in (network(), random_graph(40 + managers), random_graph(50 + cut)):
        _, (found,), (expected,) = run(config_of(managers), graph, eager=eager, cut=cut)
        assert found.keys() == set(graph.outputs)
        assert wrong(found, expected) == []


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("cut", fast_of([1, 2], "1"))
def test_cut_networks_run_in_passes_and_warm_beside_epochs(cut: int, eager: bool) -> None:
    """Each pass has outputs of its own, and all have the same places for what lies between segments."""
    for seed, graph in enumerate((network(), pooled(), random_graph(60 + cut), random_graph(62 + cut))):
        config = config_of(2, pass_bits=3, x_parts=8 if seed % 2 else 1)
        image, found, expected = run(config, graph, eager=eager, cut=cut, runs=(2, 1, 3))
        assert len(found) == 3
        assert [name for one, right in zip(found, expected, strict=True) for name in wrong(one, right)] == []
        assert image.pass_bytes > 0


def test_readers_that_pad_with_other_values_find_both() -> None:
    _, (found,), (expected,) = run(config_of(), pooled(), eager=True, cut=1)
    assert wrong(found, expected) == []


def crops(*wanted: tuple[int, int, tuple[tuple[int, int], tuple[int, int]], int], width: int = 8, names: int = 4) -> Graph:
    """Readers of parts of a tensor of 8 rows, each with its first row and rows, its padding and what is in that."""
    operations = [Linear("a", (conv("a", ("in",), 8, 3, 8),))]
    for i, (first, rows, padding, value) in enumerate(wanted):
        layer = Layer(name=f"b{i}", height=rows, width=width, channels=8, outputs=names, kernel=(3, 3), padding=padding)
        operations.append(Linear(f"b{i}", (Operand(("a",), layer, value, corners=((first, 8 - width),)),)))
    return Graph("crops", {"in": (1, 8, 8, 3)}, tuple(operations))


AROUND = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    "readers",
    [
        [(0, 6, AROUND, 5)],
        [(2, 6, AROUND, 5)],
        [(2, 4, AROUND, 5)],
        [(0, 6, ((1, 0), (1, 1)), 5), (2, 6, ((0, 1), (1, 1)), 5)],
        # Those of one frame, of another one by its value, by its edges, and by what it has; one without padding.
        [(0, 8, AROUND, 5), (2, 6, ((2, 0), (0, 0)), 5), (3, 5, ((2, 0), (0, 0)), -3), (0, 8, ((0, 0), (2, 2)), -3)],
        [(2, 6, ((2, 0), (0, 0)), 5), (3, 5, ((0, 0), (0, 0)), 5), (1, 7, ((0, 0), (0, 0)), 5)],
        [(2, 4, ((2, 0), (0, 0)), 5), (2, 5, ((0, 2), (0, 0)), 5), (3, 4, ((0, 2), (0, 0)), 5)],
        # The same rows and columns, as parts and as they go on.
        [(0, 7, ((1, 1), (0, 0)), 5), (0, 8, ((1, 0), (0, 0)), 5), (0, 8, ((0, 0), (0, 0)), 5)],
    ],
)
@pytest.mark.parametrize("width", fast_of([8, 5], "5"))
def test_parts_that_are_padded_where_their_tensor_goes_on(
    readers: list[tuple[int, int, tuple[tuple[int, int], tuple[int, int]], int]], width: int
) -> None:
    """Memory has each part that is padded for itself."""
    graph = crops(*readers, width=width)
    for cut, managers, changes in ((0, 1, {}), (1, 2, {"x_words": 256}), (1, 4, {"x_words": 160, "p_words": 40})):
        _, (found,), (expected,) = run(config_of(managers, **changes), graph, eager=True, cut=cut)
        assert wrong(found, expected) == []


@pytest.mark.parametrize("managers", [1, 2])
@pytest.mark.parametrize("rows", [7, 8])
def test_what_is_loaded_with_padding_where_a_tensor_goes_on_serves_nobody_who_reads_there(managers: int, rows: int) -> None:
    """Both readers are in one segment, and one of them loads positions around all that the other one reads."""
    graph = crops((0, 6, AROUND, 5), (0, rows, ((0, 0), (0, 0)), 5))
    _, (found,), (expected,) = run(config_of(managers), graph, eager=True, cut=2)
    assert wrong(found, expected) == []


@pytest.mark.parametrize("seed", range(8))
def test_random_parts_that_are_padded(seed: int) -> None:
    rng, readers = np.random.default_rng(seed), []
    for _ in range(int(rng.integers(2, 6))):
        first = int(rng.integers(0, 6))
        (top, bottom, left, right), value = rng.integers(0, 3, 4).tolist(), int(rng.integers(-128, 128))
        readers.append((first, int(rng.integers(3, 9 - first)), ((top, bottom), (left, right)), value))
    graph = crops(*readers, width=int(rng.integers(3, 9)))
    config = config_of(2 if seed % 2 else 1, x_words=int(rng.choice([100, 200, 400])), p_words=int(rng.choice([40, 100])))
    _, (found,), (expected,) = run(config, graph, eager=bool(seed & 2), cut=1)
    assert wrong(found, expected) == []


def test_an_output_lies_whole_beside_its_parts() -> None:
    graph = crops((2, 4, AROUND, 5), (3, 5, ((2, 0), (0, 0)), -3))
    graph = replace(graph, outputs=(*graph.outputs, "a"))
    config = config_of(2, pass_bits=3, x_parts=8)
    image, found, expected = run(config, graph, eager=False, cut=1, runs=(2, 1))
    assert [name for one, right in zip(found, expected, strict=True) for name in wrong(one, right)] == []
    assert image.pass_bytes > 0
    assert found[0].keys() >= {"a"}


BANDS = load_graph("conv:24x24x4x4,kernel=3x3,padding=1")
TIGHT = {"x_words": 160, "p_words": 100}


def loaded_words(graph: Graph, select: HostSelect, **changes: int) -> int:
    image, (found,), (expected,) = run(config_of(1, **changes), graph, eager=True)
    assert wrong(found, expected) == []
    fields = image.prefetch[0].fields
    return int(fields["n0"][(fields["select"] == select) & (fields["kind"] == 1)].sum())


def test_weights_of_bands_are_loaded_once() -> None:
    whole, cut = loaded_words(BANDS, HostSelect.W, x_words=2048, p_words=2048), loaded_words(BANDS, HostSelect.W, **TIGHT)
    # A pod may have its own copy.
    assert 0 < cut <= 4 * whole
    assert cut <= 4 * 9 * 4


UNET = load_graph("unet_16,width=4,depth=1")


def forget_nothing(self: ChipContents, select: HostSelect, nodes: slice, base: int, words: NDArray) -> list[tuple[int, int]]:
    if select not in RESIDENT:
        return [(0, len(words))]
    known = self._held(select)[1][nodes, base : base + len(words)]
    there = known.all()
    known[:] = True
    return [] if there else [(0, len(words))]


def shifted(box: Any, corner: tuple[int, int, int]) -> Any:
    return original_moved(box, (corner[0], max(0, corner[1] - 1), corner[2]))


def corners_as_computed(program: EpochProgram, item: Spilled) -> Any:
    return original_moved(item.box, program.corners[program.operation(item.operation).name])


def one_by_one(self: Spills, producer: Producer) -> list[tuple[int, SpillRequest]]:
    return [(number, replace(request, seen=AS_IT_IS)) for number, request in original_of(self, producer)]


def whole_ones(self: Frames, readers: Any) -> Frame:
    made = original_made(self, readers)
    return replace(made, spans=((0, self.shape[1]), (0, self.shape[2])), pads=np.ones((2, 2), np.int64))


original_made = Frames._made
original_of = Spills._requests
original_moved = spilled.moved
original_requests = Demands.requests


def first_rows(self: Demands, *arguments: Any) -> tuple[SpillRequest, ...]:
    return tuple(request for request in original_requests(self, *arguments) if request.box[1][0] == 0)


@pytest.mark.parametrize(
    ("graph", "changes", "target", "name", "fault"),
    [
        # Words that were overwritten are taken for those that were there before.
        (network(), {"w_words": 200, "parameter_sets": 16}, ChipContents, "load", forget_nothing),
        # Nothing stands around tensors.
        (pooled(), {}, spilled.SpilledTensors, "_write_pads", lambda *_: None),
        # A part that is padded where its tensor goes on is taken from all of it.
        (crops((2, 4, AROUND, 5)), {}, Frames, "_made", whole_ones),
        # Bands that write where their neighbours do.
        (load_graph("conv:24x24x4x4,kernel=3x3,padding=1"), TIGHT, spilled, "moved", shifted),
        # What is stored is less than what is loaded.
        (network(), TIGHT, Demands, "requests", first_rows),
        # What is seen interleaved is stored where it would lie as it is, or as it is.
        (UNET, {"x_words": 160, "p_words": 60}, spilled, "_stored", corners_as_computed),
        (UNET, {}, Spills, "_requests", one_by_one),
    ],
    ids=["held", "pads", "parts", "corners", "demands", "views", "interleaved"],
)
def test_a_fault_shows(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, changes: dict[str, int], target: Any, name: str, fault: Any
) -> None:
    _, (found,), (expected,) = run(config_of(2, **changes), graph, eager=True, cut=1)
    assert wrong(found, expected) == []
    monkeypatch.setattr(target, name, fault)
    try:
        _, (found,), (expected,) = run(config_of(2, **changes), graph, eager=True, cut=1)
    except AssertionError:
        return
    assert wrong(found, expected)


def pictures(channels: int = 12) -> Graph:
    """Of which early layers go over images one by one, and late ones over all of them."""
    net = Builder("pictures", {"in": (1, 12, 12, 3)})
    x = net.conv("down", net.conv("stem", ("in",), 8, kernel=3, padding="same"), 12, kernel=3, stride=2, padding="same")
    x = net.conv("outer", net.conv("inner", x, channels, kernel=3, padding="same"), 12, residual=x)
    net.conv("later", net.conv("late", x, 24, kernel=3, stride=2, padding="same"), 20, kernel=3)
    return with_batch(net.graph(), 4)


SMALL = {"x_words": 1024, "w_words": 512, "p_words": 256, "x_parts": 4}


def loaded_beside(image: MemoryImage) -> int:
    """Loads beside epochs of what is between segments: of several passes, its memory is the same in each."""
    fields = [ring.fields for ring in image.prefetch]
    return sum(int(((of["beside"] == 1) & (of["kind"] == 1) & (of["moves"] == 0)).sum()) for of in fields)


@pytest.mark.parametrize("eager", [False, True])
def test_what_was_stored_long_before_is_loaded_beside_epochs(eager: bool) -> None:
    sizes = SMALL | {"x_words": 512, "x_parts": 8}
    image, found, expected = run(config_of(2, pass_bits=3, **sizes), pictures(32), eager=eager, cut=3, runs=(2, 3))
    assert [name for one, right in zip(found, expected, strict=True) for name in wrong(one, right)] == []
    assert loaded_beside(image) > 0


def test_words_that_are_loaded_before_they_are_stored_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = random_parameters(pictures(), 3)
    options = CompileOptions(from_memory=True, passes=2, cut=2, check="always")
    # With room for what is loaded beside the epoch behind the one that stores it.
    config = config_of(2, pass_bits=3, **SMALL | {"x_words": 2048})
    compile_network(pictures(), config, with_scale_bits(constants, config.scale_bits), options)
    right = RunWriter._after_stores

    def early(self: RunWriter, epoch: int, move: Move) -> int:
        return right(self, epoch, replace(move, stored=move.stored and move.stored - 2))

    monkeypatch.setattr(RunWriter, "_after_stores", early)
    found = r"^load \d+ of ring 1 of manager \d may read words of memory before they are stored for epoch \d+$"
    with pytest.raises(ProgramError, match=found):
        compile_network(pictures(), config, with_scale_bits(constants, config.scale_bits), options)
