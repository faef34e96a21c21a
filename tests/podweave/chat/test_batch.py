"""podweave.chat.batch: texts that grow together, in RTL and by the models, each in the bits that it has alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from podweave.chat.accelerators import Accelerators
from podweave.chat.batch import TextToken, advance, generate_together
from podweave.chat.generate import Sampling, Token, generate
from podweave.chat.machine import Step
from podweave.chat.session import Session, open_sessions
from podweave.compiler.rows.attention import key_place, value_place
from podweave.ir.layers import WorkloadError
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts
from tests.podweave.runs.row_jobs import small_chip

CHIP = Accelerators(
    small_chip().replace(
        name="language2x4", x_words=4096, p_words=4096, w_words=4096, parameter_sets=512, base_registers=8, row_registers=32
    )
)


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(tiny_checkpoint(), tiny_texts(8, 40), (1,))


def filled(sessions: list[Session], texts: list[list[int]], begins: list[int]) -> None:
    for session, text, begin in zip(sessions, texts, begins, strict=True):
        for step in session.fill(text[1:begin]):
            assert step.comparison is None or step.comparison.is_exact, step.row()


@pytest.mark.campaign
def test_rtl(model: IntegerModel) -> None:
    """Four texts of different lengths over borders of tiles of keys, one of which ends: as each alone, and all cycles predicted."""
    texts = tiny_texts(4, 20)
    whole = [model.evaluate(text)["head"][0, 0] for text in texts]
    at, shapes = [2, 7, 4, 11], set()
    with open_sessions(model, CHIP, "rtl", 4, capacity=20, chunk=4) as sessions:
        filled(sessions, texts, at)
        for number in range(4):
            active = [0, 1, 3] if number == 3 else [0, 1, 2, 3]
            step = advance(sessions, {text: texts[text][at[text]] for text in active})
            assert step.comparison
            assert step.comparison.is_exact, step.row()
            assert step.comparison.compared == len(active) * VOCABULARY
            assert step.cycles == step.predicted_cycles
            assert step.all_logits is not None
            for row, text in enumerate(active):
                np.testing.assert_array_equal(step.all_logits[row], whole[text][at[text] - 1])
                at[text] += 1
            shapes.add(tuple(part.text for part in step.parts))
        assert len(shapes) == 4
        for session, text, end in zip(sessions, texts, at, strict=True):
            assert session.tokens == text[:end]
            caches = session.compare_caches()
            assert caches
            assert caches.compared == 2 * 2 * end * 32
            assert not caches.mismatches


@pytest.mark.campaign
def test_caches_of_two_texts_that_are_exchanged_are_seen(model: IntegerModel) -> None:
    texts = tiny_texts(2, 8)
    with open_sessions(model, CHIP, "rtl", 2, capacity=8, chunk=4) as sessions:
        filled(sessions, texts, [3, 3])
        assert advance(sessions, {0: 5, 1: 5}).comparison.is_exact  # type: ignore[union-attr]
        assert sessions[0].machine.system
        (device,) = sessions[0].machine.system.devices
        first, second = (device.read_input(name) for name in ("layer1.values", "layer1.values.1"))
        device.write_input("layer1.values", second)
        device.write_input("layer1.values.1", first)
        assert all(session.compare_caches().mismatches for session in sessions)  # type: ignore[union-attr]
        step = advance(sessions, {0: 6, 1: 6})
        assert step.comparison
        assert step.comparison.mismatches > 0
        assert step.comparison.cycles == step.predicted_cycles


PREFIX = [9, 8, 7, 6, 5, 4, 3, 2, 9, 9, 8]
ALIKE = [[*PREFIX, 11, 12], [*PREFIX, 13, 13, 13, 13, 13], [*PREFIX, 14]]


@pytest.mark.campaign
def test_what_texts_begin_with_is_there_once(model: IntegerModel) -> None:
    """Twelve positions, three tiles of keys, lie in the caches of the first text alone, which ends first: all as alone."""
    alone = []
    for prompt in ALIKE:
        with open_sessions(model, CHIP, "golden", capacity=22) as (session,):
            alone.append([each.token for each in generate(session, prompt, 4) if isinstance(each, Token)])
    with open_sessions(model, CHIP, "rtl", 3, capacity=22, chunk=4) as sessions:
        found = list(generate_together(sessions, ALIKE, 4))
        steps = [each for each in found if isinstance(each, Step)]
        assert all(step.comparison.is_exact for step in steps), [step.row() for step in steps]  # type: ignore[union-attr]
        # The second and the third text begin at the fourth tile.
        first = [min(part.position for step in steps for part in step.parts if part.text.slot == slot) for slot in range(3)]
        assert first == [1, 12, 12]
        together = [[each.token.token for each in found if isinstance(each, TextToken) and each.text == n] for n in range(3)]
        assert together == alone
        step = advance(sessions, {1: 5, 2: 6})
        assert step.comparison
        assert step.comparison.is_exact, step.row()
        for session in sessions:
            caches = session.compare_caches()
            assert caches
            assert caches.compared == 2 * 2 * len(session.tokens) * 32
            assert not caches.mismatches
        # What the first text begins with, the others see.
        assert sessions[0].machine.system
        (device,) = sessions[0].machine.system.devices
        values = device.read_input("layer1.values")
        values[0, 0, 2] ^= 64
        device.write_input("layer1.values", values)
        step = advance(sessions, {1: 5, 2: 6})
        assert step.comparison
        assert step.comparison.mismatches > VOCABULARY


def test_shared_positions_take_no_room(model: IntegerModel) -> None:
    """Of the caches of all texts but the first they are nowhere in memory, and what is there begins with the first tile."""
    with open_sessions(model, CHIP, "model", 3, capacity=22, chunk=32) as sessions:
        list(generate_together(sessions, ALIKE, 1))
        programs = sessions[0].machine.programs
        assert programs
        inputs = programs.networks[-1].images[0].inputs
        held = {name: set(inputs[f"layer0.{name}"].elements.tolist()) for name in ("keys", "keys.1", "values.2")}
    # Up to the ends of the tiles in which they go on, of 32 channels.
    assert held == {"keys": set(range(16 * 32)), "keys.1": set(range(12 * 32, 20 * 32)), "values.2": set(range(12 * 32, 16 * 32))}
    compiler = SimpleNamespace(nodes=2, key_tiles=lambda context: -(-context // 4))
    places = [key_place(compiler, 28, tile, 0, 1, without=3) for tile in range(3, 7)]  # type: ignore[arg-type]
    assert [(place.index, place.count) for place in places] == [(0, 3), (0, 2), (1, 3), (1, 2)]
    values = [value_place(compiler, 28, 0, tile, without=3) for tile in range(3, 7)]  # type: ignore[arg-type]
    assert [(place.index, place.count) for place in values] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_token_of_all_costs_little_more_than_one(model: IntegerModel) -> None:
    """Weights are loaded once."""
    cycles = []
    for slots in (1, 4):
        with open_sessions(model, CHIP, "model", slots, capacity=8) as sessions:
            cycles.append(advance(sessions, dict.fromkeys(range(slots), 7)).predicted_cycles)
    assert cycles[0] < cycles[1] < 2 * cycles[0]  # type: ignore[operator]


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=2.0, seed=3)], ids=["likeliest", "drawn"])
def test_generation(model: IntegerModel, sampling: Sampling | None) -> None:
    """Texts end where there is no room, each by itself."""
    prompts = [[7, 8, 9], [4], [10] * 9]
    alone = []
    for prompt in prompts:
        with open_sessions(model, CHIP, "golden", capacity=14) as (session,):
            alone.append([each.token for each in generate(session, prompt, 8, sampling) if isinstance(each, Token)])
    with open_sessions(model, CHIP, "golden", 3, capacity=14) as sessions:
        found = list(generate_together(sessions, prompts, 8, sampling))
        together = [[each.token.token for each in found if isinstance(each, TextToken) and each.text == n] for n in range(3)]
        assert together == alone
        assert [len(tokens) for tokens in together] == [8, 8, 5]
        rows = [each.rows for each in found if isinstance(each, Step) and each.all_logits is not None]
        assert rows == [3] * 5 + [2] * 3


def test_what_does_not_go(model: IntegerModel) -> None:
    with (
        pytest.raises(WorkloadError, match=r"^there must be at least one text, got 0$"),
        open_sessions(model, CHIP, "golden", 0, capacity=8),
    ):
        pass
    few = Accelerators(CHIP.config.replace(base_registers=2))
    with (
        pytest.raises(WorkloadError, match=r"offset, offset.1 take 4 base registers, language2x4 has 2 \(base_registers\)$"),
        open_sessions(model, few, "rtl", 2, capacity=8),
    ):
        pass
    with open_sessions(model, CHIP, "golden", 2, capacity=4) as sessions:
        with pytest.raises(WorkloadError, match=r"^a run needs at least one text, got 0$"):
            advance(sessions, {})
        with pytest.raises(WorkloadError, match=r"^1 tokens and 4 more do not fit a context of 4: allowed are 3$"):
            list(generate_together(sessions, [[2], [2] * 4], 3))
        with pytest.raises(WorkloadError, match=r"^a prompt must have at least one token, got 0$"):
            list(generate_together(sessions, [[2], []], 3))
        assert all(session.tokens == [1] for session in sessions)
        with pytest.raises(WorkloadError, match=r"^texts share whole tiles of 4 tokens, of 1 that are there, got 4$"):
            sessions[1].share(sessions[0], 4)
        with pytest.raises(WorkloadError, match=r"^texts share tokens with that in slot 0 of their machine, got 0 and 1$"):
            sessions[0].share(sessions[1], 4)
        list(sessions[0].fill([2] * 3))
        with pytest.raises(WorkloadError, match=r"^4 tokens and 1 more do not fit a context of 4: allowed are 0$"):
            advance(sessions, {0: 2, 1: 2})
        assert sessions[1].tokens == [1]
