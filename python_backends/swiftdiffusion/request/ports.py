"""The inputs and outputs of `swiftdiffusion` and `swiftdiffusion_stream`."""

from __future__ import annotations

from swiftdiffusion.signature import Port, Signature

INPUTS = (
    Port("prompt", "TYPE_STRING", (1,)),
    Port("negative_prompt", "TYPE_STRING", (1,), optional=True),
    Port("seed", "TYPE_INT64", (1,), optional=True),
    Port("steps", "TYPE_INT32", (1,), optional=True),
    Port("guidance_scale", "TYPE_FP32", (1,), optional=True),
    Port("width", "TYPE_INT32", (1,), optional=True),
    Port("height", "TYPE_INT32", (1,), optional=True),
    Port("scheduler", "TYPE_STRING", (1,), optional=True),
    Port("loras", "TYPE_STRING", (-1,), optional=True),
    Port("lora_scales", "TYPE_FP32", (-1,), optional=True),
    Port("lora_bound", "TYPE_INT32", (1,), optional=True),
    Port("controlnets", "TYPE_STRING", (-1,), optional=True),
    Port("control_images", "TYPE_STRING", (-1,), optional=True),
    Port("control_scales", "TYPE_FP32", (-1,), optional=True),
    Port("control_start", "TYPE_FP32", (-1,), optional=True),
    Port("control_end", "TYPE_FP32", (-1,), optional=True),
    Port("output_format", "TYPE_STRING", (1,), optional=True),
    Port("preview_every", "TYPE_INT32", (1,), optional=True),
    Port("base64", "TYPE_BOOL", (1,), optional=True),
    Port("trace", "TYPE_BOOL", (1,), optional=True),
)

PICTURE = (
    Port("image", "TYPE_STRING", (1,)),  # the encoded picture; left out where output_format is raw
    Port("pixels", "TYPE_UINT8", (-1, -1, 3)),  # [height, width, 3] where it is raw, else left out
    Port("info", "TYPE_STRING", (1,)),  # JSON
)

PROGRESS = (
    Port("step", "TYPE_INT32", (1,)),
    Port("steps", "TYPE_INT32", (1,)),
    Port("seconds", "TYPE_FP32", (1,)),
    Port("preview", "TYPE_STRING", (1,)),  # a small JPEG, with every n-th step; else left out
)

PICTURE_MODEL = Signature(INPUTS, PICTURE)
STREAM_MODEL = Signature(INPUTS, (*PROGRESS, *PICTURE))
