"""podweave.language on chips of a ring: the small model's logits and caches are those of one, and each chip's program is legal."""

from __future__ import annotations

import dataclasses

import numpy as np

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_system
from podweave.golden.graph import evaluate
from podweave.golden.system import evaluate_system
from podweave.ir.constants import Constants
from podweave.ir.frontends.language_models import TextRows
from podweave.ir.partition import partition
from podweave.language.load import load_quantised
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config

NANO = load_quantised("nano")
CHIP = dataclasses.replace(load_config("llm8x16"), links=LinksConfig())


def test_a_text_on_two_chips() -> None:
    text = NANO.prompt("Once upon a time there was a cat.")
    first = len(NANO.prefix)
    graph = NANO.graph(len(text) - first, len(text))
    inputs = NANO.inputs(text[first:], NANO.caches(len(text)))
    found = partition(graph, NANO.constants, 2)
    whole = evaluate(graph, NANO.constants, inputs)
    joined = found.join(evaluate_system(found.shares, found.cut(inputs)))
    for name, values in whole.items():
        assert np.array_equal(joined[name], values), name
    assert "head" in found.split
    networks = compile_system(found, CHIP, CompileOptions(from_memory=True, check="always"))
    for network in networks:
        names = [f"layer{layer}.{name}" for layer in range(4) for name in ("o", "down")]
        assert [each.operation for each in network.collectives] == names
        assert all(len(each.sends["n0"]) + len(each.receives["n0"]) <= 4 for each in network.collectives)


def test_several_texts_at_once() -> None:
    texts = [TextRows(1, 20, position=8, span=8), TextRows(1, 12, position=8, span=4, slot=1)]
    constants = Constants(NANO.constants)
    networks = compile_system(
        partition(NANO.graph_of_texts(texts), constants, 2), CHIP, CompileOptions(from_memory=True, capacity=64, check="always")
    )
    # What moves rows of caches moves them on every chip.
    assert [sorted(network.memory.offsets) for network in networks] == [["offset", "offset.1"]] * 2
    assert {network.memory.inputs["layer0.keys"].shape for network in networks} == {(1, 1, 20, 16)}
