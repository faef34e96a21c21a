"""Synthesis of one module into cells, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from .blocks import BlockModule
from .errors import SynthesisError
from .flows import REPORT, flow_commands, flow_files
from .liberty import Liberty
from .yosys import run_yosys, yosys_version

# A 16x16 group takes about a minute; time grows a little faster than the number of multipliers.
TIMEOUT = 3600.0


@dataclass(frozen=True)
class Cells:
    """Library cells of one module without what it instantiates. Areas in the library's unit."""

    area: float
    sequential_area: float
    cells: int


def cache_directory() -> Path:
    """Where results are kept: below ``PODWEAVE_CACHE``, or below podweave's folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("PODWEAVE_CACHE") or f"{base}/podweave", "area").expanduser().absolute()


def synthesise(module: BlockModule, boxes: str, *, flow: str, liberty: Liberty) -> Cells:
    """Cells of a module; ``boxes`` is the Verilog of the blocks that it instantiates."""
    commands = [command.format(top=module.name) for command in flow_commands(flow, liberty)]
    files = {"design.v": module.source, "boxes.v": boxes, **flow_files(flow, liberty)}
    key = json.dumps([yosys_version(), commands, files, module.children], sort_keys=True)
    kept = cache_directory() / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    try:
        return Cells(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # Not there yet, or not readable: made anew.
    written = run_yosys(commands, files, [REPORT], purpose=f"synthesising {module.name}", timeout=TIMEOUT)
    result = _read_report(written[REPORT], module)
    _keep(kept, json.dumps(asdict(result)))
    return result


def _read_report(text: str, module: BlockModule) -> Cells:
    try:
        report = json.loads(text)["modules"][f"\\{module.name}"]
        kinds: dict[str, int] = report.get("num_cells_by_type", {})
        total = int(report["num_cells"])
        area, sequential = float(report.get("area", 0)), float(report.get("sequential_area", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise SynthesisError(f"Yosys wrote an incomplete area report of {module.name} ({error!r})") from error
    # Markers of flattening, not cells.
    total -= kinds.pop("$scopeinfo", 0)
    if total != sum(kinds.values()):
        raise SynthesisError(f"Yosys wrote an incomplete area report of {module.name}: {total} cells, {kinds}")
    unmapped = sorted(kind for kind in kinds if kind.startswith("$"))
    if unmapped:
        raise SynthesisError(f"the library has no cells for {', '.join(unmapped)}, which {module.name} needs")
    for child, instances in module.children.items():
        if kinds.get(child, 0) != instances:
            raise SynthesisError(
                f"{module.name} is said to hold {instances} instances of {child}, but its netlist has {kinds.get(child, 0)}"
            )
    return Cells(area, sequential, total - sum(module.children.values()))


def _keep(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; a cache that cannot be written is no reason to fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as part:
            part.write(text)
        os.replace(part.name, path)
    except OSError:
        pass
