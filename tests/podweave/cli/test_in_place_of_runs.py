"""Commands that run or measure for minutes, with what they start stood in for: what they ask for, print and end with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from podweave.chat import session as sessions_of
from podweave.cli import chat_answers
from podweave.cli.beside import Beside
from podweave.cli.model_files import with_file
from podweave.formal import prove as proving
from podweave.fuzz import replay
from podweave.fuzz.case import Outcome
from podweave.fuzz.choices import Choices
from podweave.runs import accelerator as accelerator_runs
from podweave.runs.model_files import file_job
from podweave.synth import area as areas
from podweave.synth import network_table as networks_of
from tests.podweave.chat.test_without_rtl import Chips
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.reports.test_tools import AREA, EQUAL, TOTALS

TABLE = {"library": "gates", "unit": "gate equivalents", "flow_name": "flat", "rows": []}


def test_area_of_a_block_or_of_networks(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, Any, Any]] = []

    def report(emitted: Any, *, block: str | None, liberty: Path | None, flow: str, progress: Any) -> dict[str, Any]:
        asked.append((emitted.sidecar["top"], block, liberty))
        return {name: value for name, value in AREA.items() if name != "config"}

    def table(config: Any, *, liberty: Path | None, flow: str, progress: Any) -> dict[str, Any]:
        asked.append((config.name, flow, liberty))
        progress("emitting")
        return TABLE

    monkeypatch.setattr("podweave.rtl.accelerator.emit.emit", lambda config: SimpleNamespace(sidecar={"top": config.name}))
    monkeypatch.setattr(areas, "area_report", report)
    monkeypatch.setattr(networks_of, "network_table", table)
    told = cli("area", "chip2x4", "--block", "pod")
    assert (told.code, told.out.splitlines()[0].rstrip()) == (0, "chip2x4, gates (gate equivalents), flow flat")
    assert asked[0] == ("chip2x4", "pod", None)
    found = cli("area", "chip4x16", "--networks", "--json", "-")
    assert found.report == {"config": "chip4x16", **TABLE}
    assert "networks, all planes, as shares of pod area" in cli("area", "chip4x16", "--networks").out
    assert [what for what, *_ in asked[1:]] == ["chip4x16"] * 2
    assert_refused(cli("area", "chip4x16", "--networks", "--block", "pod"), "is not for a table of networks")


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("none", 2)])
def test_proofs_end_with_their_verdict(cli: Cli, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int) -> None:
    """Without a page, none is written."""

    def prove(chosen: Any, *, jobs: int | None, timeout: int, progress: Any) -> dict[str, Any]:
        assert (len(chosen), jobs, timeout) == (1, 3, 70)
        return {**TOTALS, "verdict": verdict, "properties": [], "equivalences": [{**EQUAL, "faults": []}]}

    monkeypatch.setattr(proving, "prove_all", prove)
    told = cli("prove", "equivalence.flit_crc", "--jobs", 3, "--timeout", 70)
    assert told.code == code
    assert told.out.splitlines()[-1].startswith(verdict.upper())


@pytest.mark.parametrize(
    ("outcome", "code", "last"),
    [
        (Outcome("fail", "values", "y is 4"), 1, "verdict: fail, as before: y is 4"),
        (Outcome("fail", "cycles", "9 cycles"), 1, "verdict: fail, in another way: 9 cycles"),
        (Outcome(), 0, "verdict: pass (nothing differs now)"),
        (Outcome("refused", "", "too large"), 2, "no verdict: too large"),
    ],
)
def test_a_failing_case_is_run_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome, code: int, last: str
) -> None:
    case = {"kind": "chip", "seed": 1, "index": 2, "made": [1, 7], "why": "values", "sentence": "y is 5", "text": ["Graph()"]}
    (tmp_path / "case.json").write_text(json.dumps({**case, "tried": 3, "version": "x"}))

    def run(kind: str, seed: int, index: int, made: list[float]) -> tuple[Choices, Outcome]:
        assert (kind, seed, index, made) == ("chip", 1, 2, [1, 7])
        return Choices(1), dataclasses.replace(outcome, text="config = chip2x4")

    monkeypatch.setattr(replay, "run_case", run)
    told = cli("fuzz", "--replay", tmp_path / "case.json")
    assert told.code == code
    assert told.out.splitlines() == [
        "config = chip2x4",
        "before: y is 5",
        "sources have changed since: what the file decides may be another case",
        last,
    ]


def test_a_file_beside_onnxruntime_and_floating_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked for is in the report, and drawn."""
    pytest.importorskip("onnxruntime")
    from podweave.fuzz.random_files import quantised_file
    from podweave.ir.frontends.onnx import load_network
    from podweave.pictures import sqnr
    from tests.podweave.runs.even_chips import NARROW

    file = str(quantised_file(tmp_path, 1, unsigned=True, per_channel=True, size=5, channels=2))
    job, told, drawn = file_job(load_network(file), NARROW, 1), list[str](), list[tuple[Any, str, Path]]()
    monkeypatch.setattr(sqnr, "draw_sqnr", lambda rows, title, path: drawn.append((rows, title, path)))
    agreed: list[tuple[Any, ...]] = []

    def agreement(network: Any, path: Path, constants: Any, rounding: str, *more: Any) -> list[Any]:
        agreed.append((path, rounding, *more))
        return [{"output": "y", "right": 2, "images": 4}]

    monkeypatch.setattr("podweave.cli.model_files.agreement", agreement)
    beside = Beside(compare=True, labels=tmp_path / "labels.npz", picture=tmp_path / "new" / "sqnr.svg")
    inputs = tmp_path / "inputs.npz"
    shown: list[dict[str, Any]] = []

    def show(console: Console, report: dict[str, Any]) -> None:
        shown.append(report)

    report, both = with_file(file, NARROW, job, {"cycles": 9}, show, beside=beside, inputs=inputs, progress=told.append)
    assert report["cycles"] == 9
    layers = report["onnxruntime"]["layers"]
    assert layers
    assert all(row["differing"] <= row["ties"] + row["within"] for row in layers)
    assert [sentence.partition(" of ")[0] for sentence in report["numbers"]] == ["scales"]
    assert agreed == [(Path(file), NARROW.rounding, inputs, None, beside.labels)]
    ((rows, title, path),) = drawn
    assert (rows, path) == (layers, beside.picture)
    assert title.endswith(": each layer beside onnxruntime, on its inputs")
    assert path.parent.is_dir()
    assert told == ["comparing with onnxruntime", "comparing classes"]
    console = Console(width=200, record=True)
    both(console, report)
    assert shown == [report]
    assert "output y: 2 of 4 right" in console.export_text()
    # Without inputs of the user there are no classes; without any, nothing is added but what a file always has.
    report, _ = with_file(file, NARROW, job, {}, show, beside=beside, inputs=None, progress=told.append)
    assert "agreement" not in report
    report, _ = with_file(file, NARROW, job, {}, show, beside=Beside(), inputs=None, progress=told.append)
    assert set(report) == {"numbers", "on_host"}
    assert with_file("digits", NARROW, job, {"cycles": 9}, show, beside=beside, inputs=None, progress=told.append)[0] == {
        "cycles": 9
    }


