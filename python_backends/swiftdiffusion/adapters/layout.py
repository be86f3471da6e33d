"""From a LoRA file's header alone: which weight each pair of factors changes, and whether they fit it."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from swiftdiffusion.adapters import kohya_names
from swiftdiffusion.adapters.algorithms import ALGORITHMS
from swiftdiffusion.adapters.algorithms.parts import MissingPartError
from swiftdiffusion.adapters.peft_names import PeftMetadata, resolve_module
from swiftdiffusion.adapters.safetensors_file import Header, MalformedFileError
from swiftdiffusion.adapters.targets import Shape, Targets
from swiftdiffusion.errors import InvalidArgument

# How each format ends a key, and which part of a layer that is. The longest ending counts.
LYCORIS_PARTS = {f".{part}": part for name in ("LoHa", "LoKr") for part in ALGORITHMS[name].parts}
KOHYA_PARTS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
    **LYCORIS_PARTS,
}
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
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    **LYCORIS_PARTS,
}
FACTOR_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class LoraLayer:
    """Tensors of a file that make one change, and the weight that they change.

    `parameter` is the canonical name in `network`, `shape` that weight's shape. `keys` are the names
    in the file of the parts that `algorithm` (see `algorithms`) has, and of ``alpha`` and DoRA's
    ``magnitude`` where they are there. `strength` is alpha / rank as far as the header tells; where
    there is an ``alpha``, that tensor holds alpha.
    """

    network: str
    parameter: str
    shape: Shape
    algorithm: str
    rank: int
    keys: Mapping[str, str]
    strength: float


@dataclass(frozen=True, eq=False)
class LoraLayout:
    """All layers of one file, every one of them checked against the pipeline; files of one form share it."""

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
    """Gather ``{module: {part: key}}``, modules sorted by name."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    longest_first = sorted(endings, key=len, reverse=True)
    for key in sorted(header.tensors):
        ending = next((ending for ending in longest_first if key.endswith(ending)), None)
        if ending is None:
            shape = list(header.tensors[key].shape)
            raise MalformedFileError(
                f"has the parameter {key[:256]!r} of shape {shape} that is no part of a LoRA that is understood: "
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
            first, second = (next(iter(twin.values())) for twin in (layers[target].keys, keys))
            raise MalformedFileError(f"changes {target[0]} {target[1]} twice: {first}, {second}")
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
    parts = {part: key for part, key in keys.items() if part not in ("alpha", "magnitude")}
    algorithm = _choose_algorithm(parts, keys)
    shapes = {part: header.tensors[key].shape for part, key in parts.items()}
    try:
        rank, expected = ALGORITHMS[algorithm].expect(shapes, shape)
    except MissingPartError as missing:
        raise MalformedFileError(
            f"has {next(iter(keys.values()))!r} without the {missing} factor that belongs to it"
        ) from None
    partner = f"{network} {parameter} of shape {list(shape)}"
    for part, fit in expected.items():
        _check_factor(header, keys[part], fit, partner if part != "up" else f"{keys['down']!r} of rank {rank}")
    if extra := parts.keys() - expected.keys():
        raise MalformedFileError(f"has {keys[min(extra)]!r}, for which its other parts leave no room")
    if "magnitude" in keys:
        _check_magnitude(header, keys["magnitude"], shape, algorithm, partner)
    if "alpha" in keys and header.tensors[keys["alpha"]].shape not in ((), (1,)):
        alpha = keys["alpha"]
        raise MalformedFileError(f"has {alpha!r} of shape {list(header.tensors[alpha].shape)}, expected one number")
    if not rank:  # LyCORIS leaves alpha out of account where LoKr's matrices are whole
        keys = {part: key for part, key in keys.items() if part != "alpha"}
    strength = metadata.strength(network, parameter, rank) if metadata else 1.0
    return LoraLayer(network, parameter, shape, algorithm, rank, keys, strength)


def _choose_algorithm(parts: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """The one that has the first part; what does not belong to it is refused."""
    if not parts:
        return "LoRA"  # which then says what is missing
    first = next(iter(parts))
    name = next(name for name, algorithm in ALGORITHMS.items() if first in algorithm.parts)
    for part in parts:
        if part not in ALGORITHMS[name].parts:
            raise MalformedFileError(f"has {keys[first]!r} and {keys[part]!r} for one layer, which do not go together")
    return name


def _check_magnitude(header: Header, key: str, weight: Shape, algorithm: str, partner: str) -> None:
    """DoRA's magnitudes, one for each output (arXiv 2402.09353), with or without dimensions of 1."""
    if algorithm != "LoRA":
        raise MalformedFileError(f"has {key!r}, DoRA's, beside {algorithm}, which is not understood")
    shape = header.tensors[key].shape
    fitting = ((weight[0],), (weight[0], 1), (1, weight[0], 1, 1), (weight[0], 1, 1, 1))
    _check_factor(header, key, shape if shape in fitting else fitting[0], partner)


def _check_factor(header: Header, key: str, expected: Shape, partner: str) -> None:
    found = header.tensors[key]
    if found.shape != expected:
        raise MalformedFileError(
            f"does not fit this pipeline: {key!r} has shape {list(found.shape)}, "
            f"expected {list(expected)} to go with {partner}"
        )
    if found.dtype not in FACTOR_DTYPES:
        raise MalformedFileError(f"stores {key!r} as {found.dtype}, expected float16, bfloat16, float32 or float64")
