"""A picture of a run over AXI: when each epoch's words were loaded, and when it ran, from the exact model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming

_COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


def draw_accelerator(compiled: Any, timing: HbmTiming, path: Path, *, prefetch: bool = True, cap: int = 0) -> None:
    """Draw the first run of a compiled network: with prefetch as asked for, and below it the other way, on one axis of time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(11, 4.2), sharex=True, layout="constrained")
    for axis, way in zip(axes, (prefetch, not prefetch), strict=True):
        prediction = predict_accelerator(compiled, timing, prefetch=way, cap=cap)
        _draw(axis, prediction.timeline)
        axis.set_title(f"{compiled.graph.name}, prefetch {'on' if way else 'off'}: {prediction.cycles:,} cycles", loc="left")
    axes[1].set_xlabel("cycles from the start; one colour per epoch")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(axis: Any, timeline: list[dict[str, Any]]) -> None:
    for number, epoch in enumerate(timeline):
        color = _COLORS[number % len(_COLORS)]
        axis.broken_barh([(epoch["load_begins"], max(1, epoch["loaded"] - epoch["load_begins"]))], (1.1, 0.8), facecolor=color)
        axis.broken_barh([(epoch["begins"], epoch["ends"] - epoch["begins"])], (0.1, 0.8), facecolor=color)
    axis.set_yticks([0.5, 1.5], ["pods", "memory"])
    axis.set_ylim(0, 2)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
