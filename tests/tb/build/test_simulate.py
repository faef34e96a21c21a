"""What the end of a simulation says: that the hardware is wrong, or nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podweave.tb.build.simulate import NoVerdictError, SimulationError, check_verdict, verdict
from podweave.tb.lockstep.ports import LockstepError
from podweave.tb.sim.clock import ModelStoppedError

WRONG, NOTHING = SimulationError("wrong"), NoVerdictError("killed")


@pytest.mark.parametrize(
    ("verdicts", "failure", "expected"),
    [
        (["pass", "pass"], None, "pass"),
        (["pass", "fail"], None, "fail"),
        (["pass"], None, "fail"),
        (["pass"], WRONG, "fail"),
        ([], WRONG, "fail"),
        (["pass", "pass"], WRONG, "fail"),
        ([], NOTHING, "none"),
        (["pass"], NOTHING, "none"),
        (["pass", "pass"], NOTHING, "none"),
        # What was seen to be wrong is wrong, whatever came after.
        (["fail"], NOTHING, "fail"),
        (["pass"], RuntimeError("of a driver"), "fail"),
    ],
)
def test_verdict(verdicts: list[str], failure: Exception | None, expected: str) -> None:
    assert verdict(verdicts, 2, failure) == expected


def results(folder: Path, inside: str) -> None:
    text = f"<testsuites><testsuite>{inside}</testsuite></testsuites>"
    (folder / "results.xml").write_text(text, encoding="utf-8")


FINDINGS = ["AssertionError", LockstepError.__name__, ModelStoppedError.__name__, "SimFailure"]


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_is_a_failure(tmp_path: Path, kind: str) -> None:
    results(tmp_path, f'<testcase><failure type="{kind}" message="cycle 3 differs"/></testcase>')
    with pytest.raises(SimulationError, match=r"^cycle 3 differs$") as caught:
        check_verdict("module", tmp_path, 0)
    assert not isinstance(caught.value, NoVerdictError)


@pytest.mark.parametrize(
    ("inside", "code", "sentence"),
    [
        (
            '<testcase><failure type="ValueError" message="no such letter"/></testcase>',
            0,
            "ValueError: no such letter",
        ),
        ("", 0, "no test ran in module:\nthe log"),
        (None, -9, "the simulator was ended by SIGKILL before its test did:\nthe log"),
        (None, 1, "the simulator ended, with exit code 1, before its test did:\nthe log"),
        ("<testcase>", 0, "the simulator ended, with exit code 0, before its test did:\nthe log"),
    ],
)
def test_what_could_not_run_is_no_verdict(tmp_path: Path, inside: str | None, code: int, sentence: str) -> None:
    (tmp_path / "simulation.log").write_text("the log\n", encoding="utf-8")
    if inside is not None:
        results(tmp_path, inside)
    with pytest.raises(NoVerdictError, match=f"^{re.escape(sentence)}$"):
        check_verdict("module", tmp_path, code)


def test_a_test_passes(tmp_path: Path) -> None:
    results(tmp_path, "<testcase/>")
    check_verdict("module", tmp_path, 0)
