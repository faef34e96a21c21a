"""podweave.bench: what is measured, how often, and the figures made of it; what takes minutes to run is stood in for."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.bench import bus, chips, compilation, links, speed
from podweave.compiler.compile_network import CompileOptions
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand
from podweave.runs import kept_networks
from podweave.runs.jobs import chip_graphs, chip_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.presets import load_config
from podweave.tb.build.kept import cache_directory
from podweave.tb.cases.prefetch_scenarios import engine_config
from podweave.tb.lockstep.prefetch_expected import bus_beats
from tests.podweave.command_line import Cli


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("name", ["bus", "links", "chip", "compile"])
def test_a_bench_by_its_name_is_measured_on_its_preset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that one, with the machine it was measured on."""
    told: dict[str, tuple[Any, ...]] = {}
    for measure in ("measure_bus", "measure_links", "measure_chips", "measure_compilation"):
        monkeypatch.setattr(speed, measure, lambda *given, measure=measure: told.setdefault(measure, given[:-1]) and {"rows": []})
    report = speed.run_bench(name, 3, quiet)
    assert report["benches"] == {name: {"rows": []}}
    assert report["repeat"] == 3
    assert report["machine"]["cores"] == os.cpu_count()
    wanted = {
        **{"bus": ("measure_bus", (load_config("chip16x32"),)), "links": ("measure_links", (load_config("llm8x16"),))},
        **{"chip": ("measure_chips", (3,)), "compile": ("measure_compilation", (speed.AMPLE, 3))},
    }
    measure, given = wanted[name]
    assert told == {measure: given}


def test_building_is_measured_from_an_empty_cache_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each repetition, of which the second run finds what the first has left."""
    runs: list[tuple[list[str], str, bool]] = []

    def run(command: list[str], *, env: dict[str, str], check: bool, capture_output: bool) -> None:
        assert check
        assert capture_output
        cache = Path(env["PODWEAVE_CACHE"])
        runs.append((command[1:], str(cache), any(cache.iterdir())))
        (cache / "built").touch()

    clock = iter(np.cumsum([0, 9, 0, 1, 0, 5, 0, 2, 0, 8, 0, 3, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]).tolist())
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(speed, "PRESETS", ("pod4", "pod16"))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    rows = speed.bench_build(3, quiet)
    assert rows == [
        {"preset": "pod4", "run_from_nothing_s": 8, "run_unchanged_s": 2},
        {"preset": "pod16", "run_from_nothing_s": 1, "run_unchanged_s": 1},
    ]
    assert [command[-1] for command, _, _ in runs] == ["pod4"] * 6 + ["pod16"] * 6
    assert all(command[:3] == ["-m", "podweave", "run"] for command, _, _ in runs)
    assert [there for _, _, there in runs] == [False, True] * 6
    assert len({cache for _, cache, _ in runs}) == 6
    assert not any(Path(cache).exists() for _, cache, _ in runs)


RUN = {
    **{"cycles": 1000, "predicted_cycles": 1000, "macs": 64_000_000, "verdict": "pass", "sim_cycles_per_s": 500.0},
    **{"wall_s": {"compile": 50.0, "load": 1.0, "simulate": 2.0, "read": 1.0}, "sim_mmac_per_s": 32.0, "sim_peak_bytes": 1 << 30},
}


class FakeBench:
    """A simulator that is free-running at a speed that falls: 300, 200, 100 cycles per second."""

    def __init__(self, config: ChipConfig, threads: int = 1, progress: Any = None):
        self.config, self.threads, self.speeds = config, threads, [100.0, 200.0, 300.0]

    def idle_cycles_per_s(self, cycles: int) -> float:
        assert cycles >= 100_000
        return self.speeds.pop() * self.threads

    def units(self) -> dict[str, str]:
        return {"node_0": "node", "node_1": "node", "root": "root"}


def test_simulation_is_measured_with_loading_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int, str]] = []

    def run(jobs: Sequence[Any], config: ChipConfig, *, bench: FakeBench, progress: Any) -> tuple[dict[str, Any], None]:
        assert bench.config == config
        progress("is not told")
        ran.append((config.name, len(jobs), jobs[0].graph.name))
        return RUN, None

    monkeypatch.setattr(speed.ChipBench, "of", FakeBench)
    monkeypatch.setattr(speed, "run_networks", run)
    monkeypatch.setattr(speed, "PRESETS", ("pod4",))
    told: list[str] = []
    (row,) = speed.bench_simulation(3, told.append)
    # 4 seconds: compiling is not of the simulation.
    figures = {"free_cycles_per_s": 200.0, "result_cycles_per_s": 250.0, "result_mmac_per_s": 16.0}
    assert row == {"preset": "pod4", "workload": "gemm:64x64x64", **figures}
    assert [(config, count) for config, count, _ in ran] == [("pod4", 40)] * 3
    assert told == ["building pod4", *(f"simulating gemm:64x64x64 on pod4 ({i}/3)" for i in (1, 2, 3))]


def test_the_model_of_whole_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only networks that fit no preset get banks in which they do."""
    compiled: list[tuple[str, ChipConfig]] = []

    def compile_network(graph: Graph, config: ChipConfig, progress: Any) -> SimpleNamespace:
        compiled.append((graph.name, config))
        return SimpleNamespace(program=len(graph.operations))

    monkeypatch.setattr(speed, "compile_network", compile_network)
    monkeypatch.setattr(speed, "predict", lambda program: SimpleNamespace(cycles=program))
    rows = speed.bench_model(1, quiet)
    assert [(row["preset"], row["network"]) for row in rows] == [
        ("chip4x16", "digits"),
        ("chip256x32", "bert_medium_100"),
        ("chip256x32", "resnet50_299"),
    ]
    assert compiled[0][1] == load_config("chip4x16")
    assert [config for _, config in compiled[1:]] == [load_config("chip256x32").replace(**speed.AMPLE)] * 2
    assert [row["cycles"] for row in rows] == [len(chip_graphs(row["network"])[0].operations) for row in rows]
    assert all(0 <= row["model_s"] < 1 for row in rows)


