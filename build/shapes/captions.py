"""What people write to ask for a scene: English sentences with some things left unsaid."""

import random

from shapes.geometry import BACKGROUNDS, COLOURS, SHAPES, SIZES
from shapes.world import RELATIONS, Scenes

_OPENINGS = ("a picture of", "a drawing of", "an image of", "a painting of")
_WORDINGS = {
    "left of": ("to the left of", "on the left of"),
    "right of": ("to the right of", "on the right of"),
    "above": ("over",),
    "below": ("under",),
}
_OMIT_SIZE = 0.2
_OMIT_WHITE = 0.5
_OPENING = 0.1
_REWORD = 0.15


def full_captions(scenes: Scenes) -> list[str]:
    """One caption a scene that says everything, always in the same words."""
    return [_caption(scene, None) for scene in records(scenes)]


def varied_captions(scenes: Scenes, seed: int) -> list[str]:
    """One caption a scene, at random without a size, without the (then white) background or in other words."""
    randomness = random.Random(seed)
    return [_caption(scene, randomness) for scene in records(scenes)]


def short_captions(scenes: Scenes, seed: int) -> list[str]:
    """Captions that say what is there but not where; a quarter of them says nothing but "a picture"."""
    randomness = random.Random(seed)
    captions = []
    for _, objects, _, _ in records(scenes):
        names = [_name(colour, shape) for _, colour, shape in objects]
        randomness.shuffle(names)
        captions.append("a picture" if randomness.random() < 0.25 else _enumerate(names))
    return captions


Record = tuple[int, list[tuple[str, str, str]], list[str], str]
"""Count, (size, colour, shape) of each object, relations of the first to each other one, background."""


def records(scenes: Scenes) -> list[Record]:
    """The scenes in words, where they say the same as their ids."""
    sizes, colours, backgrounds = tuple(SIZES), tuple(COLOURS), tuple(BACKGROUNDS)
    columns = (scenes.count, scenes.size, scenes.colour, scenes.shape, scenes.relation, scenes.background)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (
            count,
            [(sizes[size[i]], colours[colour[i]], SHAPES[shape[i]]) for i in range(count)],
            [RELATIONS[relation[i]] for i in range(count - 1)],
            backgrounds[background],
        )
        for count, size, colour, shape, relation, background in rows
    ]


def _caption(scene: Record, randomness: random.Random | None) -> str:
    """Without `randomness`, all that there is to say."""
    count, objects, relations, background = scene

    def chance(probability: float) -> bool:
        return randomness is not None and randomness.random() < probability

    names = [_name(*thing[1:]) if chance(_OMIT_SIZE) else _name(*thing) for thing in objects]
    if count == 1 or relations[0] == "and":
        text = _enumerate(names)
    else:
        text = names[0]
        for index, (relation, name) in enumerate(zip(relations, names[1:], strict=True)):
            if randomness is not None and chance(_REWORD):
                relation = randomness.choice(_WORDINGS[relation])
            text += f"{' and' if index else ''} {relation} {name}"
    if not (background == "white" and chance(_OMIT_WHITE)):
        text += f" on a {background} background"
    if randomness is not None and chance(_OPENING):
        text = f"{randomness.choice(_OPENINGS)} {text}"
    return text


def _name(*words: str) -> str:
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _enumerate(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
