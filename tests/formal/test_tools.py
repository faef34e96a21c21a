"""What stands around solvers: texts of harnesses, what engines make of answers, tools that fail or take too long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podweave.formal import engines, equivalence, model, prove, tools
from podweave.formal.catalogue import EQUIVALENCES
from podweave.formal.engines import Answer, bounded, bounded_words, induction, pdr, unreached
from podweave.formal.errors import FormalError
from podweave.formal.harness import TOP, Harness
from podweave.formal.model import Model, make_model
from podweave.formal.property import Property
from podweave.rtl.parts.blocks import collecting_placements
from podweave.rtl.parts.job_queue import JobQueue
from podweave.rtl.parts.sram import Sram
from podweave.spec.layout import Field, Layout


def queue() -> JobQueue:
    return JobQueue(Layout("job", (Field("value", 1, ""),)), 2)


def test_a_harness_is_the_module_that_is_proven_with_what_it_places_as_cells_beside_it() -> None:
    with collecting_placements() as placed:
        harness, block = Harness(), queue()
        ports = harness.place(block, "dut", push_valid=harness.constant("once", 1))
        harness.check(ports["ready"], "a rule")
        harness.cover(harness.past(ports["overflow"], "lost"), "a cover")
        harness.assume(ports["head_valid"])
        text = harness.text()
    assert placed == [block]
    assert f"module \\{TOP}\n" in text
    assert f"cell \\{block.module_name} " in text
    # Yosys' own cell, not a module of a user.
    assert "cell $anyconst " in text
    assert "\\$anyconst" not in text
    # What is not driven is an input; one rule, one cover, what is assumed, and the reset of the first cycle.
    assert "free_dut_pop" in text
    assert "free_dut_push_valid" not in text
    assert [text.count(f'parameter \\FLAVOR "{kind}"') for kind in ("assert", "cover", "assume")] == [1, 1, 2]
    assert (harness.facts, harness.covers) == (["a rule"], ["a cover"])


def test_inputs_that_a_block_has_not_are_refused() -> None:
    with collecting_placements():
        harness = Harness()
        with pytest.raises(ValueError, match=r"^job_queue\w* has no inputs push, shove$"):
            harness.place(queue(), push=1, pop=0, shove=1)
        # Amaranth warns of statements that nobody reads.
        harness.text()


def memory(h: Harness) -> None:
    dut = h.place(Sram(4, 2))
    h.check(dut["read_data"] == dut["read_data"], "a word is what it is")


@pytest.fixture
def no_yosys(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that it would have been given."""
    given: list[list[str]] = []

    def keep(commands: list[str], *_: object, **__: object) -> None:
        given.append(commands)

    for module in (model, engines, equivalence):
        monkeypatch.setattr(module, "run_yosys", keep)
    return given


def test_an_sram_of_a_model_reads_anything_where_its_contract_says_nothing(no_yosys: list[list[str]], tmp_path: Path) -> None:
    found = make_model(memory, tmp_path)
    assert found == Model(tmp_path, ["a word is what it is"], [])
    verilog = (tmp_path / "design.v").read_text(encoding="utf-8")
    assert "(* anyseq *) wire [$bits(read_data)-1:0] anything;" in verilog
    assert "read_data <= write_enable && write_address == read_address ? anything : words[read_address];" in verilog
    assert f"module \\{TOP}" in (tmp_path / "harness.il").read_text(encoding="utf-8")
    assert f"write_smt2 -wires {model.SMT}" in no_yosys[0]
    assert f"write_aiger -I -B -zinit -no-startoffset {model.AIGER}" in no_yosys[0]


@pytest.mark.usefixtures("no_yosys")
def test_an_sram_that_is_another_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Sram, "verilog", lambda sram: f"module {sram.module_name}(input wire clk);\nendmodule\n")
    with pytest.raises(FormalError, match=r"^sram_4x2 does not read as its model expects: '  always @"):
        make_model(memory, tmp_path)


@pytest.mark.parametrize(
    ("engine", "status", "expected"),
    [
        (pdr, "snl_UNSAT 3 x", Answer(True, 3)),
        (pdr, "snl_SAT 5 x", Answer(False, 5)),
        (pdr, "snl_UNK -1 x", Answer(None, -1)),
        # Undecided behind as many frames as were asked for (the first one is 0): all of them are good.
        (lambda m, t: bounded(m, 6, t), "snl_UNK 5 x", Answer(True, 6)),
        (lambda m, t: bounded(m, 6, t), "snl_UNK 4 x", Answer(None, 4)),
        (lambda m, t: bounded(m, 6, t), "snl_SAT 2 x", Answer(False, 2)),
        # An induction whose first cycles are not good is not begun.
        (lambda m, t: induction(m, 4, t), "snl_SAT 2 x", Answer(False, 2)),
        (lambda m, t: induction(m, 4, t), "snl_UNK 3 x", Answer(None, 3)),
    ],
)
@pytest.mark.usefixtures("no_yosys")
def test_what_abc_says(engine: Callable[[Model, float], Answer], status: str, expected: Answer, tmp_path: Path) -> None:
    (tmp_path / "status.txt").write_text(status, encoding="utf-8")
    assert engine(Model(tmp_path, [], []), 1.0) == expected