def test_nothing_is_in_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def look() -> None:
        with chips.empty_cache():
            seen.append(Path(os.environ["PODWEAVE_CACHE"]))
            assert cache_directory() == seen[-1] != tmp_path
            assert not any(seen[-1].iterdir())
            raise ZeroDivisionError

    for before in (None, str(tmp_path)):
        monkeypatch.delenv("PODWEAVE_CACHE", raising=False) if before is None else monkeypatch.setenv("PODWEAVE_CACHE", before)
        with pytest.raises(ZeroDivisionError):
            look()
        assert not seen[-1].exists()
        assert os.environ.get("PODWEAVE_CACHE") == before


def test_compilation_is_measured_from_nothing_and_from_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shape: dict[str, Any] = {"height": 4, "width": 4, "channels": 4, "outputs": 4}
    graph = Graph("tiny", {"in": (1, 4, 4, 4)}, (Linear("only", (Operand(("in",), Layer(name="only", **shape)),)),))
    task = (graph, load_config("chip2x4"), None, CompileOptions(check="never"))
    monkeypatch.setattr(compilation, "_tasks", lambda ample: [("tiny on chip2x4", task)])
    monkeypatch.setattr(kept_networks, "WORTH_KEEPING_S", 0.0)
    began: list[bool] = []
    right = kept_networks.compile_kept

    def compile_kept(*given: Any) -> Any:
        began.append(any(kept_networks.folder().glob("*")))
        return right(*given)

    monkeypatch.setattr(compilation, "compile_kept", compile_kept)
    told: list[str] = []
    (row,) = compilation.measure_compilation({}, 2, told.append)
    assert (row["network"], row["epochs"]) == ("tiny on chip2x4", 1)
    assert row["first_s"] > 0
    assert began == [False, True, False, True]
    assert told == ["compiling tiny on chip2x4 (1/2)", "compiling tiny on chip2x4 (2/2)"]


def test_tasks_of_the_compiler() -> None:
    """ResNet-50 from memory on 16 pods, with its constants; the larger one whole, on 256 pods that have room."""
    (small, first), (large, second) = compilation._tasks(speed.AMPLE)
    assert (small, large) == ("resnet50 on chip16x32", "resnet50_299 on chip256x32")
    assert (first[1], second[1]) == (load_config("chip16x32"), load_config("chip256x32").replace(**speed.AMPLE))
    assert (first[3].from_memory, second[3].from_memory) == (True, False)
    assert first[2] is not None
    assert set(first[2]) >= {operation.name for operation in first[0].operations if isinstance(operation, Linear)}


