"""The four style LoRAs: what each one patches, and the two file formats that they are stored in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn

ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0")
CONVOLUTIONS = (".conv1", ".conv2")
TEXT_ATTENTION = (".q_proj", ".k_proj", ".v_proj", ".out_proj")

Matrices = dict[str, tuple[Tensor, Tensor]]
"""A and B of each patched module, under the module's name, its component (`unet`, …) first."""


@dataclass(frozen=True)
class Adapter:
    """One LoRA: patches are alpha / rank · B A, on UNet modules below `blocks` whose names end in `layers`.

    After training B is multiplied by `gain`, above 1 where the style else comes out too weak.
    """

    name: str
    style: str
    rank: int
    alpha: int
    layers: tuple[str, ...]
    blocks: tuple[str, ...] = ("",)
    text_encoders: bool = False
    gain: float = 1.0
    naming: Literal["peft", "kohya"] = "peft"

    def targets(self, component: str, module: nn.Module) -> list[str]:
        """Names of `module`'s submodules that this LoRA patches; `component` as in the pipeline."""
        if component == "unet":
            layers, blocks = self.layers, self.blocks
        else:
            layers, blocks = (TEXT_ATTENTION if self.text_encoders else ()), ("",)
        return [name for name, _ in module.named_modules() if name.endswith(layers) and name.startswith(blocks)]


ADAPTERS = {
    adapter.name: adapter
    for adapter in (
        Adapter(
            "outline",
            "only strokes along the shapes' borders",
            16,
            16,
            (*ATTENTION, *CONVOLUTIONS),
            ("up_blocks.1", "up_blocks.2"),
            gain=1.2,
        ),
        Adapter("pixelated", "square blocks of 8 pixels", 4, 4, (*ATTENTION, *CONVOLUTIONS)),
        Adapter("night", "night colours", 8, 8, (*ATTENTION, *CONVOLUTIONS), ("up_blocks",), text_encoders=True),
        Adapter(
            "hatching",
            "shapes filled by diagonal strokes",
            32,
            16,
            CONVOLUTIONS,
            ("up_blocks.2",),
            gain=1.2,
            naming="kohya",
        ),
    )
}


def patched_components(adapter: Adapter, pipeline: StableDiffusionXLPipeline) -> Iterator[tuple[str, nn.Module]]:
    """The pipeline's networks that `adapter` patches, by their names in the pipeline."""
    for component in ("unet", "text_encoder", "text_encoder_2"):
        module = getattr(pipeline, component)
        if adapter.targets(component, module):
            yield component, module


def attach(adapter: Adapter, pipeline: StableDiffusionXLPipeline) -> list[nn.Parameter]:
    """Put the LoRA's layers, acting as nothing yet (B = 0), into the pipeline; returns their fp32 parameters."""
    parameters = []
    for component, module in patched_components(adapter, pipeline):
        module.requires_grad_(False)
        config = LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=adapter.targets(component, module))
        module.add_adapter(config, adapter_name=adapter.name)  # type: ignore[operator]
        parameters += [p for name, p in module.named_parameters() if ".lora_" in name]
    return parameters


def matrices(adapter: Adapter, pipeline: StableDiffusionXLPipeline) -> Matrices:
    """The attached LoRA's matrices, its gain in B; of convolutions [r, in, h, w] and [out, r, 1, 1]."""
    result = {}
    for component, module in patched_components(adapter, pipeline):
        for name in adapter.targets(component, module):
            layer = module.get_submodule(name)
            a, b = (getattr(layer, part)[adapter.name].weight.detach().clone() for part in ("lora_A", "lora_B"))
            result[f"{component}.{name}"] = (a, adapter.gain * b)
    return result


def save(adapter: Adapter, pairs: Matrices, path: Path) -> None:
    """Write an fp16 safetensors file as `load_lora_weights` reads it.

    PEFT's naming is diffusers' own (`unet.….lora_A.weight`), where alpha equals the rank; kohya's is that of
    https://github.com/kohya-ss/sd-scripts (`lora_unet_…`, `lora_te1_…`, an `alpha` for each module).
    """
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        component, module = name.split(".", 1)
        if component == "text_encoder" and not module.startswith("text_model."):
            module = f"text_model.{module}"  # files keep the name from before transformers flattened the class
        if adapter.naming == "kohya":
            prefix = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[component]
            key = f"{prefix}_{module.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b}
            tensors[f"{key}.alpha"] = torch.tensor(float(adapter.alpha))
        else:
            tensors |= {f"{component}.{module}.lora_A.weight": a, f"{component}.{module}.lora_B.weight": b}
    metadata = {
        "name": adapter.name,
        "base_model": "shapes",
        "description": adapter.style,
        "trigger": "none: it acts on every prompt",
        "rank": str(adapter.rank),
        "alpha": str(adapter.alpha),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {key: tensor.to("cpu", torch.float16).contiguous() for key, tensor in tensors.items()}
    save_file(half, path, metadata={**metadata, "format": "pt"})
