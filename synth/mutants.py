"""Mutants of a module: small faults that Yosys puts in, all in one text; a file beside the simulation chooses one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .errors import SynthesisError
from .yosys import run_yosys

CHOICE = "podweave_mutant"
"""What chooses: a file of this name where the simulator runs, with a number in it; 0, and no file, is the module as it was."""
_WIDTH = 16
_TIMEOUT = 240
_NETLIST = "netlist.il"
# What a clock does wrong says nothing of a test: every cycle of every test is one of this clock.
_CLOCKS = {"CLK", "clk"}
_PLACED = re.compile(r"^  (\w+) (?:\w+|\\\S+ ) ?\($", re.MULTILINE)
_OPTION = re.compile(r"-(\w+) (\S+)")


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Parameters
    ----------
    number : int
        What chooses it.
    line : str
        The command of Yosys that makes it, without a control.
    """

    number: int
    line: str

    @cached_property
    def options(self) -> dict[str, str]:
        """Of the command: mode (inv, const0, const1, cnot0, cnot1), cell, port, portbit, ctrlbit, wire, wirebit."""
        return dict(_OPTION.findall(self.line))

    @property
    def text(self) -> str:
        """In short: what is done to which bit of which port of which cell, and the wire there, as the Verilog names it."""
        found = self.options
        wire = f" ({found['wire']}[{found['wirebit']}])" if "wire" in found else ""
        by = f" by [{found['ctrlbit']}]" if "ctrlbit" in found else ""
        return f"{found['mode']}{by} {found['cell']}.{found['port']}[{found['portbit']}]{wire}"


@dataclass(frozen=True)
class Mutants:
    """A module with faults to choose from.

    Parameters
    ----------
    module : str
        Its name.
    verilog : str
        The text of it, with all of them, in place of the original: the same ports.
    mutations : sequence of Mutation
        In the order of their numbers.
    netlist : str
        RTLIL of the module as it was, with the names of cells that mutations are about, and the boundaries of what it places.
    """

    module: str
    verilog: str
    mutations: Sequence[Mutation]
    netlist: str


def mutants_of(module: str, verilog: str, *, others: Mapping[str, str], count: int, seed: int, first: int = 1) -> Mutants:
    """Mutants of a module.

    Parameters
    ----------
    module : str
        Its name.
    verilog : str
        Its text alone.
    others : mapping of str to str
        The texts of modules that it places, by name: Yosys must know which ports are inputs.
    count : int
        As many faults, or as there are. A list that is about all there are may take Yosys long.
    seed : int
        Decides which, with the text.
    first : int
        The number of the first: several modules of one simulator may have mutants, each a number of its own.

    Errors
    ------
    SynthesisError
        Yosys failed, or took more than 240 s.
    """
    if count < 1 or not 1 <= first <= (1 << _WIDTH) - count:
        raise SynthesisError(f"mutants have numbers from 1 to {(1 << _WIDTH) - 1}, not {count} from {first} on")
    # Some that are about the clock are left out.
    asked = count + count // 4 + 8
    boxes = "\n".join(others[name] for name in sorted(set(_PLACED.findall(verilog)) & set(others) - {module}))
    found = run_yosys(
        [
            *(["read_verilog -sv -lib boxes.v"] if boxes else []),
            *("read_verilog -sv module.v", "proc", "opt_expr", "opt_dff", "opt_clean", f"write_rtlil {_NETLIST}"),
            f"mutate -list {asked} -seed {seed} -o list.txt {module}",
        ],
        {"module.v": verilog, "boxes.v": boxes},
        [_NETLIST, "list.txt"],
        purpose=f"listing mutants of {module}",
        timeout=_TIMEOUT,
    )
    lines = list(dict.fromkeys(line for line in found["list.txt"].splitlines() if _is_of_logic(line)))[:count]
    mutations = [Mutation(number, line) for number, line in enumerate(lines, first)]
    return Mutants(module, _with_all(module, found[_NETLIST], mutations), mutations, found[_NETLIST])


def _is_of_logic(line: str) -> bool:
    options = dict(_OPTION.findall(line))
    return options.get("mode") != "none" and options.get("port") not in _CLOCKS and options.get("wire") not in _CLOCKS


def _with_all(module: str, netlist: str, mutations: Sequence[Mutation]) -> str:
    chosen = [each.line.replace("mutate ", f"mutate -ctrl {CHOICE} {_WIDTH} {each.number} ", 1) for each in mutations]
    written = run_yosys(
        [f"read_rtlil {_NETLIST}", "script list.txt", "opt_clean", "write_verilog -noattr mutants.v"],
        {_NETLIST: netlist, "list.txt": "\n".join([*chosen, ""])},
        ["mutants.v"],
        purpose=f"making mutants of {module}",
        timeout=_TIMEOUT,
    )["mutants.v"]
    return _chosen_by_file(module, written)


def _chosen_by_file(module: str, verilog: str) -> str:
    """What Yosys makes a port becomes a register of the module, which has the value in a file."""
    head = re.compile(rf"^(module {module}\()([^)]*)\);", re.MULTILINE)
    port = re.compile(rf"^  input \[{_WIDTH - 1}:0\] {CHOICE};\n  wire \[{_WIDTH - 1}:0\] {CHOICE};\n", re.MULTILINE)
    match = head.search(verilog)
    start = verilog.find(f"module {module}(")
    if not match or len(port.findall(verilog)) != 1:
        raise SynthesisError(f"Yosys wrote mutants of {module} in a form that is not known here")
    kept = ", ".join(name for name in re.split(r",\s*", match[2].strip()) if name != CHOICE)
    own = f"""\
  reg [{_WIDTH - 1}:0] {CHOICE};
  integer {CHOICE}_file;
  initial begin
    {CHOICE} = 0;
    {CHOICE}_file = $fopen("{CHOICE}", "r");
    if ({CHOICE}_file != 0) begin
      if ($fscanf({CHOICE}_file, "%d", {CHOICE}) != 1) $fatal(1, "{CHOICE} has no number");
      $fclose({CHOICE}_file);
    end
  end
"""
    return port.sub(lambda _: own, head.sub(lambda found: f"{found[1]}{kept});", verilog[start:]))