@pytest.mark.parametrize("workload", ["net.onnx", "net.onnx,rows=4,host-ops"])
def test_a_transformer_is_quantised_before(workload: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By inputs of the user, and with the sizes that were named."""
    from podweave.cli import quantised_first as module

    asked: list[tuple[Any, ...]] = []

    def quantise(
        path: Path, made: Path, inputs: Path, labels: Any, recipe: Any, *, accuracy: bool, progress: Any
    ) -> dict[str, Any]:
        asked.append((path, made.name, inputs, accuracy))
        made.touch()
        return {"file": str(made)}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "is_transformer", lambda path: True)
    monkeypatch.setattr(module, "quantise_transformer", quantise)
    monkeypatch.setattr(module, "is_model_file", lambda name: True)
    with module.quantised_first(workload, "some.npz", 0, lambda _: None) as found:
        file, *sizes = found.workload.split(",")
        assert Path(file).name == "net.rows"
        assert Path(file).exists()
        assert sizes == [part for part in workload.split(",")[1:] if part != "host-ops"]
    assert not Path(file).exists()
    assert asked == [(Path("net.onnx"), "net.rows", Path("some.npz"), True)]
    with pytest.raises(Exception, match=r"net.onnx is a transformer, and needs inputs \(.npz\)"):  # noqa: SIM117
        with module.quantised_first(workload, "random", 0, lambda _: None):
            pass


def test_images_are_one_stream(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many passes as they need, of the batch that was asked for."""
    asked: list[tuple[str, int, int]] = []

    class EndedError(OSError):
        pass

    def run(jobs: Any, config: Any, **options: Any) -> Any:
        (job,) = jobs
        asked.append((config.name, job.passes, next(iter(job.graph.inputs.values()))[0]))
        raise EndedError("nothing is run here")

    monkeypatch.setattr(accelerator_runs, "run_on_device", run)
    assert_refused(cli("run", "digits", "--images", 40, "--batch", 20, "--config", "chip4x16"), "podweave: nothing is run here")
    assert asked == [("chip4x16", 2, 20)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model", "llama_16_2_1_24", "--images", 4, "--config", "llm8x16"], "are for networks of layers; llama_16_2_1_24 has"),
        (["model", "net.onnx", "--images", 4, "--batch", 2, "--config", "chip4x16"], "is for workloads: a file says itself how"),
    ],
)
def test_images_of_other_networks(cli: Cli, tmp_path: Path, arguments: list[object], sentence: str) -> None:
    told = cli(*arguments)
    assert told.code == 2
    assert sentence in " ".join(told.err.replace("│", " ").split())


