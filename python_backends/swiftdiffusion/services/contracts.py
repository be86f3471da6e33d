"""Inputs and outputs of the models beside the lane, all on the host."""

from __future__ import annotations

from swiftdiffusion.signature import Port, Signature

RAN = Port("ran", "TYPE_FP64", (2,))  # start and end of the work, in seconds of the machine's monotonic clock

TEXT_ENCODER = Signature(
    inputs=(
        Port("prompts", "TYPE_STRING", (-1,)),
        Port("loras", "TYPE_STRING", (-1,), optional=True),
        Port("lora_scales", "TYPE_FP32", (-1,), optional=True),
    ),
    outputs=(
        Port("hidden", "TYPE_FP32", (-1, -1, -1)),  # [prompts, tokens, width]
        Port("pooled", "TYPE_FP32", (-1, -1)),  # [prompts, pooled width]
        Port("cached", "TYPE_BOOL", (-1,)),  # [prompts]: not encoded again
        RAN,
    ),
)

ADAPTERS = Signature(
    inputs=(
        Port("names", "TYPE_STRING", (-1,), optional=True),  # to describe; without them the first ones are
        Port("start", "TYPE_INT32", (1,), optional=True),  # the first one's place in the list
        Port("count", "TYPE_INT32", (1,), optional=True),
    ),
    outputs=(
        Port("names", "TYPE_STRING", (-1,)),  # all, sorted
        Port("adapters", "TYPE_STRING", (-1,)),  # for each described one a JSON object
    ),
)

VAE_DECODER = Signature(
    inputs=(
        Port("latents", "TYPE_FP32", (1, -1, -1, -1)),
        Port("jpeg_quality", "TYPE_INT32", (1,), optional=True),  # 1 to 100: a file is wanted; 0: pixels
    ),
    outputs=(
        Port("pixels", "TYPE_UINT8", (-1, -1, 3)),  # [height, width, 3]; also where no file can be made
        Port("jpeg", "TYPE_UINT8", (-1,)),  # in place of pixels: a file's bytes; `ran` ends before these are made
        RAN,
    ),
)

# all but `sample` and `timestep` attach a request, whose reference and prompts follow over its lifeline; `session`,
# `sample` and `timestep` are a step of it; nothing asks what is served
CONTROLNET = Signature(
    inputs=(
        Port("session", "TYPE_STRING", (1,), optional=True),  # its lifeline's token
        Port("controlnet", "TYPE_STRING", (1,), optional=True),
        Port("timesteps", "TYPE_FP32", (-1,), optional=True),  # of the steps in which it acts
        Port("trace", "TYPE_BOOL", (1,), optional=True),  # whether it is to be told when each was computed
        Port("sample", "TYPE_FP32", (-1, -1, -1, -1), optional=True),  # [batch, 4, h, w]
        Port("timestep", "TYPE_FP32", (1,), optional=True),
    ),
    outputs=(
        Port("names", "TYPE_STRING", (-1,)),  # of the one attached, or of all served; none: the model's own
        Port("gpu", "TYPE_STRING", (1,)),  # where it runs, as `placement.name_gpu` has it; with all that are served
        # of a step, unscaled: each UNet skip's residual, then the mid block's, each [batch, h, w, c], flattened
        Port("residuals", "TYPE_FP32", (-1,)),
    ),
)
