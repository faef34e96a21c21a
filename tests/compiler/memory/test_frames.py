"""compiler.memory.frames: places of a tensor in memory, against NumPy's padding of its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.compiler.lower.boxes import Rect
from podweave.compiler.memory.frames import Frame, Frames
from podweave.compiler.memory.words import Runs

STRIDE = 16


def words_of(piece: Runs) -> NDArray[np.int64]:
    """By word of a bank, the word of the memory, as an engine goes over both."""
    loops, at, base, found = piece.loops, piece.address, piece.base, []
    for run_number in range(piece.runs * piece.groups):
        if run_number:
            which = "1" if run_number % piece.runs else "2"
            base, at = base + piece.words - 1 + loops[f"step{which}"], at + loops[f"stride{which}"]
        found += [(base + word, at // STRIDE + word) for word in range(piece.words)]
    return np.array(found, np.int64).reshape(-1, 2)


def test_boxes_of_a_frame() -> None:
    """Of 2 images of 4 x 6 with a row above and a column on each side, 8 channels in words of 4."""
    frame = Frame((2, 4, 6, 8), 4, False, 0, ((0, 4), (0, 6)), np.array([[1, 0], [1, 1]]))
    assert (frame.height, frame.width, frame.words) == (5, 8, 160)
    words = np.arange(frame.words).reshape(2, 2, 5, 8)
    for box in (((0, 2), (-1, 4), (-1, 7)), ((1, 2), (0, 3), (-1, 7)), ((0, 2), (1, 3), (2, 5)), ((0, 2), (2, 3), (0, 6))):
        piece = frame.runs(0, 0, 1, box, 1000, 16)
        inside = words[1][tuple(slice(a + by, b + by) for (a, b), by in zip(box, (0, 1, 1), strict=True))].reshape(-1)
        loops, at, base, found = piece.loops, piece.address, piece.base, {}
        for run_number in range(piece.runs * piece.groups):
            if run_number:
                which = "1" if run_number % piece.runs else "2"
                base, at = base + piece.words - 1 + loops[f"step{which}"], at + loops[f"stride{which}"]
            found |= {base + word: (at - 1000) // 16 + word for word in range(piece.words)}
        assert [found[word] for word in range(len(inside))] == inside.tolist()


def drawn(rng: np.random.Generator, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """A span of a tensor as someone reads it, and that with what is padded."""
    begin, end = sorted(rng.choice(size + 1, 2, replace=False).tolist())
    if rng.random() < 0.4:
        begin = 0
    if rng.random() < 0.4:
        end = size
    before, behind = (rng.integers(0, 3, 2) * rng.integers(0, 2, 2)).tolist()
    return (begin, end), (begin - before, end + behind)


def boxes(rng: np.random.Generator, shape: tuple[int, int, int, int], count: int) -> list[tuple[int, Rect, Rect]]:
    found = []
    for _ in range(count):
        image = int(rng.integers(shape[0]))
        images = image, int(rng.integers(image + 1, shape[0] + 1))
        (rows, padded_rows), (columns, padded_columns) = drawn(rng, shape[1]), drawn(rng, shape[2])
        found.append((int(rng.integers(-2, 2)), (images, padded_rows, padded_columns), (images, rows, columns)))
    return found


def wrong_readers(seed: int) -> tuple[int, int]:
    """How many random readers find something else than what NumPy pads, and how many there are."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 10)))
    frames, readers = Frames(shape, 4, False, bool(seed % 2)), boxes(rng, shape, int(rng.integers(1, 9)))
    for reader in readers:
        frames.see(*reader)
    assert len(frames.all) <= len(readers) + 1
    assert not seed % 2 or frames.whole.is_whole
    blocks = -(-shape[3] // 4)
    tensor = rng.integers(100, 1 << 20, (blocks, *shape[:3]))
    memories = {}
    for frame in frames.all:
        memories[id(frame)] = np.full(frame.words, -99 if frame.value is None else frame.value)
    whole = tuple((0, size) for size in shape[:3])
    halves = [(whole[0], (0, shape[1] // 2), whole[2]), (whole[0], (shape[1] // 2, shape[1]), whole[2])]
    for block in range(blocks):
        for box in halves:
            bank = tensor[block][tuple(slice(*span) for span in box)].reshape(-1)
            for frame in frames.all:
                part = frame.inside(box)
                if part is not None:
                    places = words_of(frame.runs(0, 7, block, part, 0, STRIDE, within=box))
                    memories[id(frame)][places[:, 1]] = bank[places[:, 0] - 7]
    bad = 0
    for value, box, part in readers:
        pads = [(inner[0] - outer[0], outer[1] - inner[1]) for outer, inner in zip(box, part, strict=True)]
        for block in range(blocks):
            expected = np.pad(tensor[block][tuple(slice(*span) for span in part)], pads, constant_values=value).reshape(-1)
            frame = frames.of(value, box, part)
            places = words_of(frame.runs(0, 3, block, box, 0, STRIDE))
            found = np.full(len(expected), -77)
            found[places[:, 0] - 3] = memories[id(frame)][places[:, 1]]
            bad += bool((found != expected).any())
    return bad, len(readers) * blocks


@pytest.mark.parametrize("seed", range(60))
def test_each_reader_finds_its_padding(seed: int) -> None:
    bad, readers = wrong_readers(seed)
    assert (bad, readers > 0) == (0, True)


def test_readers_alike_share_a_place() -> None:
    """Tiles of one layer, of which those within have no padding; and those who see one edge of a part each."""
    frames = Frames((1, 8, 8, 4), 4, False, False)
    for rows, padded in (((0, 3), (-1, 3)), ((2, 6), (2, 6)), ((5, 8), (5, 9))):
        frames.see(3, ((0, 1), padded, (-1, 9)), ((0, 1), rows, (0, 8)))
    (frame,) = frames.all
    assert (frame.is_whole, frame.height, frame.width) == (True, 10, 10)
    frames = Frames((1, 8, 8, 4), 4, False, False)
    frames.see(3, ((0, 1), (1, 6), (0, 8)), ((0, 1), (2, 6), (0, 8)))
    frames.see(3, ((0, 1), (3, 9), (0, 8)), ((0, 1), (3, 7), (0, 8)))
    (frame,) = frames.all
    assert (frame.spans, frame.pads.tolist()) == (((2, 7), (0, 8)), [[1, 2], [0, 0]])


@pytest.mark.parametrize(
    ("target", "name", "fault"),
    [
        (Frame, "inside", lambda self, box: box),
        (Frames, "of", lambda self, *_: self.all[0]),
        (
            Frames,
            "_made",
            lambda self, readers: Frame(self.shape, 4, False, readers.value, ((0, self.shape[1]), (0, self.shape[2]))),
        ),
    ],
    ids=["inside", "of", "pads"],
)
def test_a_fault_shows(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, fault: Any) -> None:
    monkeypatch.setattr(target, name, fault)
    found = 0
    for seed in range(60):
        try:
            found += wrong_readers(seed)[0]
        except (IndexError, AssertionError, ValueError, StopIteration):
            found += 1
    assert found > 0
