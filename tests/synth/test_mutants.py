"""Mutants of a small module: what they are, that one of them is chosen, and which are proven to be no faults."""

from __future__ import annotations

import dataclasses
import re

import pytest

from podweave.synth.equivalence import is_equivalent
from podweave.synth.errors import SynthesisError
from podweave.synth.mutants import CHOICE, Mutants, Mutation, mutants_of
from podweave.synth.yosys import run_yosys

# Words wait a cycle; what waits is of no consequence unless it is valid. A word of nothing but ones is never valid.
MODULE = """
module keeper(clk, rst, valid, word, full, sum);
  input clk;
  input rst;
  input valid;
  input [3:0] word;
  output full;
  output [3:0] sum;
  reg held;
  reg [3:0] kept;
  reg [3:0] total;
  wire [3:0] unread;
  assign full = & total;
  assign unread = kept ^ total;
  assign sum = held ? kept + total : total;
  always @(posedge clk)
    if (rst) held <= 1'd0;
    else held <= valid;
  always @(posedge clk)
    kept <= word;
  always @(posedge clk)
    if (rst) total <= 4'd0;
    else total <= sum;
endmodule
"""


def made(count: int = 12, seed: int = 3, **options: int) -> Mutants:
    return mutants_of("keeper", MODULE, others={}, count=count, seed=seed, **options)


def test_the_same_seed_gives_the_same_and_numbers_begin_where_they_should() -> None:
    first, again, other = made(), made(first=100), made(seed=4)
    assert [each.line for each in first.mutations] == [each.line for each in again.mutations]
    assert [each.line for each in first.mutations] != [each.line for each in other.mutations]
    assert [each.number for each in again.mutations] == list(range(100, 112))
    assert all(each.options["port"] not in ("CLK", "clk") for each in first.mutations)
    assert {each.options["mode"] for each in first.mutations} <= {"inv", "const0", "const1", "cnot0", "cnot1"}


def test_numbers_out_of_range_are_refused() -> None:
    for options in ({"count": 0}, {"first": 0}, {"first": 65530}):
        with pytest.raises(SynthesisError, match="mutants have numbers from 1 to 65535"):
            made(**options)


@pytest.mark.more
def test_with_no_number_it_is_the_module_and_with_another_it_is_not() -> None:
    """By SAT, and without the code that proves mutants equivalent: whole modules, from reset, for six cycles."""
    mutants = made(2)
    text = re.sub(rf"  integer {CHOICE}_file;\n.*?^  end\n", "", mutants.verilog, flags=re.DOTALL | re.MULTILINE)

    def differs(number: int) -> bool:
        fixed = text.replace(f"  reg [15:0] {CHOICE};\n", f"  wire [15:0] {CHOICE} = 16'd{number};\n")
        assert fixed != text
        files = {"gold.v": MODULE.replace("module keeper", "module gold"), "gate.v": fixed.replace("module keeper", "module gate")}
        report = run_yosys(
            [
                *("read_verilog gold.v", "read_verilog gate.v", "proc", "miter -equiv -flatten gold gate miter", "opt_clean"),
                "cd miter",
                "tee -q -o sat.txt sat -seq 6 -prove-skip 1 -set-at 1 in_rst 1 -prove trigger 0",
            ],
            files,
            ["sat.txt"],
            purpose="comparing",
            timeout=60,
        )["sat.txt"]
        return "FAIL!" in report

    assert not differs(0)
    assert not differs(5)
    assert [differs(each.number) for each in mutants.mutations] == [is_equivalent(mutants, each) == 0 for each in mutants.mutations]


@pytest.mark.more
def test_what_no_output_shows_is_equivalent_and_nothing_else() -> None:
    """A register that is only seen while another one is set, and with it: what it holds otherwise is of no consequence."""
    text = MODULE.replace("kept <= word;", "kept <= valid ? word : total;")
    mutants = mutants_of("keeper", text, others={}, count=1, seed=1)
    choice = _cell(mutants, "$mux", "word")

    def equivalent(change: str) -> int:
        return is_equivalent(mutants, Mutation(1, f"mutate {change} -module keeper"))

    zero, word = ("A", "B")
    assert equivalent(f"-mode inv -cell {choice} -port {zero} -portbit 2")
    assert not equivalent(f"-mode inv -cell {choice} -port {word} -portbit 2")
    # Without the condition it is a fault: `held` no longer says when `kept` counts.
    always = dataclasses.replace(mutants, netlist=mutants.netlist.replace("connect \\S \\held", "connect \\S 1'1"))
    assert always.netlist != mutants.netlist
    assert not is_equivalent(always, Mutation(1, f"mutate -mode inv -cell {choice} -port {zero} -portbit 2 -module keeper"))


