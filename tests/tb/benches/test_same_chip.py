"""Block by block, a chip is the chip that plain Verilator makes of its whole text: every port of every block in every cycle."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.compile_network import compile_network
from podweave.driver.device import Device
from podweave.fuzz.random_layers import random_job
from podweave.predict.memory_timing import HbmTiming
from podweave.runs.accelerator import run_on_device
from podweave.runs.chip import run_networks
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.design_bench import DesignBench
from podweave.tb.build.simulate import NoVerdictError
from tests.fast import fast_of
from tests.podweave.runs.small_accelerator import FROM_MEMORY
from tests.rtl.accelerator.accelerator_runs import CHIP2, CONFIGS, FAST
from tests.rtl.chip.test_chip import Exchange, changed
from tests.tb.benches.chip_networks import CONFIGS as CHIPS
from tests.tb.benches.chip_networks import job_of, windows
from tests.tb.benches.test_chip_bench_faults import altered

Values = dict[tuple[str, str], NDArray[np.uint8]]
SHAKEN = HbmTiming(latency=37, row_miss=9, jitter=25, refresh_interval=400, refresh_cycles=90, seed=77)
FROM_MEMORY_CONFIGS: dict[str, ChipConfig] = {
    "2x4, from memory": CHIP2,
    "1 pod, from memory": CONFIGS["1 pod"],
    "4x4, from memory": CONFIGS[FAST],
    "8x(2x2), 2 planes of Y, from memory": dataclasses.replace(CHIPS["8x(2x2), 2 planes of Y"], prefetch=CONFIGS[FAST].prefetch),
}
FEW = ["2x4", "2x4, from memory"]
MORE = ["1x(4x4)", "4x(4x8), 2 planes", "4x(8x4), 2 planes of X and Y, crossbar", "8x(2x2), 2 planes of Y", *FROM_MEMORY_CONFIGS]


def bench(name: str, record: Path, **options: Any) -> DesignBench:
    options = {"optimize": "build", "random_initial_state": True, "record": record, **options}
    if name in FROM_MEMORY_CONFIGS:
        return AcceleratorBench.of(FROM_MEMORY_CONFIGS[name], **options)
    return ChipBench.of(CHIPS[name], **options)


def quiet(_: str) -> None:
    pass


def drive_chip(chip: ChipBench, seed: int) -> None:
    """Epochs through either way, one that breaks off with an error, a network."""
    exchange = Exchange(chip.config)
    for through in ("port", "backdoor"):
        chip.run([exchange.epoch] * 2, limits=[1000] * 2, readback=[exchange.readback] * 2, through=through, seed=seed)
    count = chip.config.pods
    broken = changed(exchange, "streams", p_bank=[1] * count)
    chip.run([broken], limits=[1000], through="port", seed=seed)
    report, *_ = run_networks([job_of(windows(), seed)], chip.config, bench=chip, progress=quiet)
    assert report["verdict"] == "pass"


def drive_accelerator(accelerator: AcceleratorBench, seed: int) -> None:
    """Random networks over AXI, with a reset in the middle of a run and an error of the memory."""
    config = accelerator.config
    report, *_ = run_on_device([random_job(seed), random_job(seed + 1)], config, timing=SHAKEN, bench=accelerator, progress=quiet)
    assert report["verdict"] == "pass", report["failure"]
    job = random_job(seed)
    memory = compile_network(job.graph, config, job.constants, FROM_MEMORY).memory
    with accelerator.session(timing=SHAKEN, seed=seed, channel_bytes=memory.channel_bytes) as bus:
        device = Device(bus, config)
        device.load(memory)
        for name, tensor in job.inputs.items():
            device.write_input(name, tensor)
        device.start()
        bus.advance(500)
        bus.reset()
        device = Device(bus, config)
        device.load(memory)
        for name, tensor in job.inputs.items():
            device.write_input(name, tensor)
        device.run(max_cycles=100_000)


def drive(found: DesignBench, seed: int) -> None:
    (drive_accelerator if isinstance(found, AcceleratorBench) else drive_chip)(found, seed)  # type: ignore[operator]


def differences(expected: Values, found: Values) -> Iterator[str]:
    """Ports that differ, each with the first cycle in which it does."""
    assert expected.keys() == found.keys()
    for (unit, port), values in expected.items():
        assert values.shape == found[unit, port].shape, (unit, port)
        wrong = np.flatnonzero((values != found[unit, port]).any(axis=1))
        if len(wrong):
            yield f"{unit}.{port} from cycle {wrong[0]} on"


@functools.cache
def reference(name: str, folder: Path, seed: int = 3) -> Values:
    plain = bench(name, folder / f"{name}.plain", plain=True)
    drive(plain, seed)
    return plain.recorded()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.mark.parametrize(
    "name", [*fast_of(FEW, "2x4"), *fast_of([name for name in MORE if name not in FEW], mark=pytest.mark.campaign)]
)
def test_every_port_of_every_block_is_the_same_in_every_cycle(name: str, folder: Path, tmp_path: Path) -> None:
    expected = reference(name, folder)
    checked = bench(name, tmp_path / "checked", checking=True)
    drive(checked, 3)
    assert list(differences(expected, checked.recorded())) == []
    units = {unit for unit, _ in expected}
    assert units == set(checked.units())
    # Nothing is trivially the same: of every block something has changed.
    for unit in units:
        assert any((values[1:] != values[:1]).any() for (of, _), values in expected.items() if of == unit), unit


@pytest.mark.parametrize("name", fast_of(FEW, "2x4", mark=pytest.mark.campaign))
def test_threads_change_nothing(name: str, folder: Path, tmp_path: Path) -> None:
    expected = reference(name, folder)
    spread = bench(name, tmp_path / "spread", threads=3, least_s=0.0)
    drive(spread, 3)
    assert list(differences(expected, spread.recorded())) == []


# Faults in the simulation itself.


def without(line: str, number: int = 0) -> Callable[[str], str]:
    """The circuit without one of the lines that begin so."""

    def rewire(text: str) -> str:
        lines = text.splitlines()
        found = [i for i, each in enumerate(lines) if each.startswith(line)]
        del lines[found[number]]
        return "\n".join(lines) + "\n"

    return rewire


def crossed(text: str) -> str:
    """A circuit in which two nodes get each other's words of activations."""
    lines = text.splitlines()
    wires = [i for i, line in enumerate(lines) if line.startswith("wire ") and line.split()[2] == "x_data"]
    first, second = (lines[i].split() for i in wires[:2])
    first[4:7], second[4:7] = second[4:7], first[4:7]
    lines[wires[0]], lines[wires[1]] = " ".join(first), " ".join(second)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("rewire", "port"),
    [(crossed, "node_0.x_data from"), (without("wire 1 bank_p_payload"), "node_0.bank_p_payload from")],
    ids=["wrong", "missing"],
)
def test_wrong_and_missing_wires_are_found(rewire: Callable[[str], str], port: str, folder: Path, tmp_path: Path) -> None:
    expected = reference("2x4", folder)
    faulty = bench("2x4", tmp_path / "faulty", rewire=rewire)
    exchange = Exchange(faulty.config)
    for through in ("port", "backdoor"):
        faulty.run([exchange.epoch] * 2, limits=[1000] * 2, readback=[exchange.readback] * 2, through=through, seed=3)  # type: ignore[attr-defined]
    found = faulty.recorded()
    cycles = len(next(iter(found.values())))
    some = {key: values[:cycles] for key, values in expected.items()}
    assert any(port in text for text in differences(some, found))


