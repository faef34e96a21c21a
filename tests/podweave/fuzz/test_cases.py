"""podweave.fuzz: cases of every kind, made and compiled, what becomes of reports of their runs, and how much of them is counted.

Simulators are stood in for: what comes out of them is as predicted, but for what a test changes.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.fuzz import engine_kind, file_kind, graph_kinds, surroundings
from podweave.fuzz.case import Outcome, attempt, count_network, hold_report
from podweave.fuzz.choices import Choices, TooManyChoicesError
from podweave.fuzz.files import MOST_BYTES, FailingCase
from podweave.fuzz.kinds import KINDS, run_case
from podweave.fuzz.surroundings import LINKED
from podweave.fuzz.table_kind import random_table
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand
from podweave.runs.workloads import load_layers
from podweave.spec.config_parts import ConfigError
from podweave.spec.presets import load_config
from podweave.tb.cases import prefetch_engines
from podweave.tb.cases.prefetch_cases import Case, engine_config
from podweave.tb.cases.prefetch_lockstep import chip_data
from podweave.tb.lockstep.ports import LockstepError, Mismatch

from .stand_in import Runs

SIMULATED = [kind for kind in KINDS if kind not in ("config", "axi")]


@pytest.mark.parametrize("kind", SIMULATED)
def test_a_case_is_compiled_run_and_counted(kind: str, runs: Runs) -> None:
    """And its decisions make the same case again."""
    if kind in ("onnx", "attention"):
        pytest.importorskip("onnxruntime")
    index = int(kind == "attention")
    choices, outcome = run_case(kind, 1, index)
    assert (outcome.verdict, outcome.why) == ("pass", "")
    assert len(runs.ways) == 1
    assert outcome.counts["networks"] == len(runs.networks) > 0
    assert outcome.counts["cycles"] == runs.cycles
    assert outcome.counts["jobs"] > len(runs.networks)
    assert (outcome.counts["transfers"] > 0) == (kind not in ("chip", "csv"))
    # Of files, values beside onnxruntime, too.
    compared = 7 * len(runs.networks)
    assert outcome.counts["compared"] > compared if kind in ("onnx", "attention") else outcome.counts["compared"] == compared
    assert runs.ways[0].config.name in outcome.text or "config = " in outcome.text
    _, again = run_case(kind, 1, index, choices.made)
    assert (again.text, again.counts) == (outcome.text, outcome.counts)
    assert runs.seeds == [1_000_003 + index] * 2


@pytest.mark.parametrize("kind", SIMULATED)
def test_a_run_that_is_not_as_predicted_fails(kind: str, runs: Runs) -> None:
    """Of the smallest case of each kind."""
    if kind in ("onnx", "attention"):
        pytest.importorskip("onnxruntime")
    # The smallest graph of rows has no operation, and is refused.
    given = [0, 0, 0, 0, 0, 1, 1, *[1] * 200] if kind == "llm" else []
    runs.change = {"verdict": "fail", "mismatches": 1, "first_mismatch": "y[0] is 4, not 5"}
    _, outcome = run_case(kind, 1, 0, given)
    assert (outcome.verdict, outcome.why) == ("fail", "values")
    assert outcome.sentence.endswith(": y[0] is 4, not 5")


PASSED = {"network": "tiny", "verdict": "pass", "cycles": 9, "compared": 4}
FAILED = {
    **PASSED,
    "verdict": "fail",
    "mismatches": 0,
    "errors": [],
    "finished": True,
    "predicted_cycles": 9,
    "counters_differing": [],
}


@pytest.mark.parametrize(
    ("rows", "more", "why", "sentence"),
    [
        ([PASSED, PASSED], {}, "", ""),
        ([{**FAILED, "mismatches": 2, "first_mismatch": "y[0]"}], {}, "values", "tiny: y[0]"),
        ([PASSED, {**FAILED, "errors": ["pod 0: OVERFLOW", "root"]}], {}, "errors", "tiny: pod 0: OVERFLOW, root"),
        ([{**FAILED, "finished": False}], {}, "errors", "tiny: did not end"),
        ([{**FAILED, "predicted_cycles": 8}], {}, "cycles", "tiny: 9 cycles, predicted 8"),
        ([{**FAILED, "counters_differing": ["P_READS", "STALLS"]}], {}, "counters", "tiny: P_READS, STALLS not as predicted"),
        # What comes first is kept.
        ([{**FAILED, "predicted_cycles": 8}, {**FAILED, "finished": False}], {}, "cycles", "tiny: 9 cycles, predicted 8"),
        ([PASSED], {"failure": "it did not end"}, "failure", "it did not end"),
        ([], {"verdict": "none"}, "verdict", "the verdict of the run is none"),
    ],
)
def test_anything_but_exact_is_a_failure(rows: list[dict[str, Any]], more: dict[str, Any], why: str, sentence: str) -> None:
    outcome = Outcome()
    hold_report(outcome, {"networks": rows, "failure": None, "verdict": "fail" if why else "pass", **more})
    assert (outcome.verdict, outcome.why, outcome.sentence) == ("fail" if why else "pass", why, sentence)
    assert (outcome.counts["cycles"], outcome.counts["compared"]) == (9 * len(rows), 4 * len(rows))


@pytest.mark.parametrize(
    ("error", "verdict", "why", "sentence"),
    [
        (WorkloadError("too large"), "refused", "", "too large"),
        (ConfigError("pods must be 1"), "refused", "", "pods must be 1"),
        (TooManyChoicesError("no end"), "refused", "", "no end"),
        (ZeroDivisionError("by 0"), "fail", "ZeroDivisionError", f"ZeroDivisionError in {__name__}:LINE: by 0"),
    ],
)
def test_what_a_case_raises(error: Exception, verdict: str, why: str, sentence: str) -> None:
    """A failure names the place where it was raised."""

    def run(rng: Choices, seed: int, outcome: Outcome) -> None:
        raise error

    outcome = attempt(run, Choices(1), 1)
    sentence = sentence.replace("LINE", str(run.__code__.co_firstlineno + 1))
    assert (outcome.verdict, outcome.why, outcome.sentence) == (verdict, why, sentence)


def test_networks_that_do_not_fit_are_left_out(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """If some do, the case has run; if none does, it is refused, and nothing is simulated."""
    right = graph_kinds.ChipWay.compile
    names: list[str] = []

    def compile_some(self: Any, job: Any, progress: Callable[[str], None], *, least: int = 2) -> Any:
        names.append(job.graph.name)
        progress("is not told")
        if len(names) < least:
            raise WorkloadError(f"{job.graph.name} is too large")
        return right(self, job, progress)

    monkeypatch.setattr(graph_kinds.ChipWay, "compile", compile_some)
    monkeypatch.setattr(graph_kinds, "NETWORKS", (3, 4))
    _, outcome = run_case("chip", 1, 0)
    assert len(names) == 3
    assert (outcome.verdict, outcome.counts["networks"], len(runs.networks)) == ("pass", 2, 2)
    monkeypatch.setattr(graph_kinds.ChipWay, "compile", functools.partialmethod(compile_some, least=100))
    _, outcome = run_case("chip", 1, 0)
    assert (outcome.verdict, outcome.sentence) == ("refused", f"{names[-1]} is too large")
    assert len(runs.ways) == 1


def test_jobs_and_transfers_of_a_network() -> None:
    """A product of a column tile with four rows, on one pod, in one epoch: by hand."""
    shape: dict[str, Any] = {"height": 2, "width": 2, "channels": 4, "outputs": 4}
    graph = Graph("tiny", {"in": (1, 2, 2, 4)}, (Linear("only", (Operand(("in",), Layer(name="only", **shape)),)),))
    config = load_config("chip2x4")
    constants = random_parameters(graph, 1)
    alone = compile_network(graph, config, constants, CompileOptions())
    assert count_network(alone) == {"networks": 1, "jobs": 3, "transfers": 0}
    image = compile_network(graph, config, constants, CompileOptions(from_memory=True)).image
    assert image is not None
    bytes_of_rings = sum(len(ring) for rings in image.rings() for ring in rings)
    assert count_network(SimpleNamespace(programs=(), rows=(), collectives=(), image=image)) == {  # type: ignore[arg-type]
        **{"networks": 1, "jobs": 0},
        "transfers": bytes_of_rings,
    }


@pytest.mark.parametrize("seed", range(12))
def test_random_tables_are_read_as_they_were_written(seed: int, tmp_path: Path) -> None:
    text = random_table(Choices([seed, 8]))
    (tmp_path / "table.csv").write_text(text, encoding="utf-8", newline="")
    lines = [line for line in text.removeprefix("\ufeff").splitlines() if line and not line.startswith("#")]
    separator = next(each for each in ",;\t" if each in lines[0])
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines[1:])), delimiter=separator)]
    layers = load_layers(str(tmp_path / "table.csv")).layers
    assert len(layers) == len(rows)
    for layer, (_, *sizes) in zip(layers, rows, strict=True):
        numbers = [int(size) for size in sizes if size]
        if len(numbers) == 3:
            assert (layer.batch * layer.height * layer.width, layer.channels, layer.outputs) == tuple(numbers)
        else:
            height, width, *kernel, channels, outputs, stride = numbers
            assert (layer.height, layer.width, list(layer.kernel)) == (height, width, kernel)
            assert (layer.channels, layer.outputs, layer.stride) == (channels, outputs, (stride, stride))


def test_values_that_are_not_those_of_onnxruntime_fail(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties, and what is within a bound, are not counted; of normalised responses, a step beyond the bound is not either."""
    pytest.importorskip("onnxruntime")
    right = file_kind.compare_layers
    change: dict[str, Any] = {}

    def compare(network: Any, *more: Any) -> list[dict[str, Any]]:
        rows = right(network, *more)
        network.bounds.update(dict.fromkeys((row["operation"] for row in rows), 3.0))
        return [{**row, **change} for row in rows]

    monkeypatch.setattr(file_kind, "compare_layers", compare)
    for differing, why in (
        ({"differing": 3, "ties": 1, "within": 2}, ""),
        ({"differing": 4, "ties": 1, "within": 2}, "onnxruntime"),
        ({"differing": 4, "ties": 1, "within": 2, "operator": "LRN", "largest": 4}, ""),
        ({"differing": 4, "ties": 1, "within": 2, "operator": "LRN", "largest": 5}, "onnxruntime"),
    ):
        change.update(differing)
        _, outcome = run_case("onnx", 1, 0, [])
        assert outcome.why == why
        if why:
            assert ": 1 values are neither those of onnxruntime nor as near as they may be" in outcome.sentence


