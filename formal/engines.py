"""Engines, each on a model: property directed reachability, induction, bounded search, covers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import FormalError
from .model import AIGER, SMT, Model
from .tools import run_smtbmc, run_yosys

NAMES = {"pdr": "pdr (ABC)", "induction": "induction (Yices)", "bounded": "bmc3 (ABC)", "bounded words": "bmc (Yices)"}
_STATUS = "status.txt"
# ABC is a part of Yosys' WebAssembly and runs inside of its command abc, which wants a circuit to map before and after: this one.
_WITHIN_ABC = [
    "design -reset",
    "read_verilog <<CIRCUIT\nmodule circuit(input a, input b, output y); assign y = a & b; endmodule\nCIRCUIT",
    "simplemap",
]


@dataclass(frozen=True)
class Answer:
    """Whether all rules hold (None: neither proven nor refuted); ``step``: where the trace that breaks one ends, or how far the
    engine looked."""

    holds: bool | None
    step: int


def pdr(model: Model, timeout: float) -> Answer:
    """Property directed reachability: whether the rules hold in every cycle of every trace."""
    return _abc(model, "pdr", timeout)


def induction(model: Model, steps: int, timeout: float) -> Answer:
    """Whether the rules hold in the first ``steps`` cycles, and in a cycle behind any ``steps`` cycles in which they did."""
    base = bounded(model, steps + 1, timeout)
    if not base.holds:
        return base
    text = run_smtbmc(["-i", "-t", str(steps), SMT], model.directory, timeout)
    return Answer("Status: PASSED" in text or None, steps)


def bounded(model: Model, steps: int, timeout: float) -> Answer:
    """Whether the rules hold in the first ``steps`` cycles of every trace, that of reset included."""
    answer = _abc(model, f"bmc3,-F,{steps}", timeout)
    return Answer(True, steps) if answer.holds is None and answer.step >= steps - 1 else answer


def bounded_words(model: Model, steps: int, timeout: float) -> Answer:
    """The same by a solver that knows words and their arithmetic, and not their bits alone."""
    text = run_smtbmc(["-t", str(steps), SMT], model.directory, timeout)
    if "Status: PASSED" in text:
        return Answer(True, steps)
    looked = [int(step) for step in re.findall(r"Checking assertions in step (\d+)", text)]
    if "Assert failed" not in text or not looked:
        raise FormalError("yosys-smtbmc ended without an answer:\n" + "\n".join(text.splitlines()[-5:]))
    return Answer(False, looked[-1])


def _abc(model: Model, command: str, timeout: float) -> Answer:
    script = f"+write_blif,back.blif;read_aiger,{AIGER};fold;strash;{command};write_status,{_STATUS};read_blif,back.blif"
    run_yosys([*_WITHIN_ABC, f"abc -script {script}"], model.directory, (_STATUS,), purpose="proving", timeout=timeout)
    status, step = model.directory.joinpath(_STATUS).read_text(encoding="utf-8").split()[:2]
    answers = {"snl_UNSAT": True, "snl_SAT": False, "snl_UNK": None}
    if status not in answers:
        raise FormalError(f"ABC ended with the status {status!r}")
    return Answer(answers[status], int(step))


def unreached(model: Model, steps: int, timeout: float) -> int:
    """How many covers no trace of ``steps`` cycles reaches."""
    if not model.covers:
        return 0
    text = run_smtbmc(["-c", "-t", str(steps), SMT], model.directory, timeout)
    if "Status: PASSED" in text:
        return 0
    if "Assert failed" in text:
        # It looks no further.
        return len(model.covers)
    if not (count := len(re.findall("Unreached cover statement", text))):
        raise FormalError("yosys-smtbmc ended without an answer:\n" + "\n".join(text.splitlines()[-5:]))
    return count
