"""Several texts that grow together: a pass over the weights gives a token to each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podweave.ir.layers import WorkloadError

from .generate import Sampling, Token
from .machine import Step
from .session import Session


@dataclass(frozen=True)
class TextToken:
    """A token that was chosen for a text: that of session number ``text``."""

    text: int
    token: Token


def advance(sessions: Sequence[Session], tokens: Mapping[int, int]) -> Step:
    """Run a token behind each of some texts, by number of its session: at once, in the order of the sessions.

    Row i of ``all_logits`` is of the i-th of these texts. Raises `WorkloadError` for no texts, and for one that has no room.
    """
    if not tokens:
        raise WorkloadError("a run needs at least one text, got 0")
    chosen = [sessions[number] for number in sorted(tokens)]
    for session, number in zip(chosen, sorted(tokens), strict=True):
        session.require_room([tokens[number]])
    return chosen[0].machine.run(
        [session.next(tokens[number]) for session, number in zip(chosen, sorted(tokens), strict=True)], True
    )


def shared_tokens(texts: Sequence[Sequence[int]], lanes: int) -> int:
    """With how many tokens all texts begin, in whole tiles of keys; each has at least one more. Of one text, none.

    >>> shared_tokens([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]], 2), shared_tokens([[1, 2, 3, 4], [1, 2, 3, 4, 5]], 2)
    (4, 2)
    """
    if len(texts) < 2:
        return 0
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False))
    count = min(sum(1 for _ in alike), min(map(len, texts)) - 1)
    return count // lanes * lanes


def generate_together(
    sessions: Sequence[Session], prompts: Sequence[Sequence[int]], count: int, sampling: Sampling | None = None
) -> Iterator[Step | TextToken]:
    """At most ``count`` tokens behind each prompt, those that `generate` gives to each alone: every step that is run, and every
    token as soon as it is known.

    Prompts go into the caches one after the other, up to their last tokens, and whole tiles of keys with which all begin only once;
    from there on each step runs a token of every text that has not ended. The sessions are new, and the first is that in slot 0.

    Raises
    ------
    WorkloadError
        For a prompt without tokens, or one that does not fit; before anything is run.
    """
    sampling = sampling or Sampling()
    model = sessions[0].model
    ends = model.tokenizer.ends if model.tokenizer else ()
    for session, prompt in zip(sessions, prompts, strict=True):
        session.require_room(prompt)
    prefix = len(model.prefix)
    shared = shared_tokens([[*model.prefix, *prompt] for prompt in prompts], sessions[0].machine.lanes)
    for session, prompt in zip(sessions, prompts, strict=True):
        if shared and session is not sessions[0]:
            session.share(sessions[0], shared)
        yield from session.fill(prompt[len(session.tokens) - prefix : -1])
    draws = [np.random.default_rng(sampling.seed) for _ in sessions]
    behind = {number: prompt[-1] for number, prompt in enumerate(prompts)}
    for _ in range(count):
        behind = {number: token for number, token in behind.items() if len(sessions[number].tokens) < sessions[number].capacity}
        if not behind:
            return
        step = advance(sessions, behind)
        yield step
        assert step.all_logits is not None
        for number, logits in zip(sorted(behind), step.all_logits, strict=True):
            token = sampling.choose(logits, draws[number])
            yield TextToken(number, Token(token, step, token in ends))
            behind[number] = token
            if token in ends:
                del behind[number]
