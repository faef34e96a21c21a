"""Questions about the little world of `podweave.language.nano.world`, each with its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .world import BY_SIZE, CAN, COLOURS_OF, FOOD, HOMES, KINDS, NUMBERS, SOUNDS, Chance

Question = Callable[[Chance], str]


def about(words: str, answers: Mapping[str, str]) -> Question:
    """``words``: question and answer, with what is asked about as {0}, with a capital as {1}, and what is true of it as {2}."""

    def question(chance: Chance) -> str:
        what = chance.pick(tuple(answers))
        return words.format(what, what.capitalize(), answers[what])

    return question


sound = about("What does the {0} say? The {0} says {2}.", SOUNDS)
food = about("What does the {0} eat? The {0} eats {2}.", {kind: " and ".join(both) for kind, both in FOOD.items()})
home = about("Where does the {0} live? The {0} lives {2}.", HOMES)
colour = about("What colour is {0}? {1} is {2}.", COLOURS_OF)


def ability(chance: Chance) -> str:
    verb, kind = chance.pick(tuple(CAN)), chance.pick(KINDS)
    if chance.likely(0.4):
        kind = chance.pick(CAN[verb])
    answer = f"Yes, the {kind} can {verb}." if kind in CAN[verb] else f"No, the {kind} cannot {verb}."
    return f"Can the {kind} {verb}? {answer}"


def size(chance: Chance) -> str:
    first, second = chance.several(range(len(BY_SIZE)), 2)
    small, big = BY_SIZE[min(first, second)], BY_SIZE[max(first, second)]
    return f"Who is bigger, the {BY_SIZE[first]} or the {BY_SIZE[second]}? The {big} is bigger than the {small}."


def total(chance: Chance) -> str:
    first = 1 + chance.below(len(NUMBERS) - 2)
    second = 1 + chance.below(len(NUMBERS) - 1 - first)
    both = f"{NUMBERS[first]} and {NUMBERS[second]}"
    return f"What is {both}? {both.capitalize()} is {NUMBERS[first + second]}."


def after(chance: Chance) -> str:
    number = 1 + chance.below(len(NUMBERS) - 2)
    return f"What comes after {NUMBERS[number]}? After {NUMBERS[number]} comes {NUMBERS[number + 1]}."


def difference(chance: Chance) -> str:
    first = 1 + chance.below(len(NUMBERS) - 1)
    second = 1 + chance.below(first)
    both = f"{NUMBERS[first]} without {NUMBERS[second]}"
    return f"What is {both}? {both.capitalize()} is {NUMBERS[first - second] if second < first else 'nothing'}."


QUESTIONS: tuple[Question, ...] = (sound, food, home, colour, ability, size, total, after, difference)
