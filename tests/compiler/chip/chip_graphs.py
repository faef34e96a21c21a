"""Chips, and graphs to compile for them, by hand and at random; the check of a compiled one against the golden models."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.compiler.chip.bank_image import accumulators, needed_accumulators
from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.chip.executor import execute_chip
from podweave.golden.graph import evaluate, operand_input
from podweave.golden.layers.linear import Operand as GoldenOperand
from podweave.golden.layers.linear import accumulate
from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand, Upsampling, Window
from podweave.ir.rewrites import with_stored_pools
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig


def chip(pods: int, rows: int, cols: int, accumulator_rows: int = 64, **changes: Any) -> ChipConfig:
    """A chip with room for every graph of these tests."""
    config = ChipConfig(
        name="chip",
        pods=pods,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols), accumulator_rows=accumulator_rows),
        memory=MemoryConfig(banks=pods, x_words=16384, w_words=16384, p_words=16384),
        network=NetworkConfig(),
        post=PostConfig(parameter_sets=256, tables=2),
        program=ProgramConfig(load_jobs=2**16, stream_jobs=2**16, post_jobs=2**16),
    )
    return config.replace(**changes)


def conv(name: str, shape: tuple[int, int, int, int], outputs: int, kernel: int = 1, **options: Any) -> Layer:
    batch, height, width, channels = shape
    return Layer(
        name=name, batch=batch, height=height, width=width, channels=channels, outputs=outputs, kernel=(kernel, kernel), **options
    )


@dataclasses.dataclass(frozen=True)
class Case:
    graph: Graph
    config: ChipConfig
    partition: int | None
    seed: int


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


PADDING = st.tuples(pairs(0, 2), pairs(0, 2))


@st.composite
def layers(draw: st.DrawFn, name: str, shape: tuple[int, int, int, int]) -> Layer:
    """A convolution of a tensor: of any kind, grouped and depthwise ones included."""
    batch, height, width, channels = shape
    padding = draw(st.one_of(st.just(((0, 0), (0, 0))), st.just(((1, 1), (1, 1))), PADDING))
    dilation, sizes = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 2)])), []
    for size, (before, after), step in zip((height, width), padding, dilation, strict=True):
        sizes.append(draw(st.integers(1, min(3, (size + before + after - 1) // step + 1))))
    groups = draw(st.sampled_from([1, 1, *(g for g in range(1, channels + 1) if channels % g == 0)]))
    return Layer(
        name=name,
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        outputs=groups * draw(st.integers(1, max(1, 14 // groups))),
        kernel=(sizes[0], sizes[1]),
        stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 1)])),
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


@st.composite
def windows(draw: st.DrawFn, size: tuple[int, int], reduce: str) -> Window:
    kernel = tuple(draw(st.integers(1, min(3, length))) for length in size)
    return Window(reduce, (kernel[0], kernel[1]), draw(pairs(1, 3)))  # type: ignore[arg-type]


@st.composite
def upsampled(draw: st.DrawFn, name: str, source: str, shapes: dict[str, tuple[int, int, int, int]]) -> Operand:
    """An operand that sees a tensor enlarged, some channels of it or all, perhaps with others of that size behind it."""
    parts = [
        Upsampling(rows, columns, True)
        for rows, columns in ((1, 2), (2, 1), (2, 2))
        # What is computed is sent in whole words of 4 lanes.
        if shapes[source][3] % (rows * columns * (1 if source.startswith("in") else 4)) == 0
    ]
    nearest = st.builds(Upsampling, st.integers(1, 3), st.integers(1, 3))
    seen = draw(st.one_of(nearest, st.sampled_from(parts)) if parts else nearest)
    shape = seen.of(shapes[source])
    if draw(st.integers(0, 3)) == 0:
        count = draw(st.integers(1, shape[3]))
        first = draw(st.integers(0, shape[3] - count))
        layer = draw(layers(name, (*shape[:3], count)))
        return Operand((source,), layer, channels=(first, count), upsampled=(seen,))
    like = [other for other in sorted(shapes) if shapes[other][:3] == shape[:3] and other != source]
    others = draw(st.lists(st.sampled_from(like), max_size=2)) if like else []
    order = draw(st.permutations([(source, seen), *((other, Upsampling()) for other in others)]))
    total = sum(each.of(shapes[other])[3] for other, each in order)
    names, views = zip(*order, strict=True)
    return Operand(names, draw(layers(name, (*shape[:3], total))), draw(st.sampled_from([0, -128])), upsampled=views)


@st.composite
def nodes(draw: st.DrawFn, name: str, shapes: dict[str, tuple[int, int, int, int]]) -> Linear:
    """A node that reads some of ``shapes``."""
    source = draw(st.sampled_from(sorted(shapes)))
    shape = shapes[source]
    kinds = ["conv", "conv", "pool", "mean", "residual", "concatenation", "slice", "fused", "upsampled", "deep"]
    kind = draw(st.sampled_from(kinds))
    if kind == "upsampled":
        return Linear(name, (draw(upsampled(name, source, shapes)),))
    if kind == "deep":
        # Parts of its channels may be those of several positions.
        return Linear(name, (Operand((source,), conv(name, shape, draw(st.sampled_from([8, 16, 24])))),))
    if kind in ("pool", "mean"):
        padding = draw(PADDING)
        channels = shape[3]
        layer = dataclasses.replace(conv(name, shape, channels), groups=channels, padding=padding)
        operand = Operand((source,), layer, -128 if kind == "pool" else 0)
        window = draw(windows(layer.output_size, "max" if kind == "pool" else "sum"))
        if kind == "mean" and draw(st.booleans()):
            # Of pads alone there is no average.
            with contextlib.suppress(WorkloadError):
                return Linear(name, (operand,), dataclasses.replace(window, leaves_pads_out=True), identity=draw(st.booleans()))
        return Linear(name, (operand,), window, identity=True)
    if kind == "concatenation":
        like = [other for other in sorted(shapes) if shapes[other][:3] == shape[:3]]
        sources = tuple(draw(st.lists(st.sampled_from(like), min_size=2, max_size=3)))
        total = sum(shapes[other][3] for other in sources)
        return Linear(name, (Operand(sources, draw(layers(name, (*shape[:3], total)))),))
    if kind == "slice":
        first = draw(st.integers(0, shape[3] - 1))
        count = draw(st.integers(1, shape[3] - first))
        return Linear(name, (Operand((source,), draw(layers(name, (*shape[:3], count))), channels=(first, count)),))
    if kind == "residual":
        # A 3x3 convolution with padding, and a 1x1 one that gives as many positions: dense or a diagonal.
        stride = draw(st.sampled_from([(1, 1), (2, 2)]))
        outputs = draw(st.sampled_from([shape[3], draw(st.integers(1, 14))]))
        groups = shape[3] if outputs == shape[3] and draw(st.booleans()) else 1
        main = conv(name, shape, outputs, 3, padding=((1, 1), (1, 1)), stride=stride)
        size = (shape[0], *main.output_size)
        others = [other for other in sorted(shapes) if shapes[other][:3] == size]
        if others and draw(st.booleans()):
            other = draw(st.sampled_from(others))
            second = Operand((other,), conv(f"{name}/side", shapes[other], outputs))
        else:
            second = Operand((source,), conv(f"{name}/side", shape, outputs, stride=stride, groups=groups))
        operands = (Operand((source,), main), second)
        return Linear(name, operands if draw(st.booleans()) else operands[::-1])
    layer = draw(layers(name, shape))
    window = draw(windows(layer.output_size, draw(st.sampled_from(["max", "sum"])))) if kind == "fused" else None
    after = tuple(draw(st.lists(st.sampled_from(sorted(shapes)), max_size=1)))
    return Linear(name, (Operand((source,), layer),), window, after=after)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    batch = draw(st.sampled_from([1, 1, 2, 3]))
    shapes = {"in": (batch, *draw(pairs(1, 8)), draw(st.integers(1, 10)))}
    if draw(st.integers(0, 3)) == 0:
        shapes["in2"] = (*shapes["in"][:3], draw(st.integers(1, 6)))
    inputs, found = dict(shapes), []
    for number in range(draw(st.integers(1, 5))):
        node = draw(nodes(f"n{number}", shapes))
        found.append(node)
        shapes[node.name] = node.output
    graph = Graph("random", inputs, tuple(found))
    if draw(st.integers(0, 2)) == 0:
        # Others leave as well, read or not.
        more = draw(st.lists(st.sampled_from([node.name for node in found]), unique=True, max_size=2))
        graph = dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*more, *graph.outputs))))
    return with_stored_pools(graph) if draw(st.booleans()) else graph


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows, cols = draw(st.sampled_from([(4, 4), (4, 4), (8, 4), (4, 8), (4, 1), (1, 2)]))
    config = chip(
        draw(st.sampled_from([2, 4, 8, 16])),
        rows,
        cols,
        draw(st.sampled_from([0, 8, 24, 256])),
        y_planes=draw(st.sampled_from([1, 2])),
        kind=draw(st.sampled_from(["butterfly", "butterfly", "crossbar"])),
        pipeline=draw(st.integers(1, 3)),
        lanes=draw(st.sampled_from([0, 0, 1])),
    )
    return Case(draw(graphs()), config, draw(st.sampled_from([None, None, 8, 0])), draw(st.integers(0, 99)))


def golden_accumulators(graph: Graph, parameters: Any, tensors: dict[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int32]]:
    found = {}
    for node in graph.operations:
        operands = [
            GoldenOperand(
                operand_input(operand, tensors),
                weights,
                operand.layer.stride,
                operand.layer.padding,
                operand.layer.dilation,
                operand.layer.groups,
                operand.pad_value,
            )
            for operand, weights in zip(node.operands, parameters[node.name].weights, strict=True)
        ]
        found[node.name] = accumulate(operands)
    return found


def run_case(case: Case) -> EpochProgram:
    """Compile, check, execute, compare."""
    graph, config = case.graph, case.config
    assert config.post is not None
    parameters = random_parameters(graph, case.seed)
    constants = Constants(parameters)
    rng = np.random.default_rng(case.seed)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    program = compile_graph(graph, config, tables=constants.table_of, partition=case.partition)
    check_chip(program)
    outputs, machine = execute_chip(program, inputs, constants)
    expected = evaluate(graph, parameters, inputs)
    assert outputs.keys() == set(graph.outputs)
    for name, value in outputs.items():
        assert_array_equal(value, expected[name], err_msg=name, strict=True)
    found, needed = accumulators(program, machine.p), needed_accumulators(program)
    for name, value in golden_accumulators(graph, parameters, expected).items():
        assert needed[name].any()
        assert_array_equal(found[name][needed[name]], value[needed[name]], err_msg=name)
    return program


def equal(left: EpochProgram, right: EpochProgram) -> bool:
    """Whether two programs have the same jobs and the same places."""
    kinds = ("loads", "streams", "posts")
    jobs = all(np.array_equal(getattr(left, k)[f], getattr(right, k)[f]) for k in kinds for f in getattr(left, k))
    lists = ("external_units", "parameters", "accumulated", "stored", "used", "operations", "carried")
    places = [w.place for w in left.weights] == [w.place for w in right.weights]
    return jobs and places and all(getattr(left, name) == getattr(right, name) for name in lists)


HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def chain(shape: tuple[int, int, int, int], *outputs: int, kernel: int = 1, **options: Any) -> Graph:
    """Layers one after the other."""
    inputs, found, source = {"in": shape}, [], "in"
    for number, count in enumerate(outputs):
        node = Linear(f"n{number}", (Operand((source,), conv(f"n{number}", shape, count, kernel, **options)),))
        found.append(node)
        source, shape = node.name, node.output
    return Graph("chain", inputs, tuple(found))


SAME = {"kernel": 3, "padding": ((1, 1), (1, 1))}


def own_tables(parameters: Mapping[str, Parameters], seed: int = 0) -> dict[str, Parameters]:
    """The same with a table for each operation, of random numbers."""
    rng = np.random.default_rng(seed)
    return {name: dataclasses.replace(each, table=rng.integers(-128, 128, 256, np.int8)) for name, each in parameters.items()}
