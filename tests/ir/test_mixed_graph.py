"""ir.mixed_graph: layers and operations on rows read of each other what both know, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from podweave.ir.frontends.random_mixed import random_mixed_inputs, random_mixed_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph, as_rows, verify_mixed, verify_mixed_constants
from podweave.ir.operations import Linear, Shape, Upsampling
from podweave.ir.row_operations import Append, Format, RmsNorm, RowLinear, RowOperation
from tests.mixed_graphs import conv, linear

IMAGE = (1, 4, 3, 5)


def graph(
    *operations: Linear | RowOperation, image: Shape = IMAGE, formats: dict[str, Format] | None = None, **more: Shape
) -> MixedGraph:
    return MixedGraph("g", {"image": image, **more}, operations, formats=formats or {})


def legal() -> MixedGraph:
    """A layer, rows of it, and a layer of those, as another image."""
    return graph(
        conv("a", "image", (4, 3), 5, 6),
        linear("r", 12, "a", 6, 7, Format.INT8),
        conv("b", "r", (2, 6), 7, 4),
        linear("s", 12, "b", 4, 9),
    )


def test_positions_are_rows() -> None:
    found = verify_mixed(legal())
    assert [found.format(name) for name in ("image", "a", "r", "b", "s")] == [Format.INT8] * 4 + [Format.INT16]
    assert [found.shape(name) for name in ("a", "r", "b")] == [(1, 4, 3, 6), (1, 1, 12, 7), (1, 2, 6, 4)]
    assert as_rows(found.shape("b")) == (1, 1, 12, 4)
    assert [each.name for each in found.layers] == ["a", "b"]
    assert [each.name for each in found.rows] == ["r", "s"]
    assert found.outputs == ("s",)


def test_rows_read_an_image_that_is_an_input() -> None:
    verify_mixed(graph(linear("r", 12, "image", 5, 7), conv("a", "image", (4, 3), 5, 6)))


A = conv("a", "image", (4, 3), 5, 6)
R = linear("r", 12, "image", 5, 7, Format.INT8)


def enlarged(layer: Linear) -> Linear:
    """Of an image twice as high and wide."""
    (operand,) = layer.operands
    return replace(layer, operands=(replace(operand, upsampled=(Upsampling(2, 2),)),))


def from_row(layer: Linear, row: int) -> Linear:
    """Of an image from some row on."""
    (operand,) = layer.operands
    return replace(layer, operands=(replace(operand, corners=((row, 0),)),))


REFUSED: dict[str, tuple[MixedGraph, str]] = {
    "layers only": (graph(A), "a mixed graph needs layers and operations on rows, got layers only"),
    "rows only": (graph(R), "a mixed graph needs layers and operations on rows, got operations on rows only"),
    "nothing": (graph(), "a mixed graph needs layers and operations on rows, got no operation"),
    "rows of several images": (
        graph(conv("a", "image", (4, 3), 5, 6, batch=2), linear("r", 24, "a", 6, 7), image=(2, 4, 3, 5)),
        "r reads the positions of one image as rows, but a has 2 images",
    ),
    "another number of rows": (
        graph(A, linear("r", 11, "a", 6, 7)),
        "r expects 11 rows of 6 int16 or int8, but a has 12 of 6 int8",
    ),
    "a norm of a layer": (
        graph(A, RmsNorm("n", 12, source="a", width=6, scale_shift=7)),
        "n expects 12 rows of 6 int32, but a has 12 of 6 int8",
    ),
    "a layer of 16 bits": (
        graph(linear("r", 12, "image", 5, 7), conv("b", "r", (4, 3), 7, 4)),
        "b is a layer, which reads int8, but r is int16",
    ),
    "a layer of an input of 32 bits": (
        graph(R, conv("b", "wide", (1, 12), 7, 4), wide=(1, 1, 12, 7), formats={"wide": Format.WIDE}),
        "b is a layer, which reads int8, but wide is int32",
    ),
    "an image of other positions": (
        graph(R, conv("b", "r", (4, 4), 7, 4)),
        "b expects images of (1, 4, 4), but r has 12 rows, which are the positions of one image",
    ),
    "several images of rows": (
        graph(R, conv("b", "r", (2, 3), 7, 4, batch=2)),
        "b expects images of (2, 2, 3), but r has 12 rows, which are the positions of one image",
    ),
    "rows that are enlarged": (
        graph(R, enlarged(conv("b", "r", (8, 6), 7, 4))),
        "b reads r upsampled, which is rows and not an image",
    ),
    "a part of rows": (
        graph(R, from_row(conv("b", "r", (4, 3), 7, 4), 1)),
        "b reads r from (1, 0) on, but rows are read as a whole image",
    ),
    "another shape of an input": (
        graph(R, conv("b", "image", (3, 4), 5, 4)),
        "b expects images of (1, 3, 4), but image is (1, 4, 3)",
    ),
    "other channels": (graph(R, conv("b", "r", (4, 3), 6, 4)), "b expects 6 channels, its sources have 7"),
    "an image in 16 bits": (
        graph(A, R, formats={"image": Format.INT16}),
        "input image must be (1, 1, rows, channels), as it is int16, got (1, 4, 3, 5)",
    ),
    "an input without channels": (
        graph(A, R, image=(1, 4, 3, 0)),
        "input image must have four sizes (batch, height, width, channels), got (1, 4, 3, 0)",
    ),
    "a format of a tensor": (graph(A, R, formats={"a": Format.INT8}), "there is a format for a, which is no input"),
    "what comes later": (graph(conv("b", "r", (4, 3), 7, 4), R), "b reads r, which no earlier operation gives"),
    "after what comes later": (
        graph(conv("b", "image", (4, 3), 5, 4, after=("r",)), R),
        "b comes after r, which no earlier operation gives",
    ),
    "two of a name": (graph(A, linear("a", 12, "image", 5, 7)), "two tensors are named a"),
    "two layers of a name": (graph(R, A, A), "two tensors are named a"),
    "a layer of a cache": (
        graph(
            linear("k", 12, "image", 5, 4, Format.INT8),
            Append("keys", 12, source="k", cache="cache", width=4, context=12, position=0),
            conv("b", "keys", (4, 3), 4, 4),
            cache=(1, 1, 12, 4),
        ),
        "b reads keys, which is a cache: only attentions read those",
    ),
    "a linear operation on a cache": (
        graph(
            A,
            linear("k", 12, "image", 5, 4, Format.INT8),
            Append("keys", 12, source="k", cache="cache", width=4, context=12, position=0),
            linear("s", 12, "keys", 4, 4),
            cache=(1, 1, 12, 4),
        ),
        "s reads keys, which is a cache: only attentions read those",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    wrong, sentence = REFUSED[name]
    with pytest.raises(WorkloadError, match=f"^g: {re.escape(sentence)}$"):
        verify_mixed(wrong)


def test_an_output_that_nothing_gives() -> None:
    with pytest.raises(WorkloadError, match=r"^g: output image is nothing that an operation gives$"):
        verify_mixed(MixedGraph("g", {"image": IMAGE}, (A, R), ("a", "image")))


def test_constants_are_those_of_both_kinds() -> None:
    found = legal()
    held = random_mixed_parameters(found)
    verify_mixed_constants(found, held)
    for name in ("a", "r"):
        with pytest.raises(WorkloadError, match=f"^g: .*there are n.* {name}$"):
            verify_mixed_constants(found, {other: each for other, each in held.items() if other != name})
    with pytest.raises(WorkloadError, match=r"^g: b takes weights of \[\(1, 1, 7, 4\)\], got \[\(1, 1, 5, 6\)\]$"):
        verify_mixed_constants(found, {**held, "b": held["a"]})
    with pytest.raises(WorkloadError, match=r"^g: s takes weights of \[\(4, 9\)\], got \[\(6, 7\)\]$"):
        verify_mixed_constants(found, {**held, "s": held["r"]})


def test_random_inputs_are_as_the_graph_says() -> None:
    found = graph(A, linear("r", 12, "a", 6, 7, Format.WIDE, add="wide"), wide=(1, 1, 12, 7), formats={"wide": Format.WIDE})
    inputs = random_mixed_inputs(verify_mixed(found), 4)
    assert {name: (tensor.shape, tensor.dtype.name) for name, tensor in inputs.items()} == {
        "image": (IMAGE, "int8"),
        "wide": ((1, 1, 12, 7), "int32"),
    }


def test_a_row_operation_says_what_it_reads() -> None:
    assert RowLinear("r", 3, source="x", width=4, outputs=2).inputs == {"x": (3, 4, (Format.INT16, Format.INT8))}
