"""podweave.fuzz.choices and podweave.fuzz.shrink: what a seed decides, and how a list of decisions is made small."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from podweave.fuzz.choices import MOST, Choices, TooManyChoicesError
from podweave.fuzz.random_large import cut_job
from podweave.fuzz.random_layers import parts_job, random_job, upsampled_job
from podweave.fuzz.random_mixed import random_mixed
from podweave.fuzz.random_rows import REGISTERS, RandomRows, random_rows
from podweave.fuzz.random_sequences import random_sequences
from podweave.fuzz.random_sums import sums_job
from podweave.fuzz.random_views import views_job
from podweave.fuzz.shrink import shrink
from podweave.ir.row_operations import Argmax, LayerNorm, RmsNorm, RowLinear
from podweave.runs.jobs import Job


def draw(rng: Choices | np.random.Generator) -> list[object]:
    found: list[object] = [int(rng.integers(3, 9)), int(rng.integers(7)), float(rng.random())]
    found += [rng.choice([5, 6, 7, 8]), int(rng.choice(4, p=[0.1, 0.2, 0.3, 0.4])), int(rng.geometric(0.5))]
    found += [rng.integers(0, 5, (2, 3)).tolist(), rng.choice([-1, 1], 6).tolist(), rng.choice(["a", "b"])]
    return [str(each) for each in found]


@pytest.mark.parametrize("seed", range(20))
def test_draws_are_those_of_numpy(seed: int) -> None:
    assert draw(Choices(seed)) == draw(np.random.default_rng(seed))


def test_given_decisions_give_the_same() -> None:
    first = Choices(7)
    found = draw(first)
    again = Choices(8, first.made)
    assert draw(again) == found
    assert again.made == first.made


def test_any_list_is_a_case() -> None:
    assert draw(Choices(1, [])) == draw(Choices(1, [-5] * 40)) == draw(Choices(2, [0] * 60))
    large = draw(Choices(1, [1e9] * 40))
    assert (large[0], large[1], large[3]) == ("8", "6", "8")
    assert float(str(large[2])) < 1


def test_numbers_that_decide_nothing() -> None:
    rng, again, other = Choices([3, 4]), Choices([3, 4], []), Choices([3, 5])
    assert np.array_equal(rng.normal(size=(2, 3)), again.normal(size=(2, 3)))
    assert not np.array_equal(rng.normal(size=5), rng.normal(size=5))
    assert not np.array_equal(Choices([3, 4]).normal(size=5), other.normal(size=5))
    assert rng.integers(0, 256, 1 << 17, np.uint8).dtype == np.uint8
    assert rng.made == []


def test_a_case_that_does_not_end() -> None:
    rng = Choices(1, [])
    with pytest.raises(TooManyChoicesError, match=f"more than {MOST} decisions"):
        sum(1 for _ in iter(lambda: rng.integers(0, 2), 1))


@pytest.mark.parametrize(
    "make", [random_job, upsampled_job, parts_job, views_job, cut_job, sums_job, random_rows, random_sequences, random_mixed]
)
def test_decisions_give_the_same_network(make: Callable[..., Job]) -> None:
    assert "rng" in inspect.signature(make).parameters
    for seed in range(5):
        first = Choices([seed, 3])
        job = make(seed, rng=first)
        again = make(seed, rng=Choices([seed, 3], first.made))
        assert (again.graph, again.constants.digest) == (job.graph, job.constants.digest)
        assert all(np.array_equal(again.inputs[name], values) for name, values in job.inputs.items())
        assert make(seed, rng=Choices([seed + 1, 3])).graph != job.graph


def tree(rng: Choices) -> list[list[int]]:
    """Some lists of numbers."""
    return [[int(rng.integers(0, 100)) for _ in rng.several(1, 9)] for _ in rng.several(3, 9)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("bad", "smallest"),
    [
        (lambda found: any(number >= 37 for numbers in found for number in numbers), [[37]]),
        (lambda found: sum(map(len, found)) >= 3, [[0, 0, 0]]),
        (lambda found: any(number > 5 for number in found[-1]), [[6]]),
        (lambda found: len(found) > 1, [[0], [0]]),
    ],
)
def test_a_failing_case_becomes_the_smallest(seed: int, bad: Callable[[list[list[int]]], bool], smallest: list[list[int]]) -> None:
    seen: list[int] = []
    for number in range(100 * seed, 100 * seed + 100):
        choices = Choices(number)
        if bad(tree(choices)):
            break

    def fails(made: Sequence[float]) -> Choices | None:
        taken = Choices(seed, made)
        return taken if bad(tree(taken)) else None

    best, tried = shrink(choices, fails, seconds=60, progress=lambda taken, _: seen.append(len(taken.made)))
    assert tree(Choices(seed, best.made)) == smallest
    assert seen == sorted(seen, reverse=True)
    assert 0 < tried < 500 or choices.made == best.made


def test_time_is_limited() -> None:
    choices = Choices(1)
    tree(choices)
    best, tried = shrink(choices, lambda made: pytest.fail("tried"), seconds=-1)
    assert (best, tried) == (choices, 0)


def test_shares_and_parts_without_number_become_small() -> None:
    """Numbers of 0 to 1 go down to 0, 0.5 or 0.9; parts of which nothing says how many there are stay, and all that may go goes."""

    def make(rng: Choices) -> tuple[float, int, list[int]]:
        with rng.span():
            share = rng.random()
        return share, int(rng.integers(0, 50)), [int(rng.integers(0, 9)) for _ in rng.several(2, 5)]

    def fails(made: Sequence[float]) -> Choices | None:
        taken = Choices(1, made)
        share, number, _ = make(taken)
        return taken if share > 0.6 and number > 3 else None

    choices = Choices(1, [0.95, 40, 4, 5, 6, 7, 8])
    make(choices)
    best, tried = shrink(choices, fails, seconds=60)
    assert make(Choices(1, best.made)) == (0.9, 4, [0])
    assert tried > 0


@pytest.mark.parametrize("make", ["norm", "argmax"])
def test_rows_have_no_more_registers_than_there_are(make: str) -> None:
    """Where all are taken, a linear operation comes instead, which has none."""
    graph = RandomRows(5)
    before = len(graph.operations)
    for _ in range(REGISTERS - graph.registers):
        getattr(graph, make)()
    assert graph.registers == REGISTERS
    kinds = {type(operation) for operation in graph.operations[before:]} - {RowLinear}
    assert kinds <= {LayerNorm, RmsNorm, Argmax}
    last = getattr(graph, make)()
    assert graph.registers == REGISTERS
    assert isinstance(next(each for each in graph.operations if each.name == last), RowLinear)