def test_chips_are_measured_idle_busy_and_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, str, int]] = []

    def run(what: str, report: dict[str, Any]) -> Any:
        def of(jobs: Sequence[Any], config: ChipConfig, *, bench: FakeBench, progress: Any) -> tuple[dict[str, Any], None]:
            assert bench.config == config
            progress("is not told")
            ran.append((what, jobs[0].graph.name, bench.threads))
            return report, None

        return of

    monkeypatch.setattr(chips.ChipBench, "of", FakeBench)
    monkeypatch.setattr(chips.AcceleratorBench, "of", FakeBench)
    monkeypatch.setattr(chips, "cores", lambda: 2)
    monkeypatch.setattr(chips, "PRESETS", ("chip4x16", "chip256x32"))
    monkeypatch.setattr(chips, "run_networks", run("busy", RUN))
    late = {**RUN, "predicted_cycles": 999, "sim_peak_bytes": 3 << 30}
    monkeypatch.setattr(chips, "run_on_device", run("from memory", late))
    told: list[str] = []
    report = chips.measure_chips(3, told.append)
    assert [(row["preset"], row["blocks"], row["distinct_blocks"]) for row in report["builds"]] == [
        ("chip4x16", 3, 2),
        ("chip256x32", 3, 2),
    ]
    assert {row["simulator_peak_gib"] for row in report["builds"]} == {3.0}
    speeds = {(row["preset"], row["what"], row["threads"]): row for row in report["speeds"]}
    assert len(speeds) == len(report["speeds"]) == 2 * 3 * 2
    # The median of three rounds of the small chip, on one core and on two; a large one is run once.
    assert [speeds["chip4x16", "idle", threads]["cycles_per_s"] for threads in (1, 2)] == [200.0, 400.0]
    assert [speeds["chip256x32", "idle", threads]["cycles_per_s"] for threads in (1, 2)] == [300.0, 600.0]
    busy, memory = speeds["chip4x16", "busy", 1], speeds["chip4x16", "from memory", 1]
    assert (busy["exact"], memory["exact"], speeds["chip4x16", "idle", 1]["exact"]) == (True, False, True)
    assert (busy["workload"], busy["cycles"], busy["simulate_s"]) == (chips.BUSY["chip4x16"], 1000, 2.0)
    assert speeds["chip256x32", "busy", 1]["workload"] == "encoder layer of BERT medium"
    assert ran[-4:-2] == [("busy", "Encoder-1-MultiHeadSelfAttention_K", 1), ("from memory", ran[-3][1], 1)]
    assert len(ran) == 2 * 2 * 3 + 2 * 2
    assert told[:2] == ["chip4x16: emitting", "chip4x16: 1 of 2 cores, round 1/3"]


def test_a_busy_chip_of_256_pods_runs_one_encoder_layer() -> None:
    """Of 8 heads: projections, two products of each head, and the feed-forward layer, layer by layer."""
    jobs = chips._busy_jobs(load_config("chip256x32"))
    assert len(jobs) == 4 + 2 * 8 + 2
    assert all(job.graph.name.startswith("Encoder-1-") and len(job.graph.operations) == 1 for job in jobs)


