"""podweave.language.gptq: rounding of weights, whose errors are those of results."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.language.gptq import round_weights


def drawn(inputs: int, outputs: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, and rows that it multiplies: some large channels, and all of them alike."""
    rng = np.random.default_rng(0)
    rows = (
        rng.normal(size=(600, inputs)) * rng.lognormal(0, 1, inputs) + rng.normal(size=(600, 4)) @ rng.normal(size=(4, inputs)) * 3
    )
    return rng.normal(size=(outputs, inputs)).astype(np.float32), rows.astype(np.float32)


@pytest.mark.parametrize("inputs", [7, 64, 150])
def test_results_are_nearer_than_those_of_weights_to_the_nearest(inputs: int) -> None:
    matrix, rows = drawn(inputs)
    hessian = (rows.T @ rows).astype(np.float64)
    errors = []
    for given in (hessian, None):
        weights, scales = round_weights(matrix, given)
        assert (weights.dtype, weights.shape, scales.shape) == (np.int8, matrix.shape, (24,))
        assert np.abs(weights.astype(int)).max() == 127
        errors.append(np.square(rows @ (weights * scales[:, None] - matrix).T).mean())
    assert errors[0] < 0.5 * errors[1]


def test_each_weight_is_near() -> None:
    matrix, _ = drawn(30)
    weights, scales = round_weights(matrix, None)
    assert np.abs(weights * scales[:, None] - matrix).max() <= 0.5001 * scales.max()
    # Inputs that have nothing to do with each other: there is nothing to be made up for.
    assert_array_equal(round_weights(matrix, np.diag(np.arange(1.0, 31)))[0], weights)


def test_inputs_and_outputs_that_are_zero() -> None:
    matrix, rows = drawn(20)
    rows[:, 5] = 0
    matrix[3] = 0
    weights, scales = round_weights(matrix, (rows.T @ rows).astype(np.float64))
    assert not weights[3].any()
    assert np.isfinite(scales).all()
    assert_array_equal(round_weights(matrix, np.zeros((20, 20)))[0], round_weights(matrix, None)[0])
