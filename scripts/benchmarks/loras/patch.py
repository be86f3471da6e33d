"""The patch of SDXL's 560 attention projections on a GPU: how long, against what the bytes need, and how exact.

`python3 -m benchmarks.loras.patch --sweep` compares tilings of the kernel.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sdxl.loras import build_lora
from swiftdiffusion_operators.kernels.lora_launch import GroupedPatch
from swiftdiffusion_operators.kernels.lora_patch import TILING, Tiling
from swiftdiffusion_operators.weight_patch import Term, WeightPatch

REPEATS = 30
SWEEP = [
    Tiling(rows, columns, depth, warps, stages)
    for (rows, columns, warps), depth, stages in itertools.product(
        ((64, 128, 8), (64, 128, 4), (64, 64, 4), (128, 64, 4), (128, 64, 8), (128, 128, 8), (64, 256, 8)),
        (32, 64),
        (1, 2),
    )
]


def measure_patch(rank: int = 64, loras: int = 1, repeats: int = REPEATS, tiling: Tiling = TILING) -> dict[str, Any]:
    """Measure on the current GPU, in fp16, weights merged as the engine merges them.

    Returns:
        Medians in milliseconds (`patch`, `restore`, `separate_products`, `copy` of the weights by one copy each, and
        `prepare_host`: building the tables layer by layer, as for LoRAs that are more than matrices, on a loader's
        thread), bytes moved at the least, and the greatest
        error against fp64 in units in the last place.
    """
    patches = make_patches(rank, loras)
    start = time.perf_counter()
    patch = GroupedPatch(patches, tiling)
    prepare = time.perf_counter() - start
    restore = GroupedPatch([WeightPatch(p.live, p.pristine) for p in patches], tiling)

    def multiply_separately() -> None:
        for p in patches:
            p.live.copy_(p.pristine)
            for term in p.terms:
                assert term.up is not None
                p.live.addmm_(term.up, term.down, alpha=term.scale)

    def copy_separately() -> None:
        for p in patches:
            p.live.copy_(p.pristine)

    weights = sum(p.live.nbytes for p in patches)
    factors = sum(part.nbytes for p in patches for term in p.terms for part in (term.up, term.down) if part is not None)
    figures: dict[str, Any] = {
        "layers": len(patches),
        "bytes": 2 * weights + factors,
        "prepare_host": 1e3 * prepare,
        "separate_products": time_on_gpu(multiply_separately, repeats),
        "copy": time_on_gpu(copy_separately, repeats),
        "restore": time_on_gpu(restore.run, repeats),
        "patch": time_on_gpu(patch.run, repeats),
    }
    figures["error_ulp"] = max(measure_error(p) for p in patches[::40])
    restore.run()
    figures["restored"] = all(torch.equal(p.live, p.pristine) for p in patches)
    return figures


def make_patches(rank: int, loras: int) -> list[WeightPatch]:
    """The projections of one attention's input lie in one buffer."""
    files = [build_lora(rank, torch.float16, seed) for seed in range(loras)]
    modules = [name.removesuffix(".lora_A.weight") for name in files[0] if name.endswith(".lora_A.weight")]
    patches = []
    for merged, group in itertools.groupby(modules, key=_name_merged):
        names = list(group)
        rows = [files[0][f"{name}.lora_B.weight"].shape[0] for name in names]
        columns = files[0][f"{names[0]}.lora_A.weight"].shape[1]
        buffer = torch.randn(sum(rows), columns, dtype=torch.float16, device="cuda") / columns**0.5
        for name, live in zip(names, buffer.split(rows), strict=True):
            assert live.shape[1] == files[0][f"{name}.lora_A.weight"].shape[1], merged
            terms = tuple(
                Term(file[f"{name}.lora_A.weight"].cuda(), file[f"{name}.lora_B.weight"].cuda(), 0.8) for file in files
            )
            patches.append(WeightPatch(live, live.clone(), terms))
    return patches


def _name_merged(module: str) -> str:
    attention, _, projection = module.rpartition(".to_")
    if ".attn1" in attention and projection in "qkv":
        return attention + ".qkv"
    return attention + ".kv" if projection in "kv" else module


def time_on_gpu(work: Callable[[], None], repeats: int) -> float:
    """Median milliseconds between two events around `work`, with the GPU kept busy while the host enqueues it."""
    for _ in range(3):
        work()
    return statistics.median(_time_each(work, repeats))


def _time_each(work: Callable[[], None], repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(60_000_000)  # about 30 ms: what the host needs is not in the figure
        start.record()
        work()
        end.record()
        end.synchronize()
        yield start.elapsed_time(end)


def measure_error(patch: WeightPatch) -> float:
    """The patched weight's greatest distance from fp64, in units in fp16's last place; 0.5 is rounding alone."""
    exact = patch.pristine.double() + sum_terms_exactly(patch.terms)
    _, exponent = torch.frexp(exact.abs().clamp_min(2.0**-14))
    return ((patch.live.double() - exact).abs() / torch.ldexp(torch.ones_like(exact), exponent - 11)).max().item()


def sum_terms_exactly(terms: tuple[Term, ...]) -> Tensor:
    """Σ scale · up · down in fp64."""
    return sum(
        (term.scale * (term.up.double() @ term.down.double()) for term in terms if term.up is not None),
        start=torch.zeros((), dtype=torch.float64, device=terms[0].down.device),
    )


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--loras", type=int, default=1, help="how many at a time (default: %(default)s)")
    parser.add_argument("--sweep", action="store_true", help="compare tilings of the kernel")
    options = parser.parse_args()
    print(json.dumps(measure_patch(options.rank, options.loras)))
    if not options.sweep:
        return
    patches = make_patches(options.rank, options.loras)
    for tiling in SWEEP:
        figures: dict[str, float | str] = {}
        try:
            patch = GroupedPatch(patches, tiling)
            restore = GroupedPatch([WeightPatch(p.live, p.pristine) for p in patches], tiling)
            figures |= {"patch": time_on_gpu(patch.run, 10), "restore": time_on_gpu(restore.run, 10)}
        except Exception as error:  # a tiling that does not fit is a row too
            figures |= {"error": str(error)[:200]}
        print(json.dumps({**vars(tiling), **figures}), flush=True)


if __name__ == "__main__":
    main()
