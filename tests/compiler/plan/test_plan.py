"""compiler.plan: segments that fit, what is stored for whom, and what could be moved at least."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.chip.spills import stored_views
from podweave.compiler.lower.operation import lower_graph, tiles_read
from podweave.compiler.plan.bands import Grid, are_apart
from podweave.compiler.plan.bound import least_bytes
from podweave.compiler.plan.compile_plan import compile_cut
from podweave.compiler.plan.demands import Demands
from podweave.compiler.plan.segments import Planner, _Whole
from podweave.fuzz.random_large import cut_graph
from podweave.fuzz.random_layers import random_graph
from podweave.ir.frontends.registry import load_graph
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import AS_IT_IS, Linear, Operand, Upsampling
from podweave.ir.rewrites import with_copies_to_upsample
from podweave.spec.presets import load_config
from tests.podweave.runs.small_accelerator import CONFIG, with_residual


@pytest.mark.parametrize("seed", range(6))
def test_segments_are_all_of_a_network_in_order(seed: int) -> None:
    graph = cut_graph(seed)
    for most in (0, 1, 2):
        planner = Planner(graph, CONFIG, most)
        plan = planner.plan()
        assert plan
        assert [segment.begin for segment in plan] == [0, *(segment.end for segment in plan[:-1])]
        assert plan[-1].end == len(graph.operations)
        assert not most or all(segment.end - segment.begin <= most for segment in plan)


def test_a_segment_that_is_refused_is_tried_in_more_bands() -> None:
    graph = load_graph("gemm:4096x64x64")
    planner = Planner(graph, load_config("chip4x16"))
    counts = []
    for _ in range(5):
        (segment,) = planner.plan() or ()
        counts.append(len(segment.grid))
        planner.refuse(segment, 0)
    assert counts == sorted(set(counts))
    # A position by itself is the least.
    small = Planner(load_graph("gemm:3x8x8"), CONFIG)
    while plan := small.plan():
        small.refuse(plan[0], 0)
    assert small.plan() is None


@pytest.mark.parametrize("seed", [*range(4), 390])
def test_a_segment_that_was_refused_is_in_no_later_plan(seed: int) -> None:
    planner = Planner(cut_graph(seed), CONFIG, 3)
    refused = []
    for turn in range(8):
        plan = planner.plan()
        if plan is None:
            break
        parts = [(segment.begin, segment.end, segment.grid) for segment in plan]
        assert not {*parts} & {*refused}
        segment = plan[turn % len(plan)]
        refused.append((segment.begin, segment.end, segment.grid))
        planner.refuse(segment, segment.end - 1)


def read_together(tiles: int) -> Graph:
    """Two 1x1 convolutions to so many column tiles in all, and one that reads both."""
    channels, shape = tiles // 2 * CONFIG.array.cols, {"height": 1, "width": 2}
    firsts = [
        Linear(name, (Operand(("in",), Layer(name=name, channels=4, outputs=channels, **shape)),)) for name in ("one", "other")
    ]
    last = Linear("last", (Operand(("one", "other"), Layer(name="last", channels=2 * channels, outputs=4, **shape)),))
    return Graph("wide", {"in": (1, 1, 2, 4)}, (*firsts, last))


def test_more_column_tiles_than_there_are_parameter_sets_are_not_read_in_their_segment() -> None:
    assert CONFIG.post is not None
    sets = CONFIG.post.parameter_sets * CONFIG.memory.banks
    assert [segment.end for segment in Planner(read_together(sets // 2), CONFIG).plan() or ()] == [3]
    assert len(Planner(read_together(sets + 2), CONFIG).plan() or ()) == 2


def test_how_many_column_tiles_are_read_together() -> None:
    assert [each.read_with for each in lower_graph(read_together(12), CONFIG)] == [12, 12, 0]
    # Part of a column tile is one.
    one = Linear("one", (Operand(("in",), Layer(name="one", height=1, width=1, channels=4, outputs=2 * CONFIG.array.cols)),))
    layer = Layer(name="part", height=1, width=1, channels=3, outputs=4)
    part = Linear("part", (Operand(("one",), layer, channels=(CONFIG.array.cols - 1, 3)),))
    graph = Graph("parts", {"in": (1, 1, 1, 4)}, (one, part))
    assert tiles_read(graph, part, CONFIG.array) == 2
    assert tiles_read(graph, one, CONFIG.array) == 0


def alike(count: int, outputs: int) -> Graph:
    """So many 1x1 convolutions of one input of 64 channels, each to so many outputs."""
    operations = [
        Linear(f"{number}", (Operand(("in",), Layer(name=f"{number}", height=1, width=60, channels=64, outputs=outputs)),))
        for number in range(count)
    ]
    return Graph("alike", {"in": (1, 1, 60, 64)}, tuple(operations))


def test_the_next_band_begins_with_the_weights_that_are_there() -> None:
    programs = compile_cut(alike(10, 16), CONFIG, BankPolicy())
    order = [index for program in programs for index in program.operations]
    assert order == [*range(10), *reversed(range(10))]
    bases = [{(item.place.bank, item.tile, item.step.unit): item.place.base for item in program.weights} for program in programs]
    assert bases[:10] == bases[:9:-1]


@pytest.mark.parametrize("side", [12, 20])
def test_what_is_loaded_for_one_reader_serves_the_next(side: int) -> None:
    """A residual finds its tensor where the convolution of it has it, with a halo."""
    programs = compile_cut(with_residual(side, 16), CONFIG, BankPolicy(), cut=2)
    readers = {
        (program.operation(item.operation).name, program.unit(item).source)
        for program in programs
        for item in program.external_units
    }
    assert {reader for reader, source in readers if source == "first"} == {"around"}
    assert {name for program in programs for name in (program.operation(index).name for index in program.operations)} == {
        "first",
        "around",
        "sum",
    }


def test_all_that_is_stored_has_parameter_sets() -> None:
    """More column tiles than one post-processor has sets are on several pods."""
    assert CONFIG.post is not None
    graph = alike(3, 4 * (CONFIG.post.parameter_sets + 5))
    assert {index for program in compile_cut(graph, CONFIG, BankPolicy()) for index in program.operations} == {0, 1, 2}


def test_what_is_compiled_is_said() -> None:
    said: list[tuple[int, int, str]] = []
    compile_cut(random_graph(300), CONFIG, BankPolicy(), cut=1, progress=lambda *now: said.append(now))
    count = len(random_graph(300).operations)
    assert said[0] == (0, count, "plan 1")
    assert any(now.startswith(f"plan 1, segment {count} of {count}, band 1 of ") for _, _, now in said)
    assert all(done <= of == count for done, of, _ in said)


def test_what_fits_is_not_cut() -> None:
    programs = compile_cut(random_graph(21), CONFIG, BankPolicy())
    assert not any(program.corners or program.spilled for program in programs)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_what_is_seen_enlarged_is_of_the_same_segment(most: int) -> None:
    graph = with_copies_to_upsample(load_graph("unet_16,width=4,depth=2,up=nearest"), 4)
    planner = Planner(graph, CONFIG, most)
    segments = planner.plan()
    assert segments
    of = {graph.operations[at].name: number for number, each in enumerate(segments) for at in range(each.begin, each.end)}
    enlarged = [
        (operation.name, source)
        for operation in graph.operations
        for operand in operation.operands
        for source in operand.sources
        if operand.upsampling(source) != Upsampling()
    ]
    assert len(enlarged) == 2
    assert all(of[reader] == of[source] for reader, source in enlarged)


def test_what_is_stored_is_not_seen_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that forgets it is found when its bands are lowered."""
    monkeypatch.setattr(Planner, "_joined", lambda self: [])
    sentence = r"^up1_upconv sees up1_upconv/bottom_conv2 enlarged, which is stored: nobody enlarges what is loaded$"
    with pytest.raises(ValueError, match=sentence):
        compile_cut(load_graph("unet_16,width=4,depth=1,up=nearest"), CONFIG, BankPolicy(), cut=1)


