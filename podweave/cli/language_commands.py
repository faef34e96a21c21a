"""Commands about whole language models."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..language.accuracy import compare
from ..language.load import load_checkpoint
from ..language.quantise import Recipe, quantise
from ..language.samples import Sample, file_samples, own_samples, prefix_of, texts_of
from .progress import Progress


def quantise_model(
    model: str,
    output: Path,
    calibrate: Path | None,
    evaluate: Path | None,
    accuracy: bool,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Read a model, write it in integers, and report how near they are."""
    wall: dict[str, float] = {}
    began = time.monotonic()

    def took(phase: str) -> None:
        nonlocal began
        wall[phase], began = time.monotonic() - began, time.monotonic()

    def samples(part: str, file: Path | None) -> list[Sample]:
        if file:
            return file_samples(checkpoint, file)
        return own_samples(checkpoint, part, seed, _steps(progress, f"texts for {part}"))

    progress(f"reading {model}")
    checkpoint = load_checkpoint(model)
    took("read")
    texts = samples("calibration", calibrate)
    took("calibration texts")
    prefix = prefix_of(checkpoint)
    given = texts_of(texts)
    integer = quantise(checkpoint, given, prefix, recipe, _steps(progress, "layers"))
    took("quantise")
    progress(f"writing {output}")
    integer.save(output)
    took("write")
    report: dict[str, Any] = {
        "model": integer.name,
        "file": str(output),
        "bytes": output.stat().st_size,
        "digest": integer.digest,
        "sizes": integer.describe()["sizes"],
        "vocabulary": integer.vocabulary,
        "prefix": list(prefix),
        "multiplier_bits": recipe.multiplier_bits,
        "calibration_tokens": sum(map(len, given)),
        "accuracy": None,
    }
    if accuracy:
        judged = samples("evaluation", evaluate)
        took("evaluation texts")
        report["accuracy"] = compare(checkpoint, integer, judged, _steps(progress, "texts compared"))
        took("compare")
    return {**report, "wall_s": wall}


def _steps(progress: Progress, what: str) -> Any:
    return lambda done, count: progress(f"{what}: {done} of {count}")
