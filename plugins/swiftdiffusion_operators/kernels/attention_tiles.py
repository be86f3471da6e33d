"""Which queries each program of self-attention takes: tiles of one to three units of 64, as even as they can be.

Fixed tiles of three units would leave a GPU waiting for its last multiprocessors: 1,024 queries of 40 heads on 132
multiprocessors are 6 units for some and 3 for others, and cut by this plan 5 for most and never more.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

UNIT = 64  # queries, the rows of one product of a group of warps
GROUPS = 3  # of warps in a program: units that it works on at a time
# how a tile is one number: start, units, head and sample, from the lowest bit
START_BITS, UNITS_BITS, HEAD_BITS, SAMPLE_BITS = 10, 2, 8, 11


class Tile(NamedTuple):
    """Queries from 64 `start` on, of one head of one sample; at most GROUPS units."""

    start: int
    units: int
    head: int
    sample: int

    def pack(self) -> int:
        """As one number of 31 bits."""
        above_units = START_BITS + UNITS_BITS
        return self.start | self.units << START_BITS | self.head << above_units | self.sample << above_units + HEAD_BITS


def can_name(samples: int, heads: int, units: int) -> bool:
    """Whether every tile of so many is a number."""
    return samples <= 1 << SAMPLE_BITS and heads <= 1 << HEAD_BITS and units <= 1 << START_BITS


def write_table(dealt: list[list[Tile]]) -> list[int]:
    """Where each program's tiles begin, and where the last one's end; the tiles; and one number to read ahead to."""
    places = [len(dealt) + 1]
    for tiles in dealt:
        places.append(places[-1] + len(tiles))
    return [*places, *(tile.pack() for tiles in dealt for tile in tiles), 0]


def deal_tiles(samples: int, heads: int, units: int, programs: int) -> list[list[Tile]]:
    """Cut each head's `units` into tiles and deal them to at most `programs` programs, the widest first."""
    tiles = []
    share = _count_wide(-(-samples * heads * units // programs)) * programs / (samples * heads)
    owed = 0.0  # of wide tiles, to the heads so far: so that all together have as many as the programs' pattern wants
    for sample in range(samples):
        for head in range(heads):
            owed += share
            widths = _cut(units, round(owed))
            owed -= widths.count(GROUPS)
            starts = [sum(widths[:at]) for at in range(len(widths))]
            tiles += [Tile(start, width, head, sample) for start, width in zip(starts, widths, strict=True)]
    dealt: list[list[Tile]] = [[] for _ in range(min(programs, len(tiles)))]
    loads = [(0, number) for number in range(len(dealt))]
    for tile in sorted(tiles, key=lambda tile: -tile.units):  # stable: neighbours, who share keys, stay together
        load, number = heapq.heappop(loads)
        dealt[number].append(tile)
        heapq.heappush(loads, (load + tile.units, number))
    return dealt


def _count_wide(units: int) -> int:
    """How many tiles of three there are in a program's `units`, where the others are of two."""
    return units // GROUPS - (units % GROUPS == 1 and units > 1)


def _cut(units: int, wide: int) -> list[int]:
    """Widths of tiles: about `wide` of three, and of two; a single one where neither will do."""
    wide = max(0, min(wide, units // GROUPS))
    if (units - GROUPS * wide) % 2 and units >= GROUPS:
        wide += 1 if GROUPS * (wide + 1) <= units else -1
    rest = units - GROUPS * wide
    return [GROUPS] * wide + [2] * (rest // 2) + [1] * (rest % 2)
