"""Which captures an engine keeps, and what inputs they take; making and replaying them needs a GPU."""

from dataclasses import dataclass
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
