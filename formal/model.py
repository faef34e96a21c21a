"""Models: what solvers read, made of the emitted Verilog of a block and of its harness."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import collecting_placements

from .errors import FormalError
from .harness import TOP, Harness
from .tools import run_yosys

SMT, AIGER = "model.smt2", "model.aig"
_MODULE = re.compile(r"^module (\w+)\b.*?^endmodule\n", re.MULTILINE | re.DOTALL)
# The contract of an SRAM: a read of the word that is written in the same cycle may return anything.
_SRAM_READ = """\
  always @(posedge clk) begin
    if (read_enable) read_data <= words[read_address];
"""
_SRAM_ANYTHING = """\
  (* anyseq *) wire [$bits(read_data)-1:0] anything;
  always @(posedge clk) begin
    if (read_enable) read_data <= write_enable && write_address == read_address ? anything : words[read_address];
"""

# Registers without reset and memories begin with anything; memories become registers, since those of harnesses are small.
_PREPARE = [
    "read_verilog -sv design.v",
    "read_rtlil harness.il",
    f"prep -flatten -top {TOP}",
    "memory_map -formal",
    "async2sync",
    "chformal -assume -early",
    "opt_clean",
    "formalff -setundef -clk2ff -ff2anyinit",
    "setundef -undriven -anyseq",
    "opt -fast",
    "dffunmap",
    "opt_clean",
]
_WRITE = {
    SMT: [f"write_smt2 -wires {SMT}"],
    AIGER: [
        "chformal -cover -remove",
        "setattr -unset keep",
        "delete -output",
        "opt -full",
        "techmap",
        "opt -fast",
        "formalff -clk2ff -ff2anyinit",
        "simplemap",
        "dffunmap",
        "aigmap",
        "opt_clean",
        f"write_aiger -I -B -zinit -no-startoffset {AIGER}",
    ],
}


@dataclass(frozen=True)
class Model:
    """Files of a model in ``directory``, and what its harness states."""

    directory: Path
    facts: list[str]
    covers: list[str]


def make_model(build: Callable[[Harness], None], directory: Path) -> Model:
    """Writes the files of a model into ``directory``; ``build`` states the rules."""
    harness = Harness()
    with collecting_placements() as placed:
        build(harness)
        text = harness.text()
    modules: dict[str, str] = {}
    for block in placed:
        verilog = emit_block(block).verilog
        modules |= {match[1]: match[0] for match in _MODULE.finditer(verilog)}
    for name, verilog in modules.items():
        if _SRAM_READ in verilog:
            modules[name] = verilog.replace(_SRAM_READ, _SRAM_ANYTHING)
        elif name.startswith("sram_"):
            raise FormalError(f"{name} does not read as its model expects: {_SRAM_READ!r}")
    directory.joinpath("design.v").write_text("\n".join(modules.values()), encoding="utf-8")
    directory.joinpath("harness.il").write_text(text, encoding="utf-8")
    run_yosys([*_PREPARE, *_WRITE[SMT], *_WRITE[AIGER]], directory, (SMT, AIGER), purpose="making a model")
    return Model(directory, harness.facts, harness.covers)
