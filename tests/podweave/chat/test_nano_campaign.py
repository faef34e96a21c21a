"""Long: the nano model writes a story in RTL, over several tiles of keys, saved and gone on with in the middle."""

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
