"""The checkpoint that is served, and requests for it."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.serving.systems import AddOns, Request
from launch.children import run_quietly
from launch.paths import CHECKOUT, LOGS
from launch.progress import Progress
from launch.turns import one_at_a_time
from swiftdiffusion.daemon_threads import repeated

CHECKPOINTS = ("sdxl", "shapes")
DROP_EVERY_S = 0.05
CONTROLNETS, LORA_FILES, SUFFIX = 3, 4, ".safetensors"
LORA_SCALE = 1.0  # hot-swapping sets it back to this with every file


@dataclass(frozen=True)
class ServedCheckpoint:
    """A pipeline, three ControlNets and some LoRA files for it."""

    name: str
    pipeline: Path
    controlnets: tuple[Path, ...]  # diffusers folders, by which requests name them
    lora_files: tuple[Path, ...]
    side: int  # pixels of a picture
    guidance_scale: float
    note: str = ""  # what a reader of its figures must know


def prepare_checkpoint(name: str, folder: Path, progress: Progress) -> ServedCheckpoint:
    """Have a checkpoint of `CHECKPOINTS` on the disk, in `folder` what is not in the repository.

    `sdxl` has SDXL's real configuration with random weights: about 15 GB, written once; raises
    LaunchError if that fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder, "waiting for another call that prepares the checkpoint"):
        return _prepare_shapes(folder) if name == "shapes" else _prepare_sdxl(folder, progress)


def _prepare_sdxl(folder: Path, progress: Progress) -> ServedCheckpoint:
    if not (folder / "finished").exists():
        progress.update("writing SDXL with random weights")
        for part in ("pipeline", "controlnets", "loras"):  # what was cut off
            shutil.rmtree(folder / part, ignore_errors=True)
        command = [sys.executable, "-m", "sdxl.random_checkpoint", "--out", str(folder), "--device", "cuda"]
        command += ["--controlnets", str(CONTROLNETS), "--loras", str(LORA_FILES)]
        run_quietly(command, LOGS / "random-checkpoint.log", progress, cwd=CHECKOUT)
        (folder / "finished").touch()
    controlnets = sorted((folder / "controlnets").iterdir())
    loras = sorted((folder / "loras").iterdir())
    note = "SDXL base 1.0's configuration, random weights: what it costs is real, what it draws is noise"
    return ServedCheckpoint("sdxl", folder / "pipeline", tuple(controlnets), tuple(loras), 1024, 5.0, note)


def _prepare_shapes(folder: Path) -> ServedCheckpoint:
    from benchmarks.loras.varied_adapters import write_adapters
    from shapes.checkpoint import controlnet_folder, pipeline_folder

    own = [controlnet_folder(name) for name in ("edges", "layout")]
    third = folder / "controlnets" / "edges_again"
    third.parent.mkdir(parents=True, exist_ok=True)
    third.unlink(missing_ok=True)
    third.symlink_to(own[0])
    (folder / "loras").mkdir(exist_ok=True)
    write_adapters(folder / "loras", LORA_FILES)
    loras = sorted((folder / "loras").iterdir())
    note = "the small checkpoint; its third ControlNet is the first one again, under another name"
    return ServedCheckpoint("shapes", pipeline_folder(), (*own, third), tuple(loras), 128, 3.0, note)


class FreshAdapters:
    """An adapter store in which every name is asked for once, so that no cache by name or file has it.

    Names are links to a few files: the kernel's page cache has those, unless they are dropped from it.
    """

    def __init__(self, files: tuple[Path, ...], folder: Path) -> None:
        """Make the store's folder, or go on with one that is there."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._files = files
        self._count = sum(1 for _ in folder.iterdir())

    def take(self, count: int) -> list[str]:
        """So many names that nobody has asked for, of different files."""
        names = []
        for _ in range(count):
            name = f"lora_{self._count:05}"
            (self.folder / (name + SUFFIX)).symlink_to(self._files[self._count % len(self._files)].resolve())
            self._count += 1
            names.append(name)
        return names

    @contextmanager
    def kept_cold(self) -> Iterator[None]:
        """Drop the files from the kernel's page cache all the time, so that a request reads them from the disk."""
        with ExitStack() as stack:
            opened = [stack.enter_context(path.open("rb")) for path in self._files]

            def drop() -> None:
                for file in opened:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

            with repeated(drop, DROP_EVERY_S, "page-cache-dropper"):
                yield


def draw_grid_requests(
    checkpoint: ServedCheckpoint, adapters: FreshAdapters, add_ons: AddOns, steps: int, output_format: str
) -> Iterator[Request]:
    """Endlessly many requests with these add-ons, each with a prompt, a seed and LoRAs of its own."""
    controlnets = [folder.name for folder in checkpoint.controlnets[: add_ons.controlnets]]
    for number in itertools.count():
        yield {
            **make_request(checkpoint, number, steps, output_format, f" of {add_ons}, {steps} steps"),
            **add_controlnets(checkpoint, controlnets),
            **add_loras(adapters.take(add_ons.loras)),
        }


def make_request(
    checkpoint: ServedCheckpoint, number: int, steps: int, output_format: str, series: str = ""
) -> Request:
    """A request without add-ons; no two numbers of no two series have the same prompt, so that none is remembered."""
    return {
        "prompt": [f"a small red circle left of a large blue square, number {number}{series}"],
        "seed": [number],
        "steps": [steps],
        "guidance_scale": [checkpoint.guidance_scale],
        "width": [checkpoint.side],
        "height": [checkpoint.side],
        "output_format": [output_format],
    }


def add_controlnets(checkpoint: ServedCheckpoint, names: list[str]) -> Request:
    """The inputs that name ControlNets, a reference image for each."""
    image = _draw_reference(checkpoint.side)
    return {"controlnets": list(names), "control_images": [image] * len(names)} if names else {}


def add_loras(names: list[str]) -> Request:
    """The inputs that name LoRAs."""
    return {"loras": list(names), "lora_scales": [LORA_SCALE] * len(names)} if names else {}


def _draw_reference(side: int) -> bytes:
    """An outline as a PNG, as ControlNets for edges want it."""
    image = Image.new("RGB", (side, side))
    ImageDraw.Draw(image).ellipse((side // 5, side // 4, side // 2, side // 2), outline="white", width=side // 32)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
