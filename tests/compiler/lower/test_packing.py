"""The packing of a layer that is chosen has the fewest weight tiles, as counted of every packing that there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from podweave.compiler.lower import layer as lower
from podweave.ir.layers import Layer
from podweave.spec.config_parts import ArrayConfig


def random_layer(rng: np.random.Generator) -> Layer:
    groups = int(rng.choice([1, 1, 2, 3, 8]))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    return Layer(
        name="layer",
        height=9,
        width=9,
        channels=groups * int(rng.integers(1, 1 + 12 // groups)),
        outputs=groups * int(rng.integers(1, 7)),
        kernel=kernel,
        stride=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        groups=groups,
    )


@pytest.mark.parametrize("word_steps", [None, 0.5, 7.0])
def test_no_packing_costs_less(word_steps: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    options: set[int] = set()
    for _ in range(40):
        layer, array = random_layer(rng), ArrayConfig(rows=int(rng.choice([4, 8, 12])), cols=int(rng.choice([2, 4, 8])))
        in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups

        def cost(packed: lower.PackedLayer) -> tuple[float, int]:
            """Steps of all tiles, words that are brought; then lanes of the widest word."""
            steps = sum(len(tile.steps) for tile in packed.tiles)
            return steps + (word_steps or 0.0) * len(packed.units), max(unit.lanes for unit in packed.units)

        chosen = cost(lower.pack_layer(layer, array, word_steps=word_steps))
        costs = []
        most = max(1, min(array.rows // in_group, array.cols // out_group, layer.groups))
        for together, *taps in itertools.product(range(1, most + 1), *(range(1, size + 1) for size in layer.kernel)):
            if together * in_group * taps[0] * taps[1] > array.rows and taps != [1, 1]:
                continue
            with monkeypatch.context() as patch:
                patch.setattr(lower, "_best_packing", lambda *_, made=(together, (taps[0], taps[1])): made)
                costs.append(cost(lower.pack_layer(layer, array, word_steps=word_steps)))
        assert chosen == min(costs), layer
        options.add(len(costs))
    assert max(options) > 4
