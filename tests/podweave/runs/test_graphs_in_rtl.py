"""What graphs may be, in RTL: outputs that are read, inputs beside computed tensors, and names with anything in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand, Window
from podweave.runs.accelerator import run_on_device
from podweave.runs.chip import run_networks
from podweave.runs.jobs import Job
from podweave.runs.road import Tensors
from podweave.tb.benches.chip_bench import ChipBench
from tests.podweave.runs.small_accelerator import CONFIG, small_bench

WAYS = ("axi", "backdoor")


def conv(name: str, sources: tuple[str, ...], channels: int, outputs: int, kernel: int = 1, **options: Any) -> Linear:
    pad = (kernel // 2, kernel // 2)
    sizes = {"height": 4, "width": 4, "channels": channels, "outputs": outputs, "kernel": (kernel, kernel), "padding": (pad, pad)}
    return Linear(name, (Operand(sources, Layer(name=name, **sizes | options)),))  # type: ignore[arg-type]


def run(graph: Graph, through: str, **options: Any) -> Tensors:
    """What comes out, once it is exact."""
    rng = np.random.default_rng(5)
    inputs = {name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()}
    job = Job(graph, Constants(random_parameters(graph, 5)), inputs)
    if through == "axi":
        report, (found,), _ = run_on_device([job], CONFIG, bench=small_bench(), progress=lambda _: None, **options)
    else:
        bench = ChipBench.of(CONFIG, optimize="build")
        report, (found,), _ = run_networks([job], CONFIG, bench=bench, progress=lambda _: None)
    assert (report["verdict"], report["mismatches"], report["failure"]) == ("pass", 0, None)
    assert found.keys() == set(graph.outputs)
    return found


@pytest.mark.parametrize("through", WAYS)
def test_both_of_two_layers_are_outputs(through: str) -> None:
    """a -> b with outputs (a, b)."""
    operations = (conv("a", ("in",), 3, 7, 3), conv("b", ("a",), 7, 5))
    found = run(Graph("g", {"in": (1, 4, 4, 3)}, operations, ("a", "b")), through)
    assert {name: tensor.shape for name, tensor in found.items()} == {"a": (1, 4, 4, 7), "b": (1, 4, 4, 5)}


@pytest.mark.parametrize("through", WAYS)
def test_an_input_stands_beside_computed_tensors(through: str) -> None:
    inputs = {"in": (1, 4, 4, 3), "more": (1, 4, 4, 6)}
    operations = (conv("a", ("in",), 3, 5), conv("b", ("more", "a", "in"), 14, 6, 3), conv("c", ("b", "more"), 12, 4))
    run(Graph("g", inputs, operations), through)


@pytest.mark.parametrize("through", WAYS)
def test_names_hold_anything(through: str) -> None:
    """Those that the compiler gives its copies and parts, and those of ONNX."""
    # Wide enough to be split into parts that run from memory.
    first, wide = (12, 32) if through == "axi" else (4, 4)
    pool = Layer(name="p", height=4, width=4, channels=first, outputs=first, groups=first)
    operations = (
        conv("/model/conv.1/Conv:0", ("in/x",), 3, first),
        Linear("p", (Operand(("/model/conv.1/Conv:0",), pool, -128),), Window("max", (2, 2), (1, 1)), identity=True),
        conv("p/stored", ("p",), first, wide, height=3, width=3),
        conv("p/stored/16", ("p", "p/stored"), first + wide, wide, height=3, width=3),
        conv("q w\u00ebird #1", ("p/stored/16",), wide, 8, height=3, width=3),
    )
    graph = Graph("a/b", {"in/x": (1, 4, 4, 3)}, operations, ("q w\u00ebird #1", "p/stored"))
    policy = {"policy": BankPolicy(bank_share=0.1)} if through == "axi" else {}
    run(graph, through, **policy)
