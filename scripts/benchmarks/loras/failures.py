"""Files and stores on their bad days: what the sender is told, how soon, and whether the next picture is right."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.loras.http_store import HttpStore, serve_folder
from benchmarks.loras.local_lane import LocalLane
from benchmarks.loras.rows import Rows
from shapes.checkpoint import lora_file
from swiftdiffusion.errors import Internal, SwiftDiffusionError

WAIT_S = 1.0  # what the lane grants a store's answer, and a LoRA's arrival
LIMIT_S = 5.0  # within which every refusal must have come
REQUEST: dict[str, list[Any]] = {"prompt": ["a large orange cross"], "seed": [21], "steps": [2], "lora_bound": [0]}
GOOD = "night"
BROKEN = ("corrupt", "truncated", "huge_header", "wrong_base", "not_finite", "pickle")
PATH_LIKE = "../night"
FAILURES = (*BROKEN, "path_like_name", "vanished_file", "slow_store", "full_disk", "dead_store")


def measure_failures(rows: Rows, tell: Callable[[str], None] = lambda text: None) -> None:
    """Provoke each of `FAILURES` on a lane of `shapes`, a row of the part `failures` for each."""
    if all(rows.has("failures", name) for name in FAILURES):
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loras-")))
        write_files(folder)
        store = stack.enter_context(serve_folder(folder))
        times: dict[str, Any] = {"adapter_timeout_s": WAIT_S, "lora_timeout_s": WAIT_S}
        local = stack.enter_context(LocalLane(folder, **times))
        remote = stack.enter_context(LocalLane(store.url, **times, adapter_disk=folder / "copies"))
        for name, (lane, lora, provoke) in plan_failures(local, remote, store, folder).items():
            tell(name)
            rows.measure("failures", name, lambda: provoke_failure(lane, lora, provoke, folder))  # noqa: B023


Draw = Callable[[Callable[[], None]], Any]
"""Draws, and calls its argument once the request is accepted."""
Provocation = Callable[[Draw], None]
"""Has the picture drawn while something is wrong."""


def plan_failures(
    local: LocalLane, remote: LocalLane, store: HttpStore, folder: Path
) -> Mapping[str, tuple[LocalLane, str, Provocation]]:
    """For each failure the lane, the LoRA to ask for, and how it is provoked."""

    def simply(draw: Draw) -> None:
        draw(lambda: None)

    def vanish(draw: Draw) -> None:
        draw((folder / "vanishing.safetensors").unlink)

    def slow(draw: Draw) -> None:
        store.pause_s = 0.1
        try:
            draw(lambda: None)
        finally:
            store.pause_s = 0.0

    def full(draw: Draw) -> None:
        with largest_file(4096):
            draw(lambda: None)

    def dead(draw: Draw) -> None:
        store.hangs = True
        draw(lambda: None)

    plan: dict[str, tuple[LocalLane, str, Provocation]] = {name: (local, name, simply) for name in BROKEN}
    plan["path_like_name"] = (local, PATH_LIKE, simply)
    plan["vanished_file"] = (local, "vanishing", vanish)
    plan["slow_store"] = (remote, "slow", slow)
    plan["full_disk"] = (remote, "full", full)
    plan["dead_store"] = (remote, "dead", dead)
    return plan


def provoke_failure(lane: LocalLane, lora: str, provoke: Provocation, folder: Path) -> dict[str, Any]:
    """Draw before, amid and after a failure.

    Returns the error's kind and sentence, the seconds that it took, whether it is `clear` (one of ours, about this
    LoRA or the store, without a path, in time), and whether the lane is `unharmed`: both pictures, with a LoRA and
    without, are bit for bit those from before.
    """
    uses: tuple[dict[str, list[Any]], ...] = ({"loras": [GOOD]}, {})
    before = [lane.draw({**REQUEST, **use}).pixels for use in uses]
    error: Exception | None = None
    start = time.perf_counter()
    try:
        provoke(lambda when_accepted: lane.draw({**REQUEST, "loras": [lora]}, when_accepted))
    except Exception as caught:  # of which kind is what is measured
        error = caught
    seconds = time.perf_counter() - start
    after = [lane.draw({**REQUEST, **use}).pixels for use in uses]
    sentence = str(error or "")
    is_ours = isinstance(error, SwiftDiffusionError) and not isinstance(error, Internal)
    names_it = repr(lora) in sentence or "adapter store" in sentence
    return {
        "error": type(error).__name__,
        "sentence": sentence,
        "seconds": round(seconds, 3),
        "clear": is_ours and names_it and str(folder) not in sentence and seconds <= LIMIT_S,
        "unharmed": all(np.array_equal(*pair) for pair in zip(before, after, strict=True)),
    }


def write_files(folder: Path) -> None:
    """A good LoRA under several names, and broken ones."""
    for name in (GOOD, "vanishing", "slow", "full", "dead"):
        shutil.copyfile(lora_file(GOOD), folder / f"{name}.safetensors")
    whole, tensors = lora_file(GOOD).read_bytes(), load_file(lora_file(GOOD))
    length = int.from_bytes(whole[:8], "little")
    first = min(key for key in tensors if key.startswith("unet."))
    wide = {key: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for key, tensor in tensors.items()}
    infinite = {key: tensor.clone() for key, tensor in tensors.items()}
    infinite[first].view(-1)[0] = float("inf")
    (folder / "corrupt.safetensors").write_bytes(whole[:8] + b"x" * length + whole[8 + length :])
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "huge_header.safetensors").write_bytes((2**26).to_bytes(8, "little") + b" " * 2**26)
    (folder / "pickle.pt").write_bytes(b"\x80\x04.")
    save_file(wide, folder / "wrong_base.safetensors")
    save_file(infinite, folder / "not_finite.safetensors")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within the block this process can write no file beyond `size` bytes: an error of the write, as a full disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores the signal that comes with it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