def test_bands_of_tensors_of_several_sizes_stay_together() -> None:
    """Four rows of 64 and one of 16 in 16 bands; in 64, all of the rows of 16 would be those of the first 16 of 64."""
    shapes = [(1, 64, 64, 4), (1, 16, 16, 4)]
    assert not are_apart(Grid(1, 16), shapes)
    assert not are_apart(Grid(1, 4, 8), shapes)
    assert are_apart(Grid(1, 64), shapes)
    # 7 of 64, and 2 of 16, which are 8 of 64: the last of 10 begins at 63, or at 72.
    assert are_apart(Grid(1, 10), shapes)
    assert are_apart(Grid(1, 1, 10), shapes)
    assert not are_apart(Grid(1, 64), shapes[:1])


def test_bands_that_are_alike_are_compiled_once() -> None:
    programs = compile_cut(load_graph("gemm:2000x8x8"), CONFIG, BankPolicy())
    assert len(programs) > len({id(program.streams) for program in programs})


def test_what_fits_in_no_bands_is_named() -> None:
    graph, config = load_graph("gemm:4x3000x4"), CONFIG
    sentence = r"^gemm:4x3000x4: a column tile has 3,000 words of weights, 1,976 more than all W banks of chip2x4 hold \(1,024\)$"
    with pytest.raises(WorkloadError, match=sentence):
        compile_cut(graph, config, BankPolicy())


