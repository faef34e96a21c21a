"""How far a model in integers is from the one in floating point that it was made of, on texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.layers.fixed_point import LIMITS
from podweave.ir.row_operations import Append, Format

from .checkpoint import Checkpoint, Floats
from .float_model import Look, Rows, hidden_states, log_softmax, logits
from .integer_model import LOGIT_FRACTION, RESIDUAL_FRACTION, IntegerModel
from .samples import Sample, texts_of

_ROWS = 256
"""Rows whose logits are compared at a time."""


@dataclass
class Scores:
    """Of each token that is predicted."""

    same: list[NDArray] = field(default_factory=list)
    among_five: list[NDArray] = field(default_factory=list)
    divergence: list[NDArray] = field(default_factory=list)
    lost: list[NDArray] = field(default_factory=list)

    def add(self, real: Floats, integer: Floats, following: NDArray[np.int64]) -> None:
        """Logits of both, a row for each token, and the token that comes next in the text."""
        p, q = log_softmax(real), log_softmax(integer)
        best = q.argmax(axis=-1)[:, None]
        self.same.append(p.argmax(axis=-1) == best[:, 0])
        self.among_five.append((p > np.take_along_axis(p, best, 1)).sum(axis=1) < 5)
        self.divergence.append((np.exp(p) * (p - q)).sum(axis=-1, dtype=np.float64))
        next_token = following[:, None]
        self.lost.append((np.take_along_axis(p, next_token, 1) - np.take_along_axis(q, next_token, 1))[:, 0])

    def summary(self) -> dict[str, Any]:
        same, among_five, divergence, lost = (
            np.concatenate(each).astype(np.float64) for each in (self.same, self.among_five, self.divergence, self.lost)
        )
        share = float(same.mean())
        return {
            "tokens": len(same),
            "top1": share,
            "top1_error": float(np.sqrt(share * (1 - share) / len(same))),
            "top5": float(among_five.mean()),
            "kl": float(divergence.mean()),
            "kl_error": float(divergence.std() / np.sqrt(len(divergence))),
            "kl_99": float(np.quantile(divergence, 0.99)),
            "perplexity_ratio": float(np.exp(lost.mean())),
            "perplexity_ratio_error": float(lost.std() / np.sqrt(len(lost))),
        }


@dataclass
class _Layer:
    """Errors of the residual behind a layer: sums of squares, and the largest part of a row."""

    errors: float = 0.0
    squares: float = 0.0
    worst: float = 0.0

    def add(self, real: Floats, integer: Floats) -> None:
        error, square = ((x.astype(np.float64) ** 2).sum(axis=-1) for x in (integer - real, real))
        self.errors += float(error.sum())
        self.squares += float(square.sum())
        self.worst = max(self.worst, float(np.sqrt(error / square).max()))


def compare(
    checkpoint: Checkpoint,
    model: IntegerModel,
    samples: Sequence[Sample],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Run texts through both.

    Parameters
    ----------
    checkpoint, model : Checkpoint, IntegerModel
        Floating point, and integers.
    samples : sequence of Sample
        Texts, each with the first token that is scored: each is predicted from all in front of it.
    progress : callable, optional
        Is told how many texts are done, and of how many.

    Returns
    -------
    dict
        ``tokens`` scored; ``top1``, the share of them for which both find the same token likeliest, and ``top1_error``, its
        standard error; ``top5``, the share for which the likeliest of integers is among five of floating point; ``kl``, the mean
        divergence in nats, ``kl_error`` and ``kl_99``, its 99th percentile; ``perplexity_ratio``, integers by floating point, and
        its standard error; ``by_kind``, the same by kind of text; ``layers``, of the residual behind each layer, ``error`` by its
        root mean square, and ``worst``, that of the worst row; ``saturated``, by operation, values at the limits of their format,
        and of how many.
    """
    scores: dict[str, Scores] = {"": Scores()}
    layers = [_Layer() for _ in range(model.sizes.layers)]
    saturated: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        (text,) = texts_of([sample])
        tensors = model.evaluate(text)
        residuals: dict[int, Floats] = {}
        rows = Rows.of([text])
        x = hidden_states(checkpoint, rows, _keep_residuals(residuals))
        prefix = len(model.prefix)
        for index, layer in enumerate(layers):
            found = tensors[f"layer{index}.down"][0, 0] / 2.0**RESIDUAL_FRACTION
            layer.add(residuals[index][prefix:], found)
        _count_saturated(model, tensors, saturated)
        for part, following in _parts(sample, prefix):
            integer = (tensors["head"][0, 0, part] / 2.0**LOGIT_FRACTION).astype(np.float32)
            real = logits(checkpoint, x[prefix:][part])
            for kind in ("", sample.kind):
                scores.setdefault(kind, Scores()).add(real, integer, following)
        if progress:
            progress(number + 1, len(samples))
    return {
        **scores.pop("").summary(),
        "by_kind": {kind: each.summary() for kind, each in scores.items()},
        "layers": [{"error": float(np.sqrt(each.errors / each.squares)), "worst": each.worst} for each in layers],
        "saturated": {name: counts for name, counts in saturated.items() if counts[0]},
    }


def _keep_residuals(kept: dict[int, Floats]) -> Look:
    def look(what: str, layer: int, values: Floats) -> None:
        if what == "x" and layer % 2 == 0 and layer:
            kept[layer // 2 - 1] = values

    return look


def _parts(sample: Sample, prefix: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Rows, those of the prefix not counted, and the tokens that follow on them. What follows the prefix itself is not scored: its
    last token is not run."""
    for begin in range(max(sample.first, prefix + 1), len(sample.tokens), _ROWS):
        end = min(begin + _ROWS, len(sample.tokens))
        yield slice(begin - 1 - prefix, end - 1 - prefix), np.asarray(sample.tokens[begin:end])


def _count_saturated(model: IntegerModel, tensors: Mapping[str, NDArray], saturated: dict[str, list[int]]) -> None:
    """By what operations are in all layers."""
    for operation in model.graph(1, 1).operations:
        if isinstance(operation, Append) or operation.format is Format.WIDE:
            continue
        values = tensors[operation.name]
        low, high = LIMITS["int8" if operation.format is Format.INT8 else "int16"]
        counts = saturated.setdefault(operation.name.rpartition(".")[2], [0, 0])
        counts[0] += int(np.count_nonzero((values == low) | (values == high)))
        counts[1] += values.size
