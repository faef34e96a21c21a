"""Long: the nano model writes stories in RTL, over several tiles of keys, saved and gone on with in the middle, on other chips."""

from __future__ import annotations

from pathlib import Path

import pytest

from podweave.chat.accelerators import Accelerators
from podweave.chat.generate import Token, generate
from podweave.chat.session import Session, open_sessions
from podweave.language.load import load_quantised
from podweave.spec.presets import load_config

TOKENS = 64


def story(session: Session, prompt: list[int], count: int) -> list[int]:
    """Tokens behind a prompt; every run in RTL is exact."""
    told = []
    for item in generate(session, prompt, count):
        if isinstance(item, Token):
            told.append(item.token)
        else:
            assert item.comparison is None or item.comparison.is_exact, item.row()
    return told


@pytest.mark.campaign
def test_a_story(tmp_path: Path) -> None:
    model, chip, saved = load_quantised("nano"), Accelerators(load_config("llm8x16")), tmp_path / "saved"
    prompt = model.prompt("Once upon a time")[len(model.prefix) :]
    with open_sessions(model, chip, "golden", capacity=80) as (session,):
        expected = story(session, prompt, TOKENS)
    with open_sessions(model, chip, "rtl", capacity=80, threads=2) as (session,):
        first = story(session, prompt, TOKENS // 2)
        session.save(saved)
        caches = session.compare_caches()
        assert caches is not None
        assert not caches.mismatches
    assert first == expected[: TOKENS // 2]
    with open_sessions(model, chip, "rtl", capacity=80, threads=2) as (session,):
        session.restore(saved)
        # The last token that was told has not been run.
        second = story(session, first[-1:], TOKENS - TOKENS // 2)
        assert len(session.tokens) // chip.config.array.cols >= 4
    assert second == expected[TOKENS // 2 :]


@pytest.mark.campaign
def test_a_story_begun_on_one_chip_and_ended_on_two(tmp_path: Path) -> None:
    model, chip, saved = load_quantised("nano"), Accelerators(load_config("llm8x16")), tmp_path / "saved"
    prompt, half = model.prompt("Once upon a time")[len(model.prefix) :], 8
    with open_sessions(model, chip, "golden", capacity=40) as (session,):
        expected = story(session, prompt, 2 * half)
    with open_sessions(model, chip, "rtl", capacity=40, threads=2) as (session,):
        first = story(session, prompt, half)
        session.save(saved)
    with open_sessions(model, Accelerators(chip.config, 2), "rtl", capacity=40, threads=2) as (session,):
        session.restore(saved)
        second = story(session, first[-1:], half)
        caches = session.compare_caches()
        assert caches is not None
        assert caches.compared == 2 * 4 * len(session.tokens) * 32
        assert not caches.mismatches
    assert first + second == expected
