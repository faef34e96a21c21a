"""From text to the tokens of the nano model, and back: a token for each word that it knows, letter by letter for every other."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

from podweave.ir.layers import WorkloadError

BEGIN, END = "<begin>", "<end>"
PUNCTUATION = (".", ",", "!", "?")
OPENING, CLOSING = '<"', '">'
_FIRST = {letter: f"{letter.upper()}-" for letter in string.ascii_lowercase}
_NEXT = {letter: f"-{letter}" for letter in string.ascii_lowercase}
_PARTS = re.compile(r"[A-Za-z]+|\s+|.", re.DOTALL)


class TokenizerError(WorkloadError):
    """A text that has no tokens, or a token that is none."""


class Tokenizer:
    """
    Token 0 begins every text, token 1 ends it; then there are marks, quotation marks that open and close, each letter as the
    first and as a further one of a word that has no token of its own, and words. Case is not in the tokens: `decode` gives
    capitals to names, to words in letters, which it takes for names, and to what begins a sentence.

    Parameters
    ----------
    entries: the entry of each token; names have capitals.

    Members
    -------
    kind: what files of models call it.
    size: how many tokens there are.
    begin, end: the tokens at both ends of a text; ``ends`` has only the latter.

    >>> tokenizer = Tokenizer([*MARKS, "the", "owl", "said", "who", "is", "Mia"])
    >>> tokenizer.encode("The owl")
    [0, 60, 61]
    >>> tokenizer.decode(tokenizer.encode('the owl said, "who is mia zu?"'))
    'The owl said, "Who is Mia Zu?"'
    """

    kind = "words"

    def __init__(self, entries: Sequence[str]):
        self.entries = tuple(entries)
        if self.entries[: len(MARKS)] != MARKS:
            raise TokenizerError("a vocabulary begins with the two ends of a text, the marks and the letters")
        self.size = len(self.entries)
        self._tokens = {entry.lower() if i >= len(MARKS) else entry: i for i, entry in enumerate(self.entries)}
        if len(self._tokens) != self.size:
            raise TokenizerError("a vocabulary has every entry once")
        self.begin, self.end = self._tokens[BEGIN], self._tokens[END]
        self.ends = (self.end,)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, the one that begins it in front; spaces and line ends only divide words.

        Raises `TokenizerError` for characters other than letters of ASCII, white space, and . , ! ? and ".
        """
        found, inside = [self.begin], False
        for part in _PARTS.findall(text):
            if part.isspace():
                continue
            if part == '"':
                inside = not inside
                found.append(self._tokens[OPENING if inside else CLOSING])
            elif part in PUNCTUATION:
                found.append(self._tokens[part])
            elif part[0] not in string.ascii_letters:
                raise TokenizerError(f'the vocabulary has no token for {part!r}: it has letters a to z, and the marks . , ! ? "')
            elif (word := part.lower()) in self._tokens:
                found.append(self._tokens[word])
            else:
                found += [self._tokens[_FIRST[word[0]]], *(self._tokens[_NEXT[letter]] for letter in word[1:])]
        return found

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, without what begins and ends it. What follows more tokens only grows at its end.

        Raises `TokenizerError` for what is no token.
        """
        text, capital, opened = "", True, False
        for token in tokens:
            if not 0 <= token < self.size:
                raise TokenizerError(f"tokens are 0 to {self.size - 1}, got {token}")
            entry = self.entries[token]
            space = "" if opened or not text else " "
            if entry in (BEGIN, END):
                capital = True
            elif entry == OPENING:
                text, capital = f'{text}{space}"', True
            elif entry == CLOSING:
                text += '"'
            elif entry in PUNCTUATION:
                text, capital = text + entry, entry != ","
            elif entry in MARKS and entry[0] == "-":
                text, capital = text + entry[1], False
            else:
                word = entry[0] if entry in MARKS else entry
                text, capital = text + space + (word[0].upper() + word[1:] if capital else word), False
            opened = entry == OPENING
        return text

    def to_text(self) -> str:
        """Its entries, one in each line."""
        return "\n".join(self.entries)

    @classmethod
    def from_text(cls, text: str) -> Tokenizer:
        """What `to_text` was of."""
        return cls(text.split("\n"))


MARKS = (BEGIN, END, *PUNCTUATION, OPENING, CLOSING, *_FIRST.values(), *_NEXT.values())
"""What every vocabulary begins with."""
