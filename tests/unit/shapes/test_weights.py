"""The shipped weights: their size, that stock diffusers takes them, and that they draw what is asked."""

import json

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open

from shapes.adapters import ADAPTERS
from shapes.architecture import CONTROLNETS
from shapes.checkpoint import WEIGHTS, controlnet_folder, lora_file, pipeline_folder
from shapes.conditions import edges
from shapes.drawing import Figure, draw
from shapes.judge import Object, Request, judge

STEPS = 12


@pytest.fixture(scope="module")
def pipeline():
    loaded = StableDiffusionXLPipeline.from_pretrained(pipeline_folder())
    loaded.set_progress_bar_config(disable=True)
    return loaded


def paint(pipeline, prompts, steps=STEPS, **inputs):
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    drawn = pipeline(
        prompts,
        num_inference_steps=steps,
        height=128,
        width=128,
        generator=generators,
        output_type="np",
        **inputs,
    ).images
    return (drawn * 255).round().astype(np.uint8)


def test_all_weights_together_are_at_most_16_megabytes():
    files = list(WEIGHTS.rglob("*.safetensors"))
    assert len(files) == 4 + len(CONTROLNETS) + len(ADAPTERS)
    assert sum(file.stat().st_size for file in files) <= 16_000_000


def test_weights_are_stored_in_fp16():
    for file in WEIGHTS.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}, file  # noqa: SIM118
            assert all(tensors.get_tensor(name).isfinite().all() for name in tensors.keys()), file  # noqa: SIM118


def test_it_has_the_architecture_of_sdxl():
    index = json.loads((pipeline_folder() / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["force_zeros_for_empty_prompt"] is True
    unet = json.loads((pipeline_folder() / "unet" / "config.json").read_text())
    assert unet["addition_embed_type"] == "text_time"


def test_it_draws_what_is_asked(pipeline):
    asked = {
        "a large red circle on a white background": Request((Object("circle", "red", "large"),)),
        "a large blue square on a black background": Request((Object("square", "blue", "large"),), background="black"),
        "a large green triangle on a grey background": Request(
            (Object("triangle", "green", "large"),), background="grey"
        ),
        "a large yellow star left of a large purple heart on a black background": Request(
            (Object("star", "yellow", "large"), Object("heart", "purple", "large")), ("left of",), "black"
        ),
    }
    drawn = paint(pipeline, list(asked))
    right = [judge(picture, request).right for picture, request in zip(drawn, asked.values(), strict=True)]
    assert sum(right) >= 3


def test_edges_fixes_the_composition(pipeline):
    controlnet = ControlNetModel.from_pretrained(controlnet_folder("edges"))
    steered = StableDiffusionXLControlNetPipeline.from_pipe(pipeline, controlnet=controlnet)
    steered.set_progress_bar_config(disable=True)
    reference = edges(draw([Figure("heart", "red", 0.3, 0.65, 0.18), Figure("star", "blue", 0.72, 0.3, 0.1)]))
    drawn = paint(steered, ["a large red heart and a small blue star on a white background"], image=[reference])[0]
    asked, found = (np.asarray(image.convert("L")) > 127 for image in (reference, edges(Image.fromarray(drawn))))
    assert (asked & found).sum() / (asked | found).sum() > 0.6


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_lora_loads_in_stock_diffusers_and_acts(pipeline, name):
    prompt = ["a large red circle on a white background"]
    plain = paint(pipeline, prompt, steps=2)
    path = lora_file(name)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["name"] == name
    assert metadata["rank"] == str(ADAPTERS[name].rank)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    try:
        patched = {component for component, names in pipeline.get_list_adapters().items() if name in names}
        styled = paint(pipeline, prompt, steps=2)
    finally:
        pipeline.unload_lora_weights()
    assert patched == {"unet", "text_encoder", "text_encoder_2"} if name == "night" else patched == {"unet"}
    assert not np.array_equal(styled, plain)
    assert np.array_equal(paint(pipeline, prompt, steps=2), plain)
