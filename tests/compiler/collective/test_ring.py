"""compiler.collective: jobs of all collectives, run by an interpreter of jobs that knows nothing of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.collective.program import CollectiveProgram, collective
from podweave.compiler.collective.ring import (
    Exchange,
    all_gather,
    all_reduce,
    all_reduce_program,
    barrier,
    broadcast,
    in_few_jobs,
    piece,
    reduce_scatter,
    send_receive,
)
from podweave.compiler.collective.walks import BankWords, Walk, walks
from podweave.compiler.jobs import pack_jobs
from podweave.golden.cycle.link.words import Job
from podweave.spec.links import CollectiveKind, receive_job_layout, send_job_layout
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from tests.compiler.collective.ring_interpreter import Chip, RingError, expanded, run_ring
from tests.fast import fast_of

CONFIG = dataclasses.replace(load_config("llm8x16"), links=LinksConfig())
NODES, WORDS = 4, 40
Banks = NDArray[np.int64]


def region(rng: np.random.Generator) -> BankWords:
    """As sums of tiles lie: some slots of some words in each node, the first and the last slot not in all of them."""
    slots, words, lead, last = (int(rng.integers(*span)) for span in ((1, 4), (1, 9), (0, NODES), (1, NODES + 1)))
    base = int(rng.integers(0, WORDS - slots * words + 1))
    runs = []
    for slot in range(slots):
        nodes = range(lead if slot == 0 and slots > 1 else 0, last if slot == slots - 1 else NODES)
        runs += [(node, base + slot * words, words) for node in nodes]
    return BankWords.of_runs(runs)


def run(programs: list[CollectiveProgram], banks: list[Banks], seed: int, room: int = 4) -> list[Banks]:
    """What is in the banks of all chips after a collective."""
    for program in programs:
        # Fields hold what there is.
        pack_jobs(send_job_layout(program.config), program.sends)
        pack_jobs(receive_job_layout(program.config), program.receives)
    chips = [Chip(program.sends, program.receives, of.copy()) for program, of in zip(programs, banks, strict=True)]
    run_ring(chips, np.random.default_rng(seed), room)
    return [chip.banks for chip in chips]


def made(exchanges: list[Exchange], kind: CollectiveKind = CollectiveKind.P) -> list[CollectiveProgram]:
    return [collective(CONFIG, 7, kind, *exchange) for exchange in exchanges]


def values(words: BankWords, banks: Banks) -> Banks:
    return banks[words.unit, words.address]


@pytest.mark.parametrize("chips", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("seed", fast_of(range(6), "0", "1"))
def test_all_chips_have_the_sums(chips: int, seed: int) -> None:
    rng = np.random.default_rng([seed, chips])
    words = region(rng)
    before = [rng.integers(-(1 << 31), 1 << 31, (NODES, WORDS, 2)) for _ in range(chips)]
    programs = [all_reduce_program(CONFIG, 3, words, chips, rank) for rank in range(chips)]
    after = run(programs, before, seed, room=int(rng.integers(1, 9)))
    total = (np.sum([values(words, banks) for banks in before], axis=0) + (1 << 31)) % (1 << 32) - (1 << 31)
    touched = np.zeros((NODES, WORDS), bool)
    touched[words.unit, words.address] = True
    for one, old in zip(after, before, strict=True):
        assert np.array_equal(values(words, one), total)
        assert np.array_equal(one[~touched], old[~touched])


@pytest.mark.parametrize("chips", [3, 4, 8])
def test_all_chips_have_as_many_jobs(chips: int) -> None:
    """What they send and receive first and last lies differently; none of them gets fewer jobs for it."""
    words = BankWords.of_runs([(node, 3, 2 * chips + 1) for node in range(NODES)])
    programs = [all_reduce_program(CONFIG, 3, words, chips, rank) for rank in range(chips)]
    fewest = [collective(CONFIG, 3, CollectiveKind.P, *all_reduce(words, chips, rank)) for rank in range(chips)]
    assert len({(len(program.sends["n0"]), len(program.receives["n0"])) for program in fewest}) > 1
    for table in ("sends", "receives"):
        assert {len(getattr(program, table)["n0"]) for program in programs} == {
            max(len(getattr(program, table)["n0"]) for program in fewest)
        }


@pytest.mark.parametrize("counts", [(5, 1, 1), (4, 3, 1), (3, 2, 5), (1, 2, 2), (1, 1, 7)])
def test_halves_of_a_walk_go_over_its_words(counts: tuple[int, int, int]) -> None:
    moves = {"step0": 3, "step1": -5, "step2": 40, "unit1": 1, "unit2": -2}
    whole = Walk(9, dict(zip(("n0", "n1", "n2"), counts, strict=True)) | {"unit": 20, "address": 100} | moves)
    first, second = whole.halves()
    assert (first.first, second.first) == (9, 9 + first.words)
    assert min(first.words, second.words) >= 1

    def places(walk: Walk) -> list[tuple[int, int]]:
        unit, address = Job(**walk.fields).places(walk.words)
        return list(zip(unit.tolist(), address.tolist(), strict=True))

    assert places(first) + places(second) == places(whole)


@pytest.mark.parametrize("chips", [2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_collectives_of_all_kinds(chips: int, seed: int) -> None:
    rng = np.random.default_rng([seed, chips, 1])
    words, root = region(rng), int(rng.integers(chips))
    before = [rng.integers(-99, 100, (NODES, WORDS, 2)) for _ in range(chips)]
    ranks = range(chips)
    total = np.sum([values(words, banks) for banks in before], axis=0)
    number = {(int(u), int(a)): i for i, (u, a) in enumerate(zip(words.unit, words.address, strict=True))}

    scattered = run(made([reduce_scatter(words, chips, rank) for rank in ranks]), before, seed)
    for rank in ranks:
        own = piece(words, chips, rank)
        which = [number[int(u), int(a)] for u, a in zip(own.unit, own.address, strict=True)]
        assert np.array_equal(values(own, scattered[rank]), total[which])
    assert sum(len(piece(words, chips, rank)) for rank in ranks) == len(words)
    gathered = run(made([all_gather(words, chips, rank) for rank in ranks]), scattered, seed)
    assert all(np.array_equal(values(words, banks), total) for banks in gathered)

    copied = run(made([broadcast(words, chips, rank, root) for rank in ranks], CollectiveKind.X), before, seed)
    assert all(np.array_equal(values(words, banks), values(words, before[root])) for banks in copied)

    other = BankWords.of_runs([(node, 0, 2) for node in range(NODES)]), BankWords.of_runs([(1, 30, 8)])
    moved = run(made([send_receive(*other) for _ in ranks]), before, seed)
    assert all(np.array_equal(values(other[1], moved[rank]), values(other[0], before[rank - 1])) for rank in ranks)
    alone = [send_receive(words if rank == root else None, words if rank == (root + 1) % chips else None) for rank in ranks]
    moved = run(made(alone), before, seed)
    for rank in ranks:
        source = root if rank == (root + 1) % chips else rank
        assert np.array_equal(values(words, moved[rank]), values(words, before[source]))


@pytest.mark.parametrize("chips", [2, 3, 8])
def test_nobody_leaves_a_barrier_before_all_have_come(chips: int) -> None:
    word = BankWords.of_runs([(0, 5, 1)])
    programs = made([barrier(word, chips)] * chips)
    banks = [np.zeros((NODES, WORDS, 1), np.int64)] * chips
    run(programs, banks, 0)
    for missing in range(chips):
        ring = [Chip(program.sends, program.receives, of.copy()) for program, of in zip(programs, banks, strict=True)]
        with pytest.raises(RingError, match="nobody can go on"):
            run_ring(ring, np.random.default_rng(0), held=[missing])
        assert all(chip.received < len(chip.into) for chip in ring)


def test_few_words_among_many_chips() -> None:
    for count in (1, 2, 5):
        words = BankWords.of_runs([(0, 3, count)])
        programs = [all_reduce_program(CONFIG, 0, words, 8, rank) for rank in range(8)]
        banks = [np.full((1, WORDS, 1), rank) for rank in range(8)]
        assert all(np.array_equal(of[0, 3 : 3 + count, 0], [28] * count) for of in run(programs, banks, count))


def test_walks_go_over_the_words_in_order() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        words = region(rng)
        order = words[np.lexsort((words.address, words.unit) if rng.random() < 0.5 else (words.unit, words.address))]
        if rng.random() < 0.3:
            order = words[rng.permutation(len(words))]
        first, count = int(rng.integers(len(order))), int(rng.integers(1, 2 * len(order) + 1))
        chosen = order[(first + np.arange(count)) % len(order)]
        program = collective(CONFIG, 0, CollectiveKind.P, *send_receive(chosen, None))
        found = expanded(program.sends)
        assert [(unit, at) for unit, at, _, _ in found] == list(zip(chosen.unit.tolist(), chosen.address.tolist(), strict=True))
        assert [walk.first for walk in walks(chosen)] == np.cumsum([0, *(walk.words for walk in walks(chosen))])[:-1].tolist()


def test_loops_are_no_longer_than_their_fields() -> None:
    words = BankWords.of_runs([(0, 0, 1 << 16)])
    assert [walk.words for walk in walks(words)] == [(1 << 16) - 1, 1]
    many = words[np.zeros(10_000, np.int64)]
    for walk in walks(many):
        assert max(walk.fields["n1"], walk.fields["n2"]) < 1 << 12


def jobs_of(words: BankWords, chips: int) -> tuple[int, int]:
    """The most jobs that a chip sends, and receives."""
    programs = [all_reduce_program(CONFIG, 0, words, chips, rank) for rank in range(chips)]
    return max(len(each.sends["n0"]) for each in programs), max(len(each.receives["n0"]) for each in programs)


def test_jobs_are_few_whatever_the_number_of_chips() -> None:
    full = BankWords.of_runs([(node, 3, 24) for node in range(16)])
    assert [jobs_of(full, chips) for chips in (2, 3, 4, 5, 8, 16)] == [(2, 2), (3, 3), (3, 4), (8, 7), (4, 4), (4, 4)]
    ragged = BankWords.of_runs([(node, 64 * slot, 64) for slot in range(3) for node in range(16 if slot < 2 else 4)])
    assert [jobs_of(ragged, chips) for chips in (2, 3, 4, 5, 8, 16)] == [(3, 3), (4, 4), (5, 6), (9, 10), (6, 6), (6, 6)]


def test_the_order_is_the_same_wherever_words_lie() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        words = region(rng)
        moved = BankWords(words.unit, words.address + 17)
        for chips in (2, 3, 8):
            one, two = (in_few_jobs(CONFIG, each, chips) for each in (words, moved))
            assert np.array_equal(one.address + 17, two.address)
            assert np.array_equal(one.unit, two.unit)


Change = Callable[[list[CollectiveProgram]], None]


def changed(store: str, job: int, **fields: Any) -> Change:
    def change(programs: list[CollectiveProgram]) -> None:
        for name, value in fields.items():
            getattr(programs[1], store)[name][job] += value

    return change


FAULTS: dict[str, Change] = {
    "a word elsewhere": changed("sends", 0, address=1),
    "another node": changed("receives", 0, unit=-1),
    "stored, not added": changed("receives", 0, add=-1),
    "added, not stored": changed("receives", -1, add=1),
    "sent too early": changed("sends", 1, follows=-1),
    "a word fewer": changed("sends", -1, n0=-1),
    "another id": changed("receives", 0, id=1),
    "another kind": changed("sends", 0, kind=1),
    "too late": changed("sends", 1, needs=100),
}


@pytest.mark.parametrize("what", FAULTS)
def test_the_interpreter_sees_a_fault(what: str) -> None:
    words = BankWords.of_runs([(node, 2, 8) for node in range(1, NODES)])
    banks = [np.random.default_rng(rank).integers(-99, 100, (NODES, WORDS, 2)) for rank in range(3)]
    total = np.sum([values(words, of) for of in banks], axis=0)
    wrong = 0
    for seed in range(5):
        programs = [all_reduce_program(CONFIG, 3, words, 3, rank) for rank in range(3)]
        FAULTS[what](programs)
        chips = [(program.sends, program.receives, of.copy()) for program, of in zip(programs, banks, strict=True)]
        try:
            ring = [Chip(*chip) for chip in chips]
            run_ring(ring, np.random.default_rng(seed))
            wrong += not all(np.array_equal(values(words, chip.banks), total) for chip in ring)
        except RingError:
            wrong += 1
    assert wrong
