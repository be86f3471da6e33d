"""From a LoRA file's header alone: which weight each pair of factors changes, and whether they fit it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch

from swiftdiffusion.adapters import kohya_names
from swiftdiffusion.adapters.peft_names import PeftMetadata, resolve_module
from swiftdiffusion.adapters.safetensors_file import Header, MalformedFileError
from swiftdiffusion.adapters.targets import Shape, Targets
from swiftdiffusion.errors import InvalidArgument

# How each format ends a key, and which part of a layer that is. The longest ending counts.
KOHYA_PARTS = {".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha"}
PEFT_PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
FACTOR_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class LoraLayer:
    """One pair of factors in a file and the weight that they change.

    `parameter` is the canonical name in `network`, `shape` that weight's shape. `strength` is
    alpha / rank as far as the header tells; where there is an `alpha_key`, that tensor holds alpha.
    """

    network: str
    parameter: str
    shape: Shape
    rank: int
    down_key: str
    up_key: str
    alpha_key: str | None
    strength: float


@dataclass(frozen=True)
class LoraLayout:
    """All layers of one file, every one of them checked against the pipeline."""

    layers: tuple[LoraLayer, ...]

    @property
    def networks(self) -> frozenset[str]:
        """The networks that this LoRA changes."""
        return frozenset(layer.network for layer in self.layers)


def lay_out(name: str, header: Header, targets: Targets) -> LoraLayout:
    """Match the tensors of a LoRA file with the weights of a pipeline.

    Understands diffusers/PEFT names (`peft_names`) and kohya-ss names (`kohya_names`), as diffusers'
    `load_lora_weights` does, and where that passes over what it does not understand, refuses:
    raises `InvalidArgument` naming the LoRA `name`, the first wrong parameter (by name), its shape
    and the expected one. alpha is that of the layer's own key; diffusers 0.42 loses kohya's alphas of
    attention layers where they differ from layer to layer.
    """
    if not header.tensors:
        raise InvalidArgument(f"LoRA {name!r} holds no parameters.")
    try:
        if all(key.startswith(kohya_names.PREFIXES) for key in header.tensors):
            return _lay_out_kohya(header, targets)
        return _lay_out_peft(header, targets)
    except MalformedFileError as error:
        raise InvalidArgument(f"LoRA {name!r} {error}.") from None


def _lay_out_kohya(header: Header, targets: Targets) -> LoraLayout:
    modules = kohya_names.name_modules(targets)
    parts = _group(header, KOHYA_PARTS)
    kept = kohya_names.drop_second_naming(parts)
    parts = {name: part for name, part in parts.items() if name in kept}
    return _check_layers(parts, header, targets, modules.get, None)


def _lay_out_peft(header: Header, targets: Targets) -> LoraLayout:
    metadata = PeftMetadata.read(header.metadata)
    parts = _group(header, PEFT_PARTS)
    return _check_layers(parts, header, targets, lambda module: resolve_module(module, targets), metadata)


def _group(header: Header, endings: dict[str, str]) -> dict[str, dict[str, str]]:
    """Gather ``{module: {"down" | "up" | "alpha": key}}``, modules sorted by name."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for key in sorted(header.tensors):
        ending = max((ending for ending in endings if key.endswith(ending)), key=len, default=None)
        if ending is None:
            shape = list(header.tensors[key].shape)
            raise MalformedFileError(
                f"has the parameter {key[:256]!r} of shape {shape} that is no part of a plain LoRA: "
                f"names end in {', '.join(endings)}"
            )
        parts = modules[key.removesuffix(ending)]
        twin = parts.setdefault(endings[ending], key)
        if twin != key:
            raise MalformedFileError(f"has both {twin[:256]!r} and {key[:256]!r}, which are the same factor")
    return modules


def _check_layers(
    modules: dict[str, dict[str, str]],
    header: Header,
    targets: Targets,
    resolve: Callable[[str], tuple[str, str] | None],
    metadata: PeftMetadata | None,
) -> LoraLayout:
    layers: dict[tuple[str, str], LoraLayer] = {}
    for module, keys in modules.items():
        target = resolve(module)
        if target is None:
            key = next(iter(keys.values()))
            raise MalformedFileError(
                f"has the parameter {key[:256]!r} of shape {list(header.tensors[key].shape)}, "
                "and this pipeline has no such linear or convolution layer"
            )
        layer = _check_layer(keys, header, *target, targets.layers[target[0]][target[1]], metadata)
        if target in layers:
            raise MalformedFileError(
                f"changes {target[0]} {target[1]} twice: {layers[target].down_key}, {layer.down_key}"
            )
        layers[target] = layer
    return LoraLayout(tuple(layers.values()))


def _check_layer(
    keys: dict[str, str],
    header: Header,
    network: str,
    parameter: str,
    shape: Shape,
    metadata: PeftMetadata | None,
) -> LoraLayer:
    for part in ("down", "up"):
        if part not in keys:
            raise MalformedFileError(f"has {next(iter(keys.values()))!r} without the {part} factor that belongs to it")
    down, up, alpha = keys["down"], keys["up"], keys.get("alpha")
    ranks = header.tensors[down].shape[:1]
    rank = ranks[0] if ranks else 0
    # The kernel of a convolution is in the down factor; the up factor is 1x1.
    _check_factor(header, down, (max(rank, 1), *shape[1:]), f"{network} {parameter} of shape {list(shape)}")
    _check_factor(header, up, (shape[0], rank, *(1 for _ in shape[2:])), f"{down!r} of rank {rank}")
    if alpha is not None and header.tensors[alpha].shape not in ((), (1,)):
        raise MalformedFileError(f"has {alpha!r} of shape {list(header.tensors[alpha].shape)}, expected one number")
    strength = metadata.strength(network, parameter, rank) if metadata else 1.0
    return LoraLayer(network, parameter, shape, rank, down, up, alpha, strength)


def _check_factor(header: Header, key: str, expected: Shape, partner: str) -> None:
    found = header.tensors[key]
    if found.shape != expected:
        raise MalformedFileError(
            f"does not fit this pipeline: {key!r} has shape {list(found.shape)}, "
            f"expected {list(expected)} to go with {partner}"
        )
    if found.dtype not in FACTOR_DTYPES:
        raise MalformedFileError(f"stores {key!r} as {found.dtype}, expected float16, bfloat16, float32 or float64")
