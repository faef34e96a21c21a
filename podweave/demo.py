"""The main job, in RTL, all of it over AXI: a small CNN classifies held-out images of real digits, and a small language model tells
a story."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from podweave.golden.graph import evaluate
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.presets import load_config
from podweave.tb.build.make import cores

from .chat.accelerators import Accelerators
from .chat.generate import Token, generate
from .chat.session import open_sessions
from .digits import float_logits, test_images
from .language.load import load_quantised
from .program import EXIT_CODES, errors, prepare_cache, program
from .reports.accelerator import print_device_run
from .reports.tables import say
from .runs.accelerator import run_on_device
from .runs.jobs import stream_job

CONFIG = "chip4x16"
IMAGES = 500
STORY_CONFIG = "llm8x16"
PROMPT = "Once upon a time"
TOKENS, MOST_TOKENS = 24, 200


def run_demo(images: int, seed: int, picture: Path | None, progress: Any) -> dict[str, Any]:
    """Classify the first held-out images in RTL; accuracy in floating point, in the golden model and in RTL, and the verdict."""
    from .pictures.accelerator import draw_accelerator

    pixels, labels = test_images()
    pixels, labels = pixels[:images], labels[:images]
    config = load_config(CONFIG)
    job = stream_job("digits", images, seed, scale_bits=config.scale_bits)
    report, outputs, compiled = run_on_device([job], config, seed=seed, progress=progress)
    output = job.graph.operations[-1].name

    def classes(logits: np.ndarray) -> np.ndarray:
        return logits.reshape(-1, logits.shape[-1]).argmax(axis=1)[: len(labels)]

    golden = classes(np.concatenate([evaluate(job.graph, job.constants, inputs)[output] for inputs in job.feeds]))
    found = classes(outputs[0][output]) if outputs else None
    accuracy: dict[str, float | None] = {
        "float": float((classes(float_logits(pixels)) == labels).mean()),
        "golden": float((golden == labels).mean()),
        "rtl": None if found is None else float((found == labels).mean()),
    }
    same = found is not None and bool((found == golden).all())
    if not same and report["verdict"] == "pass":
        report["verdict"] = "fail"
    if picture:
        draw_accelerator(compiled[0], HbmTiming(), picture)
    return report | {"images": len(labels), "accuracy": accuracy, "classes_as_golden": same}


def tell_story(tokens: int, seed: int, progress: Any) -> dict[str, Any]:
    """Let the nano model go on with a prompt, token by token; logits, cycles and counters of every run are compared."""
    model, chip = load_quantised("nano"), Accelerators(load_config(STORY_CONFIG))
    assert model.tokenizer
    asked = model.prompt(PROMPT)[len(model.prefix) :]
    steps, told = [], list(asked)
    with open_sessions(
        model, chip, "rtl", capacity=len(model.prefix) + len(asked) + tokens, threads=cores(), seed=seed, progress=progress
    ) as (session,):
        for item in generate(session, asked, tokens):
            if isinstance(item, Token):
                told += [] if item.ends else [item.token]
            else:
                steps.append(item)
                progress(model.tokenizer.decode(told))
        caches = session.compare_caches()
    exact = all(step.comparison and step.comparison.is_exact for step in steps) and caches is not None and not caches.mismatches
    return {
        "model": model.name,
        "config": chip.config.name,
        "prompt": PROMPT,
        "story": model.tokenizer.decode(told),
        "tokens": len(told) - len(asked),
        "cycles": sum(step.cycles or 0 for step in steps),
        "predicted_cycles": sum(step.predicted_cycles or 0 for step in steps),
        "compared": sum(step.comparison.compared for step in steps if step.comparison),
        "steps": [step.row() for step in steps],
        "verdict": "pass" if exact else "fail",
    }


def print_demo(console: Console, report: dict[str, Any], picture: Path | None) -> None:
    """The report of one batch, the totals, and the three accuracies side by side; and the story."""
    print_device_run(console, report)
    accuracy = {name: "-" if value is None else f"{value:.2%}" for name, value in report["accuracy"].items()}
    say(
        console,
        f"digits, {report['images']} held-out images: accuracy {accuracy['float']} in floating point, "
        f"{accuracy['golden']} in the int8 golden model, {accuracy['rtl']} in RTL",
    )
    story = report["story"]
    say(
        console,
        f"{story['model']}, {story['tokens']} tokens on {story['config']} in RTL: {story['cycles']:,} cycles, difference "
        f"{story['cycles'] - story['predicted_cycles']}; {story['compared']:,} logits and residuals compared; {story['verdict']}:\n"
        f"{story['story']}",
    )
    if picture:
        say(console, f"when memory and pods were busy, with prefetch and without: {picture}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m podweave.demo", description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="held-out images to classify, 1 to 500")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the story, 1 to 200")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial state of the registers")
    parser.add_argument("--picture", type=Path, default=Path("digits.png"), help="where to draw when memory and pods were busy")
    parser.add_argument("--json", type=Path, help="also write the report as JSON")
    arguments = parser.parse_args()
    if not 1 <= arguments.images <= IMAGES:
        parser.error(f"--images must be between 1 and {IMAGES}, got {arguments.images}")
    if not 1 <= arguments.tokens <= MOST_TOKENS:
        parser.error(f"--tokens must be between 1 and {MOST_TOKENS}, got {arguments.tokens}")
    with program():
        prepare_cache()

        def progress(text: str) -> None:
            errors.print(text, highlight=False)

        report = run_demo(arguments.images, arguments.seed, arguments.picture, progress)
        report["story"] = tell_story(arguments.tokens, arguments.seed, progress)
        if report["verdict"] == "pass":
            report["verdict"] = report["story"]["verdict"]
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print_demo(Console(), report, arguments.picture)
        sys.exit(EXIT_CODES[report["verdict"]])


if __name__ == "__main__":
    main()
