"""podweave fuzz: cases by seed on several processes, in a folder; what fails is found, made small, and run again."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from podweave.fuzz import campaign as campaigns
from podweave.fuzz import config_kind, graph_kinds, kinds
from podweave.fuzz.campaign import Campaign
from podweave.fuzz.case import Outcome
from podweave.fuzz.choices import Choices
from podweave.fuzz.files import FailingCase
from podweave.fuzz.kinds import KINDS, Kind, run_case
from podweave.fuzz.replay import replay_file
from podweave.fuzz.worker import run_and_shrink
from podweave.ir.layers import WorkloadError
from podweave.runs import accelerator as accelerator_runs
from podweave.spec.presets import load_config
from podweave.tb.build.emission import Design
from tests.podweave.command_line import Cli, assert_refused

TINY = dataclasses.replace(load_config("chip2x4"), prefetch=None)


def run_numbers(rng: Choices, seed: int, outcome: Outcome) -> None:
    """A case that takes no time. Of a 7, it fails; of two 5 it hangs, of three 3 its process ends."""
    found = [int(rng.integers(0, 10)) for _ in rng.several(2, 6)]
    outcome.text = f"numbers = {found}"
    outcome.add(networks=1, jobs=len(found))
    if found.count(5) >= 2:
        time.sleep(60)
    if found.count(3) >= 3:
        os._exit(3)
    if 7 in found:
        outcome.failed("seven", f"7 is number {found.index(7)}")
    if found[0] == 0:
        raise WorkloadError("nothing begins with 0")


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.Kind, "run", property(lambda self: run_numbers))


def campaign(folder: Path, **options: Any) -> Campaign:
    """Of processes that know what is patched here."""
    return Campaign(**{"kinds": ["chip", "llm"], "seed": 4, "minutes": 5, "folder": folder, "jobs": 2, "start": "fork", **options})


def test_all_that_goes_wrong_is_found(tmp_path: Path, numbers: None) -> None:
    told: list[str] = []
    report = campaign(tmp_path / "new", cases=60, case_seconds=3, shrink_seconds=5).run(told.append)
    # What should be found, by hand.
    expected: dict[tuple[str, int], str] = {}
    for kind in ("chip", "llm"):
        for index in range(60):
            rng = Choices(kinds.seeds(kind, 4, index))
            found = [int(rng.integers(0, 10)) for _ in rng.several(2, 6)]
            why = "hang" if found.count(5) >= 2 else "crash" if found.count(3) >= 3 else "seven" if 7 in found else ""
            if why:
                expected[kind, index] = why
    assert {"hang", "crash", "seven"} == set(expected.values())
    assert {(each["kind"], each["index"]): each["why"] for each in report["failures"]} == expected
    assert report["verdict"] == "fail"
    for row in report["kinds"].values():
        assert row["cases"] == 60
        assert row["pass"] + row["fail"] + row["refused"] == 60
        assert row["refused"] > 0
    assert sum(row["hangs"] for row in report["kinds"].values()) == sum(why == "hang" for why in expected.values())
    assert "cases" in told[-1]
    for each in report["failures"]:
        if each["why"] != "seven":
            assert each["file"] is None
            continue
        case = FailingCase.read(Path(each["file"]))
        assert (case.text, case.made) == ("numbers = [7]", [1, 7])
        assert replay_file(Path(each["file"]), told.append)["same"]


def test_goes_on_where_it_was(tmp_path: Path, numbers: None) -> None:
    def quiet(_: str) -> None:
        pass

    ways: dict[str, Any] = {"kinds": ["chip"], "seed": 1, "case_seconds": 3}
    first = campaign(tmp_path, cases=5, **ways).run(quiet)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"kind": "chip", "ind')
    # As if ended in the middle of a line.
    second = campaign(tmp_path, cases=8, **ways).run(quiet)
    assert (first["new_cases"], second["new_cases"]) == (5, 3)
    assert second["kinds"]["chip"]["cases"] == 8
    whole = campaign(tmp_path / "whole", cases=8, **ways).run(quiet)
    assert [whole["kinds"]["chip"][name] for name in ("jobs", "pass")] == [
        second["kinds"]["chip"][name] for name in ("jobs", "pass")
    ]
    assert campaign(tmp_path, minutes=0, **ways).run(quiet)["new_cases"] == 0


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"campaign.json": '{"seed": 2, "version": "VERSION"}'}, "another seed"),
        ({"campaign.json": '{"seed": 1, "version": "0"}'}, "another version of podweave"),
        ({"campaign.json": "{"}, "cannot be read"),
        ({"mine.txt": "x"}, "has files, and no campaign"),
    ],
)
def test_folders_of_others(tmp_path: Path, files: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "version", lambda: "VERSION")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(WorkloadError, match=sentence):
        campaign(tmp_path, seed=1).run(lambda _: None)


CASE: dict[str, Any] = {
    **{"kind": "chip", "seed": 1, "index": 2, "made": [1, 7], "why": "seven", "sentence": "7", "text": ["numbers"]},
    **{"tried": 3, "version": "x"},
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "chop"}, "kind 'chop' is not one of chip, accelerator"),
        ({"seed": "1"}, "seed must be an integer of at least 0, got '1'"),
        ({"index": -1}, "index must be an integer of at least 0, got -1"),
        ({"made": "7"}, "made must be a list of at most 100,000 numbers"),
        ({"made": [1, None]}, "made must be a list"),
        ({"made": [1, float("nan")]}, "must be finite"),
        ({"made": [True]}, "made must be a list"),
        ({"more": 1}, "it must have index, kind"),
    ],
)
def test_files_that_are_no_case(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "case.json"
    file.write_text(json.dumps(CASE))
    assert FailingCase.read(file).made == [1, 7]
    file.write_text(json.dumps({**CASE, **changes}))
    with pytest.raises(WorkloadError, match=sentence):
        FailingCase.read(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_files_of_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "case.json").write_bytes(content)
    with pytest.raises(WorkloadError, match="is no case of podweave fuzz"):
        FailingCase.read(tmp_path / "case.json")


def test_command(cli: Cli, tmp_path: Path) -> None:
    assert_refused(cli("fuzz", "--kind", "chip,chop"), "'chop' is not one of chip, accelerator, llm, chips,")
    outcome = cli("fuzz", "--minutes", "0", "--kind", "chip", "-o", str(tmp_path / "fuzz"), "--json", "-")
    assert outcome.code == 2
    assert (outcome.report["verdict"], outcome.report["kinds"]["chip"]["cases"]) == ("none", 0)
    (tmp_path / "case.json").write_text("{}")
    assert_refused(cli("fuzz", "--replay", str(tmp_path / "case.json")), "podweave: ")
    assert_refused(cli("fuzz", "--replay", str(tmp_path / "none.json")), "podweave: ")


@pytest.mark.parametrize("tries", [4, pytest.param(300, marks=pytest.mark.campaign)])
@pytest.mark.campaign
def test_a_predicted_cycle_too_many_is_found_and_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int) -> None:
    """In RTL: of networks with a pooling, the prediction is one cycle off."""
    right = accelerator_runs.predict_accelerator

    def wrong(compiled: Any, *arguments: Any, **options: Any) -> Any:
        found = right(compiled, *arguments, **options)
        if any(operation.window for operation in compiled.graph.operations):
            found.counters["CYCLES"] += 1
        return found

    monkeypatch.setattr(accelerator_runs, "predict_accelerator", wrong)
    monkeypatch.setattr(graph_kinds, "NETWORKS", (3, 9))
    # The smallest of some cases on the chip that other tests have built.
    texts = {i: text for i in range(10) if "Window(" in (text := _text("accelerator", i)) and "config = two managers" in text}
    index = min(texts, key=lambda i: len(texts[i]))
    told: list[FailingCase] = []
    row = run_and_shrink("accelerator", 1, index, "now", 600, lambda message: told.append(message["case"]), tries=tries)
    assert (row["verdict"], row["why"]) == ("fail", "counters")
    first, last = told[0], told[-1]
    assert len(last.made) < len(first.made)
    assert "Window(" in last.text
    if tries > 4:
        assert (last.text.count("Graph("), last.text.count("Linear(")) == (1, 1)
    last.write(tmp_path / "case.json")
    again = replay_file(tmp_path / "case.json", lambda _: None)
    assert (again["verdict"], again["same"], again["sentence"]) == ("fail", True, last.sentence)
    monkeypatch.undo()
    assert replay_file(tmp_path / "case.json", lambda _: None)["verdict"] == "pass"


def _text(kind: str, index: int) -> str:
    """Of a case that is generated, and not run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podweave.fuzz.graph_kinds.run_graphs", lambda *arguments: None)
        patch.setattr("podweave.fuzz.graph_kinds.accelerator_bench", lambda *arguments: None)
        _, outcome = run_case(kind, 1, index)
    return outcome.text


