"""The plots of `podweave.language.nano.stories`: each yields the sentences of a story, capitals and full stops left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .telling import beginning, food_of, friends_for_ever, going_to_bed
from .world import (
    ANIMALS,
    ANY_HOMES,
    COLOURS,
    COUNTED,
    HIDING_PLACES,
    KINDS,
    NUMBERS,
    TIMES,
    TOYS,
    WAYS,
    Chance,
    Character,
    with_article,
)


def lost(chance: Chance) -> Iterator[str]:
    hero, thing, colour = chance.character(), chance.pick(TOYS), chance.pick(COLOURS)
    friend = chance.character([hero])
    if hero.kind in ("king", "queen") and chance.likely(0.5):
        thing, colour = "crown", "golden"
    yield from beginning(chance, hero, last=f"{hero.subject} had {with_article(colour)} {thing} and loved it very much")
    first, second, third = chance.several(HIDING_PLACES, 3)
    yield f"{chance.pick(TIMES)}, {hero.called} could not find the {colour} {thing}"
    yield f"{hero.subject} looked {first} and {second}, but it was not there"
    yield chance.pick((f"{hero.called} was sad and began to cry", f"{hero.called} sat down and cried"))
    if friend.name:
        yield f"Then {hero.possessive} friend {friend.name}, {with_article(friend.kind)}, came by"
    else:
        yield f"Then {with_article(friend.kind)} came by"
    yield f'{friend.called} asked, "Why are you sad?"'
    yield f'{hero.called} said, "I lost my {colour} {thing}."'
    if chance.likely(0.5):
        yield f'{friend.called} said, "Do not cry, {hero.addressed}. I will help you."'
        yield f"They looked {third}, and there was the {thing}"
    else:
        yield f'{friend.called} said, "I saw it {third}."'
        yield f"{hero.called} ran and found the {thing} {third}"
    yield f'{hero.called} was happy with the {colour} {thing} and said, "Thank you, {friend.addressed}!"'
    yield friends_for_ever(chance, hero, friend)


TASKS = (
    ("clean my house", "cleaned the house"),
    ("carry the wood", "carried the wood"),
    ("water my flowers", "watered the flowers"),
    ("find my hat", "found the hat"),
    ("feed my hens", "fed the hens"),
    ("mend my roof", "mended the roof"),
    ("wash my clothes", "washed the clothes"),
)


def hungry(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    friend = chance.character([hero])
    food = food_of(chance, hero)
    place = chance.pick(("farm", "garden", "village", "forest"))
    yield from beginning(chance, hero, chance.pick(("hungry", "")))
    yield f"{chance.pick(TIMES)}, {hero.called} was very hungry, but there was no food in the house"
    yield f"So {hero.subject} went to the {place}"
    yield f"There {hero.subject} met {with_article(friend.kind)} with a big basket of {food}"
    yield f'{hero.called} asked, "May I have some {food}?"'
    if chance.likely(0.7):
        task, done = chance.pick(TASKS)
        yield f'{friend.the} said, "Yes, but first you must {task}."'
        yield f"So {hero.called} {done}"
        yield f"Then they sat down and ate the {food}"
    else:
        yield f'{friend.the} said, "No! Go away!"'
        other = chance.character([hero, friend], named=0)
        yield f"{hero.called} was sad, but then {with_article(f'kind {other.kind}')} came and gave {hero.object} some {food}"
        yield f'{hero.called} said, "Thank you! You are very kind."'
    yield f"{hero.called} was not hungry any more"


def storm(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    friend = chance.character([hero])
    rain, is_so, over = chance.pick((("rain", "wet", "the rain was over"), ("snow", "cold", "the snow was gone")))
    drink = chance.pick(("hot soup", "hot tea", "warm milk", "bread and cheese"))
    yield from beginning(chance, hero)
    yield f"{chance.pick(TIMES)}, {hero.called} was far from home when it began to {rain}"
    yield chance.pick((f"Soon {hero.subject} was {is_so} and tired", f"The wind was strong, and {hero.subject} was {is_so}"))
    yield f"Then {hero.subject} saw a light in the window of a small house"
    yield f"{hero.subject} knocked on the door, and {with_article(friend.kind)} opened it"
    yield f'{friend.the} said, "Come in! It is warm here."'
    if friend.name:
        yield f'{friend.subject} said, "My name is {friend.name}."'
    yield f"{friend.called} gave {hero.object} {drink}, and they sat by the fire"
    yield f"In the morning, {over} and the sun came out"
    yield f'{hero.called} said, "Thank you, {friend.addressed}."'
    yield f"Then {hero.called} went home"


def counting(chance: Chance) -> Iterator[str]:
    hero = chance.character(named=0.8)
    friend = chance.character([hero], named=0.8)
    one, many = chance.pick(COUNTED)

    def things(count: int) -> str:
        return f"{NUMBERS[count]} {one if count == 1 else many}"

    has = 2 + chance.below(6)
    yield from beginning(chance, hero, last=f"{hero.subject} had {things(has)}")
    for _ in range(1 + chance.below(3)):
        count = 1 + chance.below(3)
        more = has + count < len(NUMBERS) and (chance.likely(0.5) or count > has)
        if more:
            where = chance.pick(HIDING_PLACES)
            yield chance.pick(
                (f"Then {hero.called} found {things(count)} {where}", f"{friend.called} gave {hero.object} {things(count)}")
            )
        else:
            # There are as many: where there are fewer, more come.
            yield chance.pick(
                (f"{hero.called} gave {things(count)} to {friend.called}", f"Then {hero.called} lost {things(count)} on the road")
            )
        has += count if more else -count
        yield f"Now {hero.called} had {things(has)}"
        if not has:
            break
    if has:
        yield chance.pick(
            (f"{hero.subject} put the {many if has > 1 else one} in a basket and went home", f"{hero.subject} was happy")
        )
    else:
        yield f'{hero.called} said, "All my {many} are gone!"'


GOALS = (
    ("the sea", "big and blue"),
    ("the castle", "old and beautiful"),
    ("the mountains", "high and white"),
    ("the city", "loud and full of lights"),
    ("the lake", "deep and quiet"),
    ("the island", "small and green"),
)


def journey(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    goal, looks = chance.pick(GOALS)
    first, second, third = chance.several(WAYS, 3)
    were = "were" if goal.endswith("s") else "was"
    yield from beginning(chance, hero, last=f"{hero.called} wanted to see {goal}")
    yield f"{chance.pick(TIMES)}, {hero.subject} went {first} and {second}"
    met: list[Character] = [hero]
    for way in (third, "") if chance.likely(0.4) else (third,):
        guide = chance.character(met, named=0.3)
        met.append(guide)
        yield f"On the way, {hero.subject} met {guide.introduced()}"
        yield f'{hero.called} asked, "Where {"are" if were == "were" else "is"} {goal}?"'
        if way:
            yield f'{guide.called} said, "Go {way}."'
            yield f"So {hero.called} went {way}"
        else:
            yield f'{guide.called} said, "I do not know, but I will come with you."'
            yield "They walked all day"
    yield f"At last, {hero.called} saw {goal}"
    yield f"{'They' if were == 'were' else 'It'} {were} {looks}"
    yield going_to_bed(chance, hero)


def noise(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    guest = chance.character([hero], ANIMALS, named=0)
    place = chance.pick(("kitchen", "garden", "house"))
    yield from beginning(chance, hero)
    yield f"One night, {hero.called} heard a {chance.pick(('loud', 'strange'))} noise in the {place}"
    yield f"{hero.subject} was afraid and hid under the bed"
    yield f"{chance.pick(('Then', 'But the noise did not stop, so'))} {hero.subject} took a lamp and went to look"
    food = food_of(chance, guest)
    does, ends = chance.pick(
        (
            ("looking for food", f"{hero.called} gave {guest.the} some {food}"),
            (f"eating {food}", f'{guest.the} said, "I was so hungry."'),
            ("singing a song", "They sang the song together"),
            ("dancing", f"{hero.called} danced with {guest.object}"),
        )
    )
    yield f"It was only {with_article(guest.kind)}, who was {does}"
    yield chance.pick((f"{hero.called} laughed and was not afraid any more", f'{hero.called} laughed and said, "It is only you!"'))
    yield ends
    yield going_to_bed(chance, hero)


GIFTS = (
    ("made a big cake", "cake", "ate the cake"),
    ("painted a picture", "picture", "looked at the picture"),
    ("wrote a song", "song", "sang the song"),
    ("made a red hat", "hat", "danced"),
    ("made a kite", "kite", "played with the kite"),
    ("cooked a soup", "soup", "ate the soup"),
)


def birthday(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    friend = chance.character([hero], named=1)
    made, gift, party = chance.pick(GIFTS)
    yield from beginning(chance, hero, last=f"{hero.possessive} best friend was {with_article(friend.kind)} named {friend.name}")
    yield f"{chance.pick(('Today', 'One day, it'))} was the birthday of {friend.name}"
    yield f"{hero.called} had no money, so {hero.subject} {made}"
    yield f'{hero.called} said, "This {gift} is for you, {friend.name}!"'
    yield f'{friend.name} smiled and said, "It is the best {gift} in the world."'
    guests = chance.several([kind for kind in KINDS if kind not in (hero.kind, friend.kind)], 2)
    yield f"The {guests[0]} and the {guests[1]} came too, and they all {party}"
    yield chance.pick((f"{friend.name} was very happy", "It was a good day", friends_for_ever(chance, hero, friend)))


RESCUES = (
    ("fell into the river", "ran to the river and threw a rope", "wet"),
    ("fell into a deep hole", "came with a ladder", "dirty"),
    ("fell into the lake", "jumped into the water", "wet"),
    ("could not come down from a tree", "came with a ladder", "tired"),
    ("was lost in the snow", "ran into the snow with a lamp", "cold"),
)


def rescue(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    friend = chance.character([hero], named=0.3)
    fell, helped, is_so = chance.pick(RESCUES)
    yield from beginning(chance, hero)
    yield f"{chance.pick(TIMES)}, {friend.introduced('little')} {fell}"
    yield f'{friend.called} cried, "Help! Help!"'
    yield f"{hero.called} heard {friend.object} and {helped}"
    yield f"Soon {friend.called} was safe, but {is_so}" if is_so != "tired" else f"Soon {friend.called} was safe"
    yield f'{friend.called} said, "Thank you, {hero.addressed}! You are very {chance.pick(("brave", "kind", "good"))}."'
    yield friends_for_ever(chance, hero, friend)


def wish(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    colour, thing = chance.pick(("old", *COLOURS)), chance.pick(("lamp", "ring", "stone", "shell", "box", "bell"))
    helper = chance.pick([kind for kind in ("wizard", "dragon", "star", "fish") if kind != hero.kind])
    friend = chance.character([hero], ANIMALS, named=0)
    food = food_of(chance, hero)
    trait, wanted, comes = chance.pick(
        (
            ("lonely", "a friend", f"Then {with_article(friend.kind)} came down the road and wanted to play"),
            ("hungry", food, f"Then there was a table full of {food}"),
            ("poor", "gold", f"Then there was a big box full of gold, and {hero.called} gave some to all friends"),
            ("tired", "a soft bed", f"Then there was a soft bed under the tree, and {hero.called} fell asleep"),
            ("cold", "a warm fire", f"Then there was a warm fire, and {hero.called} sat by it"),
            ("sad", "a happy song", f"Then all birds sang a happy song, and {hero.called} laughed"),
        )
    )
    yield from beginning(chance, hero, trait)
    yield f"{chance.pick(TIMES)}, {hero.called} found {with_article(f'{colour} {thing}')} {chance.pick(HIDING_PLACES)}"
    yield f"A {helper} came out of the {thing}"
    yield f'The {helper} said, "I will give you one wish."'
    yield f'{hero.called} said, "I wish for {wanted}."'
    yield comes
    yield f"{hero.called} was never {trait} again"


def garden(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    plant = chance.pick(("carrot", "flower", "tree", "apple tree", "pumpkin"))
    yield from beginning(chance, hero)
    yield f"In spring, {hero.called} put a seed in the ground"
    yield f"Every day, {hero.subject} gave it water, and the sun was warm"
    yield f"Soon there was a small {plant}"
    yield f"It grew and grew until it was as big as {chance.pick(('a house', 'a horse', 'a bear', 'a giant'))}"
    if plant in ("carrot", "pumpkin"):
        kinds = chance.several([kind for kind in ANIMALS if kind != hero.kind], 2)
        yield f"{hero.called} pulled and pulled, but it did not move"
        yield f"The {kinds[0]} came and helped, and then the {kinds[1]} came and helped"
        yield f"They pulled, and at last the {plant} came out"
        yield f"They cooked a soup of the {plant} and ate together"
    elif plant == "apple tree":
        friend = chance.character([hero])
        yield f"In autumn, the tree was full of red apples, and {hero.called} gave some to {friend.called}"
    else:
        yield f"{hero.called} sat under the {plant} and was proud"


def race(chance: Chance) -> Iterator[str]:
    fast, slow = chance.pick(FAST), chance.pick(SLOW)
    goal = chance.pick(("the old tree", "the river", "the bridge", "the castle"))
    stop = chance.pick(("sleep", "eat", "play", "rest"))
    yield chance.pick((f"One day, the {fast} and the {slow} had a race to {goal}", f'The {fast} said, "I am the fastest of all."'))
    yield f'The {slow} said, "I am slow, but I will win."'
    yield f"The {fast} ran very fast, but then stopped to {stop}"
    yield f"The {slow} walked and walked and did not stop"
    yield f"The {slow} came to {goal} first and won the race"
    yield f'The {fast} said, "Next time I will not {stop}."'


SKILLS = (
    ("swim", "in the lake", "could swim like a fish"),
    ("read", "in an old book", "could read every book in the house"),
    ("sing", "in the garden", "could sing like a bird"),
    ("dance", "under the moon", "danced better than all the others"),
    ("cook", "in the kitchen", "made the best soup in the village"),
    ("jump", "over a stone", "could jump over a wall"),
)


def lesson(chance: Chance) -> Iterator[str]:
    hero = chance.character()
    friend = chance.character([hero])
    skill, where, ends = chance.pick(SKILLS)
    yield from beginning(chance, hero, last=f"{hero.subject} wanted to learn to {skill}")
    yield f"{chance.pick(TIMES)}, {hero.subject} went to {friend.introduced('wise old')}"
    yield f'{hero.called} asked, "Can you teach me to {skill}?"'
    yield f'{friend.called} said, "Yes, but you must try every day."'
    yield f"So {hero.called} tried every day {where}"
    yield chance.pick(("At first, it was very hard", f"Some days, {hero.called} was sad because it was hard"))
    yield f"But {hero.subject} did not stop, and soon {hero.subject} {ends}"
    yield f'{friend.called} said, "I am proud of you, {hero.addressed}."'


def net(chance: Chance) -> Iterator[str]:
    hero = chance.character(kinds=("lion", "bear", "wolf", "horse", "dragon", "giant"))
    friend = chance.character([hero], ("mouse", "bird", "frog", "squirrel", "rabbit"), named=0.3)
    yield from beginning(chance, hero)
    yield f"{chance.pick(TIMES)}, {friend.introduced('little')} ran over {hero.possessive} foot"
    yield f"{hero.called} was angry and caught {friend.object}"
    yield f'{friend.called} said, "Please let me go. Then I will help you too."'
    yield f"{hero.called} laughed and let {friend.object} go"
    yield f"The next day, {hero.called} was caught in a net and could not get out"
    yield f"{friend.called} came, cut the net with a small knife, and {hero.called} was free"
    trait = chance.pick(("brave", "clever", "strong"))
    yield f'{hero.called} said, "Thank you, {friend.addressed}! You are small, but you are {trait}."'


WORKS = (
    ("a boat", "boat", "went across the lake in it"),
    ("a house", "house", "lived in it"),
    ("a bridge", "bridge", "walked over the river"),
)


def together(chance: Chance) -> Iterator[str]:
    one = chance.character(named=0.2)
    two = chance.character([one], named=0.2)
    things = chance.several(("wood", "stones", "a rope", "a ladder"), 2)
    thing, short, ends = chance.pick(WORKS)
    yield f"{one.called} and {two.called} were {chance.pick(('friends', 'good friends'))}"
    if chance.likely(0.5):
        yield f"They lived {chance.pick(ANY_HOMES)}"
    yield f"{chance.pick(TIMES)}, they wanted to build {thing}"
    yield f"{one.called} brought {things[0]}, and {two.called} brought {things[1]}"
    yield f"They worked {chance.pick(('all day', 'until the sun went down'))}"
    yield f'{two.called} said, "I am tired, {one.addressed}."'
    yield f'{one.called} said, "Do not stop now! {chance.pick(("We will have it soon", "It will be beautiful"))}."'
    yield f"At last, they had a {chance.pick(('beautiful', 'strong', 'big'))} {short}, and they {ends}"


FAST = ("rabbit", "horse", "fox", "dog", "wolf")
SLOW = ("turtle", "duck", "pig", "hen", "frog")

PLOTS: tuple[Callable[[Chance], Iterator[str]], ...] = (
    *(lost, hungry, storm, counting, journey, noise, birthday, rescue, wish, garden, race, lesson, net, together),
)
