"""One system at one size: times, memory, and how far its results are from the reference's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.step.settings import PARTS, Settings, Size
from benchmarks.step.systems import Output, System
from benchmarks.step.timing import summarise, time_calls, time_host
from benchmarks.step.workload import Workload

logger = logging.getLogger("benchmarks.step")

WARM_UP_CALLS = {"image": 1}
WARM_UP_CALLS_ELSE = 3


def measure(
    system: System, work: Workload, settings: Settings, reference: dict[str, Tensor], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure each part, warm.

    Args:
        system: what is measured.
        work: its inputs.
        settings: for the numbers of calls.
        reference: what `make_reference` gave for the same inputs, or nothing.
        tell: gets a word on what is going on.

    Returns:
        ``parts``, and in each ``median_ms``, ``p10_ms``, ``p90_ms``, ``repeats``, ``host_ms`` (a call's, or of
        ``image`` a step's; None on the CPU) and ``relative_error`` (None without a reference), or only ``failed`` with
        a sentence; beside it ``peak_memory_gb``, what torch held of the GPU at most.
    """
    device = work.sample.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    parts: dict[str, dict[str, Any]] = {}
    for part, label in PARTS.items():
        tell(f"{work.size}, {label}")
        try:
            parts[part] = _measure_part(part, partial(getattr(system, part), work), work, settings, reference.get(part))
        except Exception as error:
            logger.exception("%s at %s", part, work.size)
            parts[part] = {"failed": describe_failure(error)}
    peak = torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else None
    return {"parts": parts, "peak_memory_gb": peak and round(peak, 2)}


def make_reference(system: System, work: Workload) -> dict[str, Tensor]:
    """Each part's result, flattened, on the CPU."""
    return {part: flatten(getattr(system, part)(work)).cpu() for part in PARTS}


def save_reference(results: dict[str, Tensor], folder: Path, size: Size) -> None:
    """Keep the results for other processes."""
    save_file(results, folder / f"{size}.safetensors")


def load_reference(folder: Path, size: Size) -> dict[str, Tensor]:
    """Read what `save_reference` wrote; nothing where the reference could not be computed."""
    path = folder / f"{size}.safetensors"
    return load_file(path) if path.exists() else {}


def relative_error(output: Tensor, reference: Tensor) -> float:
    """‖output - reference‖ / ‖reference‖; raises ArithmeticError where the output is not finite."""
    reference = reference.to(output.device, torch.float64)
    error = ((output.double() - reference).norm() / reference.norm()).item()
    if error != error or error == float("inf"):
        raise ArithmeticError("the result is not finite")
    return error


def flatten(output: Output) -> Tensor:
    """One vector; of ControlNet residuals [2, c, h, w] each in the order [2, h, w, c], as our engines lay them."""
    if isinstance(output, Tensor):
        return output.flatten()
    return torch.cat([residual.permute(0, 2, 3, 1).flatten() for residual in output])


def describe_failure(error: Exception) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def _measure_part(
    part: str, call: Callable[[], Output], work: Workload, settings: Settings, reference: Tensor | None
) -> dict[str, Any]:
    device = work.sample.device
    repeats = settings.repeats
    output = flatten(call())
    error = None if reference is None else relative_error(output, reference)
    del output  # as large as the memory that is measured
    for _ in range(WARM_UP_CALLS.get(part, WARM_UP_CALLS_ELSE) - 1):
        call()
    times = summarise(time_calls(call, device, repeats))
    host = time_host(call, device, min(repeats, 3) if part == "image" else repeats)
    steps = work.steps if part == "image" else 1
    return {
        **times,
        "host_ms": None if host is None else round(median(host) / steps, 4),
        "relative_error": error and float(f"{error:.4g}"),
    }
