"""Picture of a run of several chips in a ring: what memory, pods and links of each are at over time, from the exact model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from podweave.compiler.collective.program import CollectiveProgram
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.rows.spans import nested_spans
from podweave.predict.accelerator import Prediction
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.config_parts import FILL_CYCLES

Floats = NDArray[np.float64]
# By lane, colours and names of what is stacked in it, from below.
_LANES = {
    "links": {"#c44e52": "a collective", "#eeb4b6": "of it, waits for the neighbour"},
    "pods": {"#4c72b0": "weights", "#dd8452": "attention", "#55a868": "rows (post-processors)", "0.85": "latency"},
    "memory": {"0.3": "beats of prefetch rings", "0.6": "other beats read"},
}
_BENEATH = "#fbe6e7"
"""Behind what memory does in a collective."""
_COLUMNS = 2400
"""Time is drawn in at most this many steps."""
_PIXELS, _BETWEEN, _CHIPS = 24, 3, 14
"""Of a lane, between lanes, and between chips."""


def draw_system(
    networks: Sequence[CompiledNetwork],
    path: Path,
    *,
    timing: HbmTiming,
    prefetch: bool = True,
    beneath: bool = True,
    starts: Sequence[int],
    **settings: Any,
) -> None:
    """Draw the first run of chips; below it, on the same axis of time, the same without prefetch, or with all that is allowed if
    ``prefetch``, or ``beneath`` collectives, is off. ``settings``: the rest of what `predict_system` takes.

    A lane shows which share of the cycles of a step goes into what; of memory, of the beats that it can send in them.
    """
    all_on = prefetch and beneath
    ways = [(prefetch, beneath), (not all_on, True)]
    names = [name for name in _LANES if name != "links" or any(network.collectives for network in networks)]
    late = np.array(starts) - min(starts)
    runs = []
    for way in ways:
        found = predict_system(networks, timing, prefetch=way[0], beneath=way[1], starts=starts, **settings)
        runs.append((found, max(int(begin) + each.cycles for begin, each in zip(late, found, strict=True))))
    longest = max(cycles for _, cycles in runs)
    edges = np.linspace(0, longest + 1, min(longest + 1, _COLUMNS) + 1)

    height = len(networks) * len(names) * (0.24 if len(networks) <= 4 else 0.15)
    figure, axes = plt.subplots(2, 1, figsize=(11.5, 2 * height + 1.6), sharex=True, layout="constrained")
    for axis, way, (predictions, cycles) in zip(axes, ways, runs, strict=True):
        lanes = [
            lanes_of(network, prediction, timing, edges - begin)
            for network, prediction, begin in zip(networks, predictions, late, strict=True)
        ]
        _draw(axis, lanes, names, longest + 1)
        what = "prefetch off" if not way[0] else "prefetch on" if way[1] else "prefetch on, but not in collectives"
        network = networks[0]
        title = f"{network.graph.name} on {len(networks)} chips {network.config.name}, {what}: {cycles:,} cycles"
        axis.set_title(title, fontsize=10, loc="left")
    axes[1].set_xlabel("cycles from the first start")
    handles = [Patch(color=color, label=f"{name}: {what}") for name in names for color, what in _LANES[name].items()]
    axes[0].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podweave"}):
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def shares(edges: Floats, begin: NDArray[Any], end: NDArray[Any]) -> Floats:
    """Of each step between ``edges``, the share that is in stretches [``begin``, ``end``), which do not overlap, and are in order.

    >>> shares(np.array([0.0, 4.0, 8.0, 12.0]), np.array([3, 9]), np.array([8, 10]))
    array([0.25, 1.  , 0.25])
    """
    if not len(begin):
        return np.zeros(len(edges) - 1)
    sums = np.cumsum(end - begin)
    before = np.stack([sums - (end - begin), sums], axis=1).ravel()
    found: Floats = np.diff(np.interp(edges, np.stack([begin, end], axis=1).ravel(), before)) / np.diff(edges)
    return found


def lanes_of(network: CompiledNetwork, prediction: Prediction, timing: HbmTiming, edges: Floats) -> dict[str, Floats]:
    """By lane of a chip, the shares of what is stacked in it: (kinds, steps)."""
    epochs = list(zip(network.epochs, prediction.timeline, strict=True))
    collectives = np.array(
        [
            (epoch["begins"], epoch["begins"] + epoch["for_neighbour"], epoch["ends"] + 1)
            for program, epoch in epochs
            if isinstance(program, CollectiveProgram)
        ],
        np.int64,
    ).reshape(-1, 3)
    begin, met, end = collectives.T
    waits = shares(edges, begin, met)
    works: list[list[NDArray[np.int64]]] = [[np.zeros((0, 2), np.int64)] for _ in range(4)]
    for program, epoch in epochs:
        if isinstance(program, CollectiveProgram):
            continue
        for stretches, spans in zip(works, nested_spans(program), strict=False):
            stretches.append(np.stack(spans.union, axis=1) + epoch["begins"] + FILL_CYCLES)
        works[3].append(np.array([(epoch["begins"], epoch["ends"] + 1)], np.int64))
    # Each is in the next one.
    nested = np.stack([shares(edges, *np.concatenate(stretches).T) for stretches in works])
    memory = []
    for arrivals in (prediction.ahead, prediction.others):
        own = [shares(edges, pieces[:, 0] / 16, (pieces[:, 0] + pieces[:, 1] * timing.beat_sixteenths) / 16) for pieces in arrivals]
        memory.append(np.mean(own, axis=0))
    return {
        "links": np.stack([shares(edges, begin, end) - waits, waits]),
        "pods": np.diff(nested, axis=0, prepend=0),
        "memory": np.stack(memory),
    }


def _draw(axis: Any, chips: Sequence[dict[str, Floats]], names: Sequence[str], cycles: int) -> None:
    steps = chips[0]["pods"].shape[1]
    pitch = len(names) * (_PIXELS + _BETWEEN) - _BETWEEN + _CHIPS
    image = np.ones((len(chips) * pitch - _CHIPS, steps, 3))
    ticks = []
    for rank, lanes in enumerate(chips):
        beneath = lanes["links"].sum(axis=0)[:, None]
        for number, name in enumerate(names):
            top = rank * pitch + number * (_PIXELS + _BETWEEN)
            behind = np.array(to_rgb(_BENEATH if name == "memory" else "0.965"))
            ground = beneath * behind + (1 - beneath) * np.array(to_rgb("0.965"))
            image[top : top + _PIXELS] = _stacked(lanes[name], [to_rgb(color) for color in _LANES[name]], ground)
            ticks.append((top + _PIXELS / 2, name))
        middle = rank * pitch + (pitch - _CHIPS) / 2
        axis.text(-0.075, middle, f"chip {rank}", transform=axis.get_yaxis_transform(), ha="right", va="center", fontsize=9)
    axis.imshow(image, aspect="auto", interpolation="antialiased", extent=(0, cycles, len(image), 0))
    axis.set_yticks(*zip(*ticks, strict=True), fontsize=7 if len(chips) <= 4 else 5)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _stacked(parts: Floats, colors: Sequence[tuple[float, float, float]], ground: Floats) -> Floats:
    """Pixels of a lane: (pixels, steps, 3), before a ``ground`` of (steps, 3)."""
    heights = np.cumsum(parts, axis=0)
    level = (_PIXELS - 0.5 - np.arange(_PIXELS)) / _PIXELS
    kind = (level[:, None, None] > heights[None]).sum(axis=1)
    found = np.broadcast_to(ground, (*kind.shape, 3)).copy()
    filled = kind < len(colors)
    found[filled] = np.array(colors)[kind[filled]]
    return found
