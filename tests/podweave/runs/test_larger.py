"""podweave.runs.larger: a refusal says with which stores a network fits, and only when stores are why."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from podweave.compiler.compile_network import compile_network
from podweave.ir.layers import WorkloadError, parse_workload
from podweave.runs.jobs import layer_graph
from podweave.runs.larger import advising, larger_stores
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config

CHIP = load_config("chip2x4")
GEMM = layer_graph(parse_workload("gemm:64x64x64"))


def needs(config: ChipConfig, **least: int) -> None:
    """Refuses chips with less of something."""
    found = {name: getattr(config.memory, name, None) or getattr(config.program, name, None) for name in least}
    if short := {name for name, value in least.items() if (found[name] or 0) < value}:
        raise WorkloadError(f"too few {', '.join(sorted(short))}")


def test_a_chip_of_these_stores_takes_the_network_and_one_with_any_of_them_as_now_does_not() -> None:
    enough = larger_stores(partial(compile_network, GEMM), CHIP)
    assert enough
    compile_network(GEMM, CHIP.replace(**enough))
    for name in enough:
        with pytest.raises(WorkloadError):
            compile_network(GEMM, CHIP.replace(**{other: value for other, value in enough.items() if other != name}))


@pytest.mark.parametrize(
    ("least", "enough"),
    [
        ({"x_words": CHIP.memory.x_words + 1}, {"x_words": 2 * CHIP.memory.x_words}),
        (
            {"w_words": 3 * CHIP.memory.w_words, "post_jobs": CHIP.program.post_jobs + 1},
            {"w_words": 4 * CHIP.memory.w_words, "post_jobs": 4 * CHIP.program.post_jobs},
        ),
        ({"p_words": 16 * CHIP.memory.p_words}, {"p_words": 16 * CHIP.memory.p_words}),
        # More than is tried, and what is no reason to refuse.
        ({"p_words": 16 * CHIP.memory.p_words + 1}, {}),
        ({"x_words": CHIP.memory.x_words}, {}),
    ],
)
def test_the_least_factor_and_only_stores_that_need_it(least: dict[str, int], enough: dict[str, int]) -> None:
    assert larger_stores(partial(needs, **least), CHIP) == enough


def refused(compiles: Any) -> tuple[str, list[str]]:
    said: list[str] = []
    with pytest.raises(WorkloadError) as caught, advising(compiles, CHIP, said.append):
        compiles(CHIP)
    return str(caught.value), said


def test_the_sentence_goes_on_with_what_is_enough() -> None:
    words = CHIP.memory.x_words
    sentence, said = refused(partial(needs, x_words=words + 1))
    assert sentence == f"too few x_words; it fits with x_words = {2 * words} (not {words})"
    assert said == ["too few x_words; looking for stores in which it fits"]


def test_what_no_store_mends_is_said_as_it_is() -> None:
    tried: list[ChipConfig] = []

    def never(config: ChipConfig) -> None:
        tried.append(config)
        raise WorkloadError("it has a loop")

    assert refused(never)[0] == "it has a loop"
    # As it is, and with the largest stores.
    assert len(tried) == 2


def test_an_error_behind_the_compiler_is_not_of_stores() -> None:
    with pytest.raises(WorkloadError, match=r"^late$"), advising(lambda _: None, CHIP, lambda _: None):
        raise WorkloadError("late")
