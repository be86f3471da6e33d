from dataclasses import dataclass

from swiftdiffusion.adapters.cache import ByteBoundedCache


@dataclass
class Item:
    nbytes: int


def test_drops_what_was_used_longest_ago() -> None:
    cache: ByteBoundedCache[str, Item] = ByteBoundedCache(30)
    for key in "abc":
        cache.put(key, Item(10))
    assert cache.get("a") is not None
    cache.put("d", Item(15))
    assert [key for key in "abcd" if cache.get(key)] == ["a", "d"]
    assert cache.nbytes == 25


def test_is_never_over_its_limit() -> None:
    cache: ByteBoundedCache[int, Item] = ByteBoundedCache(100)
    for number in range(1000):
        cache.put(number % 17, Item(number % 120))
        assert cache.nbytes <= 100


def test_what_is_too_large_is_not_kept_and_costs_the_others_nothing() -> None:
    cache: ByteBoundedCache[str, Item] = ByteBoundedCache(10)
    cache.put("small", Item(5))
    cache.put("large", Item(11))
    assert cache.get("large") is None
    assert cache.get("small") is not None


def test_a_new_value_replaces_the_old_size() -> None:
    cache: ByteBoundedCache[str, Item] = ByteBoundedCache(10)
    cache.put("a", Item(9))
    cache.put("a", Item(3))
    assert cache.nbytes == 3