class Engines:
    """In place of an engine in RTL: what its cycle model says, but for one byte of memory, or a port."""

    def __init__(self, name: str, cases: list[Case], wrong: str):
        self.config, self.cases, self.wrong = engine_config(**prefetch_engines.ENGINES[name]), cases, wrong
        self.bench = self

    def run_all(self, stimuli: Sequence[Any], *, seed: int) -> list[Any]:
        assert len(stimuli) == len(self.cases)
        found = []
        for case in self.cases:
            traces, memory = case.expected(case.model(), functools.partial(chip_data, case.config.host_bits))
            if self.wrong == "memory":
                memory[0x123] ^= 1
            found.append((traces, memory))
        return found

    def check(self, traces: Any, observed: Any) -> int:
        if self.wrong == "ports":
            raise LockstepError("prefetch_engine", Mismatch(3, "arvalid", None, 0, 1))
        assert traces.keys() == observed.keys()
        return 5


@pytest.mark.parametrize("wrong", ["", "memory", "ports"])
def test_engines_are_held_against_their_model(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[Case] = []
    right = engine_kind.random_case

    def random_case(*given: Any, **options: Any) -> Case:
        cases.append(right(*given, **options))
        return cases[-1]

    monkeypatch.setattr(engine_kind, "random_case", random_case)
    monkeypatch.setattr(engine_kind, "lockstep_of", lambda name: Engines(name, cases, wrong))
    # One small program.
    _, outcome = run_case("axi", 1, 0, [])
    assert len(cases) == 1
    assert outcome.text.startswith("engine = 64_small\n")
    assert (outcome.verdict, outcome.why) == (("fail", wrong) if wrong else ("pass", ""))
    assert outcome.counts["cycles"] == cases[0].cycles
    assert outcome.counts["transfers"] == sum(cases[0].model().reader.index)
    if wrong == "memory":
        before = int(cases[0].program.memory[0x123])
        assert outcome.sentence == f"byte 0x123 of the memory should be {before}, and is {before ^ 1}"
    elif wrong:
        assert outcome.sentence == "prefetch_engine differs from its cycle model at cycle 3, port arvalid: expected 0, got 1"


def test_a_case_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "case.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(WorkloadError, match=r"case.json has 16,777,217 bytes, more than 16,777,216$"):
        FailingCase.read(tmp_path / "case.json")


def test_a_simulator_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each configuration, with what a simulation leaves out and without; with any initial state."""
    built: list[tuple[Any, ...]] = []

    def of(*given: Any, **options: Any) -> object:
        built.append((*given, options))
        return object()

    config = dataclasses.replace(LINKED, name="built_once")
    for bench, make, given in (
        (surroundings.ChipBench, surroundings.chip_bench, (config,)),
        (surroundings.AcceleratorBench, surroundings.accelerator_bench, (config,)),
        (surroundings.SystemBench, surroundings.system_bench, (config, 3)),
    ):
        monkeypatch.setattr(bench, "of", of)
        built.clear()
        assert make(*given, False) is make(*given, False) is not make(*given, True)  # type: ignore[operator]
        ways = {"optimize": "build", "random_initial_state": True}
        assert built == [(*given, {**ways, "checking": checking}) for checking in (False, True)]
