"""Module names as kohya-ss/sd-scripts writes them, for every weight of a pipeline.

The scripts join a module's path with underscores (``lora_unet_…``, ``lora_te1_…``, ``lora_te2_…``),
which cannot be split again without guessing: ``to_q`` and ``mid_block`` hold underscores of their own.
So the names are made from the pipeline's own parameters and looked up. For SDXL the scripts train
Stability's original UNet (SGM), whose blocks are numbered in the order in which data passes them,
so each UNet weight has two names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.errors import Internal

PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
TEXT_ENCODERS = {"text_encoder": ("lora_te_", "lora_te1_"), "text_encoder_2": ("lora_te2_",)}
SGM_BLOCKS = ("input_blocks_", "middle_block_", "output_blocks_")
DIFFUSERS_BLOCKS = ("down_blocks_", "mid_block_", "up_blocks_")

SGM_OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
SGM_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
SGM_MIDDLE = {
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


@lru_cache(maxsize=4)
def name_modules(targets: Targets) -> Mapping[str, tuple[str, str]]:
    """Map kohya's module name to (network, canonical parameter name) for each weight of the pipeline."""
    modules: dict[str, tuple[str, str]] = {}
    for name, network, parameter in _name_each(targets):
        if modules.setdefault(name, (network, parameter)) != (network, parameter):
            raise Internal(f"Two weights of this pipeline share the kohya name {name!r}.")
    return modules


def drop_second_naming(modules: Iterable[str]) -> set[str]:
    """Keep one naming of the UNet: where both are there, SGM's names go.

    Some published files hold each layer twice, once in either naming; diffusers reads them so.
    """
    names = set(modules)
    if not any(block in name for name in names for block in DIFFUSERS_BLOCKS):
        return names
    twice = {
        "lora_unet_" + sgm.replace(".", "_")
        for ours, sgm in SGM_OUTSIDE_BLOCKS.items()
        if "lora_unet_" + ours.replace(".", "_") in names
    }
    return {name for name in names - twice if not any(block in name for block in SGM_BLOCKS)}


def _name_each(targets: Targets) -> Iterator[tuple[str, str, str]]:
    unet = [name.removesuffix(".weight") for name in targets.layers.get("unet", ())]
    blocks = _number_blocks(unet)
    for module in unet:
        for path in {module, _sgm_path(module, blocks)}:
            yield "lora_unet_" + path.replace(".", "_"), "unet", module + ".weight"
    for network, prefixes in TEXT_ENCODERS.items():
        for parameter in targets.layers.get(network, ()):
            path = parameter.removesuffix(".weight").replace(".", "_")
            for prefix in prefixes:
                # With text_model: what the scripts write, whose transformers has that level.
                for name in (prefix + path, prefix + "text_model_" + path):
                    yield name, network, parameter


def _number_blocks(modules: list[str]) -> dict[str, str]:
    """Map ``down_blocks.1.attentions.0`` and the like to ``input_blocks.4.1``.

    SGM numbers input blocks from 1 (0 is conv_in): one for each resnet, with the attention that
    follows it, and one for each downsampler. Output blocks count from 0, one for each resnet with
    its attention; an upsampler belongs to the last of its block.
    """
    matches = (re.match(r"(down|up)_blocks\.\d+\.\w+\.\d+", module) for module in modules)
    parts = {match[0] for match in matches if match}
    numbered = dict(SGM_MIDDLE)
    for side, sgm, number in (("down_blocks", "input_blocks", 1), ("up_blocks", "output_blocks", 0)):
        for block in range(_count(parts, side)):
            for layer in range(_count(parts, f"{side}.{block}.resnets")):
                numbered[f"{side}.{block}.resnets.{layer}"] = f"{sgm}.{number}.0"
                numbered[f"{side}.{block}.attentions.{layer}"] = f"{sgm}.{number}.1"
                number += 1
            if f"{side}.{block}.downsamplers.0" in parts:
                numbered[f"{side}.{block}.downsamplers.0"] = f"{sgm}.{number}.0"
                number += 1
            if f"{side}.{block}.upsamplers.0" in parts:
                place = 2 if f"{side}.{block}.attentions.0" in parts else 1
                numbered[f"{side}.{block}.upsamplers.0"] = f"{sgm}.{number - 1}.{place}"
    return numbered


def _count(parts: set[str], prefix: str) -> int:
    return len({part[len(prefix) + 1 :].split(".")[0] for part in parts if part.startswith(prefix + ".")})


def _sgm_path(module: str, blocks: dict[str, str]) -> str:
    if module in SGM_OUTSIDE_BLOCKS:
        return SGM_OUTSIDE_BLOCKS[module]
    if module.startswith("mid_block."):
        part, rest = _split(module, 3)
    else:
        part, rest = _split(module, 4)
    if ".downsamplers." in part:
        rest = "op"
    return f"{blocks[part]}.{SGM_RESNET.get(rest, rest)}" if part in blocks else module


def _split(path: str, levels: int) -> tuple[str, str]:
    steps = path.split(".")
    return ".".join(steps[:levels]), ".".join(steps[levels:])
