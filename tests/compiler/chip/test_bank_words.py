"""compiler.chip.bank_words: rings, free lists and limits, against a model that keeps the owner of every word."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from podweave.compiler.chip.bank_words import BankWords, EpochFullError, zero_word
from podweave.compiler.jobs import Place
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import (
    ArrayConfig,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
)

NODE = Linear("n", (Operand(("in",), Layer(name="n", height=1, width=1, channels=1, outputs=1)),))
RINGS = ("w", "set")


def chip(**changes: Any) -> ChipConfig:
    """Two pods; every kind of word has another count."""
    config = ChipConfig(
        name="chip",
        pods=2,
        pod=PodConfig(array=ArrayConfig(rows=4, cols=4)),
        memory=MemoryConfig(banks=2, x_words=20, w_words=24, p_words=17),
        network=NetworkConfig(),
        post=PostConfig(parameter_sets=6),
        program=ProgramConfig(),
    )
    return config.replace(**changes)


def message(storage: BankWords, kind: str, banks: tuple[int, ...], words: int) -> str:
    with pytest.raises(EpochFullError) as caught:
        storage.place(kind, banks, words, NODE)
    return str(caught.value)


def longest_run(free: NDArray[np.bool_]) -> int:
    return max((len(run) for run in "".join(".#"[taken] for taken in (~free).tolist()).split("#")), default=0)


# One operation each: what, kind, banks, words, share of the next epoch.
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["place", "place", "place", "place", "release", "epoch"]),
        st.sampled_from(["x", "w", "w", "p", "p", "set"]),
        st.sampled_from([(0,), (1,), (0, 1)]),
        st.integers(1, 9),
        st.sampled_from([0.25, 0.5, 0.5, 0.7, 1.0]),
    ),
    max_size=60,
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(OPERATIONS)
def test_against_owners_of_words(operations: list[tuple[str, str, tuple[int, ...], int, float]]) -> None:
    """Nothing overlaps, nothing goes around an end, what is refused does not fit, and what is given back can be had again."""
    config, share = chip(), 1.0
    depths = {"x": 20, "w": 24, "p": 16, "set": 6}
    storage = BankWords(config)
    taken = {kind: np.zeros((2, depth), bool) for kind, depth in depths.items()}
    begin = {kind: [0, 0] for kind in RINGS}
    spans = {kind: [0, 0] for kind in RINGS}
    before = {kind: np.zeros((2, depths[kind]), bool) for kind in RINGS}
    halves = False
    held: list[tuple[Place, int]] = []
    for what, kind, banks, words, next_share in operations:
        limit = max(1, int(depths[kind] * share)) if kind in RINGS else depths[kind]
        if what == "epoch":
            for ring in RINGS:
                begin[ring] = [(b + s) % depths[ring] for b, s in zip(begin[ring], spans[ring], strict=True)]
                spans[ring] = [0, 0]
                before[ring] = taken[ring].copy()
                taken[ring][...] = False
            taken["x"][...] = False
            halves = share <= 0.5 and next_share <= 0.5
            storage, share = storage.next_epoch().limited(next_share), next_share
        elif what == "release" and held:
            place, count = held.pop(words % len(held))
            storage.release(place, count)
            taken["p"][place.bank, place.base : place.base + count] = False
        elif what == "place":
            filled = [int(spans[kind][b]) if kind in RINGS else int(taken[kind][b].sum()) for b in (0, 1)]
            bank = min(banks, key=filled.__getitem__)
            if kind in RINGS:
                # From the end of what is there, or from word 0 if the end of the bank is in the way.
                at = (begin[kind][bank] + spans[kind][bank]) % depths[kind]
                skipped = depths[kind] - at if at + words > depths[kind] else 0
                need, expected = spans[kind][bank] + skipped + words, (at + skipped) % depths[kind]
            elif kind == "x":
                need, expected = filled[bank] + words, filled[bank]
            else:
                free = ~taken["p"][bank]
                need = words if (fits := longest_run(free) >= words) else limit + 1
                expected = next(b for b in range(16) if free[b : b + words].all() and b + words <= 16) if fits else 0
            if need > limit:
                message(storage, kind, banks, words)
                continue
            place = storage.place(kind, banks, words, NODE)
            assert place == Place(bank, expected)
            assert place.base + words <= depths[kind]
            where = taken[kind][bank, place.base : place.base + words]
            assert not where.any()
            where[...] = True
            if kind in RINGS:
                spans[kind][bank] = need
                # Two epochs of at most half of a ring are there at the same time.
                assert not (halves and before[kind][bank, place.base : place.base + words].any())
            if kind == "p":
                held.append((place, words))
        counts = {k: taken[k].sum(axis=1) for k in ("x", "p")} | {"w": np.array(spans["w"])}
        assert storage.used() == {f"{k}_words": int(counts[k].max()) for k in counts} | {
            f"{k}_words_total": int(counts[k].sum()) for k in counts
        }
    for place, count in held:
        storage.release(place, count)
    # All pieces have become one again.
    assert [storage.place("p", (bank,), 16, NODE).base for bank in (0, 1)] == [0, 0]


def test_ring_by_hand() -> None:
    """24 words, epochs of up to 12: the third begins where the first did, and no piece goes around the end."""
    storage = BankWords(chip()).limited(0.5)
    assert [storage.place("w", (0,), 4, NODE).base for _ in range(3)] == [0, 4, 8]
    sentence = "n: W bank 0 is full: 4 words more are 4 more than an epoch's share of 12 of w_words (24)"
    assert message(storage, "w", (0,), 4) == sentence
    storage = storage.next_epoch().limited(0.5)
    assert [storage.place("w", (0,), words, NODE).base for words in (4, 3, 3)] == [12, 16, 19]
    storage = storage.next_epoch().limited(0.5)
    # Two words are left before the end: they are skipped, and count.
    assert [storage.place("w", (0,), words, NODE).base for words in (4, 4)] == [0, 4]
    assert storage.used()["w_words"] == 10
    assert (
        message(storage, "w", (0,), 4) == "n: W bank 0 is full: 4 words more are 2 more than an epoch's share of 12 of w_words (24)"
    )
    # The other bank has stayed where it was.
    assert storage.place("w", (1,), 4, NODE).base == 0
    assert storage.next_epoch().starts["w"] == [8, 4]


def test_pieces_may_end_at_the_end() -> None:
    storage = BankWords(chip())
    storage.place("w", (0,), 20, NODE)
    storage = storage.next_epoch()
    assert [storage.place("w", (0,), 4, NODE).base for _ in range(2)] == [20, 0]
    for _ in range(4):
        storage.place("w", (0,), 4, NODE)
    assert message(storage, "w", (0,), 1) == "n: W bank 0 is full: 1 words more are 1 more than w_words (24)"


def test_restarted_rings_have_no_words_to_skip() -> None:
    storage = BankWords(chip())
    storage.place("w", (0,), 6, NODE)
    storage.place("set", (1,), 2, NODE)
    storage = storage.next_epoch()
    again = storage.restarted()
    assert [storage.starts, again.starts] == [{"w": [6, 0], "set": [0, 2]}, {"w": [0, 0], "set": [0, 0]}]
    assert [again.place("w", (0,), 4, NODE).base for _ in range(6)] == [0, 4, 8, 12, 16, 20]
    assert [storage.place("w", (0,), 4, NODE).base for _ in range(5)] == [6, 10, 14, 18, 0]
    assert message(storage, "w", (0,), 4) == "n: W bank 0 is full: 4 words more are 2 more than w_words (24)"


def test_shares_hold_a_word_at_least() -> None:
    storage = BankWords(chip()).limited(0.01)
    assert storage.limits == {"x": 20, "w": 1, "p": 16, "set": 1}
    storage.place("set", (0,), 1, NODE)
    sentence = "n: post-processor 0 is full: 1 sets more are 1 more than an epoch's share of 1 of parameter_sets (6)"
    assert message(storage, "set", (0,), 1) == sentence


@pytest.mark.parametrize(
    ("kind", "words", "sentence"),
    [
        ("x", 21, "n: X bank 1 is full: 21 words more are 1 more than x_words (20)"),
        ("w", 30, "n: W bank 1 is full: 30 words more are 6 more than w_words (24)"),
        ("p", 17, "n: P bank 1 is full: 17 words more are 1 more than are free in one piece (16 of p_words 17)"),
        ("set", 7, "n: post-processor 1 is full: 7 sets more are 1 more than parameter_sets (6)"),
    ],
)
def test_messages(kind: str, words: int, sentence: str) -> None:
    storage = BankWords(chip())
    assert issubclass(EpochFullError, WorkloadError)
    assert message(storage, kind, (1,), words) == sentence
    # One less fits, and what was refused has left nothing behind.
    limit = int(re.sub(r".* are (\d+) more than.*", r"\1", sentence))
    assert storage.place(kind, (1,), words - limit, NODE) == Place(1, 0)


def test_free_pieces_of_p_banks() -> None:
    """Sixteen words in four pieces: given back in any order they merge, but a gap between them stays one."""
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        storage = BankWords(chip())
        places = [storage.place("p", (0,), 4, NODE) for _ in range(4)]
        assert [place.base for place in places] == [0, 4, 8, 12]
        assert message(storage, "p", (0,), 1).endswith("1 words more are 1 more than are free in one piece (0 of p_words 17)")
        for index in order[:-1]:
            storage.release(places[index], 4)
        last = places[order[-1]].base
        most = max(last, 12 - last)
        assert message(storage, "p", (0,), most + 1).endswith(
            f"{most + 1} words more are 1 more than are free in one piece ({most} of p_words 17)"
        )
        storage.release(places[order[-1]], 4)
        assert storage.place("p", (0,), 16, NODE).base == 0


def test_first_piece_that_is_large_enough() -> None:
    storage = BankWords(chip())
    places = [storage.place("p", (0,), words, NODE) for words in (3, 2, 5, 6)]
    storage.release(places[0], 3)
    storage.release(places[2], 5)
    assert [storage.place("p", (0,), words, NODE).base for words in (4, 3, 1)] == [5, 0, 9]
    assert storage.used()["p_words"] == 16


def test_words_are_given_back_once() -> None:
    storage = BankWords(chip())
    place = storage.place("p", (1,), 5, NODE)
    storage.place("p", (1,), 3, NODE)
    storage.release(place, 5)
    for wrong, words in ((place, 5), (Place(1, 4), 2), (Place(1, 7), 2), (Place(0, 0), 1)):
        sentence = rf"^P bank {wrong.bank}: words {wrong.base} to {wrong.base + words - 1} are not all taken$"
        with pytest.raises(ValueError, match=sentence):
            storage.release(wrong, words)
    # Nothing has changed by that.
    assert storage.place("p", (1,), 5, NODE) == Place(1, 0)
    assert storage.place("p", (1,), 8, NODE) == Place(1, 8)


def test_the_zero_word_is_nobodys() -> None:
    config = chip()
    assert zero_word(config) == 16
    storage = BankWords(config)
    assert storage.place("p", (0,), 16, NODE).base == 0
    smallest = BankWords(chip(p_words=2))
    assert smallest.place("p", (0,), 1, NODE).base == 0
    assert message(smallest, "p", (0,), 1).endswith("(0 of p_words 2)")


def test_the_emptiest_bank_is_taken() -> None:
    storage = BankWords(chip())
    for kind in ("x", "w", "p", "set"):
        assert [storage.place(kind, (0, 1), words, NODE).bank for words in (3, 1, 1, 1)] == [0, 1, 1, 1]
    assert storage.room("x") == 20 - 3
    assert storage.room("w") == 24 - 3


def test_copies_are_of_their_own() -> None:
    storage = BankWords(chip())
    kept = storage.place("p", (0,), 4, NODE)
    for other in (storage.limited(0.5), storage.next_epoch(), storage.restarted()):
        for kind in ("x", "w", "p", "set"):
            other.place(kind, (0,), 3, NODE)
        other.release(kept, 4)
        assert [storage.filled[kind] for kind in ("x", "w", "p", "set")] == [[0, 0], [0, 0], [4, 0], [0, 0]]
        assert storage.starts == {"w": [0, 0], "set": [0, 0]}
    assert storage.place("p", (0,), 12, NODE).base == 4
    assert storage.limits["w"] == 24


def test_inputs_lie_at_the_end_of_x_banks() -> None:
    """They take words from the other end, and stay there for the next epoch if it is to find them."""
    storage = BankWords(chip())
    assert [storage.place("input", (0,), words, NODE).base for words in (4, 3)] == [16, 13]
    assert [storage.place("x", (0,), words, NODE).base for words in (5, 6)] == [0, 5]
    for kind in ("x", "input"):
        assert message(storage, kind, (0,), 3) == "n: X bank 0 is full: 3 words more are 1 more than x_words (20)"
    # The emptiest bank is the one that has the fewest of both.
    assert storage.place("x", (0, 1), 1, NODE).bank == 1
    assert storage.used()["x_words"] == 18
    assert storage.used()["x_words_total"] == 19
    assert storage.room("x") == 20 - 19 / 2
    kept, gone = storage.next_epoch(inputs=True), storage.next_epoch()
    assert [after.place("x", (0,), 13, NODE).base for after in (kept, gone)] == [0, 0]
    assert message(kept, "x", (0,), 1) == "n: X bank 0 is full: 1 words more are 1 more than x_words (20)"
    assert gone.place("input", (0,), 7, NODE).base == 13
    assert kept.restarted().place("input", (0,), 7, NODE).base == 13


def in_parts() -> BankWords:
    """Banks of 32 words of X in four parts."""
    return BankWords(dataclasses.replace(chip(x_words=32), prefetch=PrefetchConfig()).replace(x_parts=4))


def test_epochs_turn_in_x_banks_with_parts() -> None:
    """By hand: the next epoch begins at the part of the last input, with inputs below; what it computes comes to the words of the
    epoch before in the order of their making."""
    storage = in_parts()
    assert [storage.place("input", (0,), words, NODE).base for words in (3, 7)] == [29, 22]
    assert [storage.place("x", (0,), words, NODE).base for words in (5, 6)] == [0, 5]
    after = storage.next_epoch()
    # Bank 0 begins at word 16, bank 1, in which nothing was, a part below word 32.
    assert [after.place("input", (bank,), 4, NODE).base for bank in (0, 1)] == [12, 20]
    assert [after.place("x", (0,), words, NODE).base for words in (9, 4)] == [16, 25]
    # One piece does not go around the end: 3 words are skipped.
    assert after.place("x", (0,), 4, NODE).base == 0
    assert after.filled["x"] == [20, 0]
    assert message(after, "x", (0,), 9) == "n: X bank 0 is full: 9 words more are 1 more than x_words (32)"
    assert after.place("x", (0,), 8, NODE).base == 4
    assert after.next_epoch().place("x", (0,), 1, NODE).base == 8
    assert after.restarted().x_starts == [0, 0]


def test_inputs_go_around_the_begin_of_x_banks_with_parts() -> None:
    storage = in_parts()
    for _ in range(3):
        storage = storage.next_epoch()
    assert storage.x_starts == [8, 8]
    # 2 words are skipped.
    assert [storage.place("input", (0,), words, NODE).base for words in (6, 5, 3)] == [2, 27, 24]
    assert storage.filled["input"] == [16, 0]
    assert message(storage, "x", (0,), 17) == "n: X bank 0 is full: 17 words more are 1 more than x_words (32)"
    assert storage.place("x", (0,), 16, NODE).base == 8
    kept = storage.next_epoch(inputs=True)
    assert (kept.x_starts, kept.place("x", (0,), 16, NODE).base) == ([8, 8], 8)
    # As many as fit lie where they do in banks without parts.
    storage.use_x(8, 16)
    assert storage.x_starts == [0, 0]


def test_epochs_keep_p_banks_only() -> None:
    storage = BankWords(chip())
    for kind in ("x", "w", "p", "set"):
        storage.place(kind, (0,), 5, NODE)
    after = storage.next_epoch()
    assert [after.filled[kind] for kind in ("x", "w", "p", "set")] == [[0, 0], [0, 0], [5, 0], [0, 0]]
    assert after.starts == {"w": [5, 0], "set": [5, 0]}
    assert [after.place(kind, (0,), 1, NODE).base for kind in ("x", "w", "p", "set")] == [0, 5, 5, 5]


def test_some_words_of_x_banks() -> None:
    """Activations from their beginning on, inputs from their end."""
    storage = BankWords(chip())
    storage.use_x(5, 8)
    assert [storage.place("x", (0,), 3, NODE).base for _ in range(2)] == [5, 8]
    assert storage.place("input", (0,), 2, NODE) == Place(0, 11)
    assert message(storage, "x", (0,), 1) == (
        "n: X bank 0 is full: 1 words more are 1 more than the 8 that others leave of x_words (20)"
    )
    after = storage.next_epoch()
    after.use_x(0, 4)
    assert after.place("x", (0,), 4, NODE) == Place(0, 0)


def test_p_words_that_others_hold() -> None:
    """Of all banks; `held` has them, and what is taken in some bank."""
    storage, words = BankWords(chip()), np.zeros(16, bool)
    own = storage.place("p", (1,), 3, NODE)
    assert np.flatnonzero(storage.held).tolist() == [0, 1, 2]
    words[[4, 5, 12]] = True
    storage.hold(words)
    assert np.flatnonzero(storage.held).tolist() == [0, 1, 2, 4, 5, 12]
    assert [storage.place("p", (0,), count, NODE).base for count in (5, 4, 3)] == [6, 0, 13]
    assert storage.used()["p_words"] == 15
    with pytest.raises(EpochFullError, match="P bank 0 is full"):
        storage.place("p", (0,), 2, NODE)
    storage.give(words)
    assert storage.place("p", (0,), 2, NODE).base == 4
    storage.release(own, 3)
    assert storage.filled["p"] == [14, 0]
