"""How stories of `podweave.language.nano.plots` begin and end, whatever happens in them."""

from __future__ import annotations

from collections.abc import Iterator

from .world import ANY_HOMES, FOOD, HOBBIES, HOMES, MEALS, TRAITS, Chance, Character, with_article


def beginning(chance: Chance, hero: Character, trait: str = "", last: str = "") -> Iterator[str]:
    """Who it is about; ``trait`` is what matters for what comes, and ``last`` the sentence about it, if it needs one.

    If nothing matters, a story may begin without.
    """
    if not (hero.name or trait or last) and chance.likely(0.3):
        return
    has = trait or chance.pick(TRAITS)
    kind = with_article(f"{has} {hero.kind}")
    home = HOMES.get(hero.kind) or chance.pick(ANY_HOMES)
    once = chance.pick(("Once upon a time, there was", "Once upon a time, there was", "Once there was", "There was"))
    if hero.name:
        yield chance.pick((f"{once} {kind} named {hero.name}", f"{hero.name} was {kind}", f"{once} {kind} called {hero.name}"))
        if chance.likely(0.5):
            yield f"{hero.subject} lived {home}"
    else:
        yield chance.pick(
            (f"{once} {kind} who lived {home}", f"{with_article(has)} {hero.kind} lived {home}", f"{hero.the} was very {has}")
        )
    if last:
        yield last
    elif chance.likely(0.4):
        yield f"{hero.subject} loved to {chance.pick(HOBBIES)}"


def friends_for_ever(chance: Chance, hero: Character, friend: Character) -> str:
    return chance.pick(
        (
            f"From that day on, {hero.called} and {friend.called} were best friends",
            f"{hero.called} and {friend.called} played until the sun went down",
            f"{hero.called} and {friend.called} were friends and lived happily ever after",
            f"Then {hero.called} and {friend.called} danced and sang all night",
        )
    )


def going_to_bed(chance: Chance, hero: Character) -> str:
    return chance.pick(
        (
            f"That night, {hero.called} slept very well",
            f"In the evening, {hero.called} went home and was happy",
            f"It was late, so {hero.called} went to bed",
            f"{hero.called} was tired, but it was a good day",
        )
    )


def food_of(chance: Chance, hero: Character) -> str:
    return chance.pick(FOOD.get(hero.kind, MEALS))
