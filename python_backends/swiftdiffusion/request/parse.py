"""From a request's tensors to a `PictureRequest`, refusing what cannot be served before any work."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence

from swiftdiffusion.denoising.schedulers import SCHEDULERS
from swiftdiffusion.errors import InvalidArgument, NotFound, shorten
from swiftdiffusion.request.images import OUTPUT_FORMATS, require_room
from swiftdiffusion.request.inputs import Inputs, require_count
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.references import Reference, decode_base64
from swiftdiffusion.request.request import ControlUse, LoraUse, PictureRequest
from swiftdiffusion.signature import Arrays

SEED_MAX = 2**63 - 1


def parse_request(
    tensors: Arrays, limits: Limits, served_controlnets: Callable[[Collection[str]], Sequence[str]]
) -> PictureRequest:
    """Check every input and fill in the defaults.

    Whether the LoRAs exist and fit is the adapter store's to say. Of reference images the heads are checked: whether
    their data are whole is known once these are decoded (`Reference.decode`).

    Args:
        tensors: the inputs that were sent, by name; texts as bytes objects.
        limits: the model's bounds and defaults.
        served_controlnets: gives the names that can be asked for now; it is told which ones are.

    Raises:
        InvalidArgument: names the input, its value and what is allowed.
        NotFound: a ControlNet that is not served.
    """
    inputs = Inputs(tensors)
    steps = inputs.integer("steps", limits.steps, 1, limits.steps_max)
    width = _check_size("width", inputs.integer("width", limits.width, limits.size_min, limits.size_max))
    height = _check_size("height", inputs.integer("height", limits.height, limits.size_min, limits.size_max))
    encoded = inputs.boolean("base64", False)
    request = PictureRequest(
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
        trace=inputs.boolean("trace", False),
    )
    require_room(request.output_format, request.describe())
    return request


def _parse_loras(inputs: Inputs, limits: Limits) -> tuple[LoraUse, ...]:
    names = inputs.texts("loras")
    require_count("loras", len(names), limits.loras_max)
    if len(set(names)) < len(names):
        raise InvalidArgument(f"loras names {shorten(_repeated(names))} twice; once each is allowed")
    scales = inputs.numbers_for("lora_scales", "loras", len(names), 1.0, -limits.scale_max, limits.scale_max)
    return tuple(LoraUse(name, scale) for name, scale in zip(names, scales, strict=True))


def _parse_controls(
    inputs: Inputs,
    limits: Limits,
    served: Callable[[Collection[str]], Sequence[str]],
    width: int,
    height: int,
    encoded: bool,
) -> tuple[ControlUse, ...]:
    names, files = inputs.texts("controlnets"), inputs.values("control_images")
    require_count("controlnets", len(names), limits.controlnets_max)
    if len(files) != len(names):
        raise InvalidArgument(
            f"control_images has {len(files)} pictures and controlnets {len(names)} names; one for each is needed"
        )
    known = served(names) if names else ()
    for name in names:
        if name not in known:
            raise NotFound(f"controlnets names {shorten(name)}; served: {', '.join(known) or 'none'}")
    count = len(names)
    scales = inputs.numbers_for("control_scales", "controlnets", count, 1.0, -limits.scale_max, limits.scale_max)
    starts = inputs.numbers_for("control_start", "controlnets", count, 0.0, 0.0, 1.0)
    ends = inputs.numbers_for("control_end", "controlnets", count, 1.0, 0.0, 1.0)
    references = []
    for index in range(count):
        if starts[index] >= ends[index]:
            raise InvalidArgument(
                f"control_start[{index}] is {starts[index]:g}; it must be below control_end[{index}], {ends[index]:g}"
            )
        label = f"control_images[{index}]"
        file = files[index] if isinstance(files[index], bytes) else str(files[index]).encode()
        if len(file) > limits.image_bytes_max:
            raise InvalidArgument(f"{label} has {len(file)} bytes; at most {limits.image_bytes_max} are read")
        references.append(Reference(decode_base64(file, label) if encoded else file, label, width, height))
    return tuple(map(ControlUse, names, references, scales, starts, ends))


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


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