# What is read counts in the cycle behind a read; whether a row is whole, from its second word on, while there is one; how it is
# counted down does not matter, but when it ends.
WALKER = """
module sram_4x2(clk, read_enable, read_address, read_data);
  input clk;
  input read_enable;
  input [1:0] read_address;
  output [1:0] read_data;
endmodule
module walker(clk, rst, begins, steps, wrong, address, found, word, busy);
  input clk;
  input rst;
  input begins;
  input steps;
  input wrong;
  input [1:0] address;
  output found;
  output [1:0] word;
  output busy;
  reg active, first, spoilt, was_read;
  reg [1:0] left;
  wire last;
  wire keeps;
  wire [1:0] given;
  assign busy = active;
  assign last = active & steps & left == 2'd0;
  assign keeps = steps & !last;
  assign found = active & (first | ~spoilt);
  assign word = was_read ? given : 2'd0;
  sram_4x2 memory (
    .clk(clk),
    .read_enable(steps),
    .read_address(address),
    .read_data(given)
  );
  always @(posedge clk)
    if (rst) active <= 1'd0;
    else active <= begins | (active & ~last);
  always @(posedge clk)
    if (begins) first <= 1'd1;
    else if (steps) first <= 1'd0;
  always @(posedge clk)
    if (keeps) spoilt <= wrong;
  always @(posedge clk)
    was_read <= steps;
  always @(posedge clk)
    if (begins) left <= 2'd3;
    else if (steps) left <= left - 2'd1;
endmodule
"""


@pytest.mark.parametrize(
    ("change", "of_memory", "then"),
    [
        # Behind the last word, whether a row was whole is of no consequence: it has no second word, or a new one begins.
        pytest.param(("", ""), False, True, marks=pytest.mark.campaign),
        # But it is if it counts from the first word on.
        pytest.param(("(first | ~spoilt)", "~spoilt"), False, False, marks=pytest.mark.campaign),
        # A read more is of no consequence, but if what is read counts longer.
        pytest.param(("", ""), True, True, marks=pytest.mark.more),
        pytest.param(("was_read <= steps", "was_read <= 1'd1"), True, False, marks=pytest.mark.campaign),
    ],
)
def test_what_is_loaded_in_vain_is_equivalent_and_nothing_else(change: tuple[str, str], of_memory: bool, then: bool) -> None:
    text = WALKER.replace(*change)
    sram, walker = (f"module {part}" for part in text.split("module ")[1:])
    mutants = mutants_of("walker", walker, others={"sram_4x2": sram, "walker": walker}, count=1, seed=1)
    mutation = "-mode const1 -cell memory -port \\read_enable -portbit 0"
    if not of_memory:
        mutation = f"-mode const0 -cell {_cell(mutants, '$logic_not', 'last')} -port \\A -portbit 0"
    assert bool(is_equivalent(mutants, Mutation(1, f"mutate {mutation} -module walker"))) == then


# What is read counts in a valid word with a code of 2; it is read only for those.
ADDER = """
module adder(clk, next_valid, next_code, address, more, sum);
  input clk;
  input next_valid;
  input [1:0] next_code;
  input [1:0] address;
  input [1:0] more;
  output [1:0] sum;
  reg valid;
  reg [1:0] code;
  reg [1:0] sum;
  wire reads;
  wire [1:0] given;
  assign reads = next_valid & next_code == 2'd2;
  sram_4x2 memory (
    .clk(clk),
    .read_enable(reads),
    .read_address(address),
    .read_data(given)
  );
  always @(posedge clk)
    valid <= next_valid;
  always @(posedge clk)
    code <= next_code;
  always @(posedge clk)
    if (valid) sum <= more + (code == 2'd2 ? given : 2'd0);
endmodule
"""


@pytest.mark.parametrize(
    ("change", "then"),
    [(("", ""), True), (("if (valid) sum", "sum"), False), (("(code == 2'd2 ? ", "(code[1] ? "), False)],
)
@pytest.mark.campaign
def test_what_counts_with_one_value_of_three_bits_is_equivalent_and_nothing_else(change: tuple[str, str], then: bool) -> None:
    sram, adder = WALKER.split("module walker")[0], ADDER.replace(*change)
    mutants = mutants_of("adder", adder, others={"sram_4x2": sram, "adder": adder}, count=1, seed=1)
    mutation = Mutation(1, "mutate -mode const1 -cell memory -port \\read_enable -portbit 0 -module adder")
    assert bool(is_equivalent(mutants, mutation)) == then


def _cell(mutants: Mutants, kind: str, reads: str) -> str:
    """The cell of a kind that reads a wire."""
    cells = re.findall(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", mutants.netlist, re.DOTALL | re.MULTILINE)
    (name,) = [name for found, name, body in cells if found == kind and f"\\{reads}\n" in body]
    return str(name)
