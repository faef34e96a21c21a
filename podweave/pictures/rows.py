"""Picture of a run of rows over AXI: when words were loaded, and what pods and post-processors did, by operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from podweave.compiler.rows.spans import Spans, pod_spans, post_spans
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config_parts import FILL_CYCLES

from .chip import raster


def draw_rows(compiled: Any, timing: HbmTiming, path: Path, *, prefetch: bool = True, cap: int = 0) -> None:
    """Draw the first run of a network with rows on one chip; operations of the same name in several layers have one colour."""
    prediction = predict_accelerator(compiled, timing, prefetch=prefetch, cap=cap)
    names = list(dict.fromkeys(_shown(name) for epoch in prediction.timeline for name in epoch["operations"]))
    pods, cycles = compiled.config.pods, prediction.cycles
    none = np.zeros(0, np.int64)
    spans = Spans(none, none, none, none)
    for program, epoch in zip(compiled.epochs, prediction.timeline, strict=True):
        shown = [_shown(operation.name) for operation in program.graph.operations]
        number = np.array([names.index(name) if name in names else -1 for name in shown])
        for found, row in ((pod_spans(program), 0), (post_spans(program), pods)):
            at = epoch["begins"] + FILL_CYCLES
            spans += Spans(found.node + row, found.begin + at, found.end + at, number[found.operation])
    picture = raster(spans.node, spans.begin, spans.end - spans.begin, spans.operation, 2 * pods, cycles + 1)
    colors = plt.get_cmap("tab20")(np.arange(len(names)) % 20)
    image = np.ones((*picture.shape, 4))
    image[picture >= 0] = colors[picture[picture >= 0]]

    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, layout="constrained", height_ratios=(1, 6))
    for index, epoch in enumerate(prediction.timeline):
        loading = (epoch["load_begins"], max(1, epoch["loaded"] - epoch["load_begins"]))
        above.broken_barh([loading], (0.1, 0.8), facecolor=("0.45", "0.7")[index % 2])
    above.set_ylim(0, 1)
    above.set_yticks([0.5], ["memory"])
    below.imshow(image, aspect="auto", interpolation="nearest", extent=(0, cycles + 1, 2 * pods, 0))
    below.axhline(pods, color="black", linewidth=0.8)
    below.set_yticks([pods / 2, 1.5 * pods], [f"{pods} pods", f"{pods} post-\nprocessors"])
    below.set_xlabel("cycles from the start; memory: one shade per epoch")
    title = f"{compiled.graph.name} on {compiled.config.name}, prefetch {'on' if prefetch else 'off'}: {cycles:,} cycles"
    above.set_title(title, fontsize=10, loc="left")
    handles = [Patch(color=color, label=name) for color, name in zip(colors, names, strict=True)]
    below.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    for axis in (above, below):
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _shown(name: str) -> str:
    """Of an operation of a layer of several, what it has in common with those of the others."""
    return name.rpartition(".")[2]
