"""podweave.chat.session: texts that grow token by token, in RTL and by the models, in the bits of one run over all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podweave.chat.accelerators import Accelerators
from podweave.chat.generate import Sampling, Token, generate
from podweave.chat.machine import Step
from podweave.chat.run_shapes import decoding, prefilling
from podweave.chat.session import Session, open_sessions
from podweave.ir.layers import WorkloadError
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts
from tests.podweave.runs.row_jobs import small_chip

CHIP = Accelerators(small_chip().replace(name="language2x4", x_words=4096, p_words=4096, w_words=4096, parameter_sets=512))


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(tiny_checkpoint(), tiny_texts(8, 40), (1,))


def steps(session: Session, tokens: list[int]) -> list[Step]:
    found = list(session.feed(tokens))
    assert all(step.comparison is None or step.comparison.is_exact for step in found), [step.row() for step in found]
    return found


def test_runs_of_a_prompt_end_at_tiles_of_keys() -> None:
    runs = prefilling(3, 30, 4, 8)
    assert [(run.position, run.count, run.text.rows) for run in runs] == [
        (3, 1, 1),
        (4, 8, 8),
        (12, 8, 8),
        (20, 8, 8),
        (28, 4, 4),
        (32, 1, 4),
    ]
    assert [run.text.context for run in runs] == [4, 12, 20, 28, 32, 36]
    assert prefilling(5, 0, 4, 8) == []
    assert [decoding(position, 4).text.position for position in range(9)] == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    assert [decoding(position, 4).offset for position in range(9)] == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_a_text_in_pieces_has_the_logits_of_all_of_it(model: IntegerModel) -> None:
    (text,) = tiny_texts(1, 30)
    whole = model.evaluate(text)["head"][0, 0]
    with open_sessions(model, CHIP, "golden", capacity=40, chunk=8) as (session,):
        row = 0
        for count in (1, 1, 11, 2, 7):
            last = steps(session, text[1 + row : 1 + row + count])[-1]
            row += count
            assert last.logits is not None
            np.testing.assert_array_equal(last.logits, whole[row - 1])
        assert session.tokens == text[: 1 + row]


@pytest.mark.campaign
def test_rtl(model: IntegerModel, tmp_path: Path) -> None:
    """A prompt, tokens one by one over three tiles of keys, saved, restored and gone on with: exact, and all cycles predicted."""
    (text,) = tiny_texts(1, 18)
    whole = model.evaluate(text)["head"][0, 0]
    with open_sessions(model, CHIP, "rtl", capacity=20, chunk=4) as (session,):
        found = steps(session, text[1:9])
        assert [(step.position, step.rows) for step in found] == [(1, 3), (4, 4), (8, 1)]
        for row in range(9, 14):
            (step,) = steps(session, text[row : row + 1])
            assert step.comparison
            assert step.comparison.compared == VOCABULARY
            assert step.cycles == step.predicted_cycles
            np.testing.assert_array_equal(step.logits, whole[row - 1])
        caches = session.compare_caches()
        assert caches
        assert caches.compared == 2 * 2 * 14 * 32
        assert not caches.mismatches
        session.save(tmp_path / "session")
        steps(session, [5, 6])
        session.restore(tmp_path / "session")
        assert session.tokens == text[:14]
        (step,) = steps(session, text[14:15])
        np.testing.assert_array_equal(step.logits, whole[13])


@pytest.mark.campaign
def test_a_wrong_bit_in_the_memory_of_the_device_is_seen(model: IntegerModel) -> None:
    with open_sessions(model, CHIP, "rtl", capacity=8, chunk=4) as (session,):
        steps(session, [3, 4])
        assert session.machine.system
        (device,) = session.machine.system.devices
        keys = device.read_input("layer1.keys")
        keys[0, 0, 1, 0] ^= 64
        device.write_input("layer1.keys", keys)
        assert session.compare_caches().mismatches == 1  # type: ignore[union-attr]
        (step,) = session.feed([5])
        assert step.comparison
        assert not step.comparison.is_exact
        assert step.comparison.mismatches > 0


def test_generation(model: IntegerModel) -> None:
    with open_sessions(model, CHIP, "model", capacity=24) as (session,):
        found = list(generate(session, [7, 8, 9], 6))
        tokens = [each for each in found if isinstance(each, Token)]
        assert [type(each) for each in found[:3]] == [Step, Step, Token]
        assert len(tokens) == 6
        assert session.tokens == [1, 7, 8, 9, *(each.token for each in tokens[:-1])]
        assert all(each.predicted_cycles for each in found if isinstance(each, Step))
    with open_sessions(model, CHIP, "golden", capacity=24) as (session,):
        assert [each.token for each in generate(session, [7, 8, 9], 6) if isinstance(each, Token)] == [
            each.token for each in tokens
        ]
    with open_sessions(model, CHIP, "golden", capacity=6) as (session,):
        # The last token has no room to be run.
        assert len([each for each in generate(session, [7, 8, 9], 60) if isinstance(each, Token)]) == 3


def test_choices() -> None:
    logits = np.array([0, 3, 5, 5, -9], np.int32) << 16
    rng = np.random.default_rng(0)
    assert Sampling().choose(logits, rng) == 2
    drawn = [Sampling(temperature=1.0).choose(logits, rng) for _ in range(3000)]
    weights = np.exp([0.0, 3, 5, 5, -9])
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 3000, weights / weights.sum(), atol=0.04)
    assert {Sampling(temperature=9.0, top=2).choose(logits, rng) for _ in range(200)} == {2, 3}
    with pytest.raises(WorkloadError, match=r"^temperature must be at least 0 and below 100, got -1$"):
        Sampling(temperature=-1)
    with pytest.raises(WorkloadError, match=r"^the number of tokens to choose from must be at least 0, got -2$"):
        Sampling(top=-2)


def test_what_does_not_go(model: IntegerModel, tmp_path: Path) -> None:
    with (
        pytest.raises(WorkloadError, match=r"^tiny was made for a context of 256, got 257$"),
        open_sessions(model, CHIP, "golden", capacity=257),
    ):
        pass
    with (
        pytest.raises(WorkloadError, match=r"^a session runs by one of golden, model, rtl, got 'fpga'$"),
        open_sessions(model, CHIP, "fpga", capacity=8),
    ):
        pass
    with open_sessions(model, CHIP, "golden", capacity=8) as (session,):
        with pytest.raises(WorkloadError, match=r"^a prompt must have at least one token, got 0$"):
            list(session.feed([]))
        with pytest.raises(WorkloadError, match=r"^1 tokens and 8 more do not fit a context of 8: allowed are 7$"):
            list(session.feed([2] * 8))
        with pytest.raises(WorkloadError, match=r"tokens must be in \[0, 128\), got 128$"):
            list(session.feed([128]))
        steps(session, [2, 3])
        session.save(tmp_path / "saved")
    with (
        open_sessions(model, CHIP, "golden", capacity=2) as (session,),
        pytest.raises(WorkloadError, match="holds 3 tokens, more than"),
    ):
        session.restore(tmp_path / "saved")
    other = quantise(tiny_checkpoint(seed=5), tiny_texts(8, 40), (1,))
    with (
        open_sessions(other, CHIP, "golden", capacity=8) as (session,),
        pytest.raises(WorkloadError, match="is of another model than tiny"),
    ):
        session.restore(tmp_path / "saved")
    (tmp_path / "cut").write_bytes((tmp_path / "saved").read_bytes()[:200])
    with open_sessions(model, CHIP, "golden", capacity=8) as (session,), pytest.raises(WorkloadError, match="or not a whole one"):
        session.restore(tmp_path / "cut")
