"""The root of a chip alone: the sequencer in it beside one that has the same inputs, and the record of the first conflict."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.rtl.chip.chip_root import COMMANDS, ChipRoot
from podweave.rtl.chip.sequencer import Sequencer
from podweave.spec.config_parts import FILL_CYCLES
from podweave.spec.errors import network_error_layout
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.side_by_side import SideBySide

pytestmark = pytest.mark.more

CONFIG = load_config("chip2x4")
# Two pods: a block for each of the networks.
BLOCKS = 4
CYCLES = 4000
COUNTS = ("cycles", "total_cycles", "done")
Values = dict[str, NDArray[np.int64]]


@functools.cache
def bench() -> BlockBench:
    roots = SideBySide({"root": ChipRoot(CONFIG, BLOCKS), "sequencer": Sequencer(CONFIG.network_latency + 2)})
    members = roots.parts["root"].signature.members
    lanes = {
        f"root_{name}": (members[name].shape // count, count, False)
        for names, count in (
            (("node_busy", "node_error"), CONFIG.pods),
            (("conflict_valid", "conflict_stage", "conflict_where"), BLOCKS),
        )
        for name in names
    }
    return BlockBench.of(roots, lanes, random_initial_state=True)


def later(values: NDArray, clear: NDArray, cycles: int) -> NDArray:
    """Behind so many registers, which ``clear`` makes 0."""
    for _ in range(cycles):
        values = np.concatenate([values[:1] * 0, np.where(clear[:-1] == 1, 0, values[:-1])])
    return values


def random_inputs(rng: np.random.Generator) -> Values:
    given = {p.name: np.zeros((CYCLES, p.lanes) if p.lanes else CYCLES, np.int64) for p in bench().inputs}
    period = 50
    given["clear"][::period] = given["clear"][:3] = 1
    given["root_start"] = (rng.random(CYCLES) < 0.1).astype(np.int64)
    given["root_epochs"] = rng.choice([0, 1, 2, 5, 1 << 31], CYCLES)
    given["root_rewind"], given["root_hold"] = rng.integers(0, 2, CYCLES), (rng.random(CYCLES) < 0.2).astype(np.int64)
    given["root_node_busy"] = (rng.random((CYCLES, CONFIG.pods)) < 0.3).astype(np.int64)
    given["root_node_error"] = (rng.random((CYCLES, CONFIG.pods)) < 0.004).astype(np.int64)
    # They stay, until a reset.
    begins = rng.integers(5, 3 * period, (CYCLES // period + 1, BLOCKS))
    same = rng.random(len(begins)) < 0.5
    begins[same] = np.where(rng.random((same.sum(), BLOCKS)) < 0.6, begins[same][:, :1], 999)
    phase = np.arange(CYCLES) % period
    given["root_conflict_valid"] = (phase[:, None] >= begins[np.arange(CYCLES) // period]).astype(np.int64)
    for name in ("conflict_stage", "conflict_where"):
        port = next(p for p in bench().inputs if p.name == f"root_{name}")
        given[port.name] = rng.integers(0, 1 << port.width, (CYCLES, BLOCKS))
    return given


def test_sequencer_and_record() -> None:
    assert CONFIG.host_levels < FILL_CYCLES
    rng = np.random.default_rng(11)
    given = random_inputs(rng)
    clear, levels = given["clear"], CONFIG.host_levels
    valid, stage, where = (given[f"root_conflict_{name}"] for name in ("valid", "stage", "where"))
    found = np.zeros((3, CYCLES), np.int64)
    for cycle in range(1, CYCLES):
        before = cycle - 1
        if clear[before]:
            continue
        found[:, cycle] = found[:, before]
        if not found[0, before] and valid[before].any():
            first = int(valid[before].argmax())
            found[:, cycle] = 1, stage[before, first], where[before, first]
    error = later(given["root_node_error"].any(axis=1).astype(np.int64), clear, levels) | found[0]
    # The sequencer alone has what the one in the root should.
    busy = later(given["root_node_busy"].any(axis=1).astype(np.int64), clear, levels)
    given |= {"sequencer_node_busy": busy, "sequencer_error": error}
    given |= {f"sequencer_{name}": given[f"root_{name}"] for name in ("start", "epochs", "hold")}
    observed = {name: values[3:] for name, values in bench().run(given).items()}
    for name in ("busy", *COUNTS):
        np.testing.assert_array_equal(observed[f"root_{name}"], observed[f"sequencer_{name}"], name)
        assert observed[f"root_{name}"].any()
    np.testing.assert_array_equal(observed["root_error"], error[3:])
    layout, fields = network_error_layout(CONFIG), {}
    for field in layout.fields:
        fields[field.name] = observed["root_network_error"] >> layout.offset(field.name) & (1 << field.width) - 1
    at, widths = 0, {field.name: field.width for field in layout.fields}
    joined = np.zeros(CYCLES - 3, np.int64)
    for name in ("port", "plane", "network"):
        joined |= fields[name] << at
        at += widths[name]
    for name, values, expected in zip(("valid", "stage", "where"), (fields["valid"], fields["stage"], joined), found, strict=True):
        np.testing.assert_array_equal(values, expected[3:], name)
    assert found[0].mean() > 0.3
    commands = {name: observed[f"sequencer_{name}"] for name in COMMANDS if name != "rewind"}
    commands["rewind"] = given["root_rewind"][3:] & ~observed["sequencer_busy"] & 1
    for name, values in commands.items():
        np.testing.assert_array_equal(observed[f"root_group_{name}"], later(values, clear[3:], levels), name)
        assert values.any()


def test_every_bit_of_a_count_is_seen() -> None:
    """Without a reset, counts begin with whatever they have: over a few beginnings, each bit with 0 and with 1."""
    given = {p.name: np.zeros((2, p.lanes) if p.lanes else 2, np.int64) for p in bench().inputs}
    low, high = (dict.fromkeys(COUNTS, start) for start in ((1 << 32) - 1, 0))
    for seed in range(40):
        observed = bench().run(given, seed=seed, reset=False)
        for name in COUNTS:
            value = int(observed[f"root_{name}"][0])
            low[name], high[name] = low[name] & value, high[name] | value
        if not any(low.values()) and set(high.values()) == {(1 << 32) - 1}:
            return
    raise AssertionError(f"bits that are always the same: 1 in {low}, or 0 in {high}")
