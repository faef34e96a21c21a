"""podweave.demo: what it says of runs that are exact and of others; the runs themselves are stood in for."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from podweave import demo
from podweave.chat.generate import Token
from podweave.chat.machine import Step
from podweave.digits import float_logits
from podweave.digits import test_images as held_out
from podweave.golden.graph import evaluate
from podweave.language.load import load_quantised
from podweave.pictures import accelerator as pictures
from podweave.runs.verdict import Comparison


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("wrong", [None, "class", "nothing came out"])
def test_digits_are_classified_as_by_the_golden_model(wrong: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """60 images in two passes; accuracy by hand. One other class fails a run whose verdict is pass."""
    drawn: list[Path] = []

    def run(jobs: list[Any], config: Any, *, seed: int, progress: Any) -> Any:
        (job,) = jobs
        assert (config.name, job.passes, seed) == ("chip4x16", 2, 3)
        name = job.graph.operations[-1].name
        outputs = np.concatenate([evaluate(job.graph, job.constants, inputs)[name] for inputs in job.feeds])
        if wrong == "class":
            outputs[0, 0, 0] = np.roll(outputs[0, 0, 0], 1)
        return {"verdict": "pass"}, [] if wrong == "nothing came out" else [{name: outputs}], ["compiled"]

    monkeypatch.setattr(demo, "run_on_device", run)
    monkeypatch.setattr(pictures, "draw_accelerator", lambda compiled, timing, path: drawn.append(path))
    report = demo.run_demo(60, 3, None if wrong else tmp_path / "picture.png", quiet)
    assert drawn == ([] if wrong else [tmp_path / "picture.png"])
    pixels, labels = held_out()
    right = float((float_logits(pixels[:60]).argmax(axis=1) == labels[:60]).mean())
    accuracy = report["accuracy"]
    assert (report["images"], accuracy["float"]) == (60, right)
    assert accuracy["golden"] >= 0.95
    assert (report["verdict"], report["classes_as_golden"]) == (("fail", False) if wrong else ("pass", True))
    if wrong == "nothing came out":
        assert accuracy["rtl"] is None
    else:
        assert accuracy["golden"] - accuracy["rtl"] == pytest.approx(1 / 60 if wrong else 0)


def compared(predicted: int) -> Comparison:
    """Of a run that took 100 cycles."""
    found = Comparison(100, predicted)
    found.values("head", np.zeros((1, 1, 1, 5), np.int32), np.zeros((1, 1, 1, 5), np.int32))
    return found


@pytest.mark.parametrize(
    ("predicted", "caches", "verdict"), [(100, 0, "pass"), (99, 0, "fail"), (100, 1, "fail"), (100, None, "fail")]
)
def test_a_story_is_told_token_by_token(predicted: int, caches: int | None, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tokens, the one that ends the text is not shown; caches that cannot be compared are not right."""
    model = load_quantised("nano")
    assert model.tokenizer
    words = model.tokens(" a little girl")[len(model.prefix) :]
    told: list[str] = []

    @contextlib.contextmanager
    def sessions(model: Any, chip: Any, way: str, **options: Any) -> Iterator[list[Any]]:
        assert (way, chip.config.name, options["seed"]) == ("rtl", "llm8x16", 5)
        assert options["capacity"] == len(model.prefix) + len(asked) + 9
        found = None if caches is None else SimpleNamespace(mismatches=caches)
        yield [SimpleNamespace(compare_caches=lambda: found)]

    def generate(session: Any, prompt: list[int], count: int) -> Iterator[Step | Token]:
        assert (prompt, count) == (asked, 9)
        step = Step((), None, predicted, 100, comparison=compared(predicted))
        for token in words:
            yield step
            yield Token(token, step, False)
        yield step
        yield Token(0, step, True)

    asked = model.prompt(demo.PROMPT)[len(model.prefix) :]
    monkeypatch.setattr(demo, "open_sessions", sessions)
    monkeypatch.setattr(demo, "generate", generate)
    story = demo.tell_story(9, 5, told.append)
    assert story["story"] == model.tokenizer.decode([*asked, *words])
    assert story["story"].startswith(demo.PROMPT)
    count = len(words) + 1
    assert (story["tokens"], len(story["steps"]), story["compared"]) == (count - 1, count, 5 * count)
    assert (story["cycles"], story["predicted_cycles"]) == (100 * count, predicted * count)
    assert story["verdict"] == verdict
    # What was told so far, before each run.
    assert told == [model.tokenizer.decode([*asked, *words[:i]]) for i in range(count)]


STORY = {
    **{"model": "nano", "config": "llm8x16", "story": "Once upon a time", "tokens": 3, "cycles": 1200, "predicted_cycles": 1200},
    **{"compared": 70, "verdict": "pass"},
}


@pytest.mark.parametrize(
    ("digits", "story", "code", "verdict"),
    [("pass", "pass", 0, "pass"), ("pass", "fail", 1, "fail"), ("fail", "pass", 1, "fail"), ("none", "pass", 2, "none")],
)
def test_the_program(
    digits: str,
    story: str,
    code: int,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One run that is wrong is enough; the report is printed, and written."""
    given: list[tuple[Any, ...]] = []

    def run(images: int, seed: int, picture: Path, progress: Any) -> dict[str, Any]:
        given.append((images, seed, picture))
        progress("classifying")
        return {"verdict": digits, "images": images, "accuracy": {"float": 0.985, "golden": 0.98, "rtl": None}}

    def tell(tokens: int, seed: int, progress: Any) -> dict[str, Any]:
        given.append((tokens, seed))
        return {**STORY, "verdict": story}

    monkeypatch.setattr(demo, "run_demo", run)
    monkeypatch.setattr(demo, "tell_story", tell)
    monkeypatch.setattr(demo, "print_device_run", lambda console, report: console.print("the run"))
    file = tmp_path / "demo.json"
    monkeypatch.setattr(sys, "argv", ["demo", "--images", "7", "--seed", "2", "--tokens", "9", "--json", str(file)])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    out, err = capsys.readouterr()
    assert ended.value.code == code
    assert given == [(7, 2, Path("digits.png")), (9, 2)]
    report = json.loads(file.read_text())
    assert (report["verdict"], report["story"]["verdict"]) == (verdict, story)
    assert "classifying" in err
    assert out.splitlines() == [
        "the run",
        "digits, 7 held-out images: accuracy 98.50% in floating point, 98.00% in the int8 golden model, - in RTL",
        f"nano, 3 tokens on llm8x16 in RTL: 1,200 cycles, difference 0; 70 logits and residuals compared; {story}:",
        "Once upon a time",
        "when memory and pods were busy, with prefetch and without: digits.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--images", "0"], "--images must be between 1 and 500, got 0"),
        (["--images", "501"], "--images must be between 1 and 500, got 501"),
        (["--tokens", "0"], "--tokens must be between 1 and 200, got 0"),
        (["--tokens", "201"], "--tokens must be between 1 and 200, got 201"),
    ],
)
def test_sizes_that_do_not_go(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    with pytest.raises(SystemExit, match="2"):
        demo.main()
    assert capsys.readouterr().err.endswith(f"error: {sentence}\n")
