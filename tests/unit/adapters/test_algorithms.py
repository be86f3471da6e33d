"""DoRA, LoHa and LoKr against PEFT's own layers, and DoRA against diffusers."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from swiftdiffusion.adapters.patching import Patcher

from . import lora_files
from .conftest import MakeLoader
from .lora_files import EVERYTHING, UNET, Tensors, write
from .reference import build_engines, diffusers_outputs, outputs

MODULES = list(UNET)
RANK, ALPHA, SCALE = 3, 2.0, 0.8
CONFIGURATIONS: dict[str, Any] = {
    "LoHa": lambda: peft.LoHaConfig(r=RANK, alpha=ALPHA, target_modules=MODULES, init_weights=False),
    "LoHa, convolutions decomposed": lambda: peft.LoHaConfig(
        r=RANK, alpha=ALPHA, target_modules=MODULES, init_weights=False, use_effective_conv2d=True
    ),
    "LoKr": lambda: peft.LoKrConfig(r=RANK, alpha=ALPHA, target_modules=MODULES, init_weights=False),
    "LoKr, both in parts": lambda: peft.LoKrConfig(
        r=1, alpha=ALPHA, target_modules=MODULES, init_weights=False, decompose_both=True, decompose_factor=4
    ),
    "LoKr, convolutions decomposed": lambda: peft.LoKrConfig(
        r=1, alpha=ALPHA, target_modules=MODULES, init_weights=False, use_effective_conv2d=True
    ),
    "LoKr, whole": lambda: peft.LoKrConfig(r=1000, alpha=1000, target_modules=MODULES, init_weights=False),
}


def inject(pipeline: Any, configuration: Any) -> Any:
    """The UNet with PEFT's layers, random and not too large."""
    torch.manual_seed(0)
    unet = peft.inject_adapter_in_model(configuration, copy.deepcopy(pipeline.unet)).eval()
    for name, parameter in unet.named_parameters():
        if "hada_" in name or "lokr_" in name:
            parameter.data.normal_(std=0.3)
    return unet


def read_tensors(unet: Any) -> Tensors:
    """As PEFT names them, ``<module>.hada_w1_a.default``, without the adapter's name."""
    return {
        name.removesuffix(".default"): parameter.detach().contiguous()
        for name, parameter in unet.named_parameters()
        if "hada_" in name or "lokr_" in name
    }


def name_as_peft(tensors: Tensors, alpha: float) -> Tensors:
    """alpha is in the metadata."""
    return {f"unet.{name}": tensor for name, tensor in tensors.items()}


def name_as_lycoris(tensors: Tensors, alpha: float) -> Tensors:
    named = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        named["lora_unet_" + module.replace(".", "_") + "." + part] = tensor
        named["lora_unet_" + module.replace(".", "_") + ".alpha"] = torch.tensor(alpha)
    return named


@torch.no_grad()
def patch(pipeline: Any, make_loader: MakeLoader, paths: list[Path], scales: list[float]) -> Any:
    pipeline = copy.deepcopy(pipeline)
    Patcher(build_engines(pipeline)).apply(make_loader().begin([path.stem for path in paths], scales).wait(10))
    return pipeline


@pytest.mark.parametrize("rename", [name_as_peft, name_as_lycoris])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_whole_changes_are_those_of_peft(
    name: str, rename: Callable[[Tensors, float], Tensors], pipeline: Any, make_loader: MakeLoader, tmp_path: Path
) -> None:
    configuration = CONFIGURATIONS[name]()
    unet = inject(pipeline, configuration)
    tensors = rename(read_tensors(unet), configuration.alpha)
    metadata = {"unet.r": configuration.r, "unet.lora_alpha": configuration.alpha} if rename is name_as_peft else None
    path = write(tmp_path / "style.safetensors", tensors, metadata)
    patched = patch(pipeline, make_loader, [path], [SCALE])
    changed = 0
    for module, layer in unet.named_modules():
        if hasattr(layer, "get_delta_weight"):
            ours = patched.unet.get_submodule(module).weight
            base = pipeline.unet.get_submodule(module).weight
            change = layer.get_delta_weight("default")
            if rename is name_as_lycoris and "default" in getattr(layer, "lokr_w1", ()) and "default" in layer.lokr_w2:
                change = change / layer.scaling["default"]  # LyCORIS knows no alpha where both matrices are whole
            expected = base + SCALE * change
            assert not torch.allclose(base, expected, atol=1e-3), module
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
            changed += 1
    assert changed == len(MODULES)


def make_dora(pipeline: Any, seed: int) -> Tensors:
    """A LoRA with the lengths of the base's rows, up to a fifth longer or shorter.

    transformers, which loads the text encoders' part for diffusers, knows only the spelling with ``.weight``.
    """
    tensors = lora_files.peft(pipeline, seed=seed)
    for network, modules in EVERYTHING.items():
        for module in modules:
            weight = getattr(pipeline, network).get_submodule(module).weight.detach()
            generator = torch.Generator().manual_seed(len(tensors))
            lengths = weight.flatten(1).norm(dim=1)
            lengths = lengths * (1 + 0.4 * (torch.rand(lengths.shape, generator=generator) - 0.5))
            shaped = lengths.reshape(1, -1, 1, 1) if weight.dim() == 4 else lengths
            tensors[f"{network}.{module}.lora_magnitude_vector{'' if network == 'unet' else '.weight'}"] = shaped
    return tensors


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_dora_is_that_of_diffusers(scale: float, pipeline: Any, make_loader: MakeLoader, tmp_path: Path) -> None:
    path = write(tmp_path / "style.safetensors", make_dora(pipeline, 1))
    assert_same_outputs(pipeline, make_loader, [path], [scale])


def test_doras_and_loras_add_up_as_in_diffusers(pipeline: Any, make_loader: MakeLoader, tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "first.safetensors", make_dora(pipeline, 1)),
        write(tmp_path / "plain.safetensors", lora_files.peft(pipeline, seed=2)),
        write(tmp_path / "second.safetensors", make_dora(pipeline, 3)),
    ]
    assert_same_outputs(pipeline, make_loader, paths, [0.7, -0.4, 0.3])


def assert_same_outputs(pipeline: Any, make_loader: MakeLoader, paths: list[Path], scales: list[float]) -> None:
    reference = diffusers_outputs(pipeline, list(zip(paths, scales, strict=True)))
    ours, base = outputs(patch(pipeline, make_loader, paths, scales)), outputs(pipeline)
    for name, expected in reference.items():
        assert (expected - base[name]).abs().max() > 1e-2, name
        assert (ours[name] - expected).abs().max() <= 2e-5 * max(1.0, expected.abs().max().item()), name


def test_a_magnitude_of_the_base_alone_changes_nothing_but_rounding(
    pipeline: Any, make_loader: MakeLoader, tmp_path: Path
) -> None:
    tensors = {key: torch.zeros_like(tensor) for key, tensor in lora_files.peft(pipeline, {"unet": UNET}).items()}
    for module in UNET:
        lengths = pipeline.unet.get_submodule(module).weight.detach().flatten(1).norm(dim=1)
        tensors[f"unet.{module}.lora_magnitude_vector"] = lengths
    path = write(tmp_path / "style.safetensors", tensors)
    for ours, base in zip(
        patch(pipeline, make_loader, [path], [1.0]).unet.parameters(), pipeline.unet.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, base, rtol=1e-6, atol=1e-6)
