"""The exact model of several chips: chips that are alike are computed once, and all figures are those of each by itself."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import pytest

from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions
from podweave.compiler.compile_system import compile_alike, compile_system
from podweave.golden.cycle.accelerator.run import RunFigures
from podweave.golden.cycle.link.ring import RingModel
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import AcceleratorRun, Prediction
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import chip_walk, link_geometry, predict_system
from podweave.spec.presets import load_config

EVEN = "llama_128_8_4_192_2,rows=2,context=16", 4
UNEVEN = "llama_112_6_3_96,head=16,rows=1,context=16", 3
"""14 words of sums, which are 4, 5 and 5 for each chip."""


def networks_of(workload: str, chips: int) -> tuple[CompiledNetwork, ...]:
    graph, config = load_graph(workload), load_config("llm8x16")
    assert isinstance(graph, RowGraph)
    constants = with_scale_bits(random_row_parameters(graph, with_weights=False), config.scale_bits)
    return compile_system(partition(graph, constants, chips), config, CompileOptions(from_memory=True, check="never"))


def each_by_itself(
    networks: Sequence[CompiledNetwork], timing: HbmTiming, link: LinkTiming, starts: Sequence[int], **options: bool
) -> list[Prediction]:
    """With as many runs and links as there are chips."""
    runs = [AcceleratorRun(network, timing, **options) for network in networks]
    steps = [run.steps() for run in runs]
    ring = RingModel(
        link_geometry(networks[0].config), [link.of_link(i).rate for i in range(len(runs))], [start + 1 for start in starts]
    )
    if len(ring.links) == 1:
        ring.links = [copy.deepcopy(ring.links[0]) for _ in runs]
    begins, found = [next(each) for each in steps], []
    totals = [dict.fromkeys(("LINK_SENT", "LINK_RECEIVED", "WAIT_NEIGHBOUR"), 0) for _ in runs]
    waits: list[list[int]] = [[] for _ in runs]
    for programs in zip(*(network.collectives for network in networks), strict=True):
        figures = ring.collective(
            [chip_walk(each) for each in programs], [at + start for at, start in zip(begins, starts, strict=True)]
        )
        ends: list[RunFigures] = []
        for i, own in enumerate(figures):
            waits[i].append(own.waits)
            totals[i]["LINK_SENT"] += own.sent
            totals[i]["LINK_RECEIVED"] += own.received
            totals[i]["WAIT_NEIGHBOUR"] += own.waits
            try:
                begins[i] = steps[i].send(own.over - starts[i])
            except StopIteration as end:
                ends.append(end.value)
    for run, end, total, of_chip in zip(runs, ends, totals, waits, strict=True):
        prediction = run.prediction(end)
        collectives = [epoch for epoch in prediction.timeline if epoch["collective"]]
        for epoch, waited in zip(collectives, of_chip, strict=True):
            epoch["for_neighbour"] = waited
        found.append(dataclasses.replace(prediction, counters=prediction.counters | total))
    return found


def assert_equal(found: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    for one, other in zip(found, expected, strict=True):
        for field in dataclasses.fields(Prediction):
            value, of_other = getattr(one, field.name), getattr(other, field.name)
            if field.name == "nodes":
                assert {name: each.tolist() for name, each in value.items()} == {
                    name: each.tolist() for name, each in of_other.items()
                }
            elif field.name in ("ahead", "others"):
                assert [each.tolist() for each in value] == [each.tolist() for each in of_other]
            else:
                assert value == of_other, field.name


@pytest.mark.parametrize(
    ("ring", "link", "starts", "computed"),
    [
        pytest.param(EVEN, {}, (0, 0, 0, 0), 1, id="alike"),
        pytest.param(EVEN, {"latency": 200, "beat_sixteenths": 70}, (5, 5, 5, 5), 1, id="alike-slow"),
        pytest.param(EVEN, {}, (0, 0, 0, 900), 4, id="skew"),
        pytest.param(EVEN, {"jitter": 9}, (0, 0, 0, 0), 4, id="jitter"),
        pytest.param(UNEVEN, {}, (0, 0, 0), 3, id="uneven"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"beneath": False}, {"prefetch": False}], ids=["on", "apart", "off"])
def test_figures_are_those_of_each_chip_by_itself(
    monkeypatch: pytest.MonkeyPatch,
    ring: tuple[str, int],
    link: dict[str, int],
    starts: tuple[int, ...],
    computed: int,
    options: dict[str, bool],
) -> None:
    networks, timing, links = networks_of(*ring), HbmTiming(latency=60), LinkTiming(**link)
    expected = each_by_itself(networks, timing, links, starts, **options)
    runs: list[AcceleratorRun] = []
    steps = AcceleratorRun.steps
    monkeypatch.setattr(AcceleratorRun, "steps", lambda self: runs.append(self) or steps(self))  # type: ignore[func-returns-value]
    assert_equal(predict_system(networks, timing, links, starts=starts, **options), expected)
    assert len(runs) == computed


def test_chips_part_when_their_collectives_do() -> None:
    """Of four alike chips the last starts later: not one of their figures is that of another by mistake."""
    networks = networks_of(*EVEN)
    found = predict_system(networks, HbmTiming(), LinkTiming(), starts=(0, 0, 0, 700))
    assert len({(chip.cycles, chip.counters["WAIT_NEIGHBOUR"]) for chip in found}) > 2


def test_chips_that_do_not_load_the_same_are_apart() -> None:
    """One bit of one descriptor: another number of words."""
    first, *others = networks_of(*EVEN)
    image = first.memory
    ring = image.prefetch[1]
    longest = int(ring.fields["n0"].argmax())
    shorter = ring.fields["n0"].copy()
    shorter[longest] -= 1
    rings = image.prefetch[0], dataclasses.replace(ring, fields=ring.fields | {"n0": shorter}), *image.prefetch[2:]
    networks = (dataclasses.replace(first, image=dataclasses.replace(image, prefetch=rings)), *others)
    found = predict_system(networks, HbmTiming(), LinkTiming())
    assert_equal(found, each_by_itself(networks, HbmTiming(), LinkTiming(), (0, 0, 0, 0)))
    assert found[0].counters["PREFETCH_BEATS"] < found[1].counters["PREFETCH_BEATS"] == found[2].counters["PREFETCH_BEATS"]


@pytest.mark.parametrize(
    ("workload", "chips", "same"),
    [
        (*EVEN, True),
        ("llama_128_8_4_192,rows=1,context=40", 2, True),
        ("llama_576_9_3_1536,rows=2,context=64", 3, True),
        ("gated_512_256,rows=3", 8, True),
        (*UNEVEN, False),
    ],
)
def test_of_alike_chips_one_is_compiled(workload: str, chips: int, same: bool) -> None:
    """What tells programs of chips apart that are compiled each by itself changes no figure."""
    graph, config, options = load_graph(workload), load_config("llm8x16"), CompileOptions(from_memory=True, check="never")
    assert isinstance(graph, RowGraph)
    shares = partition(graph, with_scale_bits(random_row_parameters(graph), config.scale_bits), chips)
    found, each = compile_alike(shares, config, options), compile_system(shares, config, options)
    assert len({id(network) for network in found}) == (1 if same else chips)
    timing, link = HbmTiming(), LinkTiming(latency=70, beat_sixteenths=30)
    assert len({AcceleratorRun(network, timing).identity() for network in each}) == 1
    assert_equal(predict_system(found, timing, link), predict_system(each, timing, link))
    assert {len(program.sends["n0"]) for network in each for program in network.collectives} != {1}


def test_chips_that_do_not_have_the_same_collectives_are_refused() -> None:
    one, two = networks_of(EVEN[0], 2)
    ring = [epoch for epoch in two.epochs if isinstance(epoch, CollectiveProgram)]
    fewer = dataclasses.replace(two, epochs=[epoch for epoch in two.epochs if epoch is not ring[-1]])
    sentence = f"chips of a ring have the same collectives, got {len(ring)}, {len(ring) - 1} of them"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        predict_system((one, fewer), HbmTiming(), LinkTiming())
