"""From a request's tensors to a `PictureRequest`, refusing what cannot be served before any work."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.denoising.schedulers import SCHEDULERS
from swiftdiffusion.errors import InvalidArgument, NotFound
from swiftdiffusion.request.images import OUTPUT_FORMATS, decode_base64, decode_reference
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.request import ControlUse, LoraUse, PictureRequest

Tensors = Mapping[str, NDArray[Any]]
SEED_MAX = 2**63 - 1
_NOTHING = np.empty(0, np.object_)


def parse_request(tensors: Tensors, limits: Limits, served_controlnets: Callable[[], Sequence[str]]) -> PictureRequest:
    """Check every input and fill in the defaults.

    Whether the LoRAs exist and fit is the adapter store's to say.

    Args:
        tensors: the inputs that were sent, by name; texts as bytes objects.
        limits: the model's bounds and defaults.
        served_controlnets: gives the names that can be asked for now.

    Raises:
        InvalidArgument: names the input, its value and what is allowed.
        NotFound: a ControlNet that is not served.
    """
    inputs = _Inputs(tensors)
    steps = inputs.integer("steps", limits.steps, 1, limits.steps_max)
    width = _check_size("width", inputs.integer("width", limits.width, limits.size_min, limits.size_max))
    height = _check_size("height", inputs.integer("height", limits.height, limits.size_min, limits.size_max))
    encoded = inputs.boolean("base64", False)
    return PictureRequest(
        prompt=_check_prompt("prompt", inputs.text("prompt", ""), limits, required=True),
        negative_prompt=_check_prompt("negative_prompt", inputs.text("negative_prompt", ""), limits) or None,
        seed=inputs.integer("seed", secrets.randbelow(2**32), 0, SEED_MAX),
        steps=steps,
        guidance_scale=inputs.number("guidance_scale", limits.guidance_scale, 0, limits.guidance_scale_max),
        width=width,
        height=height,
        scheduler=inputs.choice("scheduler", limits.scheduler, tuple(SCHEDULERS)),
        loras=_parse_loras(inputs, limits),
        lora_bound=inputs.integer("lora_bound", min(limits.lora_bound, steps - 1), 0, steps - 1),
        controls=_parse_controls(inputs, limits, served_controlnets, width, height, encoded),
        output_format=inputs.choice("output_format", limits.output_format, OUTPUT_FORMATS),
        preview_every=inputs.integer("preview_every", limits.preview_every, 0, limits.steps_max),
        base64=encoded,
    )


class _Inputs:
    """Reads one input at a time, by type, with its bounds."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def values(self, name: str) -> list[Any]:
        """All elements of an input; none where it was not sent."""
        values = self._tensors.get(name, _NOTHING).reshape(-1)
        if values.dtype == np.float32:  # 0.8, not 0.800000011920929: the number that was meant
            return [float(str(value)) for value in values]
        return values.tolist()

    def one(self, name: str, default: Any) -> Any:
        values = self.values(name)
        if len(values) > 1:
            raise InvalidArgument(f"{name} has {len(values)} values; one is allowed")
        return values[0] if values else default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = int(self.one(name, default))
        if not low <= value <= high:
            raise InvalidArgument(f"{name} is {value}; allowed: {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        return _check_number(name, float(self.one(name, default)), low, high)

    def boolean(self, name: str, default: bool) -> bool:
        return bool(self.one(name, default))

    def texts(self, name: str) -> list[str]:
        try:
            return [value.decode() if isinstance(value, bytes) else str(value) for value in self.values(name)]
        except UnicodeDecodeError:
            raise InvalidArgument(f"{name} is not UTF-8 text") from None

    def text(self, name: str, default: str) -> str:
        self.one(name, default)
        texts = self.texts(name)
        return texts[0] if texts else default

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise InvalidArgument(f"{name} is {_shorten(value)}; allowed: {', '.join(allowed)}")
        return value


def _parse_loras(inputs: _Inputs, limits: Limits) -> tuple[LoraUse, ...]:
    names = inputs.texts("loras")
    _check_count("loras", len(names), limits.loras_max)
    if len(set(names)) < len(names):
        raise InvalidArgument(f"loras names {_shorten(_repeated(names))} twice; once each is allowed")
    scales = _numbers_for(inputs, "lora_scales", "loras", len(names), 1.0, -limits.scale_max, limits.scale_max)
    return tuple(LoraUse(name, scale) for name, scale in zip(names, scales, strict=True))


def _parse_controls(
    inputs: _Inputs,
    limits: Limits,
    served: Callable[[], Sequence[str]],
    width: int,
    height: int,
    encoded: bool,
) -> tuple[ControlUse, ...]:
    names, files = inputs.texts("controlnets"), inputs.values("control_images")
    _check_count("controlnets", len(names), limits.controlnets_max)
    if len(files) != len(names):
        raise InvalidArgument(
            f"control_images has {len(files)} pictures and controlnets {len(names)} names; one for each is needed"
        )
    known = served() if names else ()
    for name in names:
        if name not in known:
            raise NotFound(f"controlnets names {_shorten(name)}; served: {', '.join(known) or 'none'}")
    count = len(names)
    scales = _numbers_for(inputs, "control_scales", "controlnets", count, 1.0, -limits.scale_max, limits.scale_max)
    starts = _numbers_for(inputs, "control_start", "controlnets", count, 0.0, 0.0, 1.0)
    ends = _numbers_for(inputs, "control_end", "controlnets", count, 1.0, 0.0, 1.0)
    controls = []
    for index, name in enumerate(names):
        if starts[index] >= ends[index]:
            raise InvalidArgument(
                f"control_start[{index}] is {starts[index]:g}; it must be below control_end[{index}], {ends[index]:g}"
            )
        label = f"control_images[{index}]"
        file = files[index] if isinstance(files[index], bytes) else str(files[index]).encode()
        if len(file) > limits.image_bytes_max:
            raise InvalidArgument(f"{label} has {len(file)} bytes; at most {limits.image_bytes_max} are read")
        file = decode_base64(file, label) if encoded else file
        image = decode_reference(file, label, width, height)
        controls.append(ControlUse(name, image, scales[index], starts[index], ends[index]))
    return tuple(controls)


def _numbers_for(
    inputs: _Inputs, name: str, owner: str, count: int, default: float, low: float, high: float
) -> list[float]:
    """One number for each name in `owner`; `default` for all where the input was not sent."""
    values = [float(value) for value in inputs.values(name)] or [default] * count
    if len(values) != count:
        raise InvalidArgument(f"{name} has {len(values)} values and {owner} {count} names; one for each is needed")
    return [_check_number(f"{name}[{index}]", value, low, high) for index, value in enumerate(values)]


def _check_number(label: str, value: float, low: float, high: float) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidArgument(f"{label} is {value:g}; allowed: {low:g} to {high:g}")
    return value


def _check_size(name: str, value: int) -> int:
    if value % 8:
        raise InvalidArgument(
            f"{name} is {value}; it must be a multiple of 8, such as {value // 8 * 8} or {value // 8 * 8 + 8}"
        )
    return value


def _check_prompt(name: str, text: str, limits: Limits, required: bool = False) -> str:
    if required and not text.strip():
        raise InvalidArgument(f"{name} is empty; it must say what to draw")
    if len(text) > limits.prompt_max:
        raise InvalidArgument(f"{name} has {len(text)} characters; at most {limits.prompt_max} are read")
    return text


def _check_count(name: str, count: int, high: int) -> None:
    if count > high:
        raise InvalidArgument(f"{name} has {count} names; at most {high} are allowed")


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _shorten(text: str) -> str:
    """A value fit for a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
