"""The main job: a linear classifier of real handwritten digits, trained here, run as one GEMM in RTL."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.compile import compile_layer
from compiler.layers import gemm
from rtl.config import load_config
from tb.toolchain import ToolchainError

TEST_IMAGES = 450


@dataclass(frozen=True)
class Classifier:
    """A linear classifier of 8 x 8 images in floating point, and its int8 form.

    ``images`` (n, 64) int8: pixels 0..16 scaled by 7, which is exact. ``weights`` (64, 10) int8 with one scale for all classes,
    so that the argmax of integer logits is that of real ones. ``bias`` (10,) int32 in units of the integer logits.
    """

    images: NDArray[np.int8]
    labels: NDArray[np.int64]
    float_logits: NDArray[np.float64]
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    test: NDArray[np.int64]


def train(seed: int) -> Classifier:
    """Train on scikit-learn's 1,797 digits but for 450 that are held out, each class in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = digits.data.astype(np.float64)
    train_part, test_part = train_test_split(
        np.arange(len(pixels)), test_size=TEST_IMAGES, random_state=seed, stratify=digits.target
    )
    model = LogisticRegression(max_iter=2000)
    model.fit(pixels[train_part] / 16, digits.target[train_part])
    coefficients = model.coef_.T / 16
    scale = np.abs(coefficients).max() / 127
    images = (pixels * 7).astype(np.int8)
    return Classifier(
        images=images,
        labels=digits.target,
        float_logits=pixels @ coefficients + model.intercept_,
        weights=np.rint(coefficients / scale).astype(np.int8),
        bias=np.rint(model.intercept_ * 7 / scale).astype(np.int32),
        test=test_part,
    )


def accuracy(logits: NDArray, classifier: Classifier) -> float:
    """Share of held-out images whose largest logit is that of their label."""
    chosen = logits.argmax(axis=1) == classifier.labels
    return float(chosen[classifier.test].mean())


def run_demo(config_name: str, output: Path, seed: int, check: str, progress: Any) -> dict[str, Any]:
    from .activity import draw_activity
    from .runs import golden_result, run_workload

    config = load_config(config_name)
    progress("training the classifier")
    classifier = train(seed)
    layer = gemm(len(classifier.images), *classifier.weights.shape, name="digits")
    activations = classifier.images.reshape(layer.input_shape)
    weights = classifier.weights.reshape(layer.weight_shape)
    report, runs = run_workload([layer], config, check=check, seed=seed, progress=progress, data=[(activations, weights)])
    golden = golden_result(layer, activations, weights).reshape(-1, layer.outputs) + classifier.bias
    report["images"] = {"all": len(classifier.labels), "held_out": TEST_IMAGES}
    report["accuracy"] = {
        "float": accuracy(classifier.float_logits, classifier),
        "golden_int8": accuracy(golden, classifier),
        "rtl_int8": None,
    }
    if runs:
        logits = runs[0].result.reshape(-1, layer.outputs) + classifier.bias
        report["accuracy"]["rtl_int8"] = accuracy(logits, classifier)
        report["same_class_as_golden"] = int((logits.argmax(axis=1) == golden.argmax(axis=1)).sum())
    output.mkdir(parents=True, exist_ok=True)
    picture = output / "digits_activity.svg"
    progress("drawing")
    draw_activity(compile_layer(layer, config), picture, title=f"1,797 digits x 10 classes on {config.name}")
    report["picture"] = str(picture)
    return {"workload": f"digits as {layer.positions}x{layer.reduction}x{layer.outputs} GEMM", **report}


def main() -> None:
    from rich.console import Console

    from .cli import Progress
    from .reports import print_run

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="pod8")
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", choices=("lockstep", "result"), default="lockstep")
    options = parser.parse_args()
    console = Console()
    try:
        with Progress() as progress:
            report = run_demo(options.config, options.output, options.seed, options.check, progress)
    except ToolchainError as error:
        sys.exit(f"podweave: {error}")

    (options.output / "digits.json").write_text(json.dumps(report, indent=1) + "\n")
    print_run(console, report)
    figures = report["accuracy"]
    rtl = "not measured" if figures["rtl_int8"] is None else f"{figures['rtl_int8']:.2%}"
    console.print(
        f"digits, {report['images']['held_out']} held-out images: accuracy {figures['float']:.2%} in floating point, "
        f"{figures['golden_int8']:.2%} in the int8 golden model, {rtl} in RTL; all {report['images']['all']} images through RTL, "
        f"{report.get('same_class_as_golden')} with the class of the golden model",
        highlight=False,
    )
    console.print(f"picture: {report['picture']}", highlight=False)
    sys.exit(0 if report["verdict"] == "pass" else 1)


if __name__ == "__main__":
    main()
