"""Draw unseen prompts with stock diffusers and judge them: `python -m shapes.evaluate --out DIR`.

Writes `figures.json` and `pictures.png`: a row of pictures for each part, reference images under those of the
ControlNets.
"""

import argparse
import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from numpy.typing import NDArray
from PIL import Image

from shapes import checkpoint
from shapes.adapters import ADAPTERS
from shapes.architecture import CONTROLNETS, RESOLUTION
from shapes.captions import full_captions, records, short_captions
from shapes.conditions import edges, layout
from shapes.judge import Object, Request, Verdict, judge
from shapes.rendering import render
from shapes.style_statistics import STATISTICS
from shapes.world import MAX_OBJECTS, Scenes, sample_scenes

logger = logging.getLogger("shapes.evaluate")

Pictures = NDArray[np.uint8]
"""[n, h, w, 3]."""

PARTS = ("prompts", *CONTROLNETS, "loras")
_SHOWN = 12


class Painter:
    """Pictures for prompts, one noise seed a prompt, in batches."""

    def __init__(self, pipeline: StableDiffusionXLPipeline, options: argparse.Namespace) -> None:
        self.pipeline = pipeline
        self.options = options
        pipeline.set_progress_bar_config(disable=True)

    def paint(self, prompts: list[str], references: list[Image.Image] | None = None) -> Pictures:
        """uint8 pictures [n, 128, 128, 3], one for each prompt (and reference image)."""
        parts = []
        seeds = [self.options.seed * 100_000 + index for index in range(len(prompts))]
        for start in range(0, len(prompts), self.options.batch):
            rows = slice(start, start + self.options.batch)
            drawn = self.pipeline(
                prompts[rows],
                num_inference_steps=self.options.steps,
                guidance_scale=self.options.guidance,
                height=RESOLUTION,
                width=RESOLUTION,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[rows]],
                output_type="np",
                **({"image": references[rows]} if references else {}),
            ).images
            parts.append((drawn * 255).round().astype(np.uint8))
            logger.info("drew %d of %d", start + len(drawn), len(prompts))
        return np.concatenate(parts)


