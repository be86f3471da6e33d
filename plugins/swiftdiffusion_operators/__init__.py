"""Fused operators: each one a PyTorch op with a plain CPU implementation and a GPU kernel, one a file."""

from swiftdiffusion_operators.convolve import convolve
from swiftdiffusion_operators.cross_attention import cross_attention
from swiftdiffusion_operators.geglu import geglu
from swiftdiffusion_operators.geglu_linear import geglu_linear
from swiftdiffusion_operators.group_norm_silu import group_norm_silu
from swiftdiffusion_operators.layer_norm import layer_norm
from swiftdiffusion_operators.self_attention import self_attention
from swiftdiffusion_operators.upsample_convolve import add_taps, upsample_convolve
from swiftdiffusion_operators.upsample_nearest import upsample_nearest

__all__ = [
    "add_taps",
    "convolve",
    "cross_attention",
    "geglu",
    "geglu_linear",
    "group_norm_silu",
    "layer_norm",
    "self_attention",
    "upsample_convolve",
    "upsample_nearest",
]
