"""Write SDXL with random weights, as diffusers folders and LoRA files: `python -m sdxl.random_checkpoint --out DIR`.

The pictures are noise; what they cost in time and memory is what SDXL base 1.0 costs. In DIR: `pipeline/`,
`controlnets/random_1/` and so on, `loras/random_1.safetensors` and so on. The tokenizers are those of `shapes`, cutting
and padding to CLIP's 77 tokens.
"""

import argparse
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import nn

from sdxl.architecture import NETWORKS, TOKENS, build_scheduler, describe_controlnet
from sdxl.loras import build_lora, describe_lora, save_lora
from sdxl.random_weights import materialise
from shapes.tokenizer import build_tokenizer

logger = logging.getLogger("sdxl.random_checkpoint")

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_RANGES = {"controlnets": (0, 100), "loras": (0, 10_000), "rank": (1, 640)}
_ONE_FILE = "1TB"  # diffusers would cut an fp32 UNet in two


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, check that all of it can be done, and write."""
    options = parse_options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    write_pipeline(options)
    for number in range(1, options.controlnets + 1):
        write_controlnet(options, number)
    for number in range(1, options.loras + 1):
        write_lora(options, number)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ends the program with a sentence where a value, the folder or the disk will not do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a folder that is empty or not there yet"
    )
    parser.add_argument("--controlnets", type=int, default=0, metavar="N", help="how many, 2.5 GB each (default: 0)")
    parser.add_argument("--loras", type=int, default=0, metavar="N", help="how many (default: 0)")
    parser.add_argument("--rank", type=int, default=64, metavar="R", help="the LoRAs' (default: 64, 186 MB each)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="number type in the files (default: fp16)")
    parser.add_argument("--seed", type=int, default=0, help="of all weights (default: 0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where they are drawn (default: cpu)")
    options = parser.parse_args(arguments)
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} is {getattr(options, name)}; allowed: {least} to {most}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is 'cuda', but torch sees no GPU; allowed here: cpu")
    folder: Path = options.out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"--out is {str(folder)!r}, which exists; allowed: an empty folder, or one that is not there yet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out is {str(folder)!r}, which cannot be made: {error.strerror}")
    needed, free = count_bytes(options), shutil.disk_usage(folder).free
    if needed > free:
        parser.error(f"--out is {str(folder)!r}, where {free / 1e9:.1f} GB are free; {needed / 1e9:.1f} GB are needed")
    return options


def count_bytes(options: argparse.Namespace) -> int:
    """How much will be written, but for headers and configurations."""
    elements = sum(_count(describe()) for describe in NETWORKS.values())
    elements += options.controlnets * _count(describe_controlnet())
    elements += options.loras * sum(rows * columns for rows, columns in describe_lora(options.rank).values())
    return elements * DTYPES[options.dtype].itemsize


def write_pipeline(options: argparse.Namespace) -> None:
    """Write the base model, one network in memory at a time; `model_index.json` last, so that half of it is none."""
    folder = options.out / "pipeline"
    pipeline = StableDiffusionXLPipeline(
        **{name: describe() for name, describe in NETWORKS.items()},
        tokenizer=build_tokenizer(TOKENS),
        tokenizer_2=build_tokenizer(TOKENS),
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        getattr(pipeline, name).save_pretrained(folder / name)
    for name, describe in NETWORKS.items():
        _write_network(describe(), folder / name, options, options.seed)
    pipeline.save_config(folder)


def write_controlnet(options: argparse.Namespace, number: int) -> None:
    """Write the ControlNet of this number, from 1; no two are alike."""
    _write_network(describe_controlnet(), options.out / f"controlnets/random_{number}", options, options.seed + number)


def write_lora(options: argparse.Namespace, number: int) -> None:
    """Write the LoRA of this number, from 1; no two are alike."""
    path = options.out / f"loras/random_{number}.safetensors"
    with _told(path):
        save_lora(build_lora(options.rank, DTYPES[options.dtype], options.seed + number), path)


def _write_network(network: Any, folder: Path, options: argparse.Namespace, seed: int) -> None:
    with _told(folder):
        materialise(network, DTYPES[options.dtype], options.device, seed)
        network.save_pretrained(folder, max_shard_size=_ONE_FILE)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    start = time.monotonic()
    logger.info("%s …", path)
    yield
    files = path.rglob("*") if path.is_dir() else (path,)
    size = sum(file.stat().st_size for file in files)
    logger.info("%s: %.2f GB in %.0f s", path, size / 1e9, time.monotonic() - start)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    main()