def test_a_warning_of_lint_stays_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs afterwards."""

    def ran(jobs: Any, way: Any, bench: Any, seed: int, outcome: Outcome, *more: Any) -> None:
        outcome.ran()

    design = Design("", "", {"top": "chip"}, {})
    for name, made in {"emitted_design": lambda *a, **k: design, "run_graphs": ran, "random_config": lambda rng: TINY}.items():
        monkeypatch.setattr(config_kind, name, made)
    monkeypatch.setattr(config_kind.ChipBench, "of", lambda *arguments, **options: None)
    for code, said in ((0, "%Warning-WIDTH"), (1, "")):
        monkeypatch.setattr(config_kind, "lint", lambda *arguments, found=(code, said): found)
        _, outcome = run_case("config", 1, 0)
        assert (outcome.verdict, outcome.why) == ("fail", "lint")
    monkeypatch.setattr(config_kind, "lint", lambda *arguments: (0, ""))
    assert run_case("config", 1, 0)[1].verdict == "pass"


def test_what_ran_is_no_refusal() -> None:
    outcome = Outcome()
    outcome.refused("too large")
    outcome.ran()
    assert outcome.verdict == "pass"
    outcome.refused("another, too")
    assert (outcome.verdict, outcome.sentence) == ("pass", "another, too")
    outcome.failed("values", "one differs")
    outcome.ran()
    outcome.refused("too large")
    assert (outcome.verdict, outcome.why) == ("fail", "values")


def test_what_does_not_become_smaller_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is tried."""

    def run_sevens(rng: Choices, seed: int, outcome: Outcome) -> None:
        if 7 in [int(rng.integers(0, 10)) for _ in rng.several(2, 6)]:
            outcome.failed("seven", "there is a 7")

    monkeypatch.setattr(kinds.Kind, "run", property(lambda self: run_sevens))
    index = next(i for i in range(100) if run_case("chip", 1, i)[1].why == "seven")
    told: list[dict[str, Any]] = []
    row = run_and_shrink("chip", 1, index, "now", 60, told.append, tries=0)
    first, last = (message["case"] for message in told)
    assert (first, row["decisions_left"]) == (last, row["decisions"])
    assert last.tried == 0


def test_kinds() -> None:
    assert list(KINDS) == ["chip", "accelerator", "llm", "chips", "onnx", "attention", "config", "csv", "axi"]
    assert all(callable(kind.run) and isinstance(kind, Kind) for kind in KINDS.values())


def test_a_package_that_is_not_there(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "podweave.fuzz.file_kind", raising=False)
    monkeypatch.delitem(sys.modules, "podweave.fuzz.random_files", raising=False)
    monkeypatch.delattr("podweave.fuzz.file_kind", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    sentence = (
        "podweave fuzz of ONNX files needs the Python package onnxruntime, which is not installed: pip install podweave[onnx]"
    )
    assert_refused(cli("fuzz", "--kind", "onnx", "-o", tmp_path / "fuzz"), sentence)
    assert not (tmp_path / "fuzz").exists()


def test_help_names_all_kinds(cli: Cli) -> None:
    told = " ".join(cli("fuzz", "--help").out.replace("│", " ").split())
    assert f"Of {', '.join([*KINDS][:-1])} and {[*KINDS][-1]};" in told
