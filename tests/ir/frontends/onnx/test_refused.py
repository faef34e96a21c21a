"""ir.frontends.onnx: each thing that is not taken, in a small file, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podweave.ir.frontends.onnx import read_network
from podweave.ir.layers import WorkloadError

from .refused_cases import cases
from .small_file import small

CONSTANTS = {
    "e8": np.eye(8, dtype=np.int8),
    "eight": np.full(8, np.inf, np.float32),
    "eight1": np.ones(8, np.float32),
    "int32": np.ones((2, 3, 1, 1), np.int32),
    "zero8": np.int8(0),
    "i4": np.ones((4, 3, 1, 1), np.int8),
    "i33": np.ones((3, 3, 3, 3), np.int8),
    "column": np.ones((1025, 1), np.int8),
    "line1": np.ones((1, 1025), np.int8),
    "column5": np.ones((5, 1), np.float32),
    "column5i": np.ones((5, 1), np.int8),
    "tiny": np.float32(1e-12),
    "slight": np.float32(1e-7),
    "odd": np.float32(0.2718),
    "huge5": np.full(5, 1e9, np.float32),
    "huge": np.float32([1e9, 0]),
}
_OPERANDS = {"Conv": "a, w", "ConvTranspose": "a, w", "MaxPool": "a"}


def refusals(folder: Path, nodes: str) -> list[str]:
    """What is told of each node of a file that is refused."""
    with pytest.raises(WorkloadError) as error:
        read_network(small(folder, nodes, **CONSTANTS))
    first, *found = str(error.value).split("\n  ")
    assert first == f"small: {'1 operator is' if len(found) == 1 else f'{len(found)} operators are'} not taken:"
    return found


@pytest.mark.parametrize(("nodes", "told"), cases())
def test_what_is_not_taken_is_told(tmp_path: Path, nodes: str, told: str) -> None:
    found = refusals(tmp_path, nodes)
    assert any(each.startswith(told[:-3]) if told.endswith("...") else each == told for each in found), found


_EACH = [(operator, name) for operator in _OPERANDS for name in ("strides", "dilations", "pads")]


@pytest.mark.parametrize(("operator", "name"), [*_EACH, ("ConvTranspose", "output_padding"), ("MaxPool", "kernel_shape")])
def test_attributes_of_other_axes(tmp_path: Path, operator: str, name: str) -> None:
    """As many numbers as there are axes, or twice as many."""
    found = [1] * (2 if name == "pads" else 1)
    shape = "kernel_shape = [2, 2], " if operator == "MaxPool" and name != "kernel_shape" else ""
    nodes = f"a := x w @ i33 y = {operator}<{shape}{name} = {found}>({_OPERANDS[operator]})"
    assert f"{operator} y: its {name} are {found} (what helps: {2 * len(found)} numbers)" in refusals(tmp_path, nodes)
