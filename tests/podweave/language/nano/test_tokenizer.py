"""podweave.language.nano.tokenizer: texts to tokens and back."""

import pytest

from podweave.ir.layers import WorkloadError
from podweave.language.nano import load_nano, stories
from podweave.language.nano.tokenizer import MARKS, Tokenizer, TokenizerError
from podweave.language.nano.train import vocabulary

NANO = load_nano().tokenizer
SMALL = Tokenizer([*MARKS, "the", "said", "I", "Tom"])


def test_stories_come_back_with_their_capitals() -> None:
    for number in range(2000):
        text = stories.text(number)
        tokens = NANO.encode(text)
        assert NANO.decode(tokens) == text
        # Case and white space are not in the tokens.
        assert NANO.encode(text.upper().replace(" ", "\n ")) == tokens


def test_stored_vocabulary_is_that_of_the_stories() -> None:
    assert NANO.entries == vocabulary().entries
    assert NANO.size == 512
    assert (NANO.begin, NANO.end) == (0, 1)
    # Every word without letters is a token.
    for number in range(200):
        text = stories.text(number, made_up=False)
        assert not {NANO.entries[token] for token in NANO.encode(text)} & set(MARKS[8:])


def test_by_hand() -> None:
    base = len(MARKS)
    tokens = SMALL.encode('The ax said, "I!"')
    assert [SMALL.entries[token] for token in tokens] == ["<begin>", "the", "A-", "-x", "said", ",", '<"', "I", "!", '">']
    assert tokens[1] == base
    assert SMALL.decode(tokens) == 'The Ax said, "I!"'
    assert SMALL.decode([base, base + 3, 2, SMALL.end, SMALL.begin, base]) == "The Tom. The"
    assert SMALL.encode("") == SMALL.encode(" \n") == [SMALL.begin]
    assert SMALL.decode([]) == SMALL.decode([SMALL.begin, SMALL.end]) == ""


def test_what_follows_only_adds_to_the_text() -> None:
    for number in range(100):
        tokens = NANO.encode(stories.text(number))
        for end in range(len(tokens)):
            assert NANO.decode(tokens[: end + 1]).startswith(NANO.decode(tokens[:end]))


def test_what_has_no_token_is_refused() -> None:
    for text, character in (("four 4", "'4'"), ("é", "'é'"), ("it's", '"\'"'), ("a\0", r"'\x00'")):
        with pytest.raises(TokenizerError) as caught:
            NANO.encode(text)
        assert str(caught.value) == f'the vocabulary has no token for {character}: it has letters a to z, and the marks . , ! ? "'
    for token in (-1, 512):
        with pytest.raises(WorkloadError, match=f"tokens are 0 to 511, got {token}"):
            NANO.decode([5, token])
    with pytest.raises(TokenizerError, match="begins with the two ends"):
        Tokenizer(["the", *MARKS])
    with pytest.raises(TokenizerError, match="every entry once"):
        Tokenizer([*MARKS, "Tom", "tom"])
