"""Questions about the little world of `podweave.language.nano.world`, each with its answer."""

from __future__ import annotations

from collections.abc import Callable

from .world import BY_SIZE, CAN, COLOURS_OF, FOOD, HOMES, KINDS, NUMBERS, SOUNDS, Chance


def sound(chance: Chance) -> str:
    kind = chance.pick(tuple(SOUNDS))
    return f"What does the {kind} say? The {kind} says {SOUNDS[kind]}."


def food(chance: Chance) -> str:
    kind = chance.pick(tuple(FOOD))
    return f"What does the {kind} eat? The {kind} eats {' and '.join(FOOD[kind])}."


def home(chance: Chance) -> str:
    kind = chance.pick(tuple(HOMES))
    return f"Where does the {kind} live? The {kind} lives {HOMES[kind]}."


def colour(chance: Chance) -> str:
    thing = chance.pick(tuple(COLOURS_OF))
    return f"What colour is {thing}? {thing.capitalize()} is {COLOURS_OF[thing]}."


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


QUESTIONS: tuple[Callable[[Chance], str], ...] = (sound, food, home, colour, ability, size, total, after, difference)
