"""podweave.chat on chips in a ring, in RTL: the bits of one chip, all cycles as predicted, sessions of any number of chips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from podweave.chat.accelerators import Accelerators
from podweave.chat.batch import TextToken, advance, generate_together
from podweave.chat.generate import Token, generate
from podweave.chat.machine import Step
from podweave.chat.session import Session, open_sessions
from podweave.ir.constants import Constants, Parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import Partition
from podweave.ir.row_graph import RowGraph
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config_parts import ConfigError
from podweave.spec.links_config import LinksConfig
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts
from tests.podweave.runs.row_jobs import small_chip

CONFIG = dataclasses.replace(
    small_chip().replace(
        name="language2x4", x_words=4096, p_words=4096, w_words=4096, parameter_sets=512, base_registers=8, row_registers=32
    ),
    links=LinksConfig(flit_bits=32, buffer_words=8, jobs=64),
)
RING = Accelerators(
    CONFIG,
    2,
    HbmTiming(latency=40, row_miss=7, jitter=5, refresh_interval=700, refresh_cycles=60),
    LinkTiming(latency=13, beat_sixteenths=20, jitter=6, seed=9),
)
ALONE = dataclasses.replace(RING, chips=1)


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(tiny_checkpoint(), tiny_texts(8, 40), (1,))


def steps(session: Session, tokens: list[int]) -> list[Step]:
    found = list(session.feed(tokens))
    for step in found:
        assert step.comparison
        assert step.comparison.is_exact, step.row()
        assert step.cycles == step.predicted_cycles
        assert (step.collectives is None) == (session.machine.programs.accelerators.chips == 1)  # type: ignore[union-attr]
    return found


def assert_caches_right(session: Session) -> None:
    caches = session.compare_caches()
    assert caches
    assert caches.compared == 2 * 2 * len(session.tokens) * 32
    assert not caches.mismatches


def saved(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.campaign
def test_a_text_goes_on_wherever_it_was_saved(model: IntegerModel, tmp_path: Path) -> None:
    """On two chips, saved, on one, saved, and on two again: logits of one run over all of it, and files as of the golden model."""
    (text,) = tiny_texts(1, 18)
    whole = model.evaluate(text)["head"][0, 0]
    spans, path = {2: [(1, 6), (6, 7)], 1: [(7, 9), (9, 10)], 3: [(10, 13), (13, 14)]}, tmp_path / "saved"
    for run, chips in ((2, 2), (1, 1), (3, 2)):
        with open_sessions(model, dataclasses.replace(RING, chips=chips), "rtl", capacity=20, chunk=4) as (session,):
            if run != 2:
                session.restore(path)
            for begin, end in spans[run]:
                step = steps(session, text[begin:end])[-1]
                assert step.logits is not None
                np.testing.assert_array_equal(step.logits, whole[end - 2])
                assert step.comparison
                # Of each chip, half of the columns of the vocabulary.
                assert step.comparison.compared == VOCABULARY
            assert_caches_right(session)
            session.save(path)
    with open_sessions(model, ALONE, "golden", capacity=20, chunk=4) as (session,):
        list(session.feed(text[1:14]))
        session.save(tmp_path / "golden")
    found, expected = saved(path), saved(tmp_path / "golden")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.campaign
@pytest.mark.parametrize("ways", [{"beneath": False}, {"prefetch": False}], ids=["apart", "off"])
def test_without_prefetching(model: IntegerModel, ways: dict[str, bool]) -> None:
    slow = dataclasses.replace(RING, **ways)  # type: ignore[arg-type]
    cycles = []
    for each, way in ((RING, "model"), (slow, "rtl")):
        with open_sessions(model, each, way, capacity=8) as (session,):
            (step,) = session.feed([7]) if way == "model" else steps(session, [7])
            assert step.predicted_cycles is not None
            cycles.append(step.predicted_cycles)
    assert cycles[0] < cycles[1]


PREFIX = [9, 8, 7, 6, 5, 4, 3, 2, 9, 9, 8]


@pytest.mark.campaign
def test_several_texts_that_begin_alike(model: IntegerModel) -> None:
    prompts = [[*PREFIX, 11, 12], [*PREFIX, 13, 13, 13], [*PREFIX, 14]]
    alone = []
    for prompt in prompts:
        with open_sessions(model, RING, "golden", capacity=22) as (session,):
            alone.append([each.token for each in generate(session, prompt, 3) if isinstance(each, Token)])
    with open_sessions(model, RING, "rtl", 3, capacity=22, chunk=4) as sessions:
        found = list(generate_together(sessions, prompts, 3))
        assert all(each.comparison.is_exact for each in found if isinstance(each, Step))  # type: ignore[union-attr]
        assert [[each.token.token for each in found if isinstance(each, TextToken) and each.text == n] for n in range(3)] == alone
        # A text that shares tokens with one that has ended.
        step = advance(sessions, {1: 5, 2: 6})
        assert step.comparison
        assert step.comparison.is_exact, step.row()
        for session in sessions:
            assert_caches_right(session)


# Faults that are planted.


@pytest.mark.campaign
def test_keys_of_one_chip_that_are_wrong_are_seen(model: IntegerModel) -> None:
    with open_sessions(model, RING, "rtl", capacity=8, chunk=4) as (session,):
        steps(session, [3, 4])
        assert session.machine.system
        device = session.machine.system.devices[1]
        keys = device.read_input("layer1.keys")
        keys[0, 0, 1, 0] ^= 64
        device.write_input("layer1.keys", keys)
        found = session.compare_caches()
        assert found
        assert found.mismatches == 1
        # Of 32 channels, the second half is on chip 1.
        assert found.first_mismatch
        assert found.first_mismatch.startswith("layer1.keys, image 0, row 0, column 1, channel 16:")
        (step,) = session.feed([5])
        assert step.comparison
        assert step.comparison.mismatches > 0
        assert not step.comparison.counters_differing
        assert step.cycles == step.predicted_cycles


@pytest.mark.campaign
def test_caches_of_chips_that_are_exchanged_are_seen(model: IntegerModel) -> None:
    with open_sessions(model, RING, "rtl", capacity=8, chunk=4) as (session,):
        steps(session, [3, 4])
        assert session.machine.system
        devices = session.machine.system.devices
        held = [device.read_input("layer1.values") for device in devices]
        for device, other in zip(devices, reversed(held), strict=True):
            device.write_input("layer1.values", other)
        found = session.compare_caches()
        assert found
        assert found.mismatches > 0
        (step,) = session.feed([5])
        assert step.comparison
        assert step.comparison.mismatches > 0


class Mixed(Accelerators):
    """Chip 1 has the columns of the vocabulary that chip 0 has."""

    def divide(self, graph: RowGraph, constants: Mapping[str, Parameters]) -> Partition:
        found = super().divide(graph, constants)
        first, second = found.shares
        wrong = Constants({**second.constants, "head": first.constants["head"]})
        return dataclasses.replace(found, shares=(first, dataclasses.replace(second, constants=wrong)))


@pytest.mark.campaign
def test_logits_of_the_wrong_chip_are_seen(model: IntegerModel) -> None:
    mixed = Mixed(RING.config, RING.chips, RING.timing, RING.link)
    with open_sessions(model, mixed, "rtl", capacity=8) as (session,):
        (step,) = session.feed([5])
        assert step.comparison
        assert 0 < step.comparison.mismatches <= VOCABULARY // 2
        assert step.comparison.first_mismatch
        assert step.comparison.first_mismatch.startswith("chip 1: head, ")
        assert step.cycles == step.predicted_cycles
        assert_caches_right(session)


@pytest.mark.campaign
@pytest.mark.parametrize("wrong", [LinkTiming(latency=14, beat_sixteenths=20, jitter=6, seed=9), LinkTiming(latency=13)])
def test_cycles_of_other_links_are_not_the_predicted_ones(model: IntegerModel, wrong: LinkTiming) -> None:
    with open_sessions(model, RING, "rtl", capacity=8) as (session,):
        assert session.machine.programs
        session.machine.programs.accelerators = dataclasses.replace(RING, link=wrong)
        (step,) = session.feed([7])
        assert step.comparison
        assert not step.comparison.is_exact
        assert not step.comparison.mismatches
        assert any(name.startswith("chip 1: ") for name in step.comparison.counters_differing)


def test_what_does_not_go(model: IntegerModel) -> None:
    single = dataclasses.replace(CONFIG, links=None)
    with pytest.raises(ConfigError, match=r"^language2x4 has no table \[links\]: its chips cannot be joined$"):
        Accelerators(single, 2)
    assert Accelerators(single).chips == 1
    with pytest.raises(WorkloadError, match=r"^texts run on at least one chip, got 0$"):
        Accelerators(CONFIG, 0)
    for way in ("golden", "model", "rtl"):
        with (
            pytest.raises(WorkloadError, match=r"^tiny, 1 of 4: 3 chips cannot share the 4 heads and 2 KV heads of .*; 2 can$"),
            open_sessions(model, Accelerators(CONFIG, 3), way, capacity=8),
        ):
            pass
        with (
            pytest.raises(WorkloadError, match=r": a ring has 2 to 16 chips, got 17$"),
            open_sessions(model, Accelerators(CONFIG, 17), way, capacity=8),
        ):
            pass
