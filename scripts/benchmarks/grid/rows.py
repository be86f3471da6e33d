"""One row of the grid: a system, add-ons and steps, and what its requests took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.serving.load import Answered
from benchmarks.serving.systems import AddOns

Row = dict[str, Any]
QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}


def describe_row(system: str, add_ons: AddOns, steps: int, deployment: Mapping[str, Any]) -> Row:
    """What a row is about, by which it is told from the others; `deployment` as `Deployment.describe` has it."""
    return {"system": system, "add_ons": str(add_ons), "steps": steps, **deployment}


def is_same(row: Row, other: Row) -> bool:
    """Whether both are about the same thing."""
    return all(row[key] == other[key] for key in ("system", "add_ons", "steps", "machine", "layout", "lane"))


def summarise(answered: Sequence[Answered], gpus: int) -> dict[str, Any]:
    """Seconds that the client waited, and what follows from them.

    Args:
        answered: the requests, warm.
        gpus: how many GPUs worked on them.

    Returns:
        Mean and quantiles (nearest rank: of few requests p99 is the slowest), pictures per minute and GPU with one
        request at a time, the mean seconds of each stage that the model told, how ours reached its
        ControlNets, and where JPEGs were encoded.
    """
    seconds = [one.seconds for one in answered]
    stages = {name for one in answered for name in one.info["seconds"]}
    controlnets = [use for one in answered for use in one.info.get("controlnets", [])]
    return {
        "requests": len(seconds),
        "mean_s": round(fmean(seconds), 4),
        **{
            name: round(float(np.quantile(seconds, share, method="inverted_cdf")), 4)
            for name, share in QUANTILES.items()
        },
        "seconds": [round(one, 4) for one in seconds],
        "gpus": gpus,
        "images_per_gpu_minute": round(60 / (fmean(seconds) * gpus), 3),
        "stages_s": {
            name: round(fmean(one.info["seconds"].get(name, 0.0) for one in answered), 5) for name in sorted(stages)
        },
        "transports": sorted({use["transport"] for use in controlnets}),
        "jpeg_encoders": sorted({one.info["jpeg_encoder"] for one in answered if "jpeg_encoder" in one.info}),
    }
