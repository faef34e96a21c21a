"""Images of networks whose tensors have many readers, each with its own view of them: what NumPy makes of them, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.chip.policy import EASY, WHOLE_CHIP, BankPolicy
from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.fuzz.random_views import views_graph
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from tests.compiler.memory.image_machine import run_image
from tests.compiler.memory.test_image import config_of
from tests.compiler.memory.test_spilled import wrong

ARRAYS = ((4, 4), (8, 4), (4, 8), (2, 2), (6, 3), (1, 1), (1, 4), (4, 1))


def wrong_views(seed: int) -> list[str]:
    """Outputs of a random network on a random chip that differ."""
    rng = np.random.default_rng([seed, 99])

    def one(*options: int) -> int:
        return int(rng.choice(options))

    rows, cols = ARRAYS[one(0, 0, *range(len(ARRAYS)))]
    parts = one(1, 1, 8)
    x_words = one(256, 512, 2048) if parts > 1 else one(160, 256, 512, 2048)
    sizes = {"x_words": x_words, "p_words": one(64, 128, 1024), "w_words": one(128, 512), "accumulator_rows": one(0, 7, 16, 64)}
    config = config_of(one(1, 2, 4), pass_bits=3, x_parts=parts, rows=rows, cols=cols, group_rows=1, group_cols=1, **sizes)
    policy, passes, again = (BankPolicy(), EASY, WHOLE_CHIP)[one(0, 1, 2)], one(1, 2), one(0, 1)
    graph = views_graph(seed)
    constants = with_scale_bits(Constants(random_parameters(graph, seed)), config.scale_bits)
    options = CompileOptions(from_memory=True, passes=passes, cut=one(0, 0, 0, 1, 2, 3), policy=policy, check="always")
    network = compile_network(graph, config, constants, options)
    runs = (passes, passes) if again and network.memory.may_stay else (passes,)
    feeds, found = run_image(network.memory, network.programs, graph, eager=bool(one(0, 1)), seed=seed, runs=runs)
    differing = []
    for inputs, outputs in zip(feeds, found, strict=True):
        joined = network.split.join(outputs)
        assert joined.keys() == set(graph.outputs)
        differing += wrong(joined, evaluate(graph, constants, inputs))
    return differing


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.campaign) for first in range(1000, 3000, 50))])
def test_views(first: int) -> None:
    refused = []
    for seed in range(first, first + (50 if first else 8)):
        try:
            assert wrong_views(seed) == [], seed
        except WorkloadError as error:
            refused.append(str(error))
    # Banks of a few words do not hold every network.
    assert len(refused) <= 1
    assert all(any(words in text for words in ("no operation of it fits", "is full")) for text in refused), refused
