"""podweave.pictures.chip and podweave.pictures.rows: names of operations, where there is room for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podweave.compiler.compile_network import compile_network
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand
from podweave.pictures.chip import draw_chip
from podweave.pictures.rows import draw_rows
from podweave.spec.presets import load_config
from tests.podweave.pictures.test_system import TIMING, compiled


@pytest.mark.parametrize("count", [16, 17])
def test_up_to_sixteen_operations_are_named(count: int, tmp_path: Path) -> None:
    shape: dict[str, Any] = {"height": 1, "width": 2, "channels": 4, "outputs": 4}
    operations = [
        Linear(f"step{i}", (Operand((f"step{i - 1}" if i else "in",), Layer(name=f"step{i}", **shape)),)) for i in range(count)
    ]
    graph, config = Graph("chain", {"in": (1, 1, 2, 4)}, tuple(operations)), load_config("chip2x4").replace(parameter_sets=64)
    program = compile_network(graph, config, random_parameters(graph)).program
    draw_chip(program, tmp_path / "chip.svg", title="a chain")
    text = (tmp_path / "chip.svg").read_text()
    assert ">a chain: " in text
    assert [f">step{i}<" in text for i in range(count)] == [count == 16] * count


def test_a_chip_of_a_ring_is_no_picture_of_its_own(tmp_path: Path) -> None:
    """Its cycles depend on the others: `draw_system` shows them together."""
    _, network = compiled()
    with pytest.raises(ValueError, match="has collectives: how long they take depends on the other chips"):
        draw_rows(network.chips[0], TIMING, tmp_path / "rows.svg")
