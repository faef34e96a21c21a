"""Pictures of how near integers are to something else, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

_NAMED = 40
"""Layers whose names have room below the axis; of more, the lowest are named in the picture."""
_LOWEST = 5


def draw_sqnr(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw ``sqnr_db`` of rows in their order, a colour for each operator; where it is None, a mark at the top: no noise."""
    count = len(rows)
    figure, axis = plt.subplots(figsize=(min(16.0, max(6.5, 0.22 * count + 3)), 4.2), layout="constrained")
    values = np.array([np.nan if row["sqnr_db"] is None else row["sqnr_db"] for row in rows], float)
    palette = plt.get_cmap("tab10")
    operators = list(dict.fromkeys(row["operator"] for row in rows))
    axis.plot(np.arange(count), values, color="0.8", linewidth=1, zorder=1)
    for number, operator in enumerate(operators):
        places = np.array([place for place, row in enumerate(rows) if row["operator"] == operator])
        axis.scatter(places, values[places], s=18, color=palette(number % 10), label=operator, zorder=2)
    known = values[~np.isnan(values)]
    bottom, top = min(0.0, known.min(initial=0.0)), 1.1 * max(1.0, known.max(initial=1.0))
    equal = np.flatnonzero(np.isnan(values))
    if equal.size:
        axis.scatter(equal, np.full(equal.size, top), marker="^", s=22, color="0.5", label="no noise", clip_on=False)
    if count <= _NAMED:
        axis.set_xticks(np.arange(count), [row["operation"] for row in rows], rotation=90, fontsize=6)
    else:
        axis.set_xlabel("layer, in the order of the network")
        for place in [place for place in np.argsort(values)[:_LOWEST] if not np.isnan(values[place])]:
            axis.annotate(rows[place]["operation"], (place, values[place]), fontsize=6, xytext=(0, -9), textcoords="offset points")
    axis.set_ylim(bottom, top)
    axis.set_ylabel("signal over noise (dB)")
    axis.set_title(title, fontsize=10, loc="left")
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    # Text stays text in an SVG, and the same picture is the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=140, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
