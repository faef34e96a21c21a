"""podweave.runs.jobs: what is run when digits, or a layer of them, is named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave import digits
from podweave.golden.graph import evaluate
from podweave.ir.layers import WorkloadError
from podweave.ir.mixed_graph import MixedGraph, verify_mixed_constants
from podweave.ir.rewrites import with_batch
from podweave.runs.jobs import chip_graphs, chip_jobs, stream_job
from podweave.runs.workloads import DIGIT_BATCH
from tests.ir.frontends.onnx.small_file import small


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


ATTENTION = """h := r w @ square p = MatMul(h, w) hp := p h4 = Reshape(hp, n_1_5_2_4) q = Transpose<perm = [0, 2, 1, 3]>(h4)
    k = Transpose<perm = [0, 2, 3, 1]>(h4) s = MatMul(q, k) t = Softmax<axis = -1>(s) o = MatMul(t, q)
    o1 = Transpose<perm = [0, 2, 1, 3]>(o) o2 = Reshape(o1, n_1_5_8) y := o2"""


def test_layers_and_rows(tmp_path: Path) -> None:
    """Attention among layers, with random numbers of as many bits as a configuration has."""
    file = small(tmp_path, ATTENTION, square=np.eye(8, dtype=np.int8))
    (job,), (again,), (other,) = (chip_jobs(str(file), seed, scale_bits=12) for seed in (3, 3, 4))
    assert isinstance(job.graph, MixedGraph)
    verify_mixed_constants(job.graph, job.constants)
    assert max(int(np.abs(held.multiplier).max(initial=0)) for held in job.constants.values()) < 1 << 12
    assert job.inputs.keys() == job.graph.inputs.keys()
    assert all(np.array_equal(again.inputs[name], values) for name, values in job.inputs.items())
    assert not all(np.array_equal(other.inputs[name], values) for name, values in job.inputs.items())


def test_rows_are_no_stream() -> None:
    sentence = r"^norm_64 has operations on rows: a stream of images is for networks of layers$"
    with pytest.raises(WorkloadError, match=sentence):
        stream_job("norm_64", 5, 7)


def test_batches_of_a_stream() -> None:
    """The last is filled up; constants are those of the workload as it is named."""
    workload = "conv:4x4x3x5,kernel=3x3"
    one, job = stream_job(workload, 5, 7), stream_job(workload, 5, 7, batch=2)
    assert (one.passes, job.passes) == (5, 3)
    assert [[tensor.shape[0] for tensor in inputs.values()] for inputs in job.feeds] == [[2]] * 3
    assert job.alone == one.graph == one.alone
    assert job.graph == with_batch(one.graph, 2)
    (name,) = one.constants
    assert_array_equal(job.constants[name].weights[0], one.constants[name].weights[0])
    assert len({inputs.tobytes() for feed in job.feeds for inputs in feed.values()}) == 3


def test_batches_of_digits() -> None:
    images, _ = digits.test_images()
    job = stream_job("digits", 30, 0, batch=20)
    assert job.graph == digits.digits_graph(20) == with_batch(digits.digits_graph(50), 20)
    assert_array_equal(np.concatenate([inputs["image"] for inputs in job.feeds]), images[[*range(30), *range(10)]])
