"""Train the whole checkpoint from nothing: `python -m shapes.train --stage all --out DIR`."""

import argparse
import logging
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from shapes import adapters, checkpoint
from shapes.architecture import CONTROLNETS, build_controlnet, build_pipeline
from shapes.training.base import SCHEDULE as BASE_SCHEDULE
from shapes.training.base import train_base
from shapes.training.controlnet import SCHEDULES as CONTROLNET_SCHEDULES
from shapes.training.controlnet import train_controlnet
from shapes.training.lora import SCHEDULES as LORA_SCHEDULES
from shapes.training.lora import train_lora
from shapes.training.vae import SCHEDULE as VAE_SCHEDULE
from shapes.training.vae import train_vae

logger = logging.getLogger("shapes.train")

STAGES = ("vae", "base", *CONTROLNETS, *adapters.ADAPTERS)


def main() -> None:
    """Run the stages that the command line names, in order; finished ones are skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--stage",
        choices=(*STAGES, "all"),
        default="all",
        help="base needs vae; all others need base, and may run at the same time",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and for what resuming needs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the steps: 0.001 tries the code out")
    parser.add_argument("--compile", action="store_true", help="torch.compile the base UNet: a minute, then faster")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    for stage in STAGES if options.stage == "all" else (options.stage,):
        run_stage(stage, options)


def run_stage(stage: str, options: argparse.Namespace) -> None:
    """Run one stage, or nothing where `--out` says that it is done."""
    done = options.out / "state" / f"{stage}.done"
    if done.exists():
        logger.info("%s: done before", stage)
        return
    start = time.monotonic()
    if stage == "vae":
        pipeline = build_pipeline().to(options.device)
        train_vae(pipeline, VAE_SCHEDULE.shortened(options.scale), _state(options.out, stage))
        checkpoint.save_pipeline(pipeline, options.out)
    elif stage == "base":
        pipeline = _load(options)
        train_base(pipeline, BASE_SCHEDULE.shortened(options.scale), _state(options.out, stage), options.compile)
        checkpoint.save_pipeline(pipeline, options.out)
    elif stage in CONTROLNETS:
        pipeline = _load(options)
        controlnet = build_controlnet(pipeline.unet).to(options.device)
        schedule = CONTROLNET_SCHEDULES[stage].shortened(options.scale)
        train_controlnet(stage, pipeline, controlnet, schedule, _state(options.out, stage))
        checkpoint.save_controlnet(controlnet, stage, options.out)
    else:
        pipeline = _load(options)
        adapter = adapters.ADAPTERS[stage]
        train_lora(adapter, pipeline, LORA_SCHEDULES[stage].shortened(options.scale), _state(options.out, stage))
        path = checkpoint.lora_file(stage, options.out)
        adapters.save(adapter, adapters.matrices(adapter, pipeline), path)
    done.write_text(f"{time.monotonic() - start:.0f} s\n")
    logger.info("%s: %.0f s", stage, time.monotonic() - start)


def _state(out: Path, stage: str) -> Path:
    return out / "state" / f"{stage}.pt"


def _load(options: argparse.Namespace) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(checkpoint.pipeline_folder(options.out)).to(options.device)


if __name__ == "__main__":
    main()
