"""compiler.chip.tile_jobs: jobs that become one do the same as one, and only those do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.tile_jobs import joined_loads, joined_streams, single_loads, single_streams
from podweave.compiler.jobs import Jobs, with_single_tiles
from tests.compiler.chip.check.chip_programs import PROGRAMS, changed, config, graph, program, refused

CONFIG = config(8, 4, 4, 64).replace(tile_width=3)
LOAD = {"pod": 0, "rows": 4, "w_bank": 1, "w_plane": 0, "w_step": 1}
STREAM = {"operation": 0, "pod": 0, "swap": 1, "n0": 2, "n1": 3, "n2": 1, "x_plane": 0, "x_step0": 1, "x_step1": 5, "x_step2": 0}
STREAM |= {"accumulator_base": 0, "p_bank": 0, "p_plane": 0, "p_base": 0, "p_step0": 1, "p_step1": 1, "p_step2": 1}


def table(common: dict[str, int], jobs: list[dict[str, int]]) -> Jobs:
    rows = [common | job for job in jobs]
    return with_single_tiles({name: np.array([row[name] for row in rows], np.int64) for name in rows[0]})


def joins(jobs: Jobs, *names: str) -> list[tuple[int, ...]]:
    return list(zip(*(jobs[name].tolist() for name in ("start", "tiles", "period", *names)), strict=True))


def require_equal(found: Jobs, expected: Jobs) -> None:
    """Where sums would go that are not emitted does not count."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        counts = expected["emit"] > 0 if name.startswith("p_") else np.ones(len(values), bool)
        assert found[name][counts].tolist() == values[counts].tolist(), name


def loads(*jobs: tuple[int, int]) -> Jobs:
    """(start, w_base) of each."""
    return table(LOAD, [{"start": start, "w_base": base} for start, base in jobs])


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([(0, 10), (6, 14), (12, 18)], [(0, 3, 6, 10)]),
        ([(0, 10)], [(0, 1, 0, 10)]),
        # Words that do not lie one tile behind the other.
        ([(0, 10), (6, 15), (12, 18)], [(0, 1, 0, 10), (6, 1, 0, 15), (12, 1, 0, 18)]),
        # Another period: the job that two could have has the first.
        ([(0, 10), (6, 14), (13, 18), (20, 22)], [(0, 2, 6, 10), (13, 2, 7, 18)]),
        ([(0, 10), (6, 14), (13, 18), (19, 22)], [(0, 2, 6, 10), (13, 2, 6, 18)]),
        ([(0, 10), (6, 14), (13, 18), (21, 22), (29, 26)], [(0, 2, 6, 10), (13, 3, 8, 18)]),
        # Seven tiles are the most that a field of three bits holds.
        ([(6 * i, 4 * i) for i in range(9)], [(0, 7, 6, 0), (42, 2, 6, 28)]),
        # A period that no field holds.
        ([(0, 10), (1 << 16, 14)], [(0, 1, 0, 10), (1 << 16, 1, 0, 14)]),
    ],
)
def test_loads_by_hand(jobs: list[tuple[int, int]], expected: list[tuple[int, ...]]) -> None:
    joined = joined_loads(loads(*jobs), CONFIG)
    assert joins(joined, "w_base") == expected
    require_equal(single_loads(joined)[0], loads(*jobs))


@pytest.mark.parametrize("name", LOAD)
def test_loads_that_differ_stay_apart(name: str) -> None:
    different = loads((0, 10), (6, 14))
    different[name][1] += 1
    assert len(joined_loads(different, CONFIG)["start"]) == 2


