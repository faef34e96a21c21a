"""A quantised model in RTL: prefill and one token more are those of the golden model, in the predicted cycles."""

from __future__ import annotations

import numpy as np

from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.language_models import DecoderSizes
from podweave.language.quantise import quantise
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import Job
from podweave.runs.road import Simulation, run_jobs
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts
from tests.podweave.runs.row_jobs import small_chip

SIZES = DecoderSizes(hidden=16, heads=4, kv_heads=2, intermediate=24, layers=2)


def test_a_quantised_model() -> None:
    checkpoint = tiny_checkpoint(sizes=SIZES, q_bias=True, k_bias=True, v_bias=True)
    model = quantise(checkpoint, tiny_texts(8, 40), (1,))
    # What is taken out of keys and values comes back as biases.
    assert all(model.constants[f"layer1.{name}"].bias.any() for name in ("q", "k", "k_rope", "v", "o"))
    (text,) = tiny_texts(1, 6, seed=3)
    prefill, caches = model.graph(5, 6), model.caches(6)
    inputs = model.inputs(text[1:6], caches)
    tensors = evaluate(prefill, model.constants, inputs)
    grown = {name: np.pad(tensors[f"{name}_now"], ((0, 0), (0, 0), (0, 1), (0, 0))) for name in caches}
    constants = Constants(model.constants)
    jobs = [Job(prefill, constants, inputs), Job(model.graph(1, 7), constants, model.inputs(text[6:], grown))]
    report, _, _ = run_jobs(jobs, AcceleratorWay(small_chip()), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    assert [row["compared"] for row in report["networks"]] == [5 * VOCABULARY, VOCABULARY]
    # Both are one text, all of which the golden model can compute at once.
    last = evaluate(model.graph(6, 7), model.constants, model.inputs(text[1:], model.caches(7)))["head"]
    np.testing.assert_array_equal(last[0, 0, :5], tensors["head"][0, 0])
