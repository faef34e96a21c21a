"""compiler.compile_system, executed from memory: linear operations on chips of a ring give what the whole graph does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.compile_system import compile_system
from podweave.compiler.jobs import ProgramError
from podweave.compiler.memory.shared import SharedMemory
from podweave.compiler.rows.check.collectives import check_ring
from podweave.fuzz.random_rows import random_rows, two_at_once
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, with_scale_bits
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import Partition, partition
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import Format, RowLinear
from podweave.runs.jobs import Job
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.links import NO_COLLECTIVE
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from tests.compiler.collective.ring_machine import run_system
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.uneven_chips import uneven_job


def ringed(config: ChipConfig, jobs: int = 256) -> ChipConfig:
    return dataclasses.replace(config, links=LinksConfig(flit_bits=32, jobs=jobs))


CHIPS = {
    "2 nodes": ringed(small_chip(), jobs=9),
    "4 nodes": ringed(small_chip().replace(pods=4, banks=4), jobs=12),
    "llm8x16": ringed(load_config("llm8x16")),
}


def linears(rows: int, chips: int, width: int = 12) -> RowGraph:
    """Two linear operations that are cut, each with one behind it that adds up."""
    operations = (
        RowLinear("a", rows, source="x", width=10, outputs=4 * chips),
        RowLinear("b", rows, source="a", width=4 * chips, outputs=width),
        RowLinear("c", rows, source="b", width=width, outputs=7 * chips, form=Format.INT8),
        RowLinear("d", rows, source="c", width=7 * chips, outputs=18, form=Format.WIDE, add="r"),
    )
    inputs = {"x": (1, 1, rows, 10), "r": (1, 1, rows, 18)}
    return verify_rows(RowGraph("linears", inputs, operations, ("b", "d"), formats={"x": Format.INT16, "r": Format.WIDE}))


def compiled(graph: RowGraph, config: ChipConfig, chips: int, seed: int = 0) -> tuple[Partition, Constants, list[CompiledNetwork]]:
    constants = with_scale_bits(random_row_parameters(graph, seed), config.scale_bits)
    found = partition(graph, constants, chips)
    return found, constants, list(compile_system(found, config, CompileOptions(from_memory=True, check="always")))


@pytest.mark.parametrize("eager", [False, True], ids=["by epoch", "as early as can be"])
@pytest.mark.parametrize(("name", "chips"), [("2 nodes", 3), ("4 nodes", 4), ("llm8x16", 2)])
def test_chips_give_what_the_whole_does(name: str, chips: int, eager: bool) -> None:
    for seed, rows in enumerate((1, 3)):
        graph = linears(rows, chips)
        found, constants, networks = compiled(graph, CHIPS[name], chips, seed)
        assert found.split == {"a", "c"}
        inputs = random_row_inputs(graph, seed)
        whole, joined = evaluate(graph, constants, inputs), run_system(networks, found, inputs, eager=eager, seed=seed)
        assert joined.keys() == {"b", "d"}
        for tensor, values in joined.items():
            assert np.array_equal(values, whole[tensor]), (tensor, rows)


def test_sums_that_do_not_fit_at_once_are_reduced_one_after_the_other() -> None:
    # Jobs go around the end of their stores.
    config = ringed(small_chip().replace(p_words=128), jobs=6)
    graph = linears(9, 3, width=40)
    found, constants, networks = compiled(graph, config, 3)
    names = [each.operation for each in networks[0].collectives]
    assert names == ["b", "b", "b", "d"]
    assert [each.id for each in networks[0].collectives] == [0, 1, 2, 3]
    assert sum(len(each.sends["n0"]) for each in networks[0].collectives) > 6
    inputs = random_row_inputs(graph)
    whole, joined = evaluate(graph, constants, inputs), run_system(networks, found, inputs, eager=True)
    assert all(np.array_equal(joined[name], whole[name]) for name in ("b", "d"))


def test_sums_of_a_collective_are_scaled_in_as_many_passes_as_there_are_sets_for() -> None:
    config = ringed(small_chip().replace(parameter_sets=8))
    graph = linears(2, 2, width=40)
    found, constants, networks = compiled(graph, config, 2)
    assert [each.operation for each in networks[0].collectives] == ["b", "d"]
    inputs = random_row_inputs(graph)
    whole, joined = evaluate(graph, constants, inputs), run_system(networks, found, inputs, eager=True)
    assert all(np.array_equal(joined[name], whole[name]) for name in ("b", "d"))


@pytest.mark.parametrize(
    ("name", "chips"),
    [("gated_32_48,rows=3", 2), ("llama_32_4_2_48_2,rows=2,context=9", 2), ("encoder_24_3_48,rows=4", 3), ("bert_tiny,rows=2", 2)],
)
def test_what_models_are_made_of_keeps_the_rules(name: str, chips: int) -> None:
    graph = load_graph(name)
    assert isinstance(graph, RowGraph)
    _, _, networks = compiled(graph, CHIPS["llm8x16"], chips)
    for network in networks:
        assert network.checked
        epochs = [number for number, each in enumerate(network.epochs) if isinstance(each, CollectiveProgram)]
        assert network.memory.first_collective == epochs[0]
        reduced = {each.name for each in network.graph.operations if isinstance(each, RowLinear) and each.reduced}
        assert {each.operation for each in network.collectives} == reduced


def test_jobs_and_weights_are_loaded_beneath_a_collective() -> None:
    graph = load_graph("llama_32_4_2_48_2,rows=1,context=9")
    assert isinstance(graph, RowGraph)
    _, _, networks = compiled(graph, CHIPS["llm8x16"], 2)
    network = networks[0]
    collectives = [number for number, each in enumerate(network.epochs) if isinstance(each, CollectiveProgram)]
    ring = network.memory.prefetch[0].fields
    for select in (HostSelect.SEND_STORE, HostSelect.RECEIVE_STORE):
        mine = (ring["select"] == select) & (ring["kind"] == DescriptorKind.LOAD)
        assert sorted(set(ring["tag"][mine].tolist())) == collectives
        assert not ring["unit"][mine].any()
    # Behind each but the last, weights are loaded that need not wait until it is over; and everything once.
    for number in collectives[:-1]:
        rings = [each.fields for each in network.memory.prefetch]
        assert any(((of["select"] == HostSelect.W) & (of["tag"] > number) & (of["after"] <= number)).any() for of in rings)
    weights = [words for each in network.rows for words in each.words if words.select is HostSelect.W and words.tensor is None]
    tiles = [tile.tobytes() for words in weights for tile in np.split(words.content, len(words.content) // 16)]
    assert len(set(tiles)) == len(tiles) > 20


def test_what_cannot_be_compiled() -> None:
    graph = linears(2, 2)
    config = CHIPS["2 nodes"]
    found = partition(graph, random_row_parameters(graph), 2)
    share = found.shares[0]
    with pytest.raises(WorkloadError, match=r"^b: its sums are added over several chips, and it is compiled for one$"):
        compile_network(share.graph, config, share.constants, CompileOptions(from_memory=True))
    with pytest.raises(WorkloadError, match=r"^b: its sums are added over 2 chips, and rows2x4 has no table \[links\]$"):
        compile_system(found, small_chip())
    with pytest.raises(WorkloadError, match=r"linears: the rank of one of 2 chips is 0 to 1, got 2$"):
        compile_network(share.graph, config, share.constants, CompileOptions(from_memory=True, chips=2, rank=2))
    memory = SharedMemory(config, 1 << 20)
    with pytest.raises(ValueError, match=r"^chips do not share a memory: give one for each of them as shared$"):
        compile_system(found, config, CompileOptions(from_memory=True, shared=memory))
    wide = linears(5, 7, width=30)
    with pytest.raises(WorkloadError, match=r"^b: its collective takes \d+ jobs, \d+ more than jobs \(4\) of \[links\]$"):
        compile_system(partition(wide, with_scale_bits(random_row_parameters(wide), config.scale_bits), 7), ringed(small_chip(), 4))


def test_programs_of_several_lengths_share_the_memory_of_each_chip() -> None:
    config = CHIPS["2 nodes"]
    memories = [SharedMemory(config, 1 << 18) for _ in range(2)]
    sizes = []
    for rows in (1, 2):
        graph = linears(rows, 2)
        found = partition(graph, with_scale_bits(random_row_parameters(linears(1, 2)), config.scale_bits), 2)
        networks = compile_system(found, config, CompileOptions(from_memory=True), shared=memories)
        assert all(network.memory.channel_bytes == 1 << 18 for network in networks)
        sizes.append([sum(memory.sizes) for memory in memories])
    # Weights are there once.
    assert all(second < 2 * first for first, second in zip(*sizes, strict=True))


def test_a_chip_alone_has_no_collective() -> None:
    graph = load_graph("gated_32_48")
    constants = with_scale_bits(random_row_parameters(graph), CHIPS["llm8x16"].scale_bits)  # type: ignore[arg-type]
    network = compile_network(graph, CHIPS["llm8x16"], constants, CompileOptions(from_memory=True))
    assert network.collectives == ()
    assert network.memory.first_collective == NO_COLLECTIVE


@pytest.mark.parametrize("make", [random_rows, two_at_once])
def test_random_graphs_keep_the_rules(make: Callable[[int], Job]) -> None:
    reduced = 0
    for seed in range(40):
        job = make(seed)
        for chips in (2, 3):
            try:
                found = partition(job.graph, with_scale_bits(job.constants, CHIPS["2 nodes"].scale_bits), chips)
            except WorkloadError:
                continue
            config = CHIPS["2 nodes" if seed % 2 else "4 nodes"]
            networks = compile_system(found, config, CompileOptions(from_memory=True, check="always"))
            reduced += len(networks[0].collectives)
    assert reduced > 8


def test_epochs_of_chips_are_the_same_whatever_sets_are_equal() -> None:
    """Engines know a collective by the number of its epoch."""
    for chips in (2, 3):
        config = CHIPS["2 nodes"]
        job = uneven_job(chips, 4, config.scale_bits)
        found = partition(job.graph, job.constants, chips)
        # Each by itself, chips do not end epochs where others do.
        alone = [
            compile_network(share.graph, config, share.constants, CompileOptions(from_memory=True, chips=chips, rank=rank))
            for rank, share in enumerate(found.shares)
        ]
        assert len({tuple(program.begins for program in network.rows) for network in alone}) > 1
        with pytest.raises(ProgramError, match=r"^collective \d is in different epochs of chips: \d+, \d+"):
            check_ring([network.epochs for network in alone])
        told: list[str] = []
        networks = compile_system(found, config, CompileOptions(from_memory=True, check="always"), progress=told.append)
        assert {text.split(":")[0] for text in told if "again" in text} <= {
            f"chip {rank} again, as another ends epochs elsewhere" for rank in range(chips)
        }
        assert any("again" in text for text in told)
        assert len({tuple(map(type, network.epochs)) for network in networks}) == 1
        assert len({tuple(program.begins for program in network.rows) for network in networks}) == 1
        assert all(len(network.epochs) >= len(own.epochs) for network, own in zip(networks, alone, strict=True))
        assert min(len(network.epochs) for network in networks) > min(len(own.epochs) for own in alone)