def streams(places: list[tuple[int, int]], codes: list[tuple[int, int]] | None = None) -> Jobs:
    """(bank, base) of X words, and accumulate and emit codes."""
    codes = codes or [(2 if i else 1, int(i == len(places) - 1)) for i in range(len(places))]
    jobs = [
        {"start": 8 * i, "x_bank": bank, "x_base": base, "accumulate": code, "emit": emit}
        for i, ((bank, base), (code, emit)) in enumerate(zip(places, codes, strict=True))
    ]
    return table(STREAM, jobs)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # In one bank, equally far apart.
        ([(2, 10), (2, 13), (2, 16)], [(0, 3, 8, 2, 10, 0, 3)]),
        ([(2, 10), (2, 10), (2, 10)], [(0, 3, 8, 2, 10, 0, 0)]),
        ([(2, 16), (2, 13), (2, 11), (2, 9)], [(0, 2, 8, 2, 16, 0, -3), (16, 2, 8, 2, 11, 0, -2)]),
        # In the next bank each, among all of them, or those of a block.
        ([(2, 10), (3, 10), (4, 10)], [(0, 3, 8, 2, 10, 3, 0)]),
        ([(2, 10), (3, 10), (2, 14), (3, 14)], [(0, 4, 8, 2, 10, 1, 4)]),
        ([(6, 10), (7, 10), (4, 14), (5, 14), (6, 14)], [(0, 5, 8, 6, 10, 2, 4)]),
        ([(6, 10), (7, 10), (0, 9), (1, 9)], [(0, 4, 8, 6, 10, 3, -1)]),
        # Not to the first bank of the block, or further than the next.
        ([(6, 10), (7, 10), (5, 10)], [(0, 2, 8, 6, 10, 3, 0), (16, 1, 0, 5, 10, 0, 0)]),
        ([(1, 10), (3, 10)], [(0, 1, 0, 1, 10, 0, 0), (8, 1, 0, 3, 10, 0, 0)]),
        # A step of another size, and a bank outside of the block.
        ([(0, 10), (1, 10), (0, 14), (1, 14), (0, 19)], [(0, 4, 8, 0, 10, 1, 4), (32, 1, 0, 0, 19, 0, 0)]),
        # Tap by tap over all words: a job for each tap.
        (
            [(bank, 10 + tap + 9 * word) for tap in (0, 1, 7) for word in range(3) for bank in (0, 1)],
            [(48 * number, 6, 8, 0, 10 + tap, 1, 9) for number, tap in enumerate((0, 1, 7))],
        ),
        ([(0, 10), (1, 10), (0, 14), (1, 14), (2, 14)], [(0, 4, 8, 0, 10, 1, 4), (32, 1, 0, 2, 14, 0, 0)]),
        # In the next bank, but elsewhere.
        ([(2, 10), (3, 11)], [(0, 1, 0, 2, 10, 0, 0), (8, 1, 0, 3, 11, 0, 0)]),
    ],
)
def test_streams_by_hand(places: list[tuple[int, int]], expected: list[tuple[int, ...]]) -> None:
    joined = joined_streams(streams(places), CONFIG)
    assert joins(joined, "x_bank", "x_base", "x_turn", "x_tile_step") == expected
    require_equal(single_streams(joined)[0], streams(places))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        # (accumulate, emit), and (tiles, accumulate, emit) of what becomes of them.
        ([(1, 0), (2, 0), (2, 1)], [(3, 1, 1)]),
        ([(1, 0), (2, 0), (2, 0)], [(3, 1, 0)]),
        ([(2, 0), (2, 0), (2, 2)], [(3, 2, 2)]),
        ([(1, 0), (2, 1), (2, 1)], [(2, 1, 1), (1, 2, 1)]),
        ([(1, 0), (1, 0), (2, 0)], [(1, 1, 0), (2, 1, 0)]),
        ([(0, 1), (0, 2), (0, 2)], [(3, 0, 1)]),
        ([(0, 2), (0, 2), (0, 2)], [(3, 0, 2)]),
        ([(0, 1), (0, 1), (0, 2)], [(1, 0, 1), (2, 0, 1)]),
        ([(0, 0), (0, 2), (0, 0)], [(1, 0, 0), (1, 0, 2), (1, 0, 0)]),
        ([(0, 1), (2, 2), (2, 2)], [(1, 0, 1), (1, 2, 2), (1, 2, 2)]),
    ],
)
def test_codes_of_streams(codes: list[tuple[int, int]], expected: list[tuple[int, int, int]]) -> None:
    single = streams([(2, 10), (2, 13), (2, 16)], codes)
    joined = joined_streams(single, CONFIG)
    assert list(zip(*(joined[name].tolist() for name in ("tiles", "accumulate", "emit")), strict=True)) == expected
    require_equal(single_streams(joined)[0], single)


@pytest.mark.parametrize("name", STREAM)
def test_streams_that_differ_stay_apart(name: str) -> None:
    """Where sums go counts in every tile only if every tile emits."""
    for codes in ([(1, 0), (2, 1)], [(0, 1), (0, 2)]):
        different = streams([(2, 10), (2, 13)], codes)
        different[name][1] += -1 if name == "swap" else 1
        alone = not (name.startswith("p_") and codes[0][0])
        assert len(joined_streams(different, CONFIG)["start"]) == 1 + alone, codes
        require_equal(single_streams(joined_streams(different, CONFIG))[0], different)


