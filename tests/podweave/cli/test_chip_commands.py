"""Chips on the command line: over AXI or past it, IP directories, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from podweave.cli.chip_commands import memory_timing
from podweave.compiler import compile_network as compile_module
from podweave.compiler.jobs import ProgramError
from podweave.predict.memory_timing import HbmTiming
from podweave.runs import accelerator as accelerator_runs
from podweave.spec.presets import load_config
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.build.make import cores
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.runs.small_accelerator import CONFIG, small_bench

CHIP2 = load_config("chip2x4")
GEMM = "gemm:5x6x7"


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A file of three layers of which each reads the one before."""
    path = tmp_path / "chain.csv"
    path.write_text("layer,M,K,N\nfirst,36,5,8\nsecond,36,8,12\nthird,36,12,4\n")
    return path


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of which there is a simulator, which is then the one that is built."""
    bench = small_bench()

    def built(config: Any, **options: Any) -> AcceleratorBench:
        assert config == CONFIG
        assert not options.pop("waves")
        assert not options.pop("waves_of")
        assert options.pop("threads") == cores()
        options.pop("progress")("building")
        assert not options
        return bench

    monkeypatch.setattr(accelerator_runs.AcceleratorBench, "of", built)
    path = tmp_path / "small.toml"
    path.write_text(CONFIG.to_toml())
    return path


def test_model_of_a_chain_over_axi(cli: Cli, tmp_path: Path, chain: Path) -> None:
    picture, target = tmp_path / "new" / "activity.svg", tmp_path / "other" / "report.json"
    told = cli("model", chain, "--config", "chip2x4", "--json", target, "--plot", picture)
    assert told.code == 0
    report = json.loads(target.read_text())
    # What a preset with engines is modelled with if nothing is said.
    assert (report["through"], report["prefetch"], report["cap"]) == ("axi", True, 0)
    assert report["memory"] == dataclasses.asdict(HbmTiming())
    assert (report["workload"], report["config"], report["pods"]) == (str(chain), "chip2x4", 2)
    (row,) = report["networks"]
    assert row["macs"] == report["macs"] == 36 * (5 * 8 + 8 * 12 + 12 * 4)
    assert row["cycles"] == report["cycles"] == row["counters"]["CYCLES"]
    assert row["mac_per_cycle"] == pytest.approx(row["macs"] / row["cycles"])
    assert row["utilization"] == pytest.approx(row["macs"] / row["cycles"] / 32)
    assert [name for epoch in row["timeline"] for name in epoch["operations"]] == ["first", "second", "third"]
    assert f"chain: 6,624 MAC in {row['cycles']:,} cycles on 2 pods" in told.out
    assert f"prefetch on: {row['prefetch_hits']} epochs found their words, {row['prefetch_late']} waited" in told.out
    # A line of the table for each epoch.
    for number, epoch in enumerate(row["timeline"]):
        assert re.search(rf"^{number} .*{epoch['operations'][-1]} .*{epoch['begins']:,} +{epoch['ends']:,}", told.out, re.MULTILINE)
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    off = cli("model", chain, "--config", "chip2x4", "--no-prefetch", "--json", "-").report
    assert off["cycles"] > report["cycles"]
    assert off["networks"][0]["prefetch_hits"] == 0
    some = cli("model", chain, "--config", "chip2x4", "--prefetch-ratio", "0.5", "--prefetch-ratio", "th*=.0", "--json", target)
    assert "prefetch on (ratios *=0.5, th*=0): " in some.out
    found = json.loads(target.read_text())
    assert found["prefetch_ratios"] == {"*": 0.5, "th*": 0}
    counters, other = (each["networks"][0]["counters"] for each in (found, report))
    assert counters["DEMAND_BEATS"] > other["DEMAND_BEATS"]
    assert report["prefetch_ratios"] == {}


def test_options_of_the_memory_are_taken(cli: Cli, chain: Path) -> None:
    usual = cli("model", chain, "--config", "chip2x4", "--json", "-").report
    options = ("--memory", "latency=300,beat_sixteenths=64", "--cap", 8)
    slow = cli("model", chain, "--config", "chip2x4", *options, "--json", "-").report
    assert slow["memory"] == dataclasses.asdict(HbmTiming(latency=300, beat_sixteenths=64))
    assert slow["cap"] == 8
    assert slow["cycles"] > 2 * usual["cycles"]
    assert slow["networks"][0]["hbm_cycles"] == 4 * usual["networks"][0]["hbm_cycles"]


@pytest.mark.parametrize("options", [["--per-layer"], ["--through", "backdoor"], ["--through", "port"]])
def test_model_past_the_bus(cli: Cli, chain: Path, options: list[str]) -> None:
    report = cli("model", chain, "--config", "chip2x4", *options, "--json", "-").report
    assert "memory" not in report
    assert [row["layer"] for network in report["networks"] for row in network["layers"]] == ["first", "second", "third"]
    assert len(report["networks"]) == (3 if options == ["--per-layer"] else 1)


def test_model_of_a_stream(cli: Cli, chain: Path) -> None:
    one = cli("model", chain, "--config", "chip4x16", "--json", "-").report["networks"][0]
    report = cli("model", chain, "--config", "chip4x16", "--images", 3, "--json", "-").report
    (row,) = report["networks"]
    assert (row["passes"], row["macs"], len(row["timeline"])) == (3, 3 * one["macs"], 3 * row["epochs"])
    assert row["image_cycles"] == row["cycles"] / 3 < one["cycles"]
    (pairs,) = cli("model", chain, "--config", "chip4x16", "--images", 3, "--batch", 2, "--json", "-").report["networks"]
    assert (pairs["images"], pairs["batch"], pairs["passes"]) == (4, 2, 2)
    assert pairs["image_bound"] == row["image_bound"] == max(one["compute_cycles"], one["hbm_cycles"])
    assert_refused(cli("model", chain, "--config", "chip4x16", "--batch", 2), "--batch: is of a stream: give --images too")
    refused = cli("model", chain, "--config", "chip2x4", "--images", 2)
    assert_refused(refused, "2 passes asked for, a run on chip2x4 has one (pass_bits of [prefetch])")


def test_run_over_axi(cli: Cli, chain: Path, small: Path) -> None:
    done = cli("run", chain, "--config", small, "--seed", 7, "--json", "-")
    report = done.report
    assert done.code == 0
    expected = {"verdict": "pass", "failure": None, "mismatches": 0, "seed": 7, "through": "axi", "prefetch": True, "cap": 0}
    assert {key: report[key] for key in expected} == expected
    assert report["cycles"] == report["predicted_cycles"]
    assert report["networks"][0]["compared"] == 36 * 4
    assert {"compile", "model", "emit", "build", "simulate"} <= set(report["wall_s"])
    modelled = cli("model", chain, "--config", small, "--json", "-").report
    assert modelled["cycles"] == report["cycles"]


def test_run_over_axi_tells_people(cli: Cli, tmp_path: Path, chain: Path, small: Path) -> None:
    picture = tmp_path / "run.png"
    options = ("--no-prefetch", "--cap", 9, "--memory", "latency=50,jitter=3,seed=4", "--plot", picture)
    done = cli("run", chain, "--config", small, *options)
    assert done.code == 0
    assert "verdict: pass (bit-exact, cycle-exact, counters exact; config chip2x4, seed 0, over AXI)" in done.out.replace("\n", " ")
    assert "predicted, difference 0" in done.out
    assert "144 outputs compared, 0 wrong; counters of engines and nodes compared" in done.out
    assert "prefetch off" in done.out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("outputs", "1 wrong"),
        ("counters", "chain: counters other than predicted: STALL_GATE"),
        ("cycles", "predicted, difference -1"),
        ("ring", "prefetch engine 1: unknown kind (tag 0 of the demand ring, address "),
    ],
)
def test_run_that_is_not_exact_fails(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, chain: Path, small: Path, what: str, told: str
) -> None:
    def outputs(tensors: dict[str, Any]) -> dict[str, Any]:
        changed = tensors["third"].copy()
        changed[0, 0, 0, 0] ^= 1
        return tensors | {"third": changed}

    def counters(prediction: Any) -> Any:
        changed = prediction.counters | {"STALL_GATE": prediction.counters["STALL_GATE"] + 1}
        return dataclasses.replace(prediction, counters=changed)

    def cycles(prediction: Any) -> Any:
        return dataclasses.replace(prediction, cycles=prediction.cycles + 1)

    def ring(compiled: Any) -> Any:
        content = [(address, data.copy()) for address, data in compiled.image.content]
        (first,) = (data for address, data in content if address == compiled.image.demand[1].base)
        first[0] |= 0xF
        return dataclasses.replace(compiled, image=dataclasses.replace(compiled.image, content=tuple(content)))

    name, change = {
        "outputs": ("evaluate", outputs),
        "counters": ("predict_accelerator", counters),
        "cycles": ("predict_accelerator", cycles),
        "ring": ("compile_kept", ring),
    }[what]
    right = getattr(accelerator_runs, name)
    monkeypatch.setattr(accelerator_runs, name, lambda *arguments, **options: change(right(*arguments, **options)))
    done = cli("run", chain, "--config", small)
    assert done.code == 1
    assert told in done.out
    assert "verdict: fail (NOT exact; config chip2x4, seed 0, over AXI)" in done.out.replace("\n", " ")


def test_ip_writes_its_files(cli: Cli, tmp_path: Path) -> None:
    done = cli("ip", "chip2x4", "-o", tmp_path / "ip")
    assert done.code == 0
    listed = [Path(line) for line in done.out.splitlines()]
    assert sorted(listed) == sorted((tmp_path / "ip").iterdir())
    name = "podweave_chip2x4"
    expected = {f"chip2x4_accelerator{suffix}" for suffix in (".v", ".vlt", ".json")}
    expected |= {f"{name}{suffix}" for suffix in (".core", ".h", ".sdc", "_ports.md", "_constraints.md", "_registers.md")}
    assert {path.name for path in listed} == expected
    assert json.loads((tmp_path / "ip" / "chip2x4_accelerator.json").read_text())["config"] == CHIP2.to_dict()


def test_prefix_is_in_the_names_of_an_ip(cli: Cli, tmp_path: Path) -> None:
    done = cli("ip", "chip2x4", "-o", tmp_path, "--prefix", "npu")
    assert done.code == 0
    assert len(done.out.split()) == 9
    assert all(Path(line).name.startswith(("npu_accelerator.", "podweave_npu")) for line in done.out.split())


def test_timing_of_the_memory_from_text() -> None:
    assert memory_timing(None) == memory_timing("") == HbmTiming()
    text = ",".join(f"{name}={value}" for name, value in dataclasses.asdict(HbmTiming(latency=7, jitter=2, seed=9)).items())
    assert memory_timing(text) == HbmTiming(latency=7, jitter=2, seed=9)
    assert memory_timing("latency=7, jitter=2 ,seed=9") == HbmTiming(latency=7, jitter=2, seed=9)


NAMES = "latency, beat_sixteenths, row_bytes, banks, row_miss, refresh_interval, refresh_cycles, queue, jitter, seed"
CHIP = ["--config", "chip2x4"]


@pytest.mark.parametrize("command", ["run", "model"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([*CHIP, "--through", "usb"], "--through: 'usb' is not one of axi, backdoor, port"),
        (
            ["--config", "{tmp}/bare.toml", "--through", "axi"],
            "axi needs a chip with prefetch engines; bare has no table [prefetch]",
        ),
        ([*CHIP, "--per-layer", "--through", "axi"], "axi runs whole networks: leave out --per-layer, or name one layer"),
        ([*CHIP, "--through", "backdoor", "--memory", "latency=9"], "--memory: is for runs over AXI, not backdoor"),
        ([*CHIP, "--through", "port", "--cap", "9"], "--cap: is for runs over AXI, not port"),
        ([*CHIP, "--through", "port", "--images", "9"], "--images: is for runs over AXI, not port"),
        ([*CHIP, "--images", "0"], "Invalid value for '--images'"),
        ([*CHIP, "--through", "port", "--no-prefetch"], "--no-prefetch: is for runs over AXI, not port"),
        ([*CHIP, "--per-layer", "--no-prefetch"], "--no-prefetch: is for runs over AXI, not backdoor"),
        (["--config", "{tmp}/bare.toml", "--cap", "9"], "--cap: is for runs over AXI, not backdoor"),
        ([*CHIP, "--memory", "latency"], f"--memory: 'latency' is not NAME=NUMBER with a name of {NAMES}"),
        ([*CHIP, "--memory", "latency=9,speed=2"], f"--memory: 'speed=2' is not NAME=NUMBER with a name of {NAMES}"),
        ([*CHIP, "--memory", "latency=-1"], "--memory: 'latency=-1' is not NAME=NUMBER"),
        ([*CHIP, "--memory", "latency=9²"], "--memory: 'latency=9²' is not NAME=NUMBER"),
        ([*CHIP, "--memory", "latency=9,"], "--memory: '' is not NAME=NUMBER"),
        ([*CHIP, "--memory", "latency=200,latency=100"], "--memory: 'latency' is given more than once"),
        ([*CHIP, "--memory", "latency=٣"], "--memory: 'latency=٣' is not NAME=NUMBER"),
        ([*CHIP, "--memory", f"latency={'9' * 5000}"], "--memory: latency must be between 2 and 1048576, got 1000000"),
        ([*CHIP, "--memory", "latency=1"], "--memory: latency must be between 2 and 1048576, got 1"),
        ([*CHIP, "--memory", "banks=3"], "--memory: banks must be a power of two, got 3"),
        ([*CHIP, "--memory", "refresh_interval=9"], "--memory: refresh_interval (9) must be 0 or more than refresh_cycles (260)"),
        ([*CHIP, "--cap", "-1"], "Invalid value for '--cap'"),
        ([*CHIP, "--cap", "4294967296"], "Invalid value for '--cap'"),
        ([*CHIP, "--plot", "{tmp}/x.gif"], "--plot: {tmp}/x.gif must end in .svg, .png or .pdf"),
        ([*CHIP, "--layers-alone", "--per-layer"], "--layers-alone: is without what is added to layers; --per-layer is with it"),
        ([*CHIP, "--layers-alone", "--through", "axi"], "--through: axi runs whole networks: leave out --layers-alone, or name"),
        ([*CHIP, "--layers-alone", "--cap", "9"], "--cap: is for runs over AXI, not backdoor"),
        ([*CHIP, "--through", "port", "--prefetch-ratio", "1"], "--prefetch-ratio: is for runs over AXI, not port"),
        (
            [*CHIP, "--no-prefetch", "--prefetch-ratio", "1"],
            "--prefetch-ratio: without prefetch nothing is loaded ahead of its epoch",
        ),
        ([*CHIP, "--prefetch-ratio", "a=1.01"], "--prefetch-ratio: 'a=1.01' is not R or PATTERN=R with an R from 0 to 1"),
        ([*CHIP, "--prefetch-ratio", "-1"], "--prefetch-ratio: '-1' is not R or PATTERN=R with an R from 0 to 1"),
        ([*CHIP, "--prefetch-ratio", "a=nan"], "--prefetch-ratio: 'a=nan' is not R or PATTERN=R with an R from 0 to 1"),
        ([*CHIP, "--prefetch-ratio", "=1"], "--prefetch-ratio: '=1' is not R or PATTERN=R with an R from 0 to 1"),
        ([*CHIP, "--prefetch-ratio", "1", "--prefetch-ratio", "0"], "--prefetch-ratio: '*' is given more than once"),
    ],
)
def test_refused_options(cli: Cli, tmp_path: Path, command: str, options: list[str], sentence: str) -> None:
    (tmp_path / "bare.toml").write_text(dataclasses.replace(CHIP2, name="bare", prefetch=None).to_toml())
    assert_refused(cli(command, GEMM, *(option.format(tmp=tmp_path) for option in options)), sentence.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ip", "{tmp}/bare.toml", "-o", "{tmp}/ip"], "podweave: an IP block needs prefetch engines: bare has no table [prefetch]"),
        (["ip", "chip3", "-o", "{tmp}/ip"], "podweave: unknown preset 'chip3'"),
        (
            ["ip", "chip2x4", "-o", "{tmp}/ip", "--prefix", "wire"],
            "podweave: a prefix must not be a keyword of Verilog or C, got 'wire'",
        ),
        (["ip", "chip2x4", "-o", "{tmp}/ip", "--prefix", ""], "podweave: a prefix is lower-case letters, digits and underscores, "),
        (["ip", "chip2x4"], "Missing option '-o'"),
        (["run", GEMM, *CHIP, "--check", "lockstep"], "--check: 'lockstep' is not one of result, rules"),
        (["model", "resnet50", *CHIP, "--per-layer", "--plot", "{tmp}/x.svg"], "--plot: a picture shows one network"),
        (["model", "resnet51", *CHIP], "podweave: workload 'resnet51' is none of gemm:MxKxN, "),
        (["run", "resnet51/conv1", *CHIP], "podweave: workload 'resnet51/conv1' is none of gemm:MxKxN, "),
        (["model", "gemm:99999999999999999999x1x1", *CHIP], "podweave: gemm:99999999999999999999x1x1: M must be at most 1,048,576"),
        (
            ["model", "gemm:1x1048576x4096", *CHIP],
            "podweave: gemm:1x1048576x4096: with values, as in runs and on chips, a tensor has",
        ),
        (["run", "gemm:16384x8192x1024", *CHIP], "podweave: gemm:16384x8192x1024: chip2x4 takes about "),
        (
            ["model", "conv:4096x4096x1x1,kernel=1", "--config", "chip16x32", "--through", "backdoor"],
            "podweave: conv:4096x4096x1x1,kernel=1: its 16,777,216 positions need a word of sums each, 16,646,144 more than",
        ),
        # Of what does not fit as a whole, the limit and the excess.
        (["model", "gemm:3000x8x8", *CHIP, "--through", "backdoor"], "podweave: gemm:3000x8x8: "),
    ],
)
def test_refused_commands(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "bare.toml").write_text(dataclasses.replace(CHIP2, name="bare", prefetch=None).to_toml())
    assert_refused(cli(*(argument.format(tmp=tmp_path) for argument in arguments)), sentence.format(tmp=tmp_path))
    assert not (tmp_path / "ip").exists()


@pytest.mark.parametrize("through", ["axi", "backdoor"])
def test_rules_are_looked_at_on_request(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch, through: str) -> None:
    """And what the checker finds is one sentence: nothing is simulated."""

    def refuse(program: object) -> None:
        raise ProgramError("stream job 3 (pod 0, start 7): breaks a rule")

    monkeypatch.setattr(compile_module, "check_chip", refuse)
    done = cli("run", "gemm:8x8x8", "--config", small, "--check", "rules", "--through", through)
    assert (done.code, done.out) == (2, "")
    assert "podweave: stream job 3 (pod 0, start 7): breaks a rule" in done.err
