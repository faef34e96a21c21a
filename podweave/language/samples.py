"""Texts of tokens by which a model is quantised, and by which the result is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .checkpoint import PLAIN_PROMPT, Checkpoint, CheckpointError
from .float_model import generate
from .tokenizer import PairTokenizer, Tokenizer

NEW_TOKENS = 130
"""Tokens of an answer, at most."""
TEMPERATURE = 0.8
PLAIN_TEXTS = 24
"""Texts that a model writes that is not asked."""
LONGEST = 768
"""Tokens of a text, at most."""


@dataclass(frozen=True)
class Sample:
    """A text. ``first``: the first token that is scored; ``kind``: "chat" or "prose"."""

    tokens: list[int]
    first: int
    kind: str

    @property
    def scored(self) -> int:
        return len(self.tokens) - self.first


def prefix_of(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The token that all texts of a model begin with: the first one of a question, or that of its tokenizer, or none."""
    tokenizer = _tokenizer(checkpoint)
    fixed = checkpoint.prompt_format.partition(PLAIN_PROMPT)[0]
    if fixed:
        return tuple(tokenizer.encode(fixed)[:1])
    return () if tokenizer.begin is None else (tokenizer.begin,)


def own_samples(
    checkpoint: Checkpoint, part: str, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Sample]:
    """Texts that come with podweave.

    Parameters
    ----------
    checkpoint : Checkpoint
        Answers the questions, at temperature 0.8; if it is no model that is asked, it writes texts of its own.
    part : str
        "calibration" or "evaluation": both have other questions and other prose.
    seed : int
        Of what the model draws.
    progress : callable, optional
        As that of `podweave.language.float_model.generate`.

    Returns
    -------
    list of Sample
        Chats, of which answers are scored; and, if the tokenizer knows all characters, prose.
    """
    tokenizer, prefix = _tokenizer(checkpoint), prefix_of(checkpoint)
    prompts: list[list[int]]
    if checkpoint.prompt_format == PLAIN_PROMPT:
        if not prefix:
            raise CheckpointError(f"{checkpoint.name} neither answers questions nor has a token that begins texts: give it texts")
        prompts = [list(prefix)] * PLAIN_TEXTS
    else:
        questions = _text(f"{part}_prompts.txt").splitlines()
        prompts = [tokenizer.encode(checkpoint.prompt_format.replace(PLAIN_PROMPT, each)) for each in questions]
    draws = 2 * seed + (part == "evaluation")
    answers = generate(checkpoint, prompts, NEW_TOKENS, TEMPERATURE, draws, tokenizer.ends, progress)
    samples = [Sample(answer, len(prompt), "chat") for answer, prompt in zip(answers, prompts, strict=True)]
    if isinstance(tokenizer, PairTokenizer):
        samples += prose_samples(checkpoint, _text(f"{part}_prose.txt"))
    return samples


def prose_samples(checkpoint: Checkpoint, text: str) -> list[Sample]:
    """A text of paragraphs with empty lines between them, each a sample of at most 768 tokens; all but its first are scored."""
    tokenizer, prefix = _tokenizer(checkpoint), prefix_of(checkpoint)
    found = []
    for paragraph in filter(None, (part.strip() for part in text.split("\n\n"))):
        tokens = tokenizer.encode(paragraph)
        if tuple(tokens[: len(prefix)]) != prefix:
            tokens = [*prefix, *tokens]
        if len(tokens) > len(prefix) + 1:
            found.append(Sample(tokens[:LONGEST], len(prefix) + 1, "prose"))
    return found


def file_samples(checkpoint: Checkpoint, path: Path) -> list[Sample]:
    """The paragraphs of a file; raises `CheckpointError` if it has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is no text: {error}") from error
    found = prose_samples(checkpoint, text)
    if not found:
        raise CheckpointError(f"{path} has no paragraph of at least two tokens")
    return found


def texts_of(samples: Sequence[Sample]) -> list[list[int]]:
    """What a model is given of them: the last token is only predicted."""
    return [sample.tokens[:-1] for sample in samples]


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    if checkpoint.tokenizer is None:
        raise CheckpointError(f"{checkpoint.name} has no tokenizer")
    return checkpoint.tokenizer


def _text(name: str) -> str:
    return files("podweave.language.texts").joinpath(name).read_text(encoding="utf-8")
