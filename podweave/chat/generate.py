"""Tokens behind a prompt, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.layers import WorkloadError

from ..language.integer_model import LOGIT_FRACTION
from .machine import Step
from .session import Session


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Parameters
    ----------
    temperature : float
        0 for the token with the largest logit, of equal ones the first; else the probabilities of the logits divided by it.
    top : int
        Of how many tokens with the largest logits it is one; 0 for all.
    seed : int
        Of the choice.
    """

    temperature: float = 0.0
    top: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise WorkloadError(f"temperature must be at least 0 and below 100, got {self.temperature}")
        if self.top < 0:
            raise WorkloadError(f"the number of tokens to choose from must be at least 0, got {self.top}")

    def choose(self, logits: NDArray[np.int32], rng: np.random.Generator) -> int:
        """A token by its logits, int32 (V,)."""
        if not self.temperature:
            return int(np.argmax(logits))
        scaled = logits.astype(np.float64) / (self.temperature * 2**LOGIT_FRACTION)
        if self.top and self.top < len(scaled):
            # Of equal ones, the first.
            chosen = np.argsort(-scaled, kind="stable")[: self.top]
            scaled = np.where(np.isin(np.arange(len(scaled)), chosen), scaled, -np.inf)
        weights = np.exp(scaled - scaled.max())
        return int(rng.choice(len(weights), p=weights / weights.sum()))


@dataclass(frozen=True)
class Token:
    """A token that was chosen, and the step whose logits it was chosen by; ``ends``: it ends the text, and is not part of it."""

    token: int
    step: Step
    ends: bool


def generate(session: Session, prompt: Sequence[int], count: int, sampling: Sampling | None = None) -> Iterator[Step | Token]:
    """At most ``count`` tokens behind a prompt: every step that is run, and every token as soon as it is known.

    It ends with a token that ends texts, or where there is no room for another one. The last token is not run: it is no part of
    ``session.tokens``.

    Raises
    ------
    WorkloadError
        For a prompt without tokens, or one that does not fit; before anything is run.
    """
    sampling = sampling or Sampling()
    rng = np.random.default_rng(sampling.seed)
    ends = session.model.tokenizer.ends if session.model.tokenizer else ()
    behind = list(prompt)
    for _ in range(count):
        if len(session.tokens) + len(behind) > session.capacity and behind != list(prompt):
            return
        step = None
        for step in session.feed(behind):
            yield step
        assert step is not None
        assert step.logits is not None
        token = sampling.choose(step.logits, rng)
        yield Token(token, step, token in ends)
        if token in ends:
            return
        behind = [token]
