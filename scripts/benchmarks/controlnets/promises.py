"""What ControlNets as a service promise, judged by the rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bars import Bar, divide
from benchmarks.controlnets.rows import DATA_PATH, PICTURES, STEPS, read_figure
from benchmarks.runs import Row

ROUNDING = 0.01  # ten times fp16's, which every one of a picture's steps rounds to


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """The bars by their short names."""

    def step(name: str) -> float | None:
        return read_figure(rows, STEPS, name, "step_ms")

    one_gpu = min((ms for ms in (step("near"), step("near_bls")) if ms is not None), default=None)
    return {
        "step_far_vs_none": Bar(
            divide(step("far"), step("none")), 1.12, "step with a ControlNet on the second GPU / without"
        ),
        "step_far_vs_one_gpu": Bar(
            divide(step("far"), one_gpu), 0.72, "step with a ControlNet on the second GPU / both on one, the better way"
        ),
        "data_path_ms": Bar(
            read_figure(rows, DATA_PATH, "far", "step_ms"), 0.4, "residuals of one step to another GPU, ms"
        ),
        "step_split_vs_one_gpu": Bar(divide(step("split"), step("none")), 0.62, "step with guidance on two GPUs / one"),
        "picture_far_vs_near": Bar(
            read_figure(rows, PICTURES, "far_vs_near", "relative"),
            ROUNDING,
            "picture with the ControlNet on the second GPU against the same GPU, relative difference",
        ),
        "picture_split_vs_one_gpu": Bar(
            read_figure(rows, PICTURES, "split_vs_none", "relative"),
            ROUNDING,
            "picture with guidance on two GPUs against one, relative difference",
        ),
    }