@pytest.mark.parametrize("wrong", [False, True])
def test_answers_in_rtl(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: bool) -> None:
    """With golden models in place of the chip: an exact answer passes, one whose counters are others does not."""
    for package in ("gguf", "tokenizers"):
        pytest.importorskip(package)
    from tests.podweave.cli.test_chat_together import quantised

    @contextlib.contextmanager
    def system(**surroundings: Any) -> Iterator[str]:
        yield "bus"

    @contextlib.contextmanager
    def opened(*given: Any, **options: Any) -> Iterator[Any]:
        with sessions_of.open_sessions(*given, **options) as sessions:
            if sessions[0].machine.programs:
                chips = Chips(sessions[0].machine)
                chips.counter = lambda name, value: value + (wrong and name == "CYCLES")
                sessions[0].machine.system = chips  # type: ignore[assignment]
            yield sessions

    monkeypatch.setattr(sessions_of.SystemBench, "of", lambda *given, **options: SimpleNamespace(system=system))
    monkeypatch.setattr(sessions_of, "System", lambda bus, config: None)
    monkeypatch.setattr(chat_answers, "open_sessions", opened)
    path, saved = quantised(cli, tmp_path), tmp_path / "new" / "saved"
    told = cli("chat", path, "--raw", "--rtl", "--tokens", 1, "--prompt", "Hi", "--context", 8, "--save", saved)
    assert told.code == int(wrong), told.err
    last = "verdict: fail (NOT exact" if wrong else "verdict: pass (bit-exact"
    assert told.out.splitlines()[-1].startswith(last)
    assert "logits and residuals compared, 0 wrong; 0 of keys and values wrong" in told.out
    assert np.load(saved)["tokens"].shape
    if not wrong:
        told = cli("chat", path, "--raw", "--golden", "--tokens", 1, "--prompt", "!", "--restore", saved, "--json", "-")
        assert told.code == 0, told.err
        assert len(told.report["answer_tokens"]) <= 1