def main() -> None:
    """Measure what the command line asks for and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--weights", type=Path, default=checkpoint.WEIGHTS, help="folder as `shapes.train` writes it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--prompts", type=int, default=200, help="pictures for each line of the table")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=79, help="of prompts and noise")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    start = time.monotonic()
    figures: dict[str, Any] = {
        "steps": options.steps,
        "guidance": options.guidance,
        "pictures": options.prompts,
    }
    rows: list[Pictures] = []
    for part in options.parts:
        painter = Painter(_pipeline(options), options)
        if part == "prompts":
            figures[part], shown = measure_prompts(painter)
        elif part in CONTROLNETS:
            figures[part], shown = measure_controlnet(part, painter)
        else:
            figures[part], shown = measure_loras(painter)
        rows += shown
        logger.info("%s: %s", part, json.dumps(figures[part]))
    figures["seconds"] = round(time.monotonic() - start)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(
        options.out / "pictures.png"
    )


def measure_prompts(painter: Painter) -> tuple[dict[str, Any], list[Pictures]]:
    """Shares of pictures that the judge finds right, for prompts of one, two and three objects."""
    figures: dict[str, Any] = {}
    shown = []
    for count in range(1, MAX_OBJECTS + 1):
        scenes = unseen_scenes(painter.options.prompts, painter.options.seed, count)
        drawn = painter.paint(full_captions(scenes))
        figures[f"objects {count}"] = _shares(
            [judge(picture, request) for picture, request in zip(drawn, requests(scenes), strict=True)]
        )
        shown.append(drawn[:_SHOWN])
    return figures, shown


def measure_controlnet(name: str, painter: Painter) -> tuple[dict[str, Any], list[Pictures]]:
    """How well pictures keep to their reference images, with the ControlNet and without it.

    `edges`: intersection over union of the outline asked for and that of the drawn picture, found in the same way.
    `layout`: mean absolute difference of the two colour maps, of 255. Prompts say everything, or only what is there.
    """
    scenes = unseen_scenes(painter.options.prompts, painter.options.seed)
    condition, closeness = (edges, _overlap) if name == "edges" else (layout, _difference)
    references = [condition(picture) for picture in _images(rendered(scenes))]
    controlnet = ControlNetModel.from_pretrained(checkpoint.controlnet_folder(name, painter.options.weights))
    steered = Painter(
        StableDiffusionXLControlNetPipeline.from_pipe(
            painter.pipeline, controlnet=controlnet.to(painter.options.device)
        ),
        painter.options,
    )
    prompts = {"full prompt": full_captions(scenes), "short prompt": short_captions(scenes, painter.options.seed)}
    figures: dict[str, Any] = {}
    shown = [np.stack([np.asarray(reference) for reference in references[:_SHOWN]])]
    for kind, texts in prompts.items():
        with_it, without = steered.paint(texts, references), painter.paint(texts)
        figures[kind] = {
            label: _mean(
                [closeness(condition(picture), asked) for picture, asked in zip(images, references, strict=True)]
            )
            for label, images in (("with", _images(with_it)), ("without", _images(without)))
        }
        shown.append(with_it[:_SHOWN])
    return figures, shown


def measure_loras(painter: Painter) -> tuple[dict[str, Any], list[Pictures]]:
    """For each LoRA, the share of its pictures that show its style and of the base's that do not."""
    prompts = full_captions(unseen_scenes(painter.options.prompts, painter.options.seed))
    plain = painter.paint(prompts)
    figures: dict[str, Any] = {}
    shown = [plain[:_SHOWN]]
    for name in ADAPTERS:
        path = checkpoint.lora_file(name, painter.options.weights)
        painter.pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
        styled = painter.paint(prompts)
        painter.pipeline.unload_lora_weights()
        statistic = STATISTICS[name]
        figures[name] = {
            "styled told": _mean([statistic.shows_style(picture) for picture in styled]),
            "base told": _mean([not statistic.shows_style(picture) for picture in plain]),
        }
        shown.append(styled[:_SHOWN])
    return figures, shown


def unseen_scenes(n: int, seed: int, count: int | None = None) -> Scenes:
    """n scenes of combinations that training leaves out, all of `count` objects if that is given."""
    scenes = sample_scenes(n * 8, seed, held_out=True)
    return scenes[:n] if count is None else scenes[scenes.count == count][:n]


def requests(scenes: Scenes) -> Iterator[Request]:
    """What the judge is told of each scene, for a caption that says everything."""
    for _, objects, relations, background in records(scenes):
        asked = tuple(Object(shape, colour, size) for size, colour, shape in objects)
        yield Request(asked, tuple(relations), background)


def rendered(scenes: Scenes) -> Pictures:
    """The scenes as the world draws them."""
    return ((render(scenes, RESOLUTION) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def _pipeline(options: argparse.Namespace) -> StableDiffusionXLPipeline:
    folder = checkpoint.pipeline_folder(options.weights)
    return StableDiffusionXLPipeline.from_pretrained(folder).to(options.device)


def _images(pictures: Pictures) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in pictures]


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def _shares(verdicts: list[Verdict]) -> dict[str, float]:
    columns: dict[str, list[bool]] = {"right": [verdict.right for verdict in verdicts]}
    for field in dataclasses.fields(Verdict):
        columns[field.name] = [getattr(verdict, field.name) for verdict in verdicts]
    return {name: _mean(values) for name, values in columns.items()}


def _overlap(drawn: Image.Image, asked: Image.Image) -> float:
    first, second = (np.asarray(image.convert("L")) > 127 for image in (drawn, asked))
    return float((first & second).sum() / max(1, (first | second).sum()))


def _difference(drawn: Image.Image, asked: Image.Image) -> float:
    return float(np.abs(np.asarray(drawn).astype(float) - np.asarray(asked)).mean())


if __name__ == "__main__":
    main()