@pytest.mark.more
def test_a_stale_order_is_found(folder: Path, tmp_path: Path) -> None:
    stale = bench("2x4, from memory", tmp_path / "stale", rewire=without("order "))
    with pytest.raises(AssertionError, match=r"output \w+ of \S+\.run_control depends on an input that came later"):
        drive(bench("2x4, from memory", tmp_path / "checked", checking=True, rewire=without("order ")), 3)
    # And so it is without checking, by who compares.
    with contextlib.suppress(AssertionError):
        drive(stale, 3)
    found = stale.recorded()
    cycles = len(next(iter(found.values())))
    expected = reference("2x4, from memory", folder)
    some = {key: values[:cycles] for key, values in expected.items()}
    found = {key: values[: len(some[key])] for key, values in found.items()}
    assert any("run_control" in text for text in differences(some, found))


def test_a_sleeper_that_should_have_woken_is_found(tmp_path: Path) -> None:
    exchange = Exchange(CHIPS["2x4"])
    checked = ChipBench.of(CHIPS["2x4"], optimize="build", checking=True, rewire=lambda text: text + "deaf 1\n")
    with pytest.raises(
        NoVerdictError, match=r"cycle \d+: chip_harness\.chip\.node_0 slept, and would have changed byte \d+ of its"
    ):
        checked.run([exchange.epoch], limits=[1000])


# What a user asks for.


@pytest.mark.more
def test_a_change_of_one_block_compiles_that_block_only() -> None:
    # Of no build before this one.
    constant = time.time_ns() % (1 << 31)
    ChipBench.of(CHIP2, optimize="build")
    one = ChipBench.of(CHIP2, optimize="build", alter=altered("p_bank", r"\+ old\[31:0\];", f"+ 32'd{constant};"))
    assert sorted(one.build.made) == ["chip_harness", "node"]
    assert ChipBench.of(CHIP2, optimize="build").build.made == []
    # Another top has the same blocks, and some more.
    both = AcceleratorBench.of(CHIP2, optimize="build")
    assert not {"node", "chip_root"} & set(both.build.made)


def test_only_wires_are_not_read_from_altered_verilog() -> None:
    def alter(verilog: str) -> str:
        return verilog.replace("  assign host_read_data", "  // \n  assign host_read_data")

    with pytest.raises(ValueError, match="module chip is only wires: its Verilog is not read in a simulation that is not plain"):
        ChipBench.of(CHIPS["2x4"], optimize="build", alter=alter)


@pytest.mark.campaign
def test_waves_of_one_block(tmp_path: Path) -> None:
    exchange = Exchange(CHIPS["2x4"])
    with pytest.raises(ConfigError, match="chip2x4 has no block node_7; it has node_0, node_1, "):
        ChipBench.of(CHIPS["2x4"], optimize="build", waves=True, waves_of=["node_7"])
    texts = {}
    for names in ((), ("node_1",)):
        path = tmp_path / f"{len(names)}.vcd"
        traced = ChipBench.of(CHIPS["2x4"], optimize="build", waves=True, waves_of=names)
        run = traced.run([exchange.epoch], limits=[1000], readback=[exchange.readback], waves=path)
        exchange.check(run)
        texts[names] = path.read_text()
    for text in texts.values():
        assert "node_1" in text
        assert "x_request_address" in text
    assert "node_0" in texts[()]
    assert "chip.node_0" not in texts["node_1",]
    assert len(texts["node_1",]) < len(texts[()])