def demanded(graph: Graph, cut: int = 1) -> None:
    """Each word that an epoch loads was stored in its manager's channel by an earlier one, and no word twice."""
    programs = compile_cut(graph, CONFIG, BankPolicy(), cut=cut)
    per_manager, rows = CONFIG.nodes_per_manager, CONFIG.array.rows
    views = stored_views(graph, CONFIG)
    shapes = graph.inputs | {each.name: views.get(each.name, AS_IT_IS).of(each.output) for each in graph.operations}
    computed = graph.inputs | {each.name: each.output for each in graph.operations}
    there = {name: np.zeros((CONFIG.managers, -(-shape[3] // rows), *shape[:3]), int) for name, shape in shapes.items()}
    seen = Demands(shapes, CONFIG, (), views)
    for program in programs:
        wanted = Demands(shapes, CONFIG, (), views)
        wanted.add(program)
        seen.add(program)
        for name in shapes:
            if name in graph.inputs:
                continue
            whole = tuple((0, size) for size in computed[name][:3])
            for request in wanted.requests(name, whole, (0, 0, 0)):  # type: ignore[arg-type]
                mask = there[name][request.nodes[0] // per_manager, request.block]
                assert (mask[tuple(slice(*span) for span in request.box)] == 1).all(), name
        for item in program.spilled:
            name = program.operation(item.operation).name
            image, row, column = program.corners[name]
            corner = image, row * item.seen.rows, column * item.seen.columns
            spans = [slice(a + by, b + by) for (a, b), by in zip(item.box, corner, strict=True)]
            there[name][item.place.bank // per_manager, item.block][tuple(spans)] += 1
    for name in graph.outputs:
        assert (there[name].sum(axis=0) > 0).all()


def test_what_is_seen_interleaved_is_stored_so_where_it_is_loaded() -> None:
    graph = load_graph("unet_16,width=4,depth=2")
    assert list(stored_views(graph, CONFIG)) == ["up2_upconv", "up1_upconv"]
    demanded(graph)


def test_a_skip_connection_stays_where_it_ends_in_one_band() -> None:
    """Up to the first reader behind it there would be no room for what that leaves: with one more, that stays as well."""
    planner = Planner(load_graph("unet_256"), load_config("chip16x32"))
    number = {operation.name: at for at, operation in enumerate(planner.operations)}
    begin, end = number["down3_conv1"], number["up3_conv2"] + 1
    costs = _Whole(planner, begin).costs(end)
    assert end - 1 not in costs
    assert end in costs


@pytest.mark.parametrize("seed", range(8))
def test_what_is_loaded_was_stored_where_it_is_loaded(seed: int) -> None:
    demanded(random_graph(300 + seed))
    demanded(cut_graph(seed), cut=2)


def test_least_bytes_by_hand() -> None:
    # 64 x 64 inputs, 64 x 32 weights, 64 x 32 outputs.
    found = least_bytes(load_graph("gemm:64x64x32"), CONFIG)
    assert (found.network, found.spilled, found.total) == (8192, 0, 8192)
    graph = cut_graph(4)
    roomy = dataclasses.replace(CONFIG, memory=dataclasses.replace(CONFIG.memory, x_words=1 << 16, p_words=1 << 16))
    assert least_bytes(graph, roomy).spilled == 0 < least_bytes(graph, CONFIG).spilled
    # Two tensors of 4,800 bytes, in 4 X banks of 256 words and as many P banks of 255, of 4 numbers: what is beyond goes and comes.
    assert least_bytes(with_residual(20, 12), CONFIG).spilled == 2 * (9600 - 4 * 4 * (256 + 255))
