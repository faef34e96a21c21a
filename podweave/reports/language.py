"""Reports about whole language models, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import say, table

_WORST = 5
"""Layers that are shown."""


def print_quantised(console: Console, report: dict[str, Any]) -> None:
    """What `podweave quantise` made, and how near it is to floating point."""
    accuracy = report["accuracy"]
    if accuracy:
        kinds = {"all": accuracy, **accuracy["by_kind"]}
        columns = ["text", "tokens", "top-1 as in float", "in its top 5", "mean KL", "99%", "perplexity by float's"]
        console.print(table("", columns, [[name, *_scores(scores)] for name, scores in kinds.items()]))
        layers = sorted(enumerate(accuracy["layers"]), key=lambda each: -each[1]["worst"])[:_WORST]
        rows = [[f"layer {index}", f"{layer['error']:.2%}", f"{layer['worst']:.2%}"] for index, layer in layers]
        console.print(table("", ["residual behind", "error, root mean square", "of its worst row"], rows))
        limits = [f"{name} {count:,} of {values:,}" for name, (count, values) in accuracy["saturated"].items()]
        say(console, f"values at the limits of their format: {', '.join(limits) or 'none'}")
    wall = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in report["wall_s"].items())
    say(console, f"wall time in seconds: {wall}")
    say(
        console,
        f"{report['model']}: {report['bytes']:,} bytes in {report['file']}, hash {report['digest'][:16]}, multipliers of "
        f"{report['multiplier_bits']} bits, {report['calibration_tokens']:,} tokens of calibration",
    )


def _scores(scores: dict[str, Any]) -> list[str]:
    return [
        f"{scores['tokens']:,}",
        f"{scores['top1']:.2%} +- {scores['top1_error']:.2%}",
        f"{scores['top5']:.2%}",
        f"{scores['kl']:.5f} +- {scores['kl_error']:.5f}",
        f"{scores['kl_99']:.3f}",
        f"{scores['perplexity_ratio']:.4f} +- {scores['perplexity_ratio_error']:.4f}",
    ]