@pytest.mark.usefixtures("no_yosys")
def test_what_abc_never_said_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "status.txt").write_text("snl_WHAT 3 x", encoding="utf-8")
    with pytest.raises(FormalError, match=r"^ABC ended with the status 'snl_WHAT'$"):
        pdr(Model(tmp_path, [], []), 1.0)


@pytest.mark.parametrize(("said", "holds"), [("Status: PASSED", True), ("Status: FAILED", None)])
@pytest.mark.usefixtures("no_yosys")
def test_a_step_of_an_induction_that_fails_refutes_nothing(
    said: str, holds: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status.txt").write_text("snl_UNK 4 x", encoding="utf-8")
    asked: list[list[str]] = []

    def smtbmc(arguments: list[str], directory: Path, timeout: float) -> str:
        asked.append(arguments)
        return f"## 0:00:01 {said}"

    monkeypatch.setattr(engines, "run_smtbmc", smtbmc)
    assert induction(Model(tmp_path, [], []), 4, 1.0) == Answer(holds, 4)
    assert asked == [["-i", "-t", "4", model.SMT]]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Checking assertions in step 0..\nChecking assertions in step 5..\nStatus: PASSED", Answer(True, 6)),
        ("Checking assertions in step 0..\nChecking assertions in step 3..\nAssert failed in a\nStatus: FAILED", Answer(False, 3)),
    ],
)
def test_what_smtbmc_says(said: str, expected: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(engines, "run_smtbmc", lambda arguments, *_: asked.append(arguments) or said)
    assert bounded_words(Model(tmp_path, [], []), 6, 1.0) == expected
    assert asked == [["-t", "6", model.SMT]]


def test_smtbmc_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "run_smtbmc", lambda *_: "Checking assertions in step 0..\nunsupported")
    with pytest.raises(FormalError, match=r"(?s)^yosys-smtbmc ended without an answer:.*unsupported$"):
        bounded_words(Model(tmp_path, [], []), 6, 1.0)


@pytest.mark.parametrize(
    ("text", "missed"),
    [
        ("Status: PASSED", 0),
        ("Assert failed in formal_top\nStatus: FAILED", 3),
        ("Unreached cover statement at a\nUnreached cover statement at b\nStatus: FAILED", 2),
    ],
)
def test_covers_that_are_not_reached(text: str, missed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "run_smtbmc", lambda *_: text)
    assert unreached(Model(tmp_path, [], ["a", "b", "c"]), 9, 1.0) == missed
    # Nothing to reach: nobody is asked.
    assert unreached(Model(tmp_path, [], []), 9, 1.0) == 0


def test_covers_of_which_nothing_is_said_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "run_smtbmc", lambda *_: "one\ntwo\nkilled")
    with pytest.raises(FormalError, match=r"^yosys-smtbmc ended without an answer:\none\ntwo\nkilled$"):
        unreached(Model(tmp_path, [], ["a"]), 9, 1.0)


def test_yosys_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(FormalError, match=r"(?s)^Yosys failed while trying:\n.*No such command: nonsense"):
        tools.run_yosys(["nonsense"], tmp_path, (), purpose="trying")
    # Nor is it enough to end well without what was wanted, old files of that name or not.
    (tmp_path / "wanted").write_text("old", encoding="utf-8")
    with pytest.raises(FormalError, match=r"^Yosys failed while trying:"):
        tools.run_yosys(["design -reset"], tmp_path, ("wanted",), purpose="trying")


def test_a_tool_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    child = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        tools.execute([sys.executable, "-S", "-c", parent], tmp_path, 2.0)
    assert time.monotonic() - begin < 30
    pid = int((tmp_path / "child").read_text(encoding="utf-8"))
    for _ in range(200):
        if not _runs(pid):
            break
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether it does anything: one that has ended may wait for somebody to be told."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


_ENGINES = [(name, [name if name == "pdr" else f"{name} 5"]) for name in ("pdr", "induction", "bounded", "bounded words")]


