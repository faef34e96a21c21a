"""The session of mutants itself, on one small block; what the pages say of its last run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutants.campaign import HUNG, KILLED, Campaign, Outcome
from tests.mutants.command import table
from tests.mutants.targets import TARGETS

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "docs" / "mutants.json").read_text(encoding="utf-8"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.mutants", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")


@pytest.mark.campaign
def test_a_block_judged(tmp_path: Path) -> None:
    """Without a mutant its tests pass, or there would be no result; of those with one, some fail."""
    file = tmp_path / "mutants.json"
    done = run("--block", "stray_jobs", "--count", "4", "--seed", "5", "--json", str(file))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text(encoding="utf-8"))["blocks"].values()
    assert row["mutants"] == 4 == row["killed"] + row["hung"] + row["equivalent"] + row["survived"]
    assert row["killed"] >= 2
    assert len(row["survivors"]) == row["survived"]
    assert f"| `stray_jobs` | 4 | {row['equivalent']} | {row['killed']} |" in done.stdout


@pytest.mark.more
def test_what_hangs_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been the machine; what hangs twice has hung."""
    tries: Counter[int] = Counter()
    says = "import pickle, sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))"

    def forked(self: Campaign, number: int, items: Sequence[pytest.Item]) -> tuple[int, int]:
        tries[number] += 1
        hangs = number == 2 or (number == 1 and tries[1] == 1)
        reader, writer = os.pipe()
        code = "import time; time.sleep(600)" if hangs else says
        command = [sys.executable, "-S", "-E", "-c", code, pickle.dumps(Outcome(KILLED, "a test", "no")).hex()]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
        os.close(writer)
        return pid, reader

    monkeypatch.setattr(Campaign, "_forked", forked)
    campaign = Campaign({}, count=3, seed=1, processes=2, progress=lambda text: None)
    campaign._judge([1, 2, 3], [], 4.0)
    campaign._starts.close()
    assert {number: outcome.state for number, outcome in campaign.outcomes.items()} == {1: KILLED, 2: HUNG, 3: KILLED}
    assert tries == {1: 2, 2: 2, 3: 1}


def test_a_block_that_is_not_there_is_named() -> None:
    done = run("--block", "flux_capacitor")
    assert done.returncode
    assert "there is no block flux_capacitor; there are" in done.stderr


def test_the_table_of_the_page_is_that_of_the_figures() -> None:
    page = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    assert "\n".join(table(STORED["blocks"])) in page


def test_the_figures_are_of_blocks_that_are_judged() -> None:
    kinds = {kind: name for name, target in TARGETS.items() for kind in target.kinds}
    assert set(STORED["blocks"]) <= set(kinds)
    for kind, row in STORED["blocks"].items():
        assert row["target"] == kinds[kind]
        assert row["mutants"] == row["killed"] + row["hung"] + row["equivalent"] + row["survived"]
        assert len(row["survivors"]) == row["survived"]


def test_a_planted_fault_in_the_figures_is_found() -> None:
    row = dict(STORED["blocks"]["p_bank"])
    changed = table({**STORED["blocks"], "p_bank": {**row, "killed": row["killed"] - 1, "survived": row["survived"] + 1}})
    assert changed != table(STORED["blocks"])


@pytest.mark.parametrize("name", TARGETS)
def test_files_of_targets_exist(name: str) -> None:
    files = [argument for argument in TARGETS[name].tests if argument.startswith("tests/")]
    assert files
    assert all((ROOT / file).is_file() for file in files)
