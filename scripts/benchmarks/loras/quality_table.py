"""What lateness costs, from the rows of `quality`: read here without the judge that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shapes.adapters import ADAPTERS

BOUNDS = (0, 1, 2, 3, 5, 8, 12, 16, 22, 30)
FIGURES = ("styled", "ssim")

Table = Mapping[str, Mapping[int, Mapping[str, float]]]
"""LoRA ▶ bound ▶ figure."""


def tabulate(quality: Mapping[str, Mapping[str, float]]) -> Table:
    """The rows by LoRA and rising bound, and as `mean` over the LoRAs those that all of them have."""
    table: dict[str, dict[int, Mapping[str, float]]] = {}
    for row, figures in quality.items():
        name, bound = row.split()
        table.setdefault(name, {})[int(bound)] = figures
    table = {name: dict(sorted(rows.items())) for name, rows in table.items()}
    common = sorted(set.intersection(*(set(rows) for rows in table.values())) if len(table) == len(ADAPTERS) else ())
    table["mean"] = {
        bound: {figure: _mean([rows[bound][figure] for rows in table.values()]) for figure in FIGURES}
        for bound in common
    }
    return table


def count_lost_points(quality: Mapping[str, Mapping[str, float]], bound: int) -> float | None:
    """Percentage points of the judge that `bound` loses against bound 0; None where one of them was not measured."""
    mean = tabulate(quality)["mean"]
    return round(mean[0]["styled"] - mean[bound]["styled"], 3) if {0, bound} <= mean.keys() else None


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
