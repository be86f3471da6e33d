"""Where the checkpoint's files lie, and how they are written: fp16 on disk, whatever they are used in."""

import copy
import json
from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline

WEIGHTS = Path(__file__).parent / "weights"


def pipeline_folder(root: Path = WEIGHTS) -> Path:
    """The diffusers folder of the base model."""
    return root / "pipeline"


def controlnet_folder(name: str, root: Path = WEIGHTS) -> Path:
    """The diffusers folder of one ControlNet."""
    return root / "controlnets" / name


def lora_file(name: str, root: Path = WEIGHTS) -> Path:
    """The safetensors file of one LoRA."""
    return root / "loras" / f"{name}.safetensors"


def save_pipeline(pipeline: StableDiffusionXLPipeline, root: Path) -> None:
    """Write a copy of the pipeline in fp16; the given one stays as it is."""
    folder = pipeline_folder(root)
    copy.deepcopy(pipeline).to(torch.float16).save_pretrained(folder)
    for component in ("text_encoder", "text_encoder_2"):
        # transformers loads in the dtype that the configuration names, diffusers in fp32: without this a plain
        # `from_pretrained` mixes the two.
        config = folder / component / "config.json"
        values = json.loads(config.read_text())
        config.write_text(json.dumps({**values, "dtype": "float32"}, indent=2) + "\n")


def save_controlnet(controlnet: ControlNetModel, name: str, root: Path) -> None:
    """Write a copy of the ControlNet in fp16."""
    copy.deepcopy(controlnet).half().save_pretrained(controlnet_folder(name, root))
