"""compiler.memory.image, executed, of networks with more activation tables than post-processors hold."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.ir.constants import Parameters
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from tests.compiler.chip.chip_graphs import own_tables
from tests.compiler.memory import test_image
from tests.compiler.memory.test_image import config_of, network, run


@pytest.mark.parametrize(("slots", "eager"), [(1, True), (2, False), (3, True)])
def test_epochs_take_turns_with_tables(slots: int, eager: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is loaded as early as its slot is free, in the pass before too."""

    def parameters(graph: Graph, seed: int) -> dict[str, Parameters]:
        return own_tables(random_parameters(graph, seed), seed)

    monkeypatch.setattr(test_image, "random_parameters", parameters)
    image, found, expected = run(config_of(2, 64, pass_bits=3, w_words=320, tables=slots), network(), eager=eager, runs=(2, 2))
    assert image.epochs > slots
    for outputs, right in zip(found, expected, strict=True):
        for name, tensor in outputs.items():
            np.testing.assert_array_equal(tensor, right[name], err_msg=name)
