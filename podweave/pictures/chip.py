"""Picture of what every pod and post-processor of a chip does in each cycle of an epoch."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.predict.chip import predict

_COLUMNS = 2400
"""Time is drawn in at most this many steps."""
_NAMED = 16
"""More operations than this get no legend."""


def draw_chip(program: EpochProgram, path: Path, *, title: str | None = None) -> None:
    """Draw the epoch of a program, coloured by operation; the times are those that the RTL is checked against."""
    config, graph, figures = program.config, program.graph, predict(program)
    program = program.tile_by_tile()
    streams, posts = program.streams, program.posts
    pods, cycles = config.pods, figures.cycles
    # Post-processors below, one row each, as the pods above.
    rows = np.concatenate([streams["pod"], pods + posts["bank"]])
    begin = np.concatenate([streams["start"], posts["start"]])
    length = np.concatenate([program.words_streamed, program.words_read])
    operation = np.concatenate([program.operation_of_stream, program.operation_of_post])
    picture = raster(rows, begin, length, operation, 2 * pods, cycles)

    count = len(graph.operations)
    palette = plt.get_cmap("tab20") if count <= 20 else plt.get_cmap("nipy_spectral")
    colors = palette(np.arange(count) % 20) if count <= 20 else palette(np.linspace(0.05, 0.95, count))
    image = np.ones((*picture.shape, 4))
    image[picture >= 0] = colors[picture[picture >= 0]]

    height = min(9.0, 1.6 + 2 * pods * max(0.045, 0.3 if pods <= 4 else 0.12 if pods <= 16 else 0.02))
    figure, axis = plt.subplots(figsize=(11, height), layout="constrained")
    axis.imshow(image, aspect="auto", interpolation="nearest", extent=(0, cycles, 2 * pods, 0))
    axis.axhline(pods, color="black", linewidth=0.8)
    axis.set_yticks([pods / 2, 1.5 * pods], [f"{pods} pod{'s' * (pods > 1)}", f"{pods} post-\nprocessor{'s' * (pods > 1)}"])
    axis.set_xlabel("cycle of the epoch")
    busy = figures.counters["x_words"].sum() / (cycles * pods)
    used = graph.macs / (cycles * pods * config.array.multipliers)
    text = f"{title or graph.name + ' on ' + config.name}: {cycles:,} cycles, pods stream in {busy:.1%} of them"
    axis.set_title(f"{text}, {used:.1%} of all multipliers used", fontsize=10, loc="left")
    if count <= _NAMED:
        handles = [Patch(color=colors[i], label=n.name) for i, n in enumerate(graph.operations)]
        axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def raster(
    row: NDArray[np.int64],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    operation: NDArray[np.int64],
    rows: int,
    cycles: int,
) -> NDArray[np.int64]:
    """(rows, columns) of operation numbers, -1 where nothing happens."""
    columns = min(cycles, _COLUMNS)
    first = begin * columns // cycles
    last = np.maximum(first + 1, -(-(begin + length) * columns // cycles))
    spans = last - first
    position = np.arange(int(spans.sum())) - np.repeat(np.cumsum(spans) - spans, spans)
    picture = np.full((rows, columns), -1, np.int64)
    picture[np.repeat(row, spans), np.minimum(np.repeat(first, spans) + position, columns - 1)] = np.repeat(operation, spans)
    return picture
