"""Which captures an engine keeps, and what inputs they take; making and replaying them needs a GPU."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten

from swiftdiffusion.engines.capture import Capture, flatten
from swiftdiffusion.engines.captures import Captures


@dataclass
class Numbered:
    """Stands for a capture that takes one input: its number."""

    number: int

    def takes(self, inputs):
        return inputs == [self.number]


def borrow(captures, number, make=Numbered):
    return captures.borrow([number], lambda: make(number))


def made_anew(number):
    raise AssertionError(f"{number} was not kept")


def test_the_least_recently_used_that_is_free_goes_first():
    captures = Captures(2)
    for number in (1, 2, 1, 3):
        captures.give_back(borrow(captures, number))
    captures.give_back(borrow(captures, 1, made_anew))
    with pytest.raises(AssertionError, match="2 was not kept"):
        borrow(captures, 2, made_anew)


def test_what_is_lent_stays_and_is_nobody_elses():
    captures = Captures(1)
    first = borrow(captures, 1)
    second = borrow(captures, 1)
    assert second is not first
    captures.give_back(first)
    captures.give_back(second)
    assert borrow(captures, 1, made_anew) is second


@dataclass
class Maker:
    """Makes one when it may, and tells when it has begun."""

    begun: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def __call__(self, number):
        self.begun.set()
        assert self.may_end.wait(10)
        return Numbered(number)


def test_nobody_waits_for_what_is_made_for_another():
    captures, maker = Captures(3), Maker()
    with ThreadPoolExecutor(2) as threads:
        captures.give_back(borrow(captures, 1))
        lent = borrow(captures, 2)
        making = threads.submit(borrow, captures, 3, maker)
        try:
            assert maker.begun.wait(10)
            other = threads.submit(borrow, captures, 1, made_anew).result(10)
            for capture in (other, lent):
                threads.submit(captures.give_back, capture).result(10)
            assert not making.done()
        finally:
            maker.may_end.set()
        assert making.result(10) == Numbered(3)


def test_what_is_given_back_while_another_is_made_is_not_made_again():
    captures, maker = Captures(2), Maker()
    with ThreadPoolExecutor(2) as threads:
        lent = borrow(captures, 1)
        making = threads.submit(borrow, captures, 2, maker)
        try:
            assert maker.begun.wait(10)
            same = threads.submit(borrow, captures, 1, made_anew)
            captures.give_back(lent)
        finally:
            maker.may_end.set()
        assert same.result(10) is lent
        assert making.result(10) == Numbered(2)


def test_what_is_made_has_its_place_and_leaves_it_where_it_fails():
    captures, maker = Captures(2), Maker()
    with ThreadPoolExecutor(1) as threads:
        lent = [borrow(captures, number) for number in (1, 2)]
        making = threads.submit(borrow, captures, 3, maker)
        try:
            assert maker.begun.wait(10)
            captures.give_back(lent[0])  # for which there is no place beside the other two
            assert len(captures._kept) == 2
        finally:
            maker.may_end.set()
        captures.give_back(making.result(10))
    with pytest.raises(AssertionError, match="1 was not kept"):
        borrow(captures, 1, made_anew)
    assert len(captures._kept) == 1  # it had made room


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([torch.ones(2, 3), None, 4], True),
        ([torch.ones(2, 3), None, 5], False),
        ([torch.ones(3, 2), None, 4], False),
        ([torch.ones(2, 3).half(), None, 4], False),
        ([torch.ones(2, 3), torch.ones(1), 4], False),
        ([None, None, 4], False),
        ([torch.ones(2, 3), None], False),
    ],
)
def test_a_capture_takes_inputs_shaped_as_its_own(given, taken):
    capture = object.__new__(Capture)
    capture._inputs = [torch.zeros(2, 3), None, 4]
    assert capture.takes(given) is taken


def test_inputs_are_flattened_in_torchs_order():
    inputs: tuple[Any, ...] = (1, [2, (3, None)], [], ((4,),), 5)
    assert flatten(inputs) == tree_flatten(inputs)[0] == [1, 2, 3, None, 4, 5]
