"""Picture of what a pod does in each cycle: weight loads, streams by column tile, and writes."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import itertools

import matplotlib.pyplot as plt
import numpy as np

from podweave.compiler.pod.program import Epoch, Program
from podweave.predict.pod import predicted_spans
from podweave.spec.jobs import Emit

# More bars than this are a solid block: draw the busy stretches instead.
_MAX_BARS = 2000


def draw_activity(program: Program, path: Path, *, title: str, epoch: int = 0) -> None:
    """Draw one epoch of a program; the times are those that the RTL is checked against."""
    chosen, config = program.epochs[epoch], program.config
    rows = _rows(chosen, config.write_latency)
    span = predicted_spans(program)[epoch]
    macs = program.lowered.layer.macs
    figure, axis = plt.subplots(figsize=(11, 2.6), layout="constrained")
    for y, (label, starts, lengths, colors) in enumerate(reversed(rows)):
        starts, lengths, colors = _merged(starts, lengths, colors)
        bars = list(zip(starts.tolist(), lengths.tolist(), strict=True))
        axis.broken_barh(bars, (y - 0.36, 0.72), facecolors=colors, edgecolor="white", linewidth=0.4 if len(bars) < 300 else 0)
        axis.text(-0.008, y, label, transform=axis.get_yaxis_transform(), ha="right", va="center")
    axis.set_yticks([])
    axis.set_xlim(0, span.last_write + 1)
    axis.set_xlabel("cycle of the epoch")
    note = f"{span.cycles:,} cycles"
    if len(program.epochs) == 1:
        note += f", {macs / span.cycles / config.array.multipliers:.1%} of {config.array.rows}x{config.array.cols} multipliers busy"
    else:
        note += f", epoch {epoch + 1} of {len(program.epochs)}"
    axis.set_title(f"{title}: {note}", fontsize=10, loc="left")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    # Text stays text in an SVG, and the same picture is the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=140, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _rows(epoch: Epoch, write_latency: int) -> list[tuple[str, np.ndarray, np.ndarray, list]]:
    loads, streams, words = epoch.loads, epoch.streams, epoch.words_streamed
    palette = plt.get_cmap("tab10")
    load_of = np.cumsum(streams["swap"]) - 1
    # A column tile has its own place in the P banks.
    places = streams["p_bank"] * (streams["p_base"].max() + 1) + streams["p_base"]
    tile = np.unique(places, return_inverse=True)[1]
    colors = [palette(int(t) % 10) for t in tile]
    first_stream = np.searchsorted(load_of, np.arange(len(loads["start"])))
    emits = streams["emit"] != Emit.NONE
    return [
        ("weights requested", loads["start"], loads["rows"], [colors[i] for i in first_stream]),
        ("activations requested", streams["start"], words, colors),
        (
            "partial sums written",
            streams["start"][emits] + write_latency,
            words[emits],
            [c for c, e in zip(colors, emits, strict=True) if e],
        ),
    ]


def _merged(starts: np.ndarray, lengths: np.ndarray, colors: list) -> tuple[np.ndarray, np.ndarray, list]:
    """Adjacent bars of one colour as one, once there are too many to see."""
    if len(starts) <= _MAX_BARS:
        return starts, lengths, colors
    ends = starts + lengths
    joined = (starts[1:] == ends[:-1]) & np.array([a == b for a, b in itertools.pairwise(colors)])
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    last = np.concatenate([first[1:] - 1, [len(starts) - 1]])
    return starts[first], ends[last] - starts[first], [colors[i] for i in first]
