"""Pieces of random ONNX files that look at each number by itself: functions, constants for channels, activations written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from .onnx_graph import Image, OnnxGraph

PLAIN: tuple[str, ...] = ("Abs", "Cos", "Dropout", "Elu", "Erf", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg")
PLAIN += (
    "Celu",
    "Ceil",
    "Floor",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
)
"""Functions of any number."""
POSITIVE = ("Log", "Reciprocal", "Sqrt")
"""Functions of numbers above 0."""
FIRST = {"HardSwish": 14, "Mish": 18, "Gelu": 20}
"""Opsets that have an operator, where older ones do not."""
_WITH_ALPHA = ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid")


def function(graph: OnnxGraph, operator: str) -> None:
    """Of each number."""
    rng, at = graph.rng, graph.at
    ways: dict[str, Any] = {"alpha": float(rng.choice([0.1, 0.3, 1.0]))} if operator in _WITH_ALPHA and rng.integers(2) else {}
    graph.give(at.named(graph.add(operator, [at.name], **ways)))


def of_positive(graph: OnnxGraph, operator: str) -> None:
    """Of numbers that a softplus has made positive, and a constant more."""
    at = graph.at
    more = graph.add("Add", [graph.add("Softplus", [at.name]), graph.numbers(0.5)])
    graph.give(at.named(graph.add(operator, [more])))


def within(graph: OnnxGraph, source: Image, low: float, high: float) -> Image:
    return source.named(graph.add("Clip", [source.name, graph.numbers(low), graph.numbers(high)]))


def exponential(graph: OnnxGraph) -> None:
    at = graph.at
    graph.give(at.named(graph.add("Exp", [within(graph, at, -3.0, 1.5).name])))


def power(graph: OnnxGraph) -> None:
    """Of numbers above 0: an exponent that is quantised is no whole number any more, and others have no such power."""
    at, exponent = graph.at, float(graph.rng.choice([2.0, 3.0, 0.5]))
    graph.give(at.named(graph.add("Pow", [graph.add("Sigmoid", [at.name]), graph.numbers(exponent)])))


def gelu(graph: OnnxGraph) -> None:
    at = graph.at
    graph.give(at.named(graph.add("Gelu", [at.name], approximate=str(graph.rng.choice(["none", "tanh"])))))


def contributed(graph: OnnxGraph, operator: str) -> None:
    """Of onnxruntime's own."""
    graph.give(graph.at.named(graph.contributed(operator, graph.at)))


def slope(graph: OnnxGraph) -> None:
    """One for all, or one for each channel."""
    rng, at = graph.rng, graph.at
    shape = [(1,), (at.channels, *[1] * len(at.sizes))][int(rng.integers(2))]
    graph.give(at.named(graph.add("PRelu", [at.name, graph.numbers(rng.normal(shape) * 0.4)])))


def written_out(graph: OnnxGraph) -> None:
    """An activation in pieces, as exporters write it."""
    at, kind = graph.at, str(graph.rng.choice(["SiLU", "HardSwish", "gated HardSigmoid", "GELU", "Softsign"]))
    x = at.name
    if kind == "SiLU":
        found = graph.add("Mul", graph.ordered(x, graph.add("Sigmoid", [x])))
    elif kind == "gated HardSigmoid":
        found = graph.add("Mul", graph.ordered(x, graph.add("HardSigmoid", [x], alpha=1 / 6)))
    elif kind == "HardSwish":
        six = within(graph, at.named(graph.add("Add", [x, graph.numbers(3.0)])), 0.0, 6.0)
        found = graph.add("Div", [graph.add("Mul", graph.ordered(x, six.name)), graph.numbers(6.0)])
    elif kind == "GELU":
        inner = graph.add("Erf", [graph.add("Div", [x, graph.numbers(np.sqrt(2))])])
        found = graph.add("Mul", [graph.add("Mul", [x, graph.add("Add", [inner, graph.numbers(1.0)])]), graph.numbers(0.5)])
    else:
        under = graph.add("Add", [graph.add("Abs", [x]), graph.numbers(1.0)])
        found = graph.add("Mul", [x, graph.add("Reciprocal", [under])])
    graph.give(at.named(found))


def constant(graph: OnnxGraph, operator: str) -> None:
    """One for all, or one for each channel, on either side where there are two."""
    rng, at = graph.rng, graph.at
    shape = [(), (1,), (at.channels, *[1] * len(at.sizes)), (1, at.channels, *[1] * len(at.sizes))][int(rng.integers(4))]
    values = rng.uniform(0.3, 2, shape) if operator == "Div" else rng.normal(shape)
    inputs = [at.name, graph.numbers(values)]
    graph.give(at.named(graph.add(operator, inputs if operator == "Div" else graph.ordered(*inputs))))