def test_links_are_measured_in_rtl_and_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest chip counts; a chip counts one cycle more than its collective has."""
    told: list[str] = []

    def run(jobs: Sequence[Any], way: Any, *, progress: Any) -> tuple[dict[str, Any], None, None]:
        progress("simulating")
        assert (jobs[0].graph.name, way.link, way.config.memory.p_words) == (job.graph.name, links.LINK, links.P_WORDS)
        found = [
            {
                "counters": {"COLLECTIVE_CYCLES": 2049 + chip},
                "timeline": [{"collective": False, "cycles": 9}, {"collective": True, "cycles": 2040 + chip}],
            }
            for chip in range(way.chips)
        ]
        return {"networks": [{"chips": found}], "verdict": "pass"}, None, None

    config = load_config("llm8x16")
    (job,) = chip_jobs("gated_512_48,rows=16", 0, scale_bits=config.scale_bits)
    monkeypatch.setattr(links, "run_on_system", run)
    monkeypatch.setattr(links, "ROWS", (16,))
    monkeypatch.setattr(links, "IN_RTL", (2, 4))
    monkeypatch.setattr(links, "BY_MODEL", (8,))
    report = links.measure_links(config, told.append)
    assert config.links is not None
    assert (report["config"], report["flit_bits"], report["latency"]) == ("llm8x16", config.links.flit_bits, 100)
    two, four, eight = report["rings"]
    # 2 x 16 x 512 sums of 4 bytes, of which each link sends 2 (n - 1) / n.
    bytes_of_flit = config.links.flit_bits // 8
    assert {row["bytes"] for row in report["rings"]} == {65536}
    assert [row["bound"] * bytes_of_flit for row in report["rings"]] == [65536, 1.5 * 65536, 1.75 * 65536]
    assert (two["cycles"], two["predicted"], two["verdict"], two["by"]) == (2049, 2041, "pass", "RTL")
    assert (four["cycles"], four["predicted"]) == (2051, 2043)
    assert (eight["by"], eight["verdict"], eight["predicted"]) == ("model", "none", eight["cycles"])
    assert eight["cycles"] > eight["bound"]
    assert all(row["share"] == row["bound"] / row["cycles"] for row in report["rings"])
    assert told == ["2 chips, 16 rows: simulating", "4 chips, 16 rows: simulating", "8 chips, 16 rows: predicting"]


def test_the_share_of_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of recordings with a beat in every second cycle from cycle 150 on, and the tag complete 7 cycles after the last."""
    built: list[ChipConfig] = []

    def of(config: ChipConfig) -> SimpleNamespace:
        built.append(config)
        return SimpleNamespace(config=config)

    def recorded(config: ChipConfig, descriptors: Sequence[Any]) -> SimpleNamespace:
        beats = sum(bus_beats(config, descriptor) for descriptor in descriptors)
        names = ("read_beat", "read_class", "write_beat", "demand_complete")
        rows: dict[str, NDArray] = {name: np.zeros(2 * beats + 300, np.int64) for name in names}
        # Beats of descriptors are on the bus, too, and are not data.
        rows["read_beat"][100:110] = 1
        at = 150 + 2 * np.arange(beats)
        if descriptors[0].kind == DescriptorKind.STORE:
            rows["write_beat"][at] = 1
        else:
            rows["read_beat"][at] = 1
            rows["read_class"][at] = 1
        rows["demand_complete"][at[-1] + 7 :] = 1
        return SimpleNamespace(rows=rows)

    def run_rings(bench: SimpleNamespace, cases: Sequence[Any]) -> list[SimpleNamespace]:
        assert all(scenario.settings["latency"] == bus.LATENCY for _, scenario in cases)
        return [recorded(bench.config, found.demand) for found, _ in cases]

    monkeypatch.setattr(bus.PrefetchBench, "of", of)
    monkeypatch.setattr(bus, "run_rings", run_rings)
    config = engine_config(64, column_words=8)
    told: list[str] = []
    report = bus.measure_bus(config, told.append)
    assert [config.host_bits for config in built] == [*bus.WIDTHS, *[512] * len(bus._SWEEP), 64]
    assert (report["latency"], report["outstanding"]) == (100, 128)
    kinds = ["load 64 B runs", "load 4 KiB runs", "load 4 KiB descriptors", "store 64 B runs", "store 4 KiB runs"]
    assert [(row["data_width"], row["transfer"]) for row in report["widths"]] == [(w, kind) for w in bus.WIDTHS for kind in kinds]
    for row in report["widths"]:
        # Descriptors of runs of 4 KiB are as many as fit a ring.
        least = 256 * 4096 if row["transfer"].endswith("descriptors") else bus.BEATS * row["data_width"] // 8
        assert row["bytes"] == min(least, bus.BEATS * row["data_width"] // 8)
        beats = row["bytes"] * 8 // row["data_width"]
        assert (row["share"], row["cycles"]) == (beats / (2 * beats - 1), 150 + 2 * (beats - 1) + 7)
        assert row["share_of_all"] == beats / row["cycles"]
    assert [(row["buffer_beats"], row["outstanding"]) for row in report["sweep"][::3]] == list(bus._SWEEP)
    assert {row["transfer"] for row in report["sweep"]} == set(kinds[:3])
    assert all(row["max_burst"] <= 64 and row["max_burst"] * 2 <= row["buffer_beats"] for row in report["sweep"])
    # Words of W are of 4 bytes, one per cycle: half of a beat.
    limits = {row["transfer"]: row["limit"] for row in report["words"]}
    assert limits["load W"] == 0.5
    assert {row["config"] for row in report["words"]} == {"engine"}
    assert bus.measure_bus(dataclasses.replace(config, prefetch=None), quiet)["words"] == []


def test_a_bench_that_there_is_none_of(cli: Cli) -> None:
    outcome = cli("bench", "gearbox")
    assert outcome.code == 2
    assert "'gearbox' is not one of start, emit, build, simulation, model, compile, chip, bus, links, all" in " ".join(
        outcome.err.replace("│", " ").split()
    )
