"""diffusers made as fast as its own documentation and PyTorch's make it, for requests with LoRAs and ControlNets.

https://huggingface.co/docs/diffusers/optimization/fp16 (compiling, channels last) and
https://huggingface.co/docs/diffusers/tutorials/using_peft_for_inference#hotswapping
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from benchmarks.captured import Captured
from benchmarks.serving.pipelines.stock import SUFFIX, StockDiffusers
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.request import LoraUse

SLOTS = ("first", "second")  # adapters that stay in the UNet, and whose weights are swapped
VARIANTS_COMPILED = 32  # of one function: LoRAs, ControlNets' residuals, each ControlNet


class HotSwappingDiffusers(StockDiffusers):
    """The pipeline with LoRAs swapped in place; if it `compiles`, each network is compiled and captured.

    Compiled, the networks are channels last, which pays only then, and are replayed as CUDA graphs, captured by hand:
    as fast as the mode `reduce-overhead` or faster, and without its rules on what overwrites what. There is a capture
    for each number of LoRAs and with ControlNets' residuals and without. The VAE decodes in fp16, as with the weights
    that are published for that; stock changes to fp32 and back.
    """

    def __init__(
        self, folder: Path, controlnets: Mapping[str, Path], adapters: Path, place: Placement, compiles: bool
    ) -> None:
        """As `StockDiffusers`; the folder of LoRAs must hold one, like which (rank, layers) all others are."""
        super().__init__(folder, controlnets, adapters, place)
        example = next(path for path in sorted(adapters.iterdir()) if path.suffix == SUFFIX)
        unet = self.base.unet
        unet.enable_lora_hotswap(target_rank=_read_rank(example))
        for slot in SLOTS:
            self.base.load_lora_weights(adapters, weight_name=example.name, adapter_name=slot)
        self.base.vae.register_to_config(force_upcast=False)
        self._active: int | None = None
        self._variants: dict[int, Callable[..., Any]] = {}
        if compiles:
            torch._dynamo.config.recompile_limit = VARIANTS_COMPILED
            torch.backends.cudnn.benchmark = True
            captures = place.device.type == "cuda"
            self._variants = {count: _compile(unet, captures) for count in range(len(SLOTS) + 1)}
            for network in (*self.controlnets.values(), self.base.vae.decoder):
                network._compiled_call_impl = _compile(network, captures)

    def load_loras(self, uses: Sequence[LoraUse]) -> None:
        """Write the LoRAs into as many slots and switch the others off; raises InvalidArgument for what has no slot."""
        if len(uses) > len(SLOTS) or any(use.scale != 1 for use in uses):
            raise InvalidArgument(f"loras are {[*map(str, uses)]}; allowed here: up to {len(SLOTS)}, at scale 1")
        if self._active != len(uses):
            self._switch(len(uses))
        for slot, use in zip(SLOTS, uses, strict=False):
            self.base.load_lora_weights(self._adapters, weight_name=use.name + SUFFIX, adapter_name=slot, hotswap=True)

    def unload_loras(self) -> None:
        """Leave them where they are: the next request overwrites them or switches them off."""

    def _switch(self, count: int) -> None:
        unet = self.base.unet
        if count:
            unet.enable_lora()
            unet.set_adapters(list(SLOTS[:count]), [1.0] * count)
        else:
            unet.disable_lora()
        if self._variants:
            # as `nn.Module.compile` does: what swaps weights looks here, and then writes in place
            unet._compiled_call_impl = self._variants[count]
        self._active = count


def _compile(network: nn.Module, captures: bool) -> Callable[..., Any]:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled = torch.compile(network.forward, fullgraph=True, dynamic=False)
    return Captured(compiled) if captures else compiled


def _read_rank(file: Path) -> int:
    with safe_open(str(file), "pt") as tensors:
        return max(tensors.get_slice(key).get_shape()[0] for key in tensors.keys() if "lora_A" in key)  # noqa: SIM118
