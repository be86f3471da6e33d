"""Scenes of one to three coloured shapes in relations, drawn at random many at a time."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from shapes.geometry import BACKGROUNDS, COLOURS, SHAPES, SIZES

MAX_OBJECTS = 3
RELATIONS = ("and", "left of", "right of", "above", "below")
"""What the first object is to another one; "and" says nothing of where they are."""

_GAP = 5 / 128  # between two shapes' circles, so that they never touch
_MARGIN = 3 / 128  # between a shape's circle and the canvas's border
_DOMINANCE = 1.3  # "left of" means that the horizontal distance is this many times the vertical one
_COUNTS = (0.3, 0.45, 0.25)  # of one, two and three objects
_NO_RELATION = 0.2
_HELD_OUT = 0.2
_PROPOSALS = 400


@dataclass(frozen=True)
class Scenes:
    """A batch of n scenes; ids are places in geometry's tables and in `RELATIONS`, lengths fractions of the canvas.

    Unused object slots hold valid values that mean nothing.
    """

    count: Tensor  # [n] int64, 1 to 3
    shape: Tensor  # [n, 3] int64
    colour: Tensor  # [n, 3] int64
    size: Tensor  # [n, 3] int64
    background: Tensor  # [n] int64
    relation: Tensor  # [n, 2] int64, of object 0 to object 1 and to object 2
    centre: Tensor  # [n, 3, 2] float32, x and y
    radius: Tensor  # [n, 3] float32

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, index: Tensor | slice) -> "Scenes":
        return Scenes(**{field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)})

    def to(self, device: torch.device | str) -> "Scenes":
        """The same scenes on another device."""
        return Scenes(**{field.name: getattr(self, field.name).to(device) for field in dataclasses.fields(self)})

    @property
    def present(self) -> Tensor:
        """[n, 3] bool: which object slots are used."""
        slots = torch.arange(MAX_OBJECTS, device=self.count.device)
        return slots < self.count[:, None]


def sample_scenes(n: int, seed: int, device: torch.device | str = "cpu", held_out: bool = False) -> Scenes:
    """About `n` scenes (at most), the same for the same seed and kind of device.

    Either only combinations that training never sees (`held_out`), or only the others.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator, device=device)

    drawn = round(n * (6 if held_out else 1.4))
    size = integers(2, drawn, MAX_OBJECTS)
    bounds = torch.tensor(list(SIZES.values()), device=device)[size]
    spread = torch.rand(drawn, MAX_OBJECTS, generator=generator, device=device)
    weights = torch.tensor(_COUNTS, device=device).expand(drawn, -1)
    relation = 1 + integers(len(RELATIONS) - 1, drawn, 2)
    unrelated = torch.rand(drawn, 1, generator=generator, device=device) < _NO_RELATION
    scenes = Scenes(
        count=1 + torch.multinomial(weights, 1, generator=generator).squeeze(1),
        shape=integers(len(SHAPES), drawn, MAX_OBJECTS),
        colour=integers(len(COLOURS), drawn, MAX_OBJECTS),
        size=size,
        background=integers(len(BACKGROUNDS), drawn),
        relation=torch.where(unrelated, 0, relation),
        centre=torch.zeros(drawn, MAX_OBJECTS, 2, device=device),
        radius=bounds[..., 0] + spread * (bounds[..., 1] - bounds[..., 0]),
    )
    return _place(scenes[is_held_out(scenes) == held_out], generator)[:n]


def is_held_out(scenes: Scenes) -> Tensor:
    """[n] bool: a fifth of all combinations of count, objects, background and relations, chosen by a hash."""
    present = scenes.present
    related = present[:, 1:]
    parts = [scenes.count, scenes.background]
    for slot in range(MAX_OBJECTS):
        parts += [(part[:, slot] + 1) * present[:, slot] for part in (scenes.shape, scenes.colour, scenes.size)]
    parts += [(scenes.relation[:, pair] + 1) * related[:, pair] for pair in range(MAX_OBJECTS - 1)]
    value = torch.zeros_like(scenes.count)
    for part in parts:
        value = ((value * 31 + part + 7) * 2654435761) % 2147483647
        value = value ^ (value >> 13)
    return value % 1000 < 1000 * _HELD_OUT


def _place(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Centres by rejection sampling; scenes for which none was found are left out."""
    centre = scenes.centre.clone()
    device = centre.device
    waiting = torch.arange(len(scenes), device=device)
    for _ in range(_PROPOSALS):
        if len(waiting) == 0:
            break
        subset = scenes[waiting]
        reach = (subset.radius + _MARGIN)[..., None]
        uniform = torch.rand(len(waiting), MAX_OBJECTS, 2, generator=generator, device=device)
        proposal = reach + uniform * (1 - 2 * reach)
        good = _valid(subset, proposal)
        centre[waiting[good]] = proposal[good]
        waiting = waiting[~good]
    placed = torch.ones(len(scenes), dtype=torch.bool, device=device)
    placed[waiting] = False
    return dataclasses.replace(scenes, centre=centre)[placed]


def _valid(scenes: Scenes, centre: Tensor) -> Tensor:
    valid = torch.ones(len(scenes), dtype=torch.bool, device=centre.device)
    present = scenes.present
    for a, b in ((0, 1), (0, 2), (1, 2)):
        distance = (centre[:, a] - centre[:, b]).norm(dim=1)
        apart = distance > scenes.radius[:, a] + scenes.radius[:, b] + _GAP
        valid &= apart | ~present[:, b]
    for other in (1, 2):
        holds = relation_holds(scenes.relation[:, other - 1], centre[:, 0], centre[:, other])
        valid &= holds | ~present[:, other]
    return valid


def relation_holds(relation: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """[n] bool: whether centres `first` [n, 2] are to `second` [n, 2] what `relation` [n] says."""
    dx, dy = (second - first).unbind(dim=1)
    horizontal, vertical = dx.abs() > _DOMINANCE * dy.abs(), dy.abs() > _DOMINANCE * dx.abs()
    ways = torch.stack(
        [
            torch.ones_like(horizontal),
            horizontal & (dx > 0),
            horizontal & (dx < 0),
            vertical & (dy > 0),
            vertical & (dy < 0),
        ]
    )
    return ways.gather(0, relation[None])[0]
