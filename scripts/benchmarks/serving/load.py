"""Triton's own load generator, and what it measured."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.systems import Request
from commands.perf_analyzer import find_perf_analyzer
from launch.problems import LaunchError

LISTS = ("loras", "lora_scales", "controlnets", "control_images")  # inputs of variable length
SENTENCE = 400  # characters of its output that a failure repeats


@dataclass(frozen=True)
class Answered:
    """One request as the load generator saw it."""

    seconds: float
    info: dict[str, Any]  # what the model told


def measure_load(url: str, model: str, requests: Sequence[Request], timeout_s: float) -> list[Answered]:
    """Send the requests through perf_analyzer, one after the other, over HTTP.

    Args:
        url: host and port.
        model: a Triton model.
        requests: inputs by name; all of the same lengths.
        timeout_s: for all of them.

    Returns:
        One for each request, in their order.

    Raises:
        LaunchError: it is missing, a request failed, or the time was not enough.
    """
    executable, variables = find_perf_analyzer()
    with tempfile.TemporaryDirectory(prefix="perf_analyzer-") as scratch:
        inputs, export = Path(scratch) / "inputs.json", Path(scratch) / "export.json"
        inputs.write_text(json.dumps(format_input_data(requests)))
        command = [executable, "-m", model, "-u", url, "--input-data", str(inputs), "--concurrency-range", "1"]
        command += ["--request-count", str(len(requests)), "--profile-export-file", str(export)]
        for name in LISTS:
            if name in requests[0]:
                command += ["--shape", f"{name}:{len(requests[0][name])}"]
        try:
            run = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise LaunchError(f"{len(requests)} requests took more than {timeout_s:.0f} s") from None
        if run.returncode or not export.exists():
            words = " ".join(f"{run.stdout} {run.stderr}".split())
            raise LaunchError(f"perf_analyzer ended with code {run.returncode}: … {words[-SENTENCE:]}")
        return read_export(export)


def format_input_data(requests: Sequence[Request]) -> dict[str, Any]:
    """Requests as perf_analyzer's `--input-data` file has them."""
    return {"data": [{name: _format_values(values) for name, values in one.items()} for one in requests]}


def read_export(path: Path) -> list[Answered]:
    """Latencies and the output `info` from a `--profile-export-file`, in the order of sending."""
    # pictures are in it byte for byte, so it is no UTF-8; Latin-1 takes any byte
    experiments = json.loads(path.read_bytes().decode("latin-1"))["experiments"]
    sent = sorted((one for each in experiments for one in each["requests"]), key=lambda one: one["timestamp"])
    return [
        Answered(
            (one["response_timestamps"][-1] - one["timestamp"]) / 1e9,
            json.loads(one["response_outputs"][-1]["info"].encode("latin-1")),
        )
        for one in sent
    ]


def _format_values(values: list[Any]) -> dict[str, Any]:
    shape = [len(values)]
    if isinstance(values[0], bytes):
        elements = b"".join(struct.pack("<I", len(value)) + value for value in values)
        return {"b64": base64.b64encode(elements).decode(), "shape": shape}
    return {"content": values, "shape": shape}
