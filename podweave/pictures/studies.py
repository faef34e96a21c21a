"""Pictures of studies: what the report calls its chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

# More series than this side by side are thinner than their edges: lines then.
_MOST_BARS = 8


def draw_study(report: dict[str, Any], path: Path) -> None:
    """Draw ``report["chart"]``: ours solid, what is published hatched (dashed as lines); a missing value leaves a gap."""
    chart = report["chart"]
    names, series = chart["x"], [one for one in chart["series"] if any(value is not None for value in one["values"])]
    figure, axis = plt.subplots(figsize=(max(6.5, 1.1 * len(names) + 2), 3.8), layout="constrained")
    places, width = np.arange(len(names)), 0.84 / max(1, len(series))
    palette = plt.get_cmap("tab10")
    for number, one in enumerate(series):
        values = np.array([np.nan if value is None else value for value in one["values"]], float)
        label = one["name"] if one["published"] else f"{one['name']} (ours)"
        color = palette(number % 10)
        if len(series) > _MOST_BARS:
            axis.plot(places, values, "o--" if one["published"] else "o-", color=color, label=label)
            continue
        style: dict[str, Any] = {"color": color}
        if one["published"]:
            style = {"facecolor": "white", "edgecolor": color, "hatch": "////"}
        axis.bar(places + (number - (len(series) - 1) / 2) * width, values, 0.92 * width, label=label, **style)
    axis.set_xticks(places, names, rotation=20 if max(map(len, names), default=0) > 9 else 0)
    axis.set_xlabel(chart["x_label"])
    axis.set_ylabel(chart["y_label"])
    axis.set_ylim(bottom=0)
    axis.set_title(report["title"], fontsize=10, loc="left")
    if series:
        axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    # Text stays text in an SVG, and the same picture is the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=140, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
