"""What the fast base model promises, judged at the first size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bars import Bar, divide


def judge(
    rows: Sequence[Mapping[str, Any]], first_images: Mapping[str, Mapping[str, float]], size: str
) -> dict[str, Bar]:
    """The bars by their short names.

    Args:
        rows: of all systems and sizes, as the report has them.
        first_images: seconds from a process's start to its first image, by system: ``first`` with empty caches on
            disk, ``again`` with those that the first process left.
        size: at which to judge.
    """

    def figure(system: str, part: str, name: str) -> float | None:
        for row in rows:
            if (row["system"], row["size"]) == (system, size):
                return row.get("parts", {}).get(part, {}).get(name)
        return None

    def faster(part: str, than: str) -> float | None:
        return divide(figure("ours", part, "median_ms"), figure(than, part, "median_ms"))

    return {
        "unet_step_vs_compile": Bar(faster("unet", "compile"), 0.85, "UNet step: ours / torch.compile + graph"),
        "unet_step_vs_eager": Bar(faster("unet", "eager"), 0.48, "UNet step: ours / diffusers eager"),
        "controlnet_step_vs_eager": Bar(faster("controlnet", "eager"), 0.45, "ControlNet step: ours / diffusers eager"),
        "vae_decode_vs_eager": Bar(faster("vae", "eager"), 0.5, "VAE decode: ours / diffusers eager"),
        "first_image_vs_compile": Bar(
            divide(first_images.get("ours", {}).get("again"), first_images.get("compile", {}).get("first")),
            0.25,
            "start to first image: ours, kernels on disk / torch.compile + graph, nothing on disk",
        ),
        "step_error_vs_eager": Bar(
            divide(figure("ours", "unet", "relative_error"), figure("eager", "unet", "relative_error")),
            1.2,
            "UNet step's relative error: ours / diffusers eager, the same number type",
        ),
        "host_ms_per_step": Bar(
            figure("ours", "image", "host_ms"), 1.0, "host time of a step in an image (Python, launches), ms: ours"
        ),
    }
