"""Seeded random weights for a module on the meta device, of magnitudes like a trained network's.

What the magnitudes have to bring about: activations of order 1 to 10 in every layer, so that fp16 neither overflows
nor vanishes; logits of order 1 in attention, so that its softmax is neither flat nor one-hot; and no two parameters
alike, since compilers merge those that are (all norms start as ones and zeros, a ControlNet's outputs as zeros).
"""

import re
from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

_NORM_DEVIATION = 0.1
_BIAS_DEVIATION = 0.02
_EMBEDDING_DEVIATION = 0.02  # OpenAI's and OpenCLIP's own
_GAINS = (
    # ends of residual branches: each adds its variance to the stream, over a hundred times in the UNet
    (re.compile(r"(to_out\.0|ff\.net\.2|proj_out|conv2|out_proj|fc2)$"), 0.3),
    # a ControlNet's outputs, which are to be smaller than the skips that they are added to
    (re.compile(r"^controlnet_(down_blocks\.\d+|mid_block)$"), 0.3),
    # the reference image's way in: seven times SiLU, which near 0 halves, with no norm between
    (re.compile(r"^controlnet_cond_embedding\."), 1.6),
)


def materialise(module: Module, dtype: torch.dtype, device: torch.device | str, seed: int) -> Module:
    """Give memory on `device` and random weights to a module on the meta device.

    A weight depends on the seed, the module's class, its own name and the kind of device alone; the CPU's and a GPU's
    differ.
    Norms get 1 + 0.1 z and 0.1 z; linear and convolution layers z / √fan-in (LeCun et al., "Efficient BackProp", 1998,
    section 4.6) times a gain, and biases 0.02 z; embeddings 0.02 z. z is normal, drawn in fp32.

    Args:
        module: on the meta device; its dtype is of no account.
        dtype: of the weights.
        device: where they are to be; nothing passes through the host's memory on the way to a GPU.
        seed: any integer.

    Returns:
        The same module, in evaluation mode, its weights without gradients.

    Raises:
        TypeError: a layer or a buffer of a kind that SDXL does not have.
    """
    kind = type(module).__name__
    for layer_name, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            noise = draw_noise(f"{kind}.{layer_name}.{name}", parameter.shape, device, seed)
            weight = _scale(noise, layer, layer_name, is_bias=name == "bias").to(dtype)
            setattr(layer, name, nn.Parameter(weight, requires_grad=False))
        for name, buffer in layer.named_buffers(recurse=False):
            if name != "position_ids":  # the text encoders'
                raise TypeError(f"buffer {name!r} of {type(layer).__name__} is none of SDXL's")
            setattr(layer, name, torch.arange(buffer.shape[-1], device=device).expand_as(buffer))
    return module.eval()


def draw_noise(name: str, shape: Sequence[int], device: torch.device | str, seed: int) -> Tensor:
    """Normal fp32 noise that depends on the name, the seed and the kind of device alone."""
    # hashed together, since a CPU's generator takes no more than 32 bits
    generator = torch.Generator(device).manual_seed(crc32(f"{seed} {name}".encode()))
    return torch.randn(tuple(shape), generator=generator, device=device)


def _scale(noise: Tensor, layer: nn.Module, layer_name: str, *, is_bias: bool) -> Tensor:
    if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
        return noise.mul_(_NORM_DEVIATION).add_(0.0 if is_bias else 1.0)
    if isinstance(layer, nn.Embedding):
        return noise.mul_(_EMBEDDING_DEVIATION)
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        if is_bias:
            return noise.mul_(_BIAS_DEVIATION)
        gain = next((gain for pattern, gain in _GAINS if pattern.search(layer_name)), 1.0)
        return noise.mul_(gain / noise[0].numel() ** 0.5)
    raise TypeError(f"layer {layer_name!r} is a {type(layer).__name__}, which is none of SDXL's")
