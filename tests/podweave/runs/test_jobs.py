"""podweave.runs.jobs: what is run when digits, or a layer of them, is named."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave import digits
from podweave.golden.graph import evaluate
from podweave.runs.jobs import chip_graphs, chip_jobs
from podweave.runs.workloads import DIGIT_BATCH


def golden() -> dict[str, np.ndarray]:
    images, _ = digits.test_images()
    return evaluate(digits.digits_graph(DIGIT_BATCH), digits.digits_parameters(), {"image": images[:DIGIT_BATCH]})


@pytest.mark.parametrize("layer", ["stem", "block_2", "max_pool", "average_pool", "logits"])
def test_a_layer_of_the_digits_has_its_constants_and_sees_what_it_sees_in_the_network(layer: str) -> None:
    (job,) = chip_jobs(f"digits/{layer}", 0)
    assert [node.name for node in job.graph.operations] == [layer]
    outputs, expected = evaluate(job.graph, job.constants, job.inputs), golden()
    assert_array_equal(outputs[layer], expected[layer], strict=True)
    assert len(np.unique(outputs[layer])) > 20


def test_layer_by_layer_the_digits_are_the_network() -> None:
    jobs, expected = chip_jobs("digits", 0, per_layer=True), golden()
    assert [job.graph.name for job in jobs] == [node.name for node in digits.digits_graph(1).operations]
    for job in jobs:
        assert_array_equal(evaluate(job.graph, job.constants, job.inputs)[job.graph.name], expected[job.graph.name])


def test_other_networks_have_random_data() -> None:
    (job,) = chip_jobs("gemm:5x6x7", 3)
    (other,) = chip_jobs("gemm:5x6x7", 4)
    assert not np.array_equal(job.inputs["gemm:5x6x7.input"], other.inputs["gemm:5x6x7.input"])
    assert [graph.name for graph in chip_graphs("resnet50/avg_pool")] == ["avg_pool"]
