"""podweave.fuzz: random configurations are legal, and run what they have parts for."""

from __future__ import annotations

import dataclasses

import pytest

from podweave.fuzz import config_kind
from podweave.fuzz.choices import Choices
from podweave.fuzz.kinds import run_case
from podweave.fuzz.random_configs import random_config
from podweave.fuzz.surroundings import LINKED, ROW_CHIPS
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from podweave.tb.build.emission import Design

from .stand_in import Runs


def test_random_configurations_are_legal_and_of_all_kinds() -> None:
    """They are read from TOML as they were written, and have any mixture of engines, row functions and links."""
    found = [random_config(Choices([1, seed])) for seed in range(200)]
    for config in found:
        assert ChipConfig.from_toml(config.to_toml()) == config
        assert config.pods <= 16
        assert max(config.array.rows, config.array.cols) <= 12
        assert config.prefetch is not None or not config.has_rows
        assert config.prefetch is not None or config.links is None
    kinds = {(config.prefetch is not None, config.has_rows, config.links is not None) for config in found}
    assert kinds == {(False, False, False), (True, False, False), (True, False, True), (True, True, False), (True, True, True)}
    assert {config.network.kind for config in found} == {"butterfly", "crossbar"}
    assert min(config.array.psum_width for config in found) < 32
    of_rows = [config for config in found if config.has_rows]
    assert any(config.array.rows != config.array.cols for config in of_rows)
    assert 2 * sum(config.array.rows == config.array.cols and config.array.psum_width == 32 for config in of_rows) > len(of_rows)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    design = Design("", "", {"top": "chip"}, {})
    monkeypatch.setattr(config_kind, "emitted_design", lambda *more, **options: design)
    monkeypatch.setattr(config_kind, "lint", lambda *more: (0, ""))
    for bench in (config_kind.ChipBench, config_kind.AcceleratorBench, config_kind.SystemBench):
        monkeypatch.setattr(bench, "of", lambda *more, **options: "bench")


@pytest.mark.parametrize(
    ("config", "ways"),
    [
        (dataclasses.replace(load_config("chip2x4"), prefetch=None), ["ChipWay"]),
        (load_config("chip2x4"), ["AcceleratorWay"]),
        (ROW_CHIPS["rows2x4"], ["AcceleratorWay"]),
        (LINKED, ["AcceleratorWay", "SystemWay"]),
    ],
    ids=["chip", "accelerator", "rows", "ring"],
)
def test_a_configuration_runs_what_it_has_parts_for(
    config: ChipConfig, ways: list[str], runs: Runs, built: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers on a chip alone, or over AXI; graphs of rows; and two chips of those that have links."""
    monkeypatch.setattr(config_kind, "random_config", lambda rng: config)
    # Graphs without weights are refused where ratios are given.
    monkeypatch.setattr(config_kind, "random_start", lambda rng: {})
    _, outcome = run_case("config", 1, 4)
    assert outcome.verdict == "pass", outcome.sentence
    assert outcome.counts["configurations"] == 1
    assert outcome.text.startswith(config.to_toml())
    assert [type(way).__name__ for way in runs.ways] == ways
    assert all(way.config == config for way in runs.ways)
    assert any(isinstance(graph, RowGraph) for graph in runs.graphs) == config.has_rows


def test_the_least_runs_on_every_configuration(runs: Runs, built: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on one that holds nothing else; where not even that is taken, the case has failed."""
    chip = load_config("chip2x4")
    none = dataclasses.replace(
        chip, memory=dataclasses.replace(chip.memory, x_words=4, w_words=4, p_words=4, x_parts=1), prefetch=None
    )
    monkeypatch.setattr(config_kind, "random_config", lambda rng: none)
    _, outcome = run_case("config", 1, 4)
    assert (outcome.verdict, [graph.name for graph in runs.graphs]) == ("pass", ["least"]), outcome.sentence

    def refused(*arguments: object) -> None:
        raise WorkloadError("nothing fits")

    monkeypatch.setattr(config_kind.ChipWay, "compile", refused)
    _, outcome = run_case("config", 1, 4)
    told = "it does not even run one product of two numbers: nothing fits"
    assert (outcome.verdict, outcome.why, outcome.sentence) == ("fail", "unfit", told)


def test_toml_that_is_read_as_something_else_fails(runs: Runs, built: None, monkeypatch: pytest.MonkeyPatch) -> None:
    other = load_config("chip2x4")
    monkeypatch.setattr(ChipConfig, "from_toml", lambda text: other)
    _, outcome = run_case("config", 1, 0)
    assert (outcome.verdict, outcome.why) == ("fail", "toml")
