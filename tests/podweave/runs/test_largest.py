"""podweave.runs.largest: classes of outputs as files have them, and texts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.ir.frontends.onnx import QuantisedTensor
from podweave.ir.frontends.onnx.views import BATCH, CHANNELS, HEIGHT, WIDTH, View
from podweave.runs.largest import largest, same_largest, texts

SIZES = {BATCH: 2, HEIGHT: 3, WIDTH: 4, CHANNELS: 5}


def output(*axes: int, batch: int = 2) -> tuple[QuantisedTensor, tuple[int, ...]]:
    sizes = [batch if axis == BATCH else SIZES[axis] for axis in axes]
    return QuantisedTensor("y", View.of(sizes, axes), False, None, 0), tuple(sizes)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "axes",
    [
        (BATCH, WIDTH, CHANNELS),
        (BATCH, CHANNELS, WIDTH),
        (WIDTH, BATCH, CHANNELS),
        (BATCH, CHANNELS, HEIGHT, WIDTH),
        (BATCH, HEIGHT, WIDTH, CHANNELS),
        (CHANNELS, BATCH, WIDTH),
    ],
)
def test_classes_are_channels_wherever_the_file_has_them(axes: tuple[int, ...], batch: int) -> None:
    """At each position one class is 1, and all others are 0."""
    tensor, sizes = output(*axes, batch=batch)
    positions = [axis for axis in (HEIGHT, WIDTH) if axis in axes]
    wanted = np.random.default_rng(0).integers(0, 5, (batch, *(SIZES[axis] for axis in positions)))
    lying = np.moveaxis(np.eye(5)[wanted], range(2 + len(positions)), [axes.index(axis) for axis in (BATCH, *positions, CHANNELS)])
    assert lying.shape == sizes
    found = largest(tensor, lying)
    assert found is not None
    np.testing.assert_array_equal(found, wanted.reshape(batch, -1))


def test_rows_of_a_matrix_are_images() -> None:
    tensor, _ = output(BATCH, CHANNELS)
    found = largest(tensor, np.array([[0, 3, 1], [9, 3, 1]]))
    assert found is not None
    assert found.tolist() == [[1], [0]]
    whole = QuantisedTensor("y", View((2, 3, 4, 5), ((BATCH,), (CHANNELS, HEIGHT, WIDTH))), False, None, 0)
    found = largest(whole, np.eye(60)[[7, 59]])
    assert found is not None
    assert found.tolist() == [[7], [59]]


def test_one_class_is_none() -> None:
    assert largest(QuantisedTensor("y", View((1, 4, 4, 1), ((), (), (1,), (2,))), False, None, 0), np.zeros((1, 1, 4, 4))) is None


def test_texts() -> None:
    """Of a double letter, a blank is between both."""
    rows = np.array([[1, 1, 0, 1, 2, 2, 0, 0], [0, 1, 0, 1, 2, 0, 2, 2], [0, 0, 0, 0, 0, 0, 0, 0]])
    assert texts(rows, 0) == [(1, 1, 2), (1, 1, 2, 2), ()]
    assert texts(rows, 2) == [(1, 0, 1, 0), (0, 1, 0, 1, 0), (0,)]


def test_the_same_text_of_other_positions() -> None:
    exact = np.array([[0, 3, 3, 0, 4], [5, 5, 0, 0, 0], [1, 0, 1, 0, 2], [1, 2, 3, 4, 5]])
    found = np.array([[0, 3, 0, 0, 4], [5, 5, 0, 0, 0], [1, 1, 1, 0, 2], [1, 2, 3, 4, 5]])
    row = {"images": 4, "same_top": 2, "positions": 20, "same_positions": 18}
    assert same_largest(exact, found) == row
    assert same_largest(exact, found, 0) == {**row, "same_text": 3}
    assert same_largest(exact[:, :1], found[:, :1], 0) == {"images": 4, "same_top": 4}
