"""Synthesis flows: the Yosys commands that turn one module into cells, whichever module it is."""

from __future__ import annotations

from pathlib import Path

from .errors import SynthesisError
from .liberty import FullAdder, Liberty

FLOWS = {
    "booth": "Booth rows and full-adder trees for sums of products, full-adder cells, clock gates for register enables",
    "plain": "Yosys's synth as it comes: the figures that other projects publish are made like this",
}
DEFAULT_FLOW = "booth"
REPORT = "report.json"

_BOOTH = Path(__file__).with_name("booth.v")
_READ = ["read_verilog -sv design.v", "read_verilog -sv -lib boxes.v", "hierarchy -check -top {top}", "proc", "chformal -remove"]
_MAP = [
    "dfflibmap -liberty library.lib",
    "abc -liberty library.lib",
    "opt_clean",
    f"tee -q -o {REPORT} stat -liberty library.lib -json",
]
# What a library without clock gates can build one from.
_CLOCK_GATE = """\
module podweave_clock_gate (input clock, input enable, output gated);
	wire held;
	\\$_DLATCH_N_ latch (.E(clock), .D(enable), .Q(held));
	\\$_AND_ gate (.A(clock), .B(held), .Y(gated));
endmodule
"""


def flow_commands(flow: str, liberty: Liberty) -> list[str]:
    """The commands of a flow, with ``{top}`` for the module.

    They read ``design.v`` (the module), ``boxes.v`` (what it instantiates, as black boxes) and `flow_files`, and write
    `REPORT`.
    """
    if flow not in FLOWS:
        raise SynthesisError(f"there is no flow {flow!r}; the flows are {', '.join(FLOWS)}")
    if flow == "plain":
        return [*_READ, "synth -flatten -top {top}", *_MAP]
    maps = "-extra-map booth.v"
    prelude = []
    if liberty.full_adder:
        maps += " -extra-map full_adder.v"
        prelude = ["read_liberty -lib -ignore_miss_func library.lib"]
    return [
        *prelude,
        *_READ,
        "flatten -noscopeinfo",
        "opt_expr",
        "opt_clean",
        # Before `synth` narrows operands: alumacc does not join a product to a sum when the widths between them shrank.
        "alumacc -macc-only",
        "techmap -map booth.v",
        f"synth -flatten -top {{top}} {maps}",
        *_gate_clocks(liberty),
        *_MAP,
    ]


def _gate_clocks(liberty: Liberty) -> list[str]:
    # From 4 registers on, a clock gate is smaller than their multiplexers.
    if liberty.has_clock_gate:
        return ["clockgate -liberty library.lib -min_net_size 4"]
    if liberty.has_latch:
        return ["clockgate -pos podweave_clock_gate enable:clock:gated -min_net_size 4", "techmap -map clock_gate.v"]
    return []


def flow_files(flow: str, liberty: Liberty) -> dict[str, str]:
    """The files, by name, that a flow reads beside the design."""
    files = {"library.lib": liberty.text}
    if flow == "booth":
        files["booth.v"] = _BOOTH.read_text(encoding="utf-8")
        if liberty.full_adder:
            files["full_adder.v"] = _full_adder_map(liberty.full_adder)
        if not liberty.has_clock_gate:
            files["clock_gate.v"] = _CLOCK_GATE
    return files


def _full_adder_map(adder: FullAdder) -> str:
    """Techmap of ``$fa`` to a library cell; abc cannot map to cells with two outputs, but does better with constant inputs."""
    a, b, c = adder.inputs
    return f"""\
(* techmap_celltype = "$fa" *)
module _80_full_adder (A, B, C, X, Y);
	parameter WIDTH = 1;
	parameter _TECHMAP_CONSTMSK_A_ = 0;
	parameter _TECHMAP_CONSTMSK_B_ = 0;
	parameter _TECHMAP_CONSTMSK_C_ = 0;
	(* force_downto *) input [WIDTH-1:0] A, B, C;
	(* force_downto *) output [WIDTH-1:0] X, Y;
	localparam [WIDTH-1:0] CONSTANT = _TECHMAP_CONSTMSK_A_ | _TECHMAP_CONSTMSK_B_ | _TECHMAP_CONSTMSK_C_;
	genvar i;
	generate for (i = 0; i < WIDTH; i = i + 1) begin : bit
		if (CONSTANT[i]) begin
			assign Y[i] = A[i] ^ B[i] ^ C[i];
			assign X[i] = (A[i] & B[i]) | (C[i] & (A[i] | B[i]));
		end else
			{adder.cell} adder (.{a}(A[i]), .{b}(B[i]), .{c}(C[i]), .{adder.carry}(X[i]), .{adder.sum}(Y[i]));
	end endgenerate
endmodule
"""
