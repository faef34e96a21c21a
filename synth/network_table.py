"""The networks of chips of many sizes beside the area of their pods."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import Block
from podweave.rtl.pod.pod import Pod
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError

from .area import Progress, pod_area
from .flows import DEFAULT_FLOW
from .liberty import load_liberty
from .networks import network_areas, network_shares, synthesise_network_block
from .yosys import STARTING, yosys_version

PODS, Y_PLANES, PIPELINES = (16, 64, 256), (1, 2), (1, 2, 3)


def network_table(
    config: ChipConfig,
    *,
    pods: tuple[int, ...] = PODS,
    y_planes: tuple[int, ...] = Y_PLANES,
    pipelines: tuple[int, ...] = PIPELINES,
    liberty: Path | None = None,
    flow: str = DEFAULT_FLOW,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Area of the networks as shares of pod area, for chips like ``config`` but for pods, planes of Y, and stages per register.

    A pod is its logic without SRAM, made for the very chip. Returns, JSON-ready, ``library``, ``unit``, ``flow_name`` and ``rows``,
    each with ``pods``, ``y_planes``, ``pipeline``, ``pod_area`` and ``networks`` (see `network_shares`).
    """
    if config.pods == 1:
        raise ConfigError(f"a table of networks is for chips of several pods: {config.name} has one, and its networks are wires")
    cells = load_liberty(liberty)
    if progress:
        progress(STARTING)
    yosys_version()
    known: dict[str, float] = {}

    def area(block: Block) -> float:
        if block.module_name not in known:
            known[block.module_name] = synthesise_network_block(block, flow=flow, liberty=cells).area
        return known[block.module_name]

    rows = []
    for n, k, pipeline in product(pods, y_planes, pipelines):
        if progress:
            progress(f"synthesising {n} pods, {k} planes of Y, {pipeline} stages per register")
        chip = config.replace(pods=n, banks=n, y_planes=k, pipeline=pipeline)
        pod = pod_area(emit_block(Pod(chip)), flow=flow, liberty=cells)
        shares = network_shares(network_areas(chip, area), pods=n, pod_area=pod)
        rows.append({"pods": n, "y_planes": k, "pipeline": pipeline, "pod_area": round(pod, 2), "networks": shares})
    return {"library": cells.name, "unit": cells.unit, "flow_name": flow, "rows": rows}
