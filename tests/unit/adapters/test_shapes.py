"""The LoRAs of the reference checkpoint, weight for weight against stock diffusers."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import NETWORKS, Targets

from .reference import build_engines, state

SHAPES = Path(__file__).parents[3] / "build" / "shapes" / "weights"

pytestmark = pytest.mark.skipif(not SHAPES.is_dir(), reason="this checkout has no trained weights")


def fuse_with_diffusers(pipeline: Any, names: list[str], scales: list[float]) -> Any:
    pipeline = copy.deepcopy(pipeline)
    for name in names:
        pipeline.load_lora_weights(SHAPES / "loras", weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(names, scales)
    pipeline.fuse_lora(components=list(NETWORKS))
    pipeline.unload_lora_weights()
    return pipeline


def test_each_and_all_together() -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(SHAPES / "pipeline", torch_dtype=torch.float32)
    store = FolderStore(SHAPES / "loras")
    loader = LoraLoader(store, Targets.read(SHAPES / "pipeline"), NETWORKS)
    patched = copy.deepcopy(pipeline)
    patcher = Patcher(build_engines(patched))
    names = store.names()
    assert len(names) >= 4
    for chosen, scales in [*(([name], [0.9]) for name in names), (names, [1.0, -0.5, 0.3, 0.2])]:
        patcher.apply(loader.begin([store.find(name) for name in chosen], scales).wait(10))
        reference = fuse_with_diffusers(pipeline, chosen, scales)
        for network in NETWORKS:
            expected = dict(getattr(reference, network).named_parameters())
            for name, parameter in getattr(patched, network).named_parameters():
                torch.testing.assert_close(parameter, expected[name], atol=1e-6, rtol=1e-6)
    patcher.restore()
    assert state(patched) == state(pipeline)
    loader.close()
