"""Equivalence of blocks as they are emitted and as synthesis makes cells of them, register by register."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.chip.sequencer import Sequencer
from podweave.rtl.control.run_control import RunControl
from podweave.rtl.link.crc import FlitCrc
from podweave.rtl.network.butterfly import WriteButterfly
from podweave.rtl.parts.blocks import Block
from podweave.rtl.parts.job_queue import JobQueue
from podweave.rtl.pod.load_engine import LoadEngine
from podweave.rtl.pod.stream_engine import StreamEngine
from podweave.rtl.post.post_engine import PostEngine
from podweave.spec.layout import Field, Layout
from podweave.synth.flows import DEFAULT_FLOW, flow_commands, flow_files
from podweave.synth.liberty import load_liberty

from .errors import FormalError
from .faults import Fault, planted
from .small import small
from .tools import run_yosys

_STATUS, _CELLS = "status.txt", "cells.il"
_FOUND = re.compile(r"(\d+) are proven and (\d+) are unproven")
# Clock gates make clocks of enables, which a comparison of registers cannot follow, and the report of areas is not wanted.
_LEFT_OUT = ("clockgate", "techmap -map clock_gate.v", "tee")


@dataclass(frozen=True)
class Equivalence:
    """A block, and a fault that makes it another one."""

    block: str
    make: Callable[[], Block]
    fault: Fault

    @property
    def name(self) -> str:
        return f"equivalence.{self.block}"


def compare(each: Equivalence, directory: Path, *, timeout: float) -> dict[str, Any]:
    """JSON-ready: registers and outputs that were compared, and whether the one of a planted fault was told apart."""
    begin = time.monotonic()
    emitted = emit_block(each.make())
    top, text = emitted.top, emitted.verilog
    proven, unproven = _compared(top, text, text, directory, timeout)
    seconds = time.monotonic() - begin
    with planted(each.fault):
        other = emit_block(each.make()).verilog
    _, different = _compared(top, other, text, directory, timeout)
    return {
        "name": each.name,
        "block": each.block,
        "flow": DEFAULT_FLOW,
        "compared": proven + unproven,
        "unproven": unproven,
        "seconds": round(seconds, 1),
        "faults": [{"fault": str(each.fault), "found": different > 0}],
        "seconds_in_all": round(time.monotonic() - begin, 1),
        "verdict": "pass" if proven and not unproven and different else "fail",
    }


def _compared(top: str, emitted: str, synthesised: str, directory: Path, timeout: float) -> tuple[int, int]:
    """Outputs and registers of a block that are proven equal, and those that are not, to the cells made of ``synthesised``."""
    library = load_liberty()
    flow = [command.format(top=top) for command in flow_commands(DEFAULT_FLOW, library)]
    files = {"emitted.v": emitted, "design.v": synthesised, "boxes.v": "\n", **flow_files(DEFAULT_FLOW, library)}
    for name, text in files.items():
        directory.joinpath(name).write_text(text, encoding="utf-8")
    commands = [
        *(command for command in flow if not command.startswith(_LEFT_OUT)),
        # Not as Verilog, which would name wires anew, some like others in the emitted one.
        f"write_rtlil {_CELLS}",
        "design -reset",
        "read_verilog -sv emitted.v",
        f"prep -flatten -top {top}",
        "memory_map",
        f"rename {top} emitted",
        "design -stash emitted",
        f"read_rtlil {_CELLS}",
        "read_liberty -ignore_miss_func library.lib",
        f"hierarchy -top {top}",
        "proc",
        "flatten",
        f"rename {top} cells",
        "design -stash cells",
        *(f"design -copy-from {each} -as {each} {each}" for each in ("emitted", "cells")),
        "equiv_make emitted cells both",
        "hierarchy -top both",
        "opt_clean",
        "dffunmap",
        "equiv_struct",
        "equiv_simple",
        "equiv_induct",
        f"tee -o {_STATUS} equiv_status",
    ]
    run_yosys(commands, directory, (_STATUS,), purpose=f"comparing {top} with its cells", timeout=timeout)
    found = _FOUND.search(directory.joinpath(_STATUS).read_text(encoding="utf-8"))
    if found is None:
        raise FormalError(f"Yosys did not say what of {top} is equivalent")
    return int(found[1]), int(found[2])


_CONFIG = small()
EQUIVALENCES = (
    Equivalence(
        "job_queue",
        lambda: JobQueue(Layout("job", (Field("value", 4, ""),)), 4),
        Fault("rtl.parts.job_queue", "self.ready.eq(level != self.depth)", "self.ready.eq(level != self.depth - 1)"),
    ),
    Equivalence(
        "write_butterfly",
        lambda: WriteButterfly(stages=2, payload=4, pipeline=1),
        Fault("rtl.network.butterfly", "valid_out[wire].eq(want[low] | want[high])", "valid_out[wire].eq(want[low] ^ want[high])"),
    ),
    Equivalence(
        "load_engine",
        lambda: LoadEngine(_CONFIG),
        Fault("rtl.pod.load_engine", "self.busy.eq(active | more)", "self.busy.eq(active)"),
    ),
    Equivalence(
        "stream_engine",
        lambda: StreamEngine(_CONFIG),
        Fault("rtl.pod.stream_engine", "(x_address < memory.x_words)", "(x_address <= memory.x_words)"),
    ),
    Equivalence(
        "post_engine",
        lambda: PostEngine(_CONFIG),
        Fault("rtl.post.post_engine", "whole.eq(p_fits & (first | ~spoilt))", "whole.eq(p_fits)"),
    ),
    Equivalence(
        "sequencer",
        lambda: Sequencer(3),
        Fault("rtl.chip.sequencer", "wait.eq(self.drain - 1)", "wait.eq(self.drain - 2)"),
    ),
    Equivalence(
        "run_control",
        lambda: RunControl(_CONFIG),
        Fault("rtl.control.run_control", "needs_reset.eq(dirty | stopping |", "needs_reset.eq(dirty |"),
    ),
    Equivalence(
        "flit_crc",
        lambda: FlitCrc(32),
        Fault(
            "rtl.link.crc",
            "bits += [self.user[7 - i] if 7 - i < len(self.user)",
            "bits += [self.user[7 - i] if 7 - i + 1 < len(self.user)",
        ),
    ),
)
