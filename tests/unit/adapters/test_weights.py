"""A LoRA in memory, and on further devices."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.weights import LoraWeights

from .conftest import MakeLoader
from .lora_files import EVERYTHING, peft, write

ELSEWHERE = torch.device("cpu:0")  # for torch another one than "cpu"


@pytest.fixture
def weights(tmp_path: Path, pipeline: Any, make_loader: MakeLoader) -> LoraWeights:
    write(tmp_path / "a.safetensors", peft(pipeline))
    return make_loader().load("a").result(10)


def test_a_copy_elsewhere_has_all_factors_in_one_block(weights: LoraWeights) -> None:
    copy = weights.on(ELSEWHERE)
    assert torch.equal(copy.block.memory, weights.block.memory)
    storage = copy.block.memory.untyped_storage().data_ptr()
    assert storage != weights.block.memory.untyped_storage().data_ptr()
    for network, modules in EVERYTHING.items():
        assert len(copy.networks[network]) == len(modules)
        for parameter, factors in copy.networks[network].items():
            here = weights.networks[network][parameter]
            assert factors.strength == here.strength
            for ours, theirs in ((factors.down, here.down), (factors.up, here.up)):
                assert ours is not None and theirs is not None
                assert torch.equal(ours, theirs)
                assert ours.untyped_storage().data_ptr() == storage


def test_it_is_copied_once_and_not_where_it_is(weights: LoraWeights) -> None:
    assert weights.on(torch.device("cpu")) is weights
    assert weights.on(ELSEWHERE) is weights.on(ELSEWHERE)
    assert weights.on(torch.device("meta")).block.memory.is_meta


def test_a_copy_goes_with_the_lora(weights: LoraWeights) -> None:
    weights.on(ELSEWHERE)
    loaded_again = replace(weights)
    copy = weakref.ref(loaded_again.on(ELSEWHERE))
    assert copy() not in (None, weights.on(ELSEWHERE))
    gc.disable()
    try:
        del loaded_again
        assert copy() is None, "it waits for a collection"
    finally:
        gc.enable()


def test_what_the_host_cache_counts_is_the_lora_alone(weights: LoraWeights) -> None:
    before = weights.nbytes
    weights.on(ELSEWHERE)
    assert weights.nbytes == before
