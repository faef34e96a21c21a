"""compiler.plan.bands: what bands compute, put together, is what the network computes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.compiler.plan.bands import Grid, band, needed
from podweave.fuzz.random_large import cut_graph
from podweave.fuzz.random_layers import random_graph, upsampled_graph
from podweave.fuzz.random_views import views_graph
from podweave.golden.graph import evaluate
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.verify import verify


def conv(name: str, source: str, size: tuple[int, int], kernel: int, stride: int = 1, **options: int) -> Linear:
    pads = (kernel // 2, kernel // 2)
    sizes = {"height": size[0], "width": size[1], "channels": 4, "outputs": 4, "groups": 1} | options
    layer = Layer(name=name, kernel=(kernel, kernel), stride=(stride, stride), padding=(pads, pads), **sizes)  # type: ignore[arg-type]
    return Linear(name, (Operand((source,), layer),))


def require_bands(graph: Graph, begin: int, end: int, grid: Grid, seed: int = 0) -> int:
    """Every band of a segment gives its share of what the network gives; returns how many bands there are."""
    rng = np.random.default_rng(seed)
    parameters = random_parameters(graph, seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    expected = evaluate(graph, parameters, inputs)
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    operations = graph.operations[begin:end]
    later = {source for operation in graph.operations[end:] for source in operation.sources} | set(graph.outputs)
    leaving = [operation.name for operation in operations if operation.name in later]
    given = {name: np.zeros(shapes[name], bool) for name in leaving}
    count = 0
    for number in grid:
        shares = {name: share for name in leaving if (share := grid.share(shapes[name], number))}
        if not shares:
            continue
        count += 1
        part = band("part", operations, shapes, shares)
        verify(part.graph)
        read = {}
        for name, shape in part.graph.inputs.items():
            spans = [slice(by, by + size) for by, size in zip(part.corners[name], shape, strict=False)]
            read[name] = expected[name][tuple(spans)]
        found = evaluate(part.graph, {each.name: parameters[each.name] for each in part.graph.operations}, read)
        for name, share in shares.items():
            mine = tuple(slice(*span) for span in share)
            here = tuple(slice(a - by, b - by) for (a, b), by in zip(share, part.corners[name], strict=True))
            assert_array_equal(found[name][here], expected[name][mine], err_msg=f"{name} {number}")
            assert not given[name][mine].any()
            given[name][mine] = True
    assert all(mask.all() for mask in given.values())
    return count


@pytest.mark.parametrize("seed", range(40))
def test_bands_of_random_networks(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    graph = random_graph(seed) if seed % 2 else cut_graph(seed)
    count = len(graph.operations)
    begin = int(rng.integers(count))
    end = int(rng.integers(begin, count)) + 1
    grid = Grid(int(rng.integers(1, 3)), int(rng.integers(1, 6)), int(rng.integers(1, 4)))
    require_bands(graph, begin, end, grid, seed)


@pytest.mark.parametrize("seed", range(20))
def test_bands_of_what_is_seen_enlarged(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    graph = upsampled_graph(seed)
    count = len(graph.operations)
    require_bands(graph, 0, count, Grid(1, int(rng.integers(1, 8)), int(rng.integers(1, 5))), seed)


@pytest.mark.parametrize("seed", range(40))
def test_bands_of_views(seed: int) -> None:
    """Some of which are of padding alone."""
    rng = np.random.default_rng([seed, 6])
    graph = views_graph(seed)
    count = len(graph.operations)
    begin = int(rng.integers(count))
    end = int(rng.integers(begin, count)) + 1
    require_bands(graph, begin, end, Grid(1, int(rng.integers(1, 8)), int(rng.integers(1, 8))), seed)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "window"),
    [
        # Rows of padding before, behind and both; with a kernel that sees a row from further away.
        (1, 1, (4, 0), None),
        (1, 1, (0, 4), None),
        (2, 1, (5, 4), None),
        # Strides that leave over the image, and outputs that leave over the only sums that see it.
        (1, 3, (2, 0), None),
        (1, 8, (4, 3), None),
        (1, 1, (7, 0), Window("max", (2, 1), (5, 1))),
        (1, 2, (9, 0), Window("sum", (1, 1), (3, 1))),
    ],
)
@pytest.mark.parametrize("height", [1, 3])
def test_bands_that_see_padding_alone(
    kernel: int, stride: int, padding: tuple[int, int], window: Window | None, height: int
) -> None:
    """They compute more, so that their layers have an image."""
    sizes = {"channels": 3, "outputs": 2}
    layer = Layer(name="a", height=height, width=2, kernel=(kernel, 1), stride=(stride, 1), padding=(padding, (0, 0)), **sizes)
    operation = Linear("a", (Operand(("in",), layer, pad_value=-77),), window)
    rows = operation.output[1]
    graph = verify(Graph("g", {"in": (1, height, 2, 3)}, (operation,)))
    for count, other in itertools.product(range(1, rows + 1), (1, 2)):
        bands = other * -(-rows // -(-rows // count))
        assert require_bands(graph, 0, 1, Grid(1, count, other)) == bands
        assert require_bands(turned(graph), 0, 1, Grid(1, other, count)) == bands


def turned(graph: Graph) -> Graph:
    """The same with rows as columns."""

    def of(operation: Linear) -> Linear:
        window, operands = operation.window, []
        for operand in operation.operands:
            layer = operand.layer
            pairs = {name: getattr(layer, name)[::-1] for name in ("kernel", "stride", "padding", "dilation")}
            layer = dataclasses.replace(layer, height=layer.width, width=layer.height, **pairs)
            operands.append(dataclasses.replace(operand, layer=layer, corners=tuple(corner[::-1] for corner in operand.corners)))
        if window:
            window = dataclasses.replace(window, kernel=window.kernel[::-1], stride=window.stride[::-1])
        return dataclasses.replace(operation, operands=tuple(operands), window=window)

    inputs = {name: (batch, wide, high, channels) for name, (batch, high, wide, channels) in graph.inputs.items()}
    return verify(dataclasses.replace(graph, inputs=inputs, operations=tuple(map(of, graph.operations))))


@pytest.mark.parametrize("blind", range(3))
def test_bands_of_sums_that_only_one_part_sees_behind_the_last_output(blind: int) -> None:
    """Sum 7 is in no window, and the only one that sees something of one part: all others make it, too."""
    parts = []
    for number in range(3):
        layer = Layer(name=f"k{number}", height=8, width=2, channels=4, outputs=4)
        if number == blind:
            layer = dataclasses.replace(layer, height=1, padding=((7, 0), (0, 0)))
        operand = Operand(("in",), layer, 5, corners=((3 if number == blind else 0, 0),))
        adds_to = f"k{number - 1}" if number else ""
        parts.append(Linear(layer.name, (operand,), Window("max", (2, 1), (5, 1)), adds_to=adds_to))
    graph = verify(Graph("g", {"in": (1, 8, 2, 4)}, tuple(parts)))
    for count in (1, 2):
        assert require_bands(graph, 0, 3, Grid(1, count)) == count
        assert require_bands(turned(graph), 0, 3, Grid(1, 1, count)) == count


def test_bands_of_sums_of_which_one_part_sees_padding_alone() -> None:
    """Each tap of three rows adds to the sums of the one before, and all of them are of as many positions."""
    parts = []
    for tap in range(3):
        first = max(0, tap - 1)
        layer = Layer(name=f"k{tap}", height=3 - abs(tap - 1), width=2, channels=4, outputs=4)
        layer = dataclasses.replace(layer, padding=((max(0, 1 - tap), max(0, tap - 1)), (0, 0)))
        operand = Operand(("in",), layer, 9, corners=((first, 0),))
        parts.append(Linear(f"k{tap}", (operand,), adds_to=f"k{tap - 1}" if tap else ""))
    graph = Graph("g", {"in": (1, 3, 2, 4)}, tuple(parts))
    for count in (1, 2, 3):
        assert require_bands(graph, 0, 3, Grid(1, count)) == min(count, 3)


def test_strides_dilation_and_windows() -> None:
    layer = Layer(name="d", height=8, width=9, channels=4, outputs=4, kernel=(3, 2), dilation=(2, 3), padding=((2, 1), (3, 0)))
    pool = dataclasses.replace(layer, kernel=(1, 1), dilation=(1, 1), height=7, width=9, groups=4, padding=((1, 1), (0, 1)))
    operations = (
        conv("a", "in", (15, 17), 5, 2),
        Linear("d", (Operand(("a",), layer),)),
        Linear("p", (Operand(("d",), pool, pad_value=-128),), Window("max", (3, 2), (2, 2)), identity=True),
    )
    graph = Graph("g", {"in": (2, 15, 17, 4)}, operations)
    for grid in (Grid(), Grid(2), Grid(1, 4), Grid(2, 2, 3), Grid(1, 9, 9)):
        require_bands(graph, 0, 3, grid)


def test_what_bands_need_by_hand() -> None:
    """Two layers of 3 x 3 on rows 4 to 7: two more rows on each side of what the first one reads, but not beyond the image."""
    operations = (conv("a", "in", (12, 6), 3), conv("b", "a", (12, 6), 3))
    found = needed(operations, {"b": ((0, 1), (4, 8), (0, 6))}, {})
    assert found == {
        "b": ((0, 1), (4, 8), (0, 6)),
        "a": ((0, 1), (3, 9), (0, 6)),
        "in": ((0, 1), (2, 10), (0, 6)),
    }
    made = band("part", operations, {"in": (1, 12, 6, 4), "a": (1, 12, 6, 4), "b": (1, 12, 6, 4)}, {"b": ((0, 1), (0, 4), (0, 6))})
    first, second = made.graph.operations
    assert (first.operands[0].layer.height, first.operands[0].layer.padding) == (6, ((1, 0), (1, 1)))
    assert (second.operands[0].layer.height, second.operands[0].layer.padding) == (5, ((1, 0), (1, 1)))
    assert made.graph.inputs == {"in": (1, 6, 6, 4)}


def test_bands_in_the_middle_are_alike() -> None:
    graph = Graph("g", {"in": (1, 24, 6, 4)}, (conv("a", "in", (24, 6), 3), conv("b", "a", (24, 6), 3)))
    shapes = graph.inputs | {"a": (1, 24, 6, 4), "b": (1, 24, 6, 4)}
    grid = Grid(1, 6, 1)
    parts = [band("part", graph.operations, shapes, {"b": share}) for n in grid if (share := grid.share(shapes["b"], n))]
    assert len({part.graph.operations for part in parts}) == 3
    assert [part.corners["in"] for part in parts] == [(0, 0, 0), (0, 2, 0), (0, 6, 0), (0, 10, 0), (0, 14, 0), (0, 18, 0)]


def test_shares_that_are_left_empty() -> None:
    assert [Grid(1, 4).share((1, 5, 2, 1), (0, row, 0)) for row in range(4)] == [
        ((0, 1), (0, 2), (0, 2)),
        ((0, 1), (2, 4), (0, 2)),
        ((0, 1), (4, 5), (0, 2)),
        None,
    ]
