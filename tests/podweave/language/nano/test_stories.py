"""podweave.language.nano.stories: the same texts everywhere, none of them in both parts, and each true to itself."""

import re
import zlib
from collections.abc import Iterator
from itertools import islice

import pytest

from podweave.language.nano import stories
from podweave.language.nano.world import BY_SIZE, HE_NAMES, NUMBERS, SHE_NAMES, Chance, sentence

TEXTS = [stories.text(number) for number in range(6000)]
# What the stored weights were trained on.
DIGEST = 1430680897


def test_texts_are_the_same_everywhere() -> None:
    assert zlib.crc32("\n".join(TEXTS).encode()) == DIGEST


def test_none_is_in_both_parts() -> None:
    kept, held_out = (set(islice(stories.texts(part), count)) for part, count in ((False, 5000), (True, 300)))
    assert not kept & held_out
    assert len(held_out) > 290
    # What is not in the one is in the other.
    assert {text for text in TEXTS[:2000] if not stories.is_held_out(text)} <= kept
    assert {text for text in TEXTS[:2000] if stories.is_held_out(text)} <= held_out
    assert sum(map(stories.is_held_out, set(TEXTS))) / len(set(TEXTS)) == pytest.approx(1 / stories.HELD_OUT, rel=0.2)
    assert list(islice(stories.texts(True, first=1000), 5)) == [text for text in TEXTS[1000:] if stories.is_held_out(text)][:5]


def test_texts_are_sentences_of_words_and_marks() -> None:
    assert len(set(TEXTS)) > 0.97 * len(TEXTS)
    for text in TEXTS:
        assert re.fullmatch(r'[A-Za-z.,!?" ]+', text), text
        assert not re.search(r"  | [.,!?]|\ba [aeiouAEIOU]|\ban [^aeiouAEIOU]", text), text
        assert text.count('"') % 2 == 0, text
        assert text[0].isupper(), text
        assert re.search(r'[.!?]"?$', text), text
        # Sentences begin with capitals, and what is said ends with its sentence.
        assert all(match[1].isupper() for match in re.finditer(r'[.!?]"? "?(\w)', text)), text


def test_made_up_words() -> None:
    plain = [stories.text(number, made_up=False) for number in range(len(TEXTS))]
    words = {word for text in plain for word in re.findall("[a-z]+", text.lower())}
    made_up = {word for text in TEXTS for word in re.findall("[a-z]+", text.lower())} - words
    assert len(words) == 452
    assert len(made_up) > 500
    # None of those is also a word: a chance of other texts gives none either.
    chance = Chance("another")
    assert not {chance.made_up().lower() for _ in range(20_000)} & words


def sums(text: str) -> Iterator[str]:
    """What a text says of numbers that is not so."""
    number = "|".join(NUMBERS)
    for first, second, total in re.findall(rf"({number}) and ({number}) is ({number})\b", text.lower()):
        if NUMBERS.index(first) + NUMBERS.index(second) != NUMBERS.index(total):
            yield f"{first} and {second} is {total}"
    if not (start := re.match(rf".*?(\w+) had ({number}) (\w+)\.", text)) or "Now" not in text:
        return
    hero, has = re.findall(r"Now (?:the )?(\w+) had", text)[0], NUMBERS.index(start[2])
    for part in re.split(r"(?<=[.]) ", text[start.end() + 1 :]):
        if match := re.match(rf"Now .* had ({number}) ", part):
            if NUMBERS.index(match[1]) != has:
                yield f"{part} It is {has}."
        elif match := re.match(rf"(?:Then )?(?:[Tt]he )?(\w+) (gave|found|lost) (?:him |her )?({number}) ", part):
            less = match[2] == "lost" or (match[2] == "gave" and match[1] == hero)
            has += -NUMBERS.index(match[3]) if less else NUMBERS.index(match[3])


def test_numbers_add_up() -> None:
    assert [fault for text in TEXTS for fault in sums(text)] == []
    assert sum(" Now " in text for text in TEXTS) > 200
    assert sum("What is" in text for text in TEXTS) > 200
    assert list(sums("What is two and two? Two and two is five.")) == ["two and two is five"]
    wrong = "Mia was a cat. She had two eggs. Then Mia lost one egg on the road. Now Mia had two eggs."
    assert list(sums(wrong)) == ["Now Mia had two eggs. It is 1."]
    assert not list(sums(wrong.replace("Now Mia had two eggs", "Now Mia had one egg")))


def strangers(text: str) -> Iterator[str]:
    """Pronouns right behind a name that are not of that name."""
    for name, pronoun in re.findall(r"(\w+)(?: was an? [a-z]+ \w+)?\. (He|She) ", text):
        if (name in HE_NAMES and pronoun == "She") or (name in SHE_NAMES and pronoun == "He"):
            yield f"{name}: {pronoun}"


def test_pronouns_are_those_of_names() -> None:
    assert [fault for text in TEXTS for fault in strangers(text)] == []
    assert sum(bool(re.search(rf"\b({'|'.join(HE_NAMES)})\. He ", text)) for text in TEXTS) > 50
    assert list(strangers("Tom was an old cat. She lived on a hill.")) == ["Tom: She"]


def test_answers() -> None:
    asked = set(re.findall(r"[^.?]+\? [^.]+\.", " ".join(text for text in TEXTS if "Who is bigger" in text)))
    for first, second, big, small in re.findall(r"the (\w+) or the (\w+)\? The (\w+) is bigger than the (\w+)\.", " ".join(asked)):
        assert {first, second} == {big, small}
        assert BY_SIZE.index(big) > BY_SIZE.index(small)
    everything = " ".join(TEXTS)
    # A question has one answer, however often it is asked.
    answers: dict[str, set[str]] = {}
    for question, answer in re.findall(r"((?:What|Where|Who|Can) [a-z, ]+\?) ([A-Z][a-z, ]+\.)", everything):
        if '"' not in question and not question.startswith(("Where is", "Where are")):
            answers.setdefault(question, set()).add(answer)
    assert len(answers) > 300
    assert {question: found for question, found in answers.items() if len(found) > 1} == {}
    assert answers["What does the cow say?"] == {"The cow says moo."}


def test_a_chance_only_depends_on_its_seed() -> None:
    one, two, other = Chance("a"), Chance("a"), Chance("b")
    draws = [[chance.below(1000) for _ in range(20)] for chance in (one, two, other)]
    assert draws[0] == draws[1] != draws[2]
    assert sorted(one.several(range(5), 5)) == list(range(5))
    first = one.character()
    assert all(other.kind != first.kind and (not other.name or other.name != first.name) for other in _others(one, first))
    assert sentence("what a day!") == "What a day!"


def _others(chance: Chance, first: object) -> Iterator:
    for _ in range(500):
        yield chance.character([first])  # type: ignore[list-item]
