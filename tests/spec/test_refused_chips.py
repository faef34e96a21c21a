"""spec.config: rules of chips with row functions and links, which the presets of language models have."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config

LLM, POD = load_config("llm8x16"), load_config("pod16")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"row_registers": 48}, "row_registers must be a power of two, got 48"),
        ({"row_registers": 8}, "row_registers must be between 16 and 4096, got 8"),
        ({"tables": 3}, "tables must be even with row functions, where two make one of 16 bits, got 3"),
        ({"scale_bits": 16}, "scale_bits must be at least 17 with row functions, which scale by numbers of so many bits, got 16"),
        ({"rounding": "up"}, "rounding must be one of half_away, half_even, got 'up'"),
        ({"rows": 8, "group_rows": 8}, "row functions need cols (16) of at most rows (8): they write whole P words"),
        ({"lanes": 1}, "row functions need an even number of lanes per cycle, got 1"),
        ({"lanes": 3}, "lanes (3) of a post-processor must divide the 16 lanes of an output word"),
        ({"zero_points": 1}, "zero_points must be true or false, got 1"),
        ({"flit_bits": 512}, "flit_bits of [links] (512) must be at most half of the 512 bits of a P word"),
        ({"flit_bits": 96}, "flit_bits must be a power of two, got 96"),
        ({"buffer_words": 48}, "buffer_words must be a power of two, got 48"),
        ({"managers": 16}, "managers (16) must be at most as many as pods (8)"),
    ],
)
def test_illegal_chip_of_language_models_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        LLM.replace(**changes)


def test_the_nearest_legal_values_are_legal() -> None:
    legal = LLM.replace(row_registers=16, tables=2, scale_bits=17, lanes=2, flit_bits=256, buffer_words=2, managers=8)
    assert (legal.post.row_registers, legal.links.flit_bits if legal.links else 0) == (16, 256)


@pytest.mark.parametrize(
    ("base", "parts", "sentence"),
    [
        (LLM, {"prefetch": None}, "table [links] needs a table [prefetch]: collectives are part of programs in memory"),
        (POD, {"links": LinksConfig()}, "table [links] needs 2 or more pods, got pods = 1"),
        (
            POD,
            {"post": LLM.post},
            "row_registers (512) must be 0 with one pod: row functions need 2 or more",
        ),
    ],
)
def test_tables_that_do_not_go_with_a_chip_are_refused(base: ChipConfig, parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        dataclasses.replace(base, **parts)


def test_a_table_of_an_older_name_is_told_its_new_one() -> None:
    with pytest.raises(ConfigError, match=r"^table \[dma\] is named \[prefetch\] now, with the same keys$"):
        ChipConfig.from_dict({"dma": {}})
