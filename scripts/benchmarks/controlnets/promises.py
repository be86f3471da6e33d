"""What ControlNets as a service promise, judged by the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.bars import Bar, divide
from benchmarks.controlnets.rows import DATA_PATH, FAILURES, PICTURES, SOAK, STEPS, find_row, read_figure
from benchmarks.runs import Row
from swiftdiffusion.lane_configuration import LaneConfiguration

KILLS, REQUESTS = 20, 200  # of the parts `failures` and `soak`
ROUNDING = 0.01  # ten times fp16's, which every one of a picture's steps rounds to


class Limit(NamedTuple):
    """How much more may be held at the end than before."""

    more: float
    meaning: str


GROWTH = {  # of `KINDS`: far less than anything that leaks each time adds up to
    "gpus_mib": Limit(16.0, "memory of the GPUs, MiB"),
    "shared_mib": Limit(16.0, "/dev/shm, MiB"),
    "server_mib": Limit(8.0, "tritonserver's memory, MiB"),
    "server_threads": Limit(8.0, "tritonserver's threads"),
    "models_mib": Limit(32.0, "memory of the models' processes, MiB"),
    "models_threads": Limit(8.0, "threads of the models' processes"),
}


def judge(rows: Sequence[Row]) -> dict[str, Bar]:
    """The bars by their short names."""

    def step(name: str, beside: str) -> float | None:
        row, other = (find_row(rows, STEPS, one) or {} for one in (name, beside))
        return row.get("step_ms") if row.get("run") == other.get("run") else None  # else machines would be compared

    bound = LaneConfiguration.controlnet_timeout_s + 1
    ways = ("near", "near_beside", "near_bls")
    one_gpu = min((ms for ms in (step(way, "far") for way in ways) if ms is not None), default=None)

    def failure(name: str) -> float | None:
        return read_figure(rows, FAILURES, "kill", name)

    def soak(name: str) -> float | None:
        return read_figure(rows, SOAK, "random", name)

    def share(name: str) -> float | None:
        return divide(failure(name), failure("kills"))

    return {
        "step_far_vs_none": Bar(
            divide(step("far", "none"), step("none", "far")), 1.12, "step with a ControlNet on the second GPU / without"
        ),
        "step_far_vs_one_gpu": Bar(
            divide(step("far", "far"), one_gpu),
            0.72,
            "step with a ControlNet on the second GPU / both on one, the better way",
        ),
        "data_path_ms": Bar(
            read_figure(rows, DATA_PATH, "far", "step_ms"), 0.4, "residuals of one step to another GPU, ms"
        ),
        "step_split_vs_one_gpu": Bar(
            divide(step("split", "none"), step("none", "split")), 0.62, "step with guidance on two GPUs / one"
        ),
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
        "kills": Bar(failure("kills"), KILLS, "kills of a ControlNet's process, each within a request", at_least=True),
        "kills_clean": Bar(share("clean"), 1.0, "of these, with a clean error in time", at_least=True),
        "kills_slowest_error_s": Bar(failure("slowest_error_s"), bound, "from the kill to the error, the slowest, s"),
        "kills_following_right": Bar(
            share("following_right"), 1.0, "next requests, without the ControlNet, right", at_least=True
        ),
        "kills_repaired_right": Bar(
            share("repaired_right"), 1.0, "requests with the ControlNet after its repair, right", at_least=True
        ),
        **{
            f"kills_{kind}_growth": Bar(
                failure(f"{kind}_growth"), limit.more, f"growth over the second half of the kills, {limit.meaning}"
            )
            for kind, limit in GROWTH.items()
        },
        "soak_requests": Bar(
            soak("requests"), REQUESTS, "requests with random ControlNets, some of them evicted", at_least=True
        ),
        "soak_right": Bar(divide(soak("right"), soak("requests")), 1.0, "of these, right", at_least=True),
        **{
            f"soak_{kind}_growth": Bar(
                soak(f"{kind}_growth"), limit.more, f"growth over the second half of these, {limit.meaning}"
            )
            for kind, limit in GROWTH.items()
        },
    }
