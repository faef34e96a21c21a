"""compiler.chip.mapping: patches cover every position once, and mappings are legal, whatever the node."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.compiler.chip.mapping import choose
from podweave.compiler.chip.patches import Patches, patch_sizes
from podweave.compiler.chip.work import Mapping, Work

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))


def streamed(images: int, rows: int, columns: int) -> int:
    return images * rows * columns


def windowed(images: int, rows: int, columns: int) -> int:
    """Windows of 3 x 3 at every second position."""
    return images * (2 * rows + 1) * (2 * columns + 1)


def work(shape: tuple[int, int, int], **changes: Any) -> Work:
    """What a 3 x 3 convolution over two units of activations into four column tiles is."""
    parts: dict[str, Any] = {
        "shape": shape,
        "tiles": 4,
        "shared": 18,
        "own": 0,
        "units": 2,
        "ready": np.zeros(shape[1:], np.int64),
        "held": 2,
        "windowed": False,
    }
    parts |= changes
    return Work(**{field.name: parts[field.name] for field in dataclasses.fields(Work) if field.name in parts})


def chosen(node: Work, pods: int, limit: int = 256, partition: int | None = None, **changes: Any) -> Mapping:
    words = windowed if node.windowed else streamed
    options = {"free": np.zeros(pods, np.int64), "latency": 16, "rows": 4, "room": (1e6, 1e6), **changes}
    return choose(node, pods=pods, limit=limit, streamed=words, arriving=words, partition=partition, **options)  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SIZES, SIZES)
def test_patches_cover_every_position_once(shape: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    patches = Patches.of(shape, size)
    covered = np.zeros(shape, int)
    largest = 0
    for image, images in patches.images:
        for row, rows in patches.rows:
            for column, columns in patches.columns:
                assert images <= size[0]
                assert rows <= size[1]
                assert columns <= size[2]
                covered[image : image + images, row : row + rows, column : column + columns] += 1
                largest = max(largest, images * rows * columns)
    assert (covered == 1).all()
    assert patches.positions == largest
    assert len(patches) == len(patches.images) * len(patches.rows) * len(patches.columns)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SIZES, st.integers(1, 500), st.sampled_from([None, 0, 8, 40]))
def test_sizes_of_patches_fit(shape: tuple[int, int, int], limit: int, partition: int | None) -> None:
    sizes = list(patch_sizes(shape, limit, partition, streamed))  # type: ignore[arg-type]
    assert sizes
    assert len(sizes) == len(set(sizes))
    assert all(streamed(*size) <= limit for size in sizes)
    assert all(1 <= part <= whole for size in sizes for part, whole in zip(size, shape, strict=True))
    assert partition is None or len(sizes) == 1


def test_partition_aims_at_words() -> None:
    """8 x 8 positions: all of them, or what comes closest to 16 from below."""
    (size,) = patch_sizes((1, 8, 8), 100, 0, streamed)  # type: ignore[arg-type]
    assert streamed(*size) == 64
    (size,) = patch_sizes((1, 8, 8), 100, 16, streamed)  # type: ignore[arg-type]
    assert 12 < streamed(*size) <= 16


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    SIZES,
    st.integers(1, 9),
    st.integers(0, 12),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([1, 2, 4, 16, 64]),
    st.sampled_from([None, 0, 8]),
)
def test_mappings_are_legal(
    shape: tuple[int, int, int], tiles: int, shared: int, own: int, reduces: bool, pods: int, partition: int | None
) -> None:
    node = work(shape, tiles=tiles, shared=shared, own=own + (not shared), windowed=reduces)
    found = chosen(node, pods, partition=partition)
    words = windowed if reduces else streamed
    sizes = [max(length for _, length in axis) for axis in (found.patches.images, found.patches.rows, found.patches.columns)]
    assert words(*sizes) <= 256
    assert found.block == found.side * found.split
    assert found.block <= pods
    assert found.block & (found.block - 1) == 0
    # A part of K has a step at least; tiles without shared activations, and windows over parts of sums, gain nothing.
    assert found.split <= max(1, shared)
    assert found.side == 1 or shared
    assert found.split == 1 or not reduces
    assert found.side < 2 * tiles


def test_one_position_must_fit() -> None:
    with pytest.raises(ValueError, match=r"^no patch of one output position fits$"):
        chosen(work((1, 4, 4), windowed=True), 4, limit=8)


def test_many_positions_are_spread_and_few_split_k() -> None:
    """A large image takes the pods by patches; one position over long sums takes them by column tiles and parts of K."""
    large = chosen(work((1, 32, 32), tiles=1), 16, limit=1024)
    assert len(large.patches) >= 4
    assert len(large.patches) * large.block >= 8
    small = chosen(work((1, 1, 16), tiles=1, shared=64), 16)
    assert small.split > 1
    # Parts without a position to sum up, too.
    single = chosen(work((1, 1, 1), tiles=2, shared=64), 16)
    assert single.block == 16
    assert single.split >= 8
    tiled = chosen(work((1, 1, 4), tiles=16, shared=4), 16)
    assert tiled.side > 1 or len(tiled.patches) == 1


def test_the_same_mapping_every_time() -> None:
    node = work((2, 9, 7))
    assert chosen(node, 8) == chosen(node, 8)


@pytest.mark.parametrize("shape", [(1, 16, 16), (4, 7, 7), (1, 1, 64)])
def test_time_of_the_memory(shape: tuple[int, int, int]) -> None:
    """If the memory takes long for jobs, there are fewer; if it takes long for weight tiles, fewer pods hold each of them."""

    def jobs(mapping: Mapping) -> int:
        """Streams: each part of K emits its last step to all parts in turn."""
        return len(mapping.patches) * 4 * (18 + mapping.split * (mapping.split - 1))

    def holders(mapping: Mapping) -> int:
        """Blocks that hold the weights of a column tile: of those that there are, each does all tiles of a patch, or some."""
        rounds, blocks = -(-4 // mapping.side), 16 // mapping.block
        return min(len(mapping.patches), blocks if mapping.near else max(1, blocks // rounds))

    node = work(shape)
    usual = chosen(node, 16)
    assert chosen(dataclasses.replace(node, job_cost=0.0, tile_cost=0.0), 16) == usual
    slow = chosen(dataclasses.replace(node, job_cost=1000.0), 16)
    assert jobs(slow) < jobs(usual)
    assert len(slow.patches) == min(len(Patches.of(shape, size)) for size in patch_sizes(shape, 256, None, streamed))  # type: ignore[arg-type]
    heavy = chosen(dataclasses.replace(node, tile_cost=1000.0), 16)
    assert holders(heavy) < holders(usual)


def test_as_many_column_tiles_side_by_side_as_must_be() -> None:
    node = work((1, 1, 8), tiles=8, shared=64)
    usual = chosen(node, 8)
    assert usual.side < 8
    assert [chosen(node, 8, least_side=side).side for side in (1, 8, 16)] == [usual.side, 8, 8]


def test_the_mapping_of_other_positions() -> None:
    known = chosen(work((1, 4, 4)), 4, least_side=4)
    other = chosen(work((1, 16, 16)), 4)
    assert (known.side, known.split) != (other.side, other.split)
    taken = chosen(work((1, 16, 16)), 4, known=known)
    assert (taken.side, taken.split, taken.near) == (known.side, known.split, known.near)
    # Where that cannot be, any.
    assert chosen(work((1, 16, 16), windowed=True), 4, limit=400, known=Mapping(1, 4, known.patches)).split == 1
