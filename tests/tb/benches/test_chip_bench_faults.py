"""tb.benches.chip_bench: faults of the hardware, of programs and of expectations are seen and named."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import compile_network
from podweave.compiler.jobs import ProgramError
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.ir.operations import Linear
from podweave.predict.chip import predict
from podweave.runs import chip as chip_runs
from podweave.runs.chip import epoch_of
from podweave.tb.benches.chip_bench import ChipBench
from tests.tb.benches.chip_networks import CONFIGS, TINY, bench_of, gemm_chain, job_of, run, small_network

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
        ("requantizer", r"(rounded = .*)shifted_1\[0\] }\);", r"\g<1>1'h0 });", "outputs of classes|accumulators of block"),
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


def moved(program: EpochProgram, table: str, job: int, field: str, value: int) -> EpochProgram:
    jobs = {name: values.copy() for name, values in getattr(program, table).items()}
    jobs[field][job] = value
    return dataclasses.replace(program, **{table: jobs})


def planted(program: EpochProgram, table: str, field: str, changes: list[int], pattern: str) -> tuple[EpochProgram, re.Match[str]]:
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
    key = "8x(2x2), 2 planes of Y"
    job = job_of(gemm_chain())
    network = compile_network(job.graph, CONFIGS[key], job.constants)
    illegal, found = planted(network.program, table, field, changes, pattern)
    epoch = epoch_of(dataclasses.replace(network, epochs=(illegal,)), job)
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
    def flip(found: tuple[NDArray[np.int32], NDArray[np.int8]], node: Linear, *_: Any) -> Any:
        sums, outputs = found[0].copy(), found[1]
        if node.name == "depthwise":
            sums.view(np.uint32)[1, 2, 3, 4] ^= np.uint32(1 << bit)
        return sums, outputs

    row = exact_but(monkeypatch, "evaluate_operation", flip)
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
    def wrong(figures: ChipFigures, _: EpochProgram) -> ChipFigures:
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
