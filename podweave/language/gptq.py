"""Weights rounded to int8 one input after the other, each error made up for in the weights of inputs that are still real.

Frantar et al., *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers*, ICLR 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
DAMPING = 0.05
_BLOCK = 64


def round_weights(
    matrix: NDArray[np.floating], hessian: NDArray[np.float64] | None, damping: float = DAMPING
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Round a matrix to int8, with a scale for each output.

    Parameters
    ----------
    matrix : ndarray of float32, shape (O, I)
        Real weights.
    hessian : ndarray of float64, shape (I, I), or None
        Sum over rows of inputs of their outer products. None rounds each weight to the nearest.
    damping : float
        Part of the mean of its diagonal that is added to the diagonal.

    Returns
    -------
    weights : ndarray of int8, shape (O, I)
        In [-127, 127].
    scales : ndarray of float32, shape (O,)
        What 1 stands for: the largest weight of an output by 127.
    """
    scales = np.abs(matrix).max(axis=1) / np.float32(LARGEST)
    scales[scales == 0] = 1
    if hessian is None or not hessian.any():
        return np.rint(matrix / scales[:, None]).astype(np.int8), scales
    diagonal = np.diag(hessian)
    # Large inputs first: their errors are the ones to be made up for.
    order = np.argsort(-diagonal, kind="stable")
    damped = hessian[np.ix_(order, order)]
    damped[np.diag_indices_from(damped)] += damping * diagonal.mean()
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    left = np.ascontiguousarray(matrix[:, order].T)
    rounded = np.empty(left.shape, np.int8)
    errors = np.empty((_BLOCK, left.shape[1]), np.float32)
    for begin in range(0, len(left), _BLOCK):
        end = min(begin + _BLOCK, len(left))
        for i in range(begin, end):
            rounded[i] = np.clip(np.rint(left[i] / scales), -LARGEST, LARGEST)
            error = (left[i] - rounded[i] * scales) / upper[i, i]
            errors[i - begin] = error
            left[i + 1 : end] -= upper[i, i + 1 : end, None] * error
        left[end:] -= upper[begin:end, end:].T @ errors[: end - begin]
    weights = np.empty_like(rounded)
    weights[order] = rounded
    return np.ascontiguousarray(weights.T), scales