@pytest.mark.parametrize("seed", range(40))
def test_random_jobs_come_back(seed: int) -> None:
    """Whatever follows what: taken apart again, jobs are those that there were."""
    rng = np.random.default_rng(seed)
    count = 300
    gaps = rng.choice([8, 8, 8, 9], count)
    bank = (np.cumsum(rng.choice([0, 1, 1, 1, 5], count)) % rng.choice([2, 4, 8])).astype(np.int64)
    wrapped = np.concatenate([[0], np.cumsum((bank[1:] < bank[:-1]) * rng.choice([3, 3, 3, 4], count - 1))])
    random = {"start": np.cumsum(gaps), "x_bank": bank, "x_base": wrapped + 7 * (rng.random(count) < 0.05)}
    random |= {"accumulate": rng.choice([1, 2, 2, 2, 2, 2, 2], count), "emit": (rng.random(count) < 0.1).astype(np.int64)}
    if seed % 3 == 0:
        random |= {"accumulate": np.zeros(count, np.int64), "emit": rng.choice([1, 2, 2, 2, 2], count)}
    single = table(STREAM, [{name: int(values[i]) for name, values in random.items()} for i in range(count)])
    joined = joined_streams(single, CONFIG)
    assert len(joined["start"]) < 0.8 * count
    assert joined["tiles"].max() <= 7
    require_equal(single_streams(joined)[0], single)
    bases = 4 * np.cumsum(gaps < 9)
    fetched = table(LOAD, [{"start": int(random["start"][i]), "w_base": int(bases[i])} for i in range(count)])
    joined = joined_loads(fetched, CONFIG)
    assert len(joined["start"]) < 0.8 * count
    require_equal(single_loads(joined)[0], fetched)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_the_same_in_fewer_jobs(name: str) -> None:
    single = program(name)
    for width in (1, 2, 8):
        joined = compile_graph(graph(), config(*PROGRAMS[name]).replace(tile_width=width))
        check_chip(joined)
        for kind in ("loads", "streams"):
            if width > 1:
                assert len(getattr(joined, kind)["start"]) < len(getattr(single, kind)["start"])
            require_equal(getattr(joined.tile_by_tile(), kind), getattr(single, kind))
        assert joined.tile_by_tile().operation_of_stream.tolist() == single.operation_of_stream.tolist()
        assert joined.words_streamed.sum() == single.words_streamed.sum()


def joined_program() -> EpochProgram:
    return compile_graph(graph(), config(*PROGRAMS["in_pods"]).replace(tile_width=4))


def test_every_rule_about_tiles_fires() -> None:
    legal = joined_program()
    load, stream = (int(np.argmax(jobs["tiles"] > 2)) for jobs in (legal.loads, legal.streams))
    check_chip(legal)
    for kind, job, values, sentence in (
        ("loads", load, {"tiles": 0}, rf"^load job {load} .*: tiles is 0, must be 1 to 15$"),
        ("loads", load, {"tiles": 16}, rf"^load job {load} .*: tiles is 16, but its field holds 0 to 15$"),
        ("loads", load, {"period": 1 << 16}, rf"^load job {load} .*: period is 65536, but its field holds 0 to 65535$"),
        ("loads", load, {"period": 0}, rf"^load job {load} .*: has \d+ tiles, but a period of 0$"),
        ("streams", stream, {"period": 0}, rf"^stream job {stream} .*: has \d+ tiles, but a period of 0$"),
        ("streams", stream, {"swap": 0}, rf"^stream job {stream} .*: has several tiles, but swaps no weights in$"),
        ("streams", stream, {"x_turn": 3}, rf"^stream job {stream} .*: x_turn is 3, must be 0 to 2$"),
        ("loads", load, {"period": 3}, rf"^load job {load} tile 1 .*starts before load job {load} tile 0 .* has ended"),
        ("streams", stream, {"period": 1}, rf"^stream job {stream} tile 1 .*starts before stream job {stream} tile 0 .* has ended"),
        ("loads", load, {"tiles": 1}, r"^pod \d has \d+ weight loads for \d+ swaps$"),
        ("loads", load, {"w_base": 996}, rf"^load job {load} tile 1 .*: W address 1003 is outside of 0 to 999$"),
        ("streams", stream, {"x_turn": 0, "x_tile_step": 999}, rf"^stream job {stream} tile 1 .*: X address \d+ is outside"),
    ):
        refused(changed(legal, kind, job, **values), sentence)
    single = dataclasses.replace(legal, config=legal.config.replace(tile_width=0))
    refused(single, r"^load job \d+ .*: tiles is \d+, must be 1 to 1$")


def test_stores_count_jobs_and_not_tiles() -> None:
    joined = joined_program()
    most = int(np.bincount(joined.streams["pod"]).max())
    small = joined.config.replace(stream_jobs=most, load_jobs=most)
    assert len(compile_graph(graph(), small).streams["start"]) == len(joined.streams["start"])
    assert most < np.bincount(joined.streams["pod"], weights=joined.streams["tiles"]).max()
