"""compiler.plan.demands: what of a band must be stored, by hand."""

from __future__ import annotations

import pytest

from podweave.compiler.plan.demands import Demands
from podweave.ir.operations import Upsampling
from tests.podweave.runs.small_accelerator import CONFIG


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [((0, 3, 2), (0, 2), (0, 3)), ((0, 1, 0), (2, 4), (2, 5)), ((0, 4, 5), (-1, 1), (-3, 0))],
)
def test_boxes_are_in_the_tensor_of_the_band(corner: tuple[int, int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Of a share of an output that begins at row 3 and column 2, where the band's tensor begins anywhere."""
    demands = Demands({"y": (1, 9, 9, CONFIG.array.rows)}, CONFIG, ("y",))
    (request,) = demands.requests("y", ((0, 1), (3, 5), (2, 5)), corner)
    assert (request.block, request.box, request.nodes) == (0, ((0, 1), rows, columns), range(CONFIG.pods))


def test_boxes_of_what_is_enlarged() -> None:
    twice = Upsampling(2, 3)
    demands = Demands({"y": (1, 10, 15, 1)}, CONFIG, ("y",), {"y": twice})
    (request,) = demands.requests("y", ((0, 1), (2, 3), (1, 4)), (0, 1, 0))
    assert (request.box, request.seen) == (((0, 1), (2, 4), (3, 12)), twice)
