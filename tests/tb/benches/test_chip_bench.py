"""Compiled graphs through whole chips in RTL: bit-exact, predicted cycles and counters, and checks that see what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from numpy.typing import NDArray

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import ChipProgram
from podweave.compiler.compile_network import compile_network
from podweave.compiler.pod.executor import ProgramError
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph, Node, Operand, Window
from podweave.ir.layers import Layer, WorkloadError, gemm
from podweave.predict.chip import predict
from podweave.runs import chip as chip_runs
from podweave.runs.chip import epoch_of, run_networks
from podweave.runs.jobs import Job
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig
from podweave.tb.benches.chip_bench import ChipBench
from tests.compiler.chip.test_epoch_scheduler import graphs
from tests.rtl.chip.test_chip import CONFIGS as BLOCK_CONFIGS

BASE = ChipConfig(
    name="chip",
    pods=2,
    pod=PodConfig(array=ArrayConfig(rows=2, cols=1), time_width=20),
    memory=MemoryConfig(banks=2, x_words=4096, w_words=4096, p_words=4096),
    network=NetworkConfig(),
    post=PostConfig(parameter_sets=64),
    program=ProgramConfig(load_jobs=8192, stream_jobs=8192, post_jobs=8192),
)
# The smallest chip, of which faulty ones are built too: every sum over more than 2 products is made in a P bank.
TINY = BASE.replace(planes=2)
# Small builds, and those that the tests of rtl.chip make anyway.
FAST: dict[str, ChipConfig] = {
    "2x(2x1)": TINY,
    **{name: BLOCK_CONFIGS[name] for name in ("2x4", "4x(4x8), 2 planes", "4x(8x4), 2 planes, crossbar")},
    "8x(2x2), 2 planes": BASE.replace(pods=8, banks=8, cols=2, planes=2, pipeline=2, accumulator_rows=8),
}
CAMPAIGN: dict[str, ChipConfig] = {
    "32x(1x1)": BLOCK_CONFIGS["32x(1x1)"],
    "2x(4x8)": BASE.replace(rows=4, cols=8, group_rows=2, group_cols=4, accumulator_rows=64),
    "4x(4x4)": BASE.replace(pods=4, banks=4, rows=4, cols=4, pipeline=2, accumulator_rows=24),
    "4x(1x2), 4 planes": BASE.replace(pods=4, banks=4, rows=1, cols=2, planes=4, queue_depth=2, load_queue_depth=2),
    "8x(8x4)": BASE.replace(pods=8, banks=8, rows=8, cols=4, group_rows=4, group_cols=4, pipeline=3, accumulator_rows=16),
    "8x(4x4), crossbar": BASE.replace(pods=8, banks=8, rows=4, cols=4, kind="crossbar", pipeline=2, planes=2),
    "16x(4x4), 2 planes": BASE.replace(pods=16, banks=16, rows=4, cols=4, planes=2, accumulator_rows=32),
    "16x(4x1)": BASE.replace(pods=16, banks=16, rows=4, cols=1, pipeline=2, psum_width=24),
}
CONFIGS = FAST | CAMPAIGN


@functools.cache
def bench_of(key: str) -> ChipBench:
    return ChipBench.of(CONFIGS[key], optimize="build", random_initial_state=True)


def conv(name: str, sources: str | tuple[str, ...], shape: tuple[int, int, int, int], outputs: int, **options: Any) -> Operand:
    batch, height, width, channels = shape
    value = options.pop("pad_value", 0)
    layer = Layer(name=name, batch=batch, height=height, width=width, channels=channels, outputs=outputs, **options)
    return Operand((sources,) if isinstance(sources, str) else sources, layer, value)


SAME: dict[str, Any] = {"kernel": (3, 3), "padding": ((1, 1), (1, 1))}


def small_network() -> Graph:
    """A residual, a depthwise layer, a max-pool with padding, a concatenation, a mean and a classifier, on two images."""
    shape, pads = (2, 4, 4, 6), ((1, 1), (1, 1))
    nodes = (
        Node("first", (conv("first", "in", (2, 4, 4, 3), 6, **SAME),)),
        Node("block", (conv("block", "first", shape, 6, **SAME), conv("side", "first", shape, 6, groups=6))),
        Node("depthwise", (conv("depthwise", "block", shape, 6, groups=6, **SAME),)),
        Node(
            "pool",
            (conv("pool", "depthwise", shape, 6, groups=6, padding=pads, pad_value=-128),),
            Window("max", (3, 3), (2, 2)),
            identity=True,
        ),
        Node("join", (conv("join", ("pool", "pool"), (2, 2, 2, 12), 5),)),
        Node("mean", (conv("mean", "join", (2, 2, 2, 5), 5, groups=5),), Window("sum", (2, 2), (1, 1)), identity=True),
        Node("classes", (conv("classes", "mean", (2, 1, 1, 5), 3),)),
    )
    return Graph("small", {"in": (2, 4, 4, 3)}, nodes)


def windows() -> Graph:
    """Reductions of what is multiplied, and a mean; small enough for every bank."""
    whole = Window("sum", (2, 2), (1, 1))
    nodes = (
        Node("most", (conv("most", "in", (1, 4, 4, 3), 3, groups=3, **SAME),), Window("max", (2, 2), (2, 2))),
        Node("all", (conv("all", "most", (1, 2, 2, 3), 4),), whole),
        Node("mean", (conv("mean", "most", (1, 2, 2, 3), 3, groups=3),), whole, identity=True),
    )
    return Graph("windows", {"in": (1, 4, 4, 3)}, nodes)


def gemm_chain() -> Graph:
    layers = [gemm(m, k, n, name=f"gemm{i}") for i, (m, k, n) in enumerate([(13, 11, 9), (13, 9, 10), (13, 10, 2)])]
    sources = ["in", *(layer.name for layer in layers)]
    nodes = tuple(Node(layer.name, (Operand((source,), layer),)) for source, layer in zip(sources, layers, strict=False))
    return Graph("gemms", {"in": layers[0].input_shape}, nodes)


def job_of(graph: Graph, seed: int = 0) -> Job:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    return Job(graph, Constants(random_parameters(graph, seed)), inputs)


@functools.cache
def drawn(count: int) -> tuple[Graph, ...]:
    """Random graphs, the same in every run, each under a name of its own."""
    found: list[Graph] = []

    @settings(
        derandomize=True,
        deadline=None,
        max_examples=count,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(graphs())
    def collect(graph: Graph) -> None:
        found.append(dataclasses.replace(graph, name=f"random{len(found)}"))

    collect()
    return tuple(found)


def fitting(config: ChipConfig, candidates: Iterable[Graph]) -> list[Job]:
    """Those graphs that fit the banks and stores of a configuration, with data."""
    jobs = []
    for seed, graph in enumerate(candidates):
        job = job_of(graph, seed)
        try:
            compile_network(graph, config, job.constants)
        except WorkloadError:
            continue
        jobs.append(job)
    return jobs


def run(key: str, jobs: list[Job], bench: ChipBench | None = None, **options: Any) -> dict[str, Any]:
    """The report of `run_networks`; programs obey every rule."""
    report, _, networks = run_networks(jobs, CONFIGS[key], bench=bench or bench_of(key), progress=lambda _: None, **options)
    for network in networks:
        check_chip(network.program)
    return report


def assert_exact(report: dict[str, Any], jobs: list[Job]) -> None:
    wrong = [row for row in report["networks"] if row["verdict"] != "pass"]
    for row in wrong:
        graph = next(job.graph for job in jobs if job.graph.name == row["network"])
        shown = {name: row.get(name) for name in ("first_mismatch", "cycles", "predicted_cycles", "counters_differing", "errors")}
        pytest.fail(f"{shown}\n{graph}")
    assert (report["verdict"], report["failure"]) == ("pass", None)
    assert [row["network"] for row in report["networks"]] == [job.graph.name for job in jobs]
    for row in report["networks"]:
        assert row["compared"] > 0
        assert row["cycles"] == row["predicted_cycles"]


def kinds(graph: Graph) -> Iterator[str]:
    """What there is in a graph."""
    for node in graph.nodes:
        layers = [operand.layer for operand in node.operands]
        yield from (["residual"] if len(layers) > 1 else [])
        for operand in node.operands:
            yield from (["concatenation"] if len(operand.sources) > 1 else [])
            yield from (["slice"] if operand.channels else [])
        for layer in layers:
            yield from (["stride"] if layer.stride != (1, 1) else [])
            yield from (["dilation"] if layer.dilation != (1, 1) else [])
            yield from (["padding"] if layer.padding != ((0, 0), (0, 0)) else [])
            yield from (["images"] if layer.batch > 1 else [])
            if not node.identity and layer.groups > 1:
                yield "depthwise" if layer.groups == layer.channels else "groups"
        if node.window:
            padded = layers[0].padding != ((0, 0), (0, 0))
            yield ("pool " if node.identity else "fused ") + node.window.reduce + (" padded" if node.identity and padded else "")


FAST_GRAPHS, CAMPAIGN_GRAPHS = 40, 300
KINDS = {
    *("residual", "concatenation", "slice", "stride", "dilation", "padding", "images", "depthwise", "groups"),
    *("pool max padded", "pool sum", "pool sum padded", "fused max", "fused sum"),
}


def random_jobs(key: str, count: int) -> list[Job]:
    jobs = fitting(CONFIGS[key], [small_network(), windows(), gemm_chain(), *drawn(count)])
    # What does not fit must not be all that the test is about.
    assert len(jobs) > count // 3
    assert {kind for job in jobs for kind in kinds(job.graph)} >= KINDS
    return jobs


@pytest.mark.parametrize("key", FAST)
def test_random_graphs(key: str) -> None:
    jobs = random_jobs(key, FAST_GRAPHS)
    assert_exact(run(key, jobs, seed=1), jobs)


@pytest.mark.campaign
@pytest.mark.parametrize("key", CONFIGS)
def test_random_graphs_campaign(key: str) -> None:
    jobs = random_jobs(key, CAMPAIGN_GRAPHS)
    assert_exact(run(key, jobs, seed=2), jobs)


@pytest.mark.parametrize("key", ["2x(2x1)", "8x(2x2), 2 planes"])
@pytest.mark.parametrize("partition", [0, 8])
def test_partitions(key: str, partition: int) -> None:
    jobs = [job_of(small_network()), job_of(gemm_chain())]
    assert_exact(run(key, jobs, partition=partition), jobs)


def test_host_port_gives_the_same_as_the_backdoor() -> None:
    jobs = fitting(TINY, [small_network(), *drawn(FAST_GRAPHS)[:12]])
    report = run("2x(2x1)", jobs, host="port")
    assert_exact(report, jobs)
    backdoor = run("2x(2x1)", jobs)
    assert_exact(backdoor, jobs)
    names = ("network", "mismatches", "compared", "cycles", "counters")
    first, second = ([{name: row[name] for name in names} for row in each["networks"]] for each in (report, backdoor))
    assert first == second


def test_second_run_with_other_inputs_needs_no_reset() -> None:
    """What an epoch leaves in banks, accumulators and weights is no part of the next one."""
    first, other = job_of(small_network()), job_of(gemm_chain(), 1)
    second = dataclasses.replace(first, inputs={name: np.roll(value, 7) ^ 85 for name, value in first.inputs.items()})
    jobs = [first, second, other, first, second]
    report, found, _ = run_networks(
        jobs, CONFIGS["8x(2x2), 2 planes"], bench=bench_of("8x(2x2), 2 planes"), progress=lambda _: None
    )
    assert_exact(report, jobs)
    assert len({row["cycles"] for row, job in zip(report["networks"], jobs, strict=True) if job is not other}) == 1
    np.testing.assert_array_equal(found[0]["classes"], found[3]["classes"])
    np.testing.assert_array_equal(found[1]["classes"], found[4]["classes"])
    assert (found[0]["classes"] != found[1]["classes"]).any()


def test_one_graph_with_other_tables_is_another_network() -> None:
    """Two jobs of one graph, whose activation tables and weights differ: each runs with its own."""
    first = job_of(small_network())
    held = {
        name: dataclasses.replace(values, bias=values.bias + 3, table=None if values.table is None else values.table[::-1].copy())
        for name, values in first.constants.items()
    }
    second = dataclasses.replace(first, constants=Constants(held))
    report, found, networks = run_networks(
        [first, second, first], CONFIGS["2x(2x1)"], bench=bench_of("2x(2x1)"), progress=lambda _: None
    )
    assert_exact(report, [first, second, first])
    assert networks[0] is networks[2] is not networks[1]
    assert (found[0]["classes"] != found[1]["classes"]).any()


def test_initial_state_changes_nothing() -> None:
    """Registers and memories begin with other random bits for each seed."""
    jobs = [job_of(small_network()), job_of(gemm_chain())]
    for seed in (1, 2, 3):
        assert_exact(run("2x(2x1)", jobs, seed=seed), jobs)


# Faults of the hardware.


def altered(module: str, pattern: str, replacement: str) -> Callable[[str], str]:
    """Replaces the only occurrence of ``pattern`` in the only module whose name begins with ``module``."""

    def alter(verilog: str) -> str:
        (found,) = re.finditer(rf"^module {module}\w* ?\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
        text, count = re.subn(pattern, replacement, found.group())
        assert count == 1
        return verilog[: found.start()] + text + verilog[found.end() :]

    return alter


@pytest.mark.parametrize(
    ("module", "pattern", "replacement", "what"),
    [
        # The words for bank 1 come from the wrong pod.
        ("write_butterfly_2_payload4", r"wants_1_0\[0\] \?", "wants_1_0[1] ?", "accumulators of first"),
        ("requantizer", r"(\[8:0\] \+ 1'h)1;", r"\g<1>0;", "outputs of classes|accumulators of block"),
        # A word to be added is stored.
        ("p_bank", r"\+ old;", "+ 32'd0;", "accumulators of first"),
    ],
    ids=["switch", "requantizer", "bank"],
)
def test_fault_in_the_hardware_is_named(module: str, pattern: str, replacement: str, what: str) -> None:
    bench = ChipBench.of(TINY, optimize="build", random_initial_state=True, alter=altered(module, pattern, replacement))
    report = run("2x(2x1)", [job_of(small_network())], bench)
    (row,) = report["networks"]
    assert (report["verdict"], row["verdict"]) == ("fail", "fail")
    assert row["mismatches"] > 0
    place = r"image \d, row \d, column \d, channel \d: expected -?\d+, got -?\d+"
    assert re.fullmatch(f"({what}), {place}", row["first_mismatch"])
    # Time is planned: wrong words take as long as right ones.
    assert row["cycles"] == row["predicted_cycles"]
    assert row["errors"] == []
    # What a switch sends elsewhere is counted there.
    assert module.startswith("write_butterfly") or row["counters_differing"] == []


# Programs that break a rule.


def moved(program: ChipProgram, table: str, job: int, field: str, value: int) -> ChipProgram:
    jobs = {name: values.copy() for name, values in getattr(program, table).items()}
    jobs[field][job] = value
    return dataclasses.replace(program, **{table: jobs})


def planted(program: ChipProgram, table: str, field: str, changes: list[int], pattern: str) -> tuple[ChipProgram, re.Match[str]]:
    """The first change of one job by which the first broken rule is that of ``pattern``, and what is said of it."""
    values = getattr(program, table)[field]
    for change in changes:
        for job in range(len(values)):
            if values[job] + change < 0:
                continue
            illegal = moved(program, table, job, field, int(values[job]) + change)
            try:
                check_chip(illegal)
            except ProgramError as error:
                found = re.search(pattern, str(error))
                if found:
                    return illegal, found
    raise AssertionError(f"no {table} with another {field} gives {pattern}")


BANKS = [1, -1, 2, -2, 4, -4]
NEAR = [d for step in range(1, 40) for d in (-step, step)]
WIRE = r"^({}) network, plane (\d), stage (\d), port (\d):"
MET = "network {0}, plane {1}: two words met at stage {2}, port {3}"


@pytest.mark.parametrize(
    ("table", "field", "changes", "pattern", "words"),
    [
        ("streams", "x_bank", BANKS, WIRE.format("X"), MET),
        ("loads", "w_bank", BANKS, WIRE.format("W"), MET),
        ("streams", "p_bank", BANKS, WIRE.format("P"), MET),
        ("posts", "x_bank", BANKS, WIRE.format("Y"), MET),
        (
            "streams",
            "start",
            NEAR,
            r"stream job \d+ \(pod (\d)[^:]*: starts before stream",
            r"pod {0}, time \d+: late_stream(, \w+)*",
        ),
        ("loads", "start", NEAR, r"load job \d+ \(pod (\d)[^:]*: starts before load", r"pod {0}, time \d+: late_load(, \w+)*"),
        (
            "posts",
            "start",
            NEAR,
            r"post job \d+ \(bank (\d)[^:]*: starts before post",
            r"post-processor {0}, time \d+: late(, \w+)*",
        ),
        ("posts", "start", NEAR, r"^P bank (\d): post job .* reads in cycle", r"bank {0}: (p_conflict, )?p_busy(, \w+)*"),
        # Routes that differ in the highest bit of the bank alone meet behind the last stage.
        (
            *("streams", "p_bank", [4, -4], r"^P bank (\d): stream job .* send a word each"),
            r"bank {0}: p_conflict|network P, plane \d: two words met at stage 2, port {0}",
        ),
        (
            *("streams", "x_bank", [4, -4], r"^X bank (\d): stream job .* ask for different words"),
            r"bank {0}: x_conflict|network X, plane \d: two words met at stage 2, port {0}",
        ),
    ],
    ids=["x_wire", "w_wire", "p_wire", "y_wire", "late_stream", "late_load", "late_post", "p_busy", "p_bank", "x_bank"],
)
def test_illegal_programs_are_refused_by_the_hardware(table: str, field: str, changes: list[int], pattern: str, words: str) -> None:
    """What the checker of programs says is what the error registers say."""
    key = "8x(2x2), 2 planes"
    job = job_of(gemm_chain())
    network = compile_network(job.graph, CONFIGS[key], job.constants)
    illegal, found = planted(network.program, table, field, changes, pattern)
    epoch = epoch_of(dataclasses.replace(network, programs=(illegal,)), job)
    done = bench_of(key).run([epoch] * 2, limits=[predict(network.program).cycles + 4096] * 2)
    assert len(done.epochs) == 1
    expected = words.format(*found.groups())
    assert any(re.fullmatch(expected, error) for error in done.epochs[0].errors), (expected, done.epochs[0].errors)


# Expectations that are wrong.


def exact_but(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[..., Any]) -> dict[str, Any]:
    """The row of the only network of a report; of all that is expected, only what ``name`` gives is ``wrong``."""
    right = getattr(chip_runs, name)
    monkeypatch.setattr(chip_runs, name, lambda *arguments: wrong(right(*arguments), *arguments))
    report = run("2x(2x1)", [job_of(small_network())])
    assert report["verdict"] == "fail"
    (row,) = report["networks"]
    assert row["verdict"] == "fail"
    return row


@pytest.mark.parametrize("bit", [0, 31])
def test_flipped_bit_of_an_accumulator_is_seen(monkeypatch: pytest.MonkeyPatch, bit: int) -> None:
    def flip(found: tuple[NDArray[np.int32], NDArray[np.int8]], node: Node, _: Parameters, __: Any) -> Any:
        sums, outputs = found[0].copy(), found[1]
        if node.name == "depthwise":
            sums.view(np.uint32)[1, 2, 3, 4] ^= np.uint32(1 << bit)
        return sums, outputs

    row = exact_but(monkeypatch, "evaluate_node", flip)
    assert row["mismatches"] == 1
    assert row["first_mismatch"].startswith("accumulators of depthwise, image 1, row 2, column 3, channel 4: expected ")
    assert (row["counters_differing"], row["cycles"]) == ([], row["predicted_cycles"])


@pytest.mark.parametrize("bit", [0, 7])
def test_flipped_bit_of_an_output_is_seen(monkeypatch: pytest.MonkeyPatch, bit: int) -> None:
    def flip(tensors: dict[str, NDArray[np.int8]], *_: Any) -> dict[str, NDArray[np.int8]]:
        outputs = tensors["classes"].copy()
        outputs.view(np.uint8)[1, 0, 0, 2] ^= np.uint8(1 << bit)
        return tensors | {"classes": outputs}

    row = exact_but(monkeypatch, "evaluate", flip)
    assert row["mismatches"] == 1
    assert row["first_mismatch"].startswith("outputs of classes, image 1, row 0, column 0, channel 2: expected ")
    assert (row["counters_differing"], row["cycles"]) == ([], row["predicted_cycles"])


@pytest.mark.parametrize("counter", ["x_words", "x_reads", "w_reads", "p_accumulates", "waiting"])
def test_wrong_counter_is_seen(monkeypatch: pytest.MonkeyPatch, counter: str) -> None:
    def wrong(figures: ChipFigures, _: ChipProgram) -> ChipFigures:
        values = figures.counters[counter].copy()
        values[1] ^= 1
        return dataclasses.replace(figures, counters=figures.counters | {counter: values})

    row = exact_but(monkeypatch, "predict", wrong)
    assert (row["mismatches"], row["counters_differing"], row["cycles"]) == (0, [f"{counter} of 1 nodes"], row["predicted_cycles"])


def test_one_cycle_more_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    row = exact_but(monkeypatch, "predict", lambda figures, _: dataclasses.replace(figures, cycles=figures.cycles + 1))
    assert (row["mismatches"], row["counters_differing"], row["predicted_cycles"]) == (0, [], row["cycles"] + 1)


def test_epoch_that_is_given_up_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    row = exact_but(monkeypatch, "predict", lambda figures, _: dataclasses.replace(figures, cycles=-4000))
    assert not row["finished"]
    assert re.fullmatch(r"still busy after \d+ cycles", row["errors"][0])
