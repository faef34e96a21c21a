"""Area reports: every distinct block is synthesised once and multiplied up the hierarchy.

Of a chip, the blocks of the networks are synthesised narrow (`synth.networks`), and the modules of the chip, its control and its
accelerator are not: they are wires, but for one constant of a few bits added to the stage number of each network block, which is
left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from podweave.rtl.parts.blocks import Block
from podweave.spec.config import ChipConfig

from .blocks import BlockModule, Emitted, Hierarchy
from .cells import Cells, synthesise
from .errors import SynthesisError
from .flows import DEFAULT_FLOW, flow_commands
from .liberty import Liberty, load_liberty
from .networks import network_areas, network_blocks, network_shares, synthesise_network_block
from .yosys import STARTING, yosys_version

Progress = Callable[[str], None]

_BARE_MAC = Path(__file__).with_name("bare_mac.v")
# Kinds that are nothing but wires between blocks.
_WIRING_KINDS = frozenset({"chip", "control", "accelerator"})


def area_report(
    emitted: Emitted,
    *,
    block: str | None = None,
    liberty: Path | None = None,
    flow: str = DEFAULT_FLOW,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Area of an emitted design, JSON-ready, in the unit of the library.

    SRAM is a black box: it has bits, not area. The logic of a block does not include the blocks that it instantiates.

    Parameters
    ----------
    block : module name or kind; the report is then about that block and what is below it.
    liberty : cell library; gate equivalents (NAND2 = 1) by default.
    flow : one of `flows.FLOWS`; the bare MAC goes through the same.
    progress : called with a line of text before each module.

    Returns
    -------
    dict with these keys:

    ``blocks``
        For each module, parents before children: ``kind``; ``instances``; ``area_each``, ``area`` (all instances) and its
        ``share`` of ``total_area``; ``area_with_children`` of one instance; ``sequential_area`` (all instances) and
        ``sequential_share`` of ``area``; ``cells`` (all instances); ``sram_bits`` (all instances).
    ``total_area``, ``sequential_area``, ``sram_bits``
        Sums over the blocks.
    ``bare_mac_area``
        One registered int8 multiply-accumulate with 32-bit accumulator and nothing else (``bare_mac.v``).
    ``array_area_per_mac_vs_bare_mac``
        Area of one whole array, per multiplier, in bare MACs; None where the report holds no array.
    ``pod_overhead``
        (pod - array) / array; None where the report holds no pod.
    ``chip``
        None but for a whole chip. ``pods``; ``pod_area``: logic of one pod; ``kinds``: for each kind of block, all of it:
        ``instances``, ``area``, ``share``, ``area_per_pod``, ``sram_bits``, ``sram_bits_per_pod``; ``networks``: for x, w, p, y and
        all of them, what `network_shares` gives.
    ``library``, ``unit``, ``flow``, ``flow_name``
        Name of the library, unit of the areas, the Yosys commands and the name of the flow.
    """
    cells = load_liberty(liberty)
    commands = flow_commands(flow, cells)
    hierarchy = Hierarchy(emitted)
    roots = hierarchy.select(block)
    counts = hierarchy.count(roots)
    logic = [name for name in counts if not hierarchy[name].sram_bits and hierarchy[name].kind not in _WIRING_KINDS]
    config = _chip_config(emitted)
    wide = _network_modules(config)

    mac = BlockModule("bare_mac", "bare_mac", _BARE_MAC.read_text(encoding="utf-8"), {}, 0)
    steps = [(mac, "\n"), *((hierarchy[name], hierarchy.boxes(name)) for name in logic)]
    found: dict[str, Cells] = {}
    if progress:
        progress(STARTING)
    yosys_version()
    for step, (module, boxes) in enumerate(steps, 1):
        if progress:
            progress(f"synthesising {module.name} ({step} of {len(steps)})")
        if module.name in wide:
            found[module.name] = synthesise_network_block(wide[module.name], flow=flow, liberty=cells)
        else:
            found[module.name] = synthesise(module, boxes, flow=flow, liberty=cells)
    bare_mac = found.pop(mac.name)

    whole = _with_children(hierarchy, counts, found)
    total = sum(counts[name] * found[name].area for name in logic)
    blocks = {
        name: _block(hierarchy[name], counts[name], found.get(name, Cells(0.0, 0.0, 0)), whole[name], total) for name in counts
    }
    array, pod = (_only(kind, blocks) for kind in ("array", "pod"))
    per_mac = whole[array] / _multipliers(emitted) if array else None
    return {
        "library": cells.name,
        "unit": cells.unit,
        "flow_name": flow,
        "flow": commands,
        "bare_mac_area": bare_mac.area,
        "array_area_per_mac_vs_bare_mac": per_mac / bare_mac.area if per_mac is not None else None,
        "pod_overhead": whole[pod] / whole[array] - 1 if pod and array else None,
        "total_area": round(total, 2),
        "sequential_area": round(sum(found[name].sequential_area * counts[name] for name in logic), 2),
        "sram_bits": sum(row["sram_bits"] for row in blocks.values()),
        "blocks": blocks,
        "chip": _chip(config, blocks, found, whole[pod], total) if config and pod and block is None else None,
    }


