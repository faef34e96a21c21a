"""Named points: what models see of jobs made by hand, what is in no table, and what the pages say of the last session."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from podweave.golden.cycle.pod.jobs import Pushes
from podweave.golden.cycle.pod.pod import PodModel
from podweave.golden.cycle.ports import PortTrace
from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.predict.chip import pod_geometry
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from tests.coverage.functional import blocks, engines, pods
from tests.coverage.functional.report import points_table
from tests.coverage.functional.tally import Tally, crossed, several
from tests.coverage.functional.watch import TABLES, watching
from tests.golden.cycle.prefetch.test_engine import WORDS64, engine, geometry, load

ROOT = Path(__file__).parents[2]
SEEN = json.loads((ROOT / "docs" / "coverage.json").read_text(encoding="utf-8"))["points"]
LOAD = {"start": 10, "rows": 4, "w_bank": 0, "w_base": 0, "w_step": 1}
STREAM = {"start": 20, "swap": 1, "n0": 5, "n1": 1, "n2": 1, "x_bank": 0, "x_base": 2, "accumulate": 0, "accumulator_base": 0}
STREAM |= {"emit": 1, "p_bank": 0, "p_base": 1, **{f"{bank}_step{i}": 1 for bank in "xp" for i in range(3)}}


def pushes(*jobs: dict[str, int]) -> Pushes:
    return Pushes(np.arange(len(jobs)), {name: np.array([job[name] for job in jobs]) for name in jobs[0]})


def seen_of(*streams: dict[str, int]) -> Tally:
    tally = Tally(pods.POD_POINTS)
    geometry = pod_geometry(load_config("pod4"))
    with watching(tally):
        PodModel(geometry, np.arange(90) >= 2, pushes(LOAD), pushes(*streams))
    return tally


def test_points_of_jobs_by_hand() -> None:
    second = STREAM | {"start": 25, "swap": 0, "n0": 2, "n1": 3, "accumulate": 1, "emit": 2, "x_step1": -1, "x_base": 9}
    seen = seen_of(STREAM, second).seen()
    assert seen["load jobs"] == {"all rows, one tile, after a pause": 1}
    assert seen["stream jobs"] == {"BYPASS, STORE, swaps weights, one tile": 1, "INIT, ACCUMULATE, keeps weights, one tile": 1}
    assert seen["stream jobs: loops"] == {"loops n0, after a pause": 1, "loops n0 n1, at once": 1}
    assert seen["stream jobs: places"]["x_step1, backwards"] == 1
    assert "x_step2, forwards" not in seen["stream jobs: places"]
    assert "pod: errors" not in seen


def test_an_error_while_a_job_streams() -> None:
    late = STREAM | {"start": 22}
    assert seen_of(STREAM, late).seen()["pod: errors"] == {"late_stream, a job streams": 1}
    assert seen_of(STREAM | {"start": 0, "n0": 0}).seen()["pod: errors"] == {"illegal_stream, nothing streams": 1}


def test_nothing_is_seen_outside() -> None:
    tally = seen_of(STREAM)
    before = tally.seen()
    PodModel(pod_geometry(load_config("pod4")), np.arange(90) >= 2, pushes(LOAD), pushes(STREAM))
    assert tally.seen() == before


def test_what_is_in_no_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault is a table with a hole."""
    holed = {**pods.POD_POINTS, "load jobs": crossed(("one row", "some rows"), ("one tile",), ("at once", "after a pause"))}
    monkeypatch.setattr(pods, "POD_POINTS", holed)
    with pytest.raises(KeyError, match=r"'all rows, one tile, after a pause' is no point of 'load jobs'"):
        seen_of(STREAM)


def test_points_of_an_engine_that_is_compared() -> None:
    """Two words of 64 bytes each, side by side; one that only looks for what is worth a simulation is no point."""
    tally = Tally(engines.ENGINE_POINTS)
    with watching(tally):
        model = engine([load(WORDS64, 2, last=1), load(WORDS64, 0, last=1)], [], geometry())
        model.run_until_quiet()
    seen = tally.seen()
    assert model.error is not None
    assert seen["descriptors"] == {f"demand, LOAD, {HostSelect(WORDS64).name}": 1}
    assert seen["descriptors: loops"] == {"LOAD, loops n0": 1}
    assert seen["prefetch engine: errors"] == {"demand, ZERO_LENGTH": 1}
    with watching(tally):
        channel, rings = model.channel, ([load(WORDS64, 2, last=1)], [])
        EngineModel(geometry(), channel, rings, (1, 1), dataclasses.replace(model.inputs, tail=(1, 0))).run_until_quiet()
    assert tally.seen() == seen


def test_points_of_ports() -> None:
    value = np.zeros(20, np.int64)
    value[7:] = 1
    trace = PortTrace(value, np.ones(20, bool))
    quiet = PortTrace(np.zeros(20, np.int64), np.ones(20, bool))
    ports = dict.fromkeys(("reads", "writes", "conflict"), quiet) | {"hazard": trace}
    assert list(blocks.checked("x_bank_4x2", ports, 20)) == [("banks", "x_bank, hazard")]
    # In the cycles that were compared, nothing happened.
    assert list(blocks.checked("x_bank_4x2", ports, 7)) == []
    network = {"error": trace, "error_stage": PortTrace(2 * value, trace.known)}
    assert list(blocks.checked("read_butterfly_8", network, 20)) == [("networks: conflicts", "read_butterfly, stage 2 or more")]


def test_ways_to_loop() -> None:
    assert several(["n0", "n1"]) == ["one word", "loops n0", "loops n1", "loops n0 n1"]


def test_the_table_names_what_is_not_seen() -> None:
    table = {"errors": ["late", "early", "never"]}
    lines = points_table({"a": {"errors": {"late": 3}}, "b": {"errors": {"early": 1}}}, table)
    assert lines[2:] == ["| errors | 2 of 3 | never |", "| all | 2 of 3, 66.7% | |"]
    assert points_table({}, table)[2] == "| errors | 0 of 3 | all |"
    with pytest.raises(KeyError, match="'often' is no point of 'errors'"):
        points_table({"a": {"errors": {"often": 3}}}, table)


def test_the_table_of_the_page_is_what_was_seen() -> None:
    assert "\n".join(points_table(SEEN)) in (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_names_are_there_once() -> None:
    groups = [group for table in TABLES for group in table]
    assert len(groups) == len(set(groups))
    assert all(len(names) == len(set(names)) for table in TABLES for names in table.values())
