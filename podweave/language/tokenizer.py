"""From text to tokens, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from podweave.ir.layers import WorkloadError

from ..program import extra
from .nano.tokenizer import Tokenizer as WordTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer


class Tokenizer(Protocol):
    """What models need of one.

    Members
    -------
    kind : str
        Which of `KINDS` it is.
    begin : int or None
        The token in front of every text, if there is one.
    ends : tuple of int
        Tokens behind which a text is over; the first of them is the usual one.
    """

    @property
    def kind(self) -> str: ...

    @property
    def begin(self) -> int | None: ...

    @property
    def ends(self) -> tuple[int, ...]: ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. Those at its ends are there only if the text says so, or if ``begin`` is in front of all."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    def to_text(self) -> str:
        """All that `read_tokenizer` makes it of."""


class PairTokenizer:
    """Pairs of bytes merged by rank (BPE), by the library `tokenizers`, of which ``text`` is the JSON.

    The library is only imported when something is encoded or decoded.
    """

    kind = "tokenizers"

    def __init__(self, text: str, begin: int | None, ends: Sequence[int]):
        self.text, self.begin, self.ends = text, begin, tuple(ends)

    @cached_property
    def _library(self) -> LibraryTokenizer:
        with extra("llm", "a tokenizer of pairs"):
            from tokenizers import Tokenizer as LibraryTokenizer
        try:
            return LibraryTokenizer.from_str(self.text)
        except Exception as error:  # The library has no other kind for what it cannot read.
            raise WorkloadError(f"the tokenizer cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        return list(self._library.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._library.decode([int(token) for token in tokens], skip_special_tokens=False)

    def to_text(self) -> str:
        return json.dumps({"begin": self.begin, "ends": self.ends, "tokenizer": self.text})

    @classmethod
    def from_text(cls, text: str) -> PairTokenizer:
        held = json.loads(text)
        return cls(held["tokenizer"], held["begin"], held["ends"])


KINDS: dict[str, Callable[[str], Tokenizer]] = {
    PairTokenizer.kind: PairTokenizer.from_text,
    WordTokenizer.kind: WordTokenizer.from_text,
}
"""What makes a tokenizer of its text, by kind."""


def read_tokenizer(kind: str, text: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_text` was of; raises `WorkloadError` if there is no such kind."""
    if kind not in KINDS:
        raise WorkloadError(f"a tokenizer must be one of {', '.join(KINDS)}, got {kind}")
    return KINDS[kind](text)


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")
"""Tokens that end an answer or a text, whatever a file says of them."""
SPLITS = {"gpt-2": None, "smollm": "digits", "llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}
"""How texts are cut before pairs of bytes are merged, by the names that GGUF has: as GPT-2 does, with single digits or without,
or by an expression of which this is what it does with digits."""


def pair_tokenizer(
    tokens: Sequence[str], merges: Sequence[str], special: Sequence[str], split: str, begin: int | None, end: int
) -> PairTokenizer:
    """A tokenizer of a vocabulary.

    Parameters
    ----------
    tokens : sequence of str
        All of them, in the alphabet of bytes of GPT-2.
    merges : sequence of str
        Pairs with a space between them, those that are merged first in front.
    special : sequence of str
        Tokens that are never made of others, as those that end a text.
    split : str
        One of `SPLITS`.
    begin, end : int
        As in `Tokenizer`; of the special tokens, those that are known to end texts do so too.
    """
    with extra("llm", "a tokenizer of pairs"):
        from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as LibraryTokenizer

    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    library = LibraryTokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=split == "llama-bpe"))
    digits = SPLITS[split]
    steps: list[Any] = []
    if digits == "digits":
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    elif digits:
        expression = "|".join((_CONTRACTIONS, _WORDS, digits, _REST))
        steps.append(pre_tokenizers.Split(Regex(expression), behavior="isolated"))
    plain = digits in (None, "digits")
    library.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain)])
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    ends = [end, *(vocabulary[token] for token in special if token in ENDS and vocabulary[token] != end)]
    return PairTokenizer(library.to_str(), begin, ends)