@pytest.mark.parametrize(("engine", "expected"), _ENGINES)
@pytest.mark.parametrize(
    ("answer", "missed", "verdict"),
    [
        (Answer(True, 5), 0, "pass"),
        (Answer(True, 5), 1, "fail"),
        (Answer(False, 2), 0, "fail"),
        (Answer(None, 2), 0, "none"),
    ],
)
def test_verdicts_of_properties(
    engine: Any, expected: list[str], answer: Answer, missed: int, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def say(text: str) -> Answer:
        asked.append(text)
        return answer

    monkeypatch.setattr(prove, "make_model", lambda build, directory: Model(directory, ["a", "b"], ["c"]))
    monkeypatch.setattr(prove, "pdr", lambda m, timeout: say("pdr"))
    monkeypatch.setattr(prove, "induction", lambda m, cycles, timeout: say(f"induction {cycles}"))
    monkeypatch.setattr(prove, "bounded", lambda m, cycles, timeout: say(f"bounded {cycles}"))
    monkeypatch.setattr(prove, "bounded_words", lambda m, cycles, timeout: say(f"bounded words {cycles}"))
    monkeypatch.setattr(prove, "unreached", lambda m, reach, timeout: missed)
    prop = Property(name="a.b", rule="", sizes="", build=memory, faults=(), engine=engine, cycles=5)
    row = prove.prove(prop)
    assert asked == expected
    assert (row["proven"], row["step"], row["covers_missed"], row["verdict"]) == (answer.holds, answer.step, missed, verdict)
    assert (row["facts"], row["covers"], row["block"]) == (2, 1, "a")


def test_an_engine_that_runs_out_of_time_proves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def late(*_: object) -> Answer:
        raise subprocess.TimeoutExpired("yosys", 1.0)

    monkeypatch.setattr(prove, "make_model", lambda build, directory: Model(directory, [], []))
    monkeypatch.setattr(prove, "pdr", late)
    row = prove.prove(Property(name="a.b", rule="", sizes="", build=memory, faults=()))
    assert (row["proven"], row["verdict"]) == (None, "none")


def test_an_error_names_the_property(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> dict[str, Any]:
        raise FormalError("no solver")

    monkeypatch.setattr(prove, "prove", fails)
    with pytest.raises(FormalError, match=r"^p_bank\.sums: no solver$"):
        prove._prove_named("p_bank.sums", 1.0)
    monkeypatch.setattr(prove, "prove", lambda prop, timeout: {"name": prop.name, "timeout": timeout})
    assert prove._prove_named("p_bank.sums", 3.0) == {"name": "p_bank.sums", "timeout": 3.0}
    monkeypatch.setattr(prove, "compare", lambda each, directory, timeout: {"name": each.name, "there": directory.is_dir()})
    assert prove._prove_named("equivalence.sequencer", 3.0) == {"name": "equivalence.sequencer", "there": True}


@pytest.mark.usefixtures("no_yosys")
@pytest.mark.parametrize(
    ("counts", "verdict"),
    [([(9, 0), (8, 1)], "pass"), ([(9, 0), (9, 0)], "fail"), ([(8, 1), (8, 1)], "fail"), ([(0, 0), (8, 1)], "fail")],
)
def test_verdicts_of_equivalences(
    counts: list[tuple[int, int]], verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compared: list[bool] = []

    def says(commands: list[str], directory: Path, *_: object, **__: object) -> None:
        proven, unproven = counts[len(compared)]
        texts = [(directory / name).read_text(encoding="utf-8") for name in ("emitted.v", "design.v")]
        compared.append(texts[0] == texts[1])
        text = f"Of those cells {proven} are proven and {unproven} are unproven."
        (directory / "status.txt").write_text(text, encoding="utf-8")

    monkeypatch.setattr(equivalence, "run_yosys", says)
    row = equivalence.compare(EQUIVALENCES[0], tmp_path, timeout=1.0)
    assert (row["verdict"], row["compared"], row["unproven"]) == (verdict, sum(counts[0]), counts[0][1])
    assert row["faults"][0]["found"] is (counts[1][1] > 0)
    # First with its own cells; then what has the fault with the cells of what has not.
    assert compared == [True, False]


def test_an_equivalence_of_which_nothing_is_said_is_an_error(no_yosys: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "status.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(FormalError, match=r"^Yosys did not say what of job_queue\w* is equivalent$"):
        equivalence.compare(EQUIVALENCES[0], tmp_path, timeout=1.0)
    # Clocks stay as they are: a comparison of registers cannot follow gates.
    assert not any(command.startswith(("clockgate", "techmap -map clock_gate.v")) for command in no_yosys[0])
