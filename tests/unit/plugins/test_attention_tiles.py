import pytest

from swiftdiffusion_operators.kernels.attention_tiles import (
    GROUPS,
    HEAD_BITS,
    START_BITS,
    UNITS_BITS,
    Tile,
    can_name,
    deal_tiles,
    write_table,
)

PROGRAMS = 132  # of an H200


@pytest.mark.parametrize(
    "samples, heads, units", [(2, 20, 16), (2, 10, 64), (1, 3, 7), (1, 1, 1), (3, 10, 5), (2, 20, 2)]
)
def test_every_unit_is_one_programs(samples, heads, units):
    tiles = [tile for tiles in deal_tiles(samples, heads, units, PROGRAMS) for tile in tiles]
    assert all(1 <= tile.units <= GROUPS for tile in tiles)
    dealt = [(tile.sample, tile.head, tile.start + unit) for tile in tiles for unit in range(tile.units)]
    assert sorted(dealt) == [(s, h, u) for s in range(samples) for h in range(heads) for u in range(units)]


@pytest.mark.parametrize("samples, heads, units", [(2, 20, 16), (2, 10, 64), (2, 20, 63), (1, 10, 64), (4, 20, 16)])
def test_no_program_has_more_than_its_share_rounded_up(samples, heads, units):
    dealt = deal_tiles(samples, heads, units, PROGRAMS)
    assert max(sum(tile.units for tile in tiles) for tiles in dealt) == -(-samples * heads * units // PROGRAMS)


def test_fewer_tiles_than_programs_leave_no_program_without():
    assert [len(tiles) for tiles in deal_tiles(1, 2, 4, PROGRAMS)] == [1] * 4


def test_a_table_names_every_tile():
    dealt = deal_tiles(2, 5, 7, PROGRAMS)
    table = write_table(dealt)
    for program, tiles in enumerate(dealt):
        assert [name(word) for word in table[table[program] : table[program + 1]]] == tiles
    assert len(table) == table[len(dealt)] + 1, "one may be read ahead"


def test_the_largest_tile_has_a_number_that_fits():
    samples, heads, units = 1 << 11, 1 << 8, 1 << 10
    last = Tile(units - 1, GROUPS, heads - 1, samples - 1)
    assert can_name(samples, heads, units) and name(last.pack()) == last and last.pack() < 1 << 31
    for larger in ((samples + 1, heads, units), (samples, heads + 1, units), (samples, heads, units + 1)):
        assert not can_name(*larger)


def name(word):
    fields = []
    for bits in (START_BITS, UNITS_BITS, HEAD_BITS):
        fields.append(word & (1 << bits) - 1)
        word >>= bits
    start, units, head = fields
    return Tile(start, units, head, word)