def pod_area(emitted: Emitted, *, flow: str, liberty: Liberty) -> float:
    """Area of all logic of an emitted design that has no networks, such as a pod; as its `area_report` would say."""
    hierarchy = Hierarchy(emitted)
    counts = hierarchy.count([hierarchy.top])
    logic = [name for name in counts if not hierarchy[name].sram_bits]
    return sum(counts[name] * synthesise(hierarchy[name], hierarchy.boxes(name), flow=flow, liberty=liberty).area for name in logic)


def _chip_config(emitted: Emitted) -> ChipConfig | None:
    """The configuration of a chip; None for anything else."""
    content = emitted.sidecar.get("config", {})
    return ChipConfig.from_dict(content) if "pods" in content else None


def _network_modules(config: ChipConfig | None) -> dict[str, Block]:
    if config is None:
        return {}
    return {found.block.module_name: found.block for blocks in network_blocks(config).values() for found in blocks}


def _chip(
    config: ChipConfig, blocks: dict[str, dict[str, Any]], found: dict[str, Cells], pod: float, total: float
) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {}
    for row in blocks.values():
        if row["kind"] not in _WIRING_KINDS:
            kind = kinds.setdefault(row["kind"], {"instances": 0, "area": 0.0, "sram_bits": 0})
            for figure in kind:
                kind[figure] += row[figure]
    for kind in kinds.values():
        kind |= {"share": kind["area"] / total if total else 0.0, "area_per_pod": round(kind["area"] / config.pods, 2)}
        kind["sram_bits_per_pod"] = kind["sram_bits"] // config.pods
    areas = network_areas(config, lambda block: found[block.module_name].area)
    return {
        "pods": config.pods,
        "pod_area": round(pod, 2),
        "kinds": kinds,
        "networks": network_shares(areas, pods=config.pods, pod_area=pod, chip_area=total),
    }


def _with_children(hierarchy: Hierarchy, counts: dict[str, int], found: dict[str, Cells]) -> dict[str, float]:
    whole: dict[str, float] = {}
    for name in reversed(counts):
        below = sum(instances * whole[child] for child, instances in hierarchy[name].children.items())
        whole[name] = below + (found[name].area if name in found else 0.0)
    return whole


def _block(module: BlockModule, count: int, cells: Cells, whole: float, total: float) -> dict[str, Any]:
    return {
        "kind": module.kind,
        "instances": count,
        "area_each": round(cells.area, 2),
        "area": round(count * cells.area, 2),
        "share": count * cells.area / total if total else 0.0,
        "area_with_children": round(whole, 2),
        "sequential_area": round(count * cells.sequential_area, 2),
        "sequential_share": cells.sequential_area / cells.area if cells.area else 0.0,
        "cells": count * cells.cells,
        "sram_bits": count * module.sram_bits,
    }


def _only(kind: str, blocks: dict[str, dict[str, Any]]) -> str | None:
    names = [name for name, block in blocks.items() if block["kind"] == kind]
    if len(names) > 1:
        raise SynthesisError(f"the design has several kinds of {kind} ({', '.join(names)}): choose one with block=")
    return names[0] if names else None


def _multipliers(emitted: Emitted) -> int:
    config = emitted.sidecar["config"]
    array = config["array"] if "array" in config else config["pod"]["array"]
    return int(array["rows"]) * int(array["cols"])
