"""Modules that emit the project's ONNX nodes, put in the place of diffusers' before an export.

Parameters keep their names: a module that takes another's place holds the other's parameters as it did.
"""

from __future__ import annotations

from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from swiftdiffusion.networks.fused.convolution import Upsample
from swiftdiffusion.networks.fused.resnet import ResnetBlock
from swiftdiffusion_operators.onnx import emit_geglu, emit_group_norm


class GroupNormNode(nn.Module):
    """GroupNorm of [batch, channels, height, width] or [batch, channels, n], and what surrounds it, as one node."""

    def __init__(self, norm: nn.GroupNorm, silu: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps, self.silu = norm.num_groups, norm.eps, silu

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Add the shift [batch, channels], normalise, then SiLU; shapes as in ``group_norm_silu``."""
        picture = x if x.ndim == 4 else x.unsqueeze(-1)
        normed = emit_group_norm(picture, self.weight, self.bias, self.groups, self.eps, self.silu, shift)
        return normed if x.ndim == 4 else normed.squeeze(-1)


class GegluNode(nn.Module):
    """diffusers' ``GEGLU`` with its product as it was and its gate as one node."""

    def __init__(self, geglu: GEGLU) -> None:
        super().__init__()
        self.proj = geglu.proj

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., n]."""
        return emit_geglu(self.proj(x))


class ResnetNode(nn.Module):
    """diffusers' ``ResnetBlock2D`` as SDXL uses it, with both norms, the SiLUs and the time's shift as two nodes."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = GroupNormNode(block.norm1, silu=True), GroupNormNode(block.norm2, silu=True)
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.time_emb_proj, self.conv_shortcut = block.time_emb_proj, block.conv_shortcut

    def forward(self, input_tensor: Tensor, temb: Tensor | None) -> Tensor:
        """[batch, channels, height, width], the time embedding [batch, width] or None."""
        x = input_tensor
        shift = None if temb is None or self.time_emb_proj is None else self.time_emb_proj(silu(temb))
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(x)), shift))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class UpsampleNode(nn.Module):
    """diffusers' ``Upsample2D`` without asking for the number of elements, which dynamic shapes do not have."""

    def __init__(self, upsample: Upsample2D) -> None:
        super().__init__()
        self.conv = upsample.conv

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[batch, channels, height, width], to `size` or twice its own."""
        return self.conv(interpolate(x, size=size, scale_factor=None if size else 2.0, mode="nearest"))


def substitute(module: nn.Module) -> None:
    """Change `module` in place, for export only, so that it emits the project's nodes.

    A GroupNorm whose SiLU is not found is a node of its own; a ResNet block unlike SDXL's stays as it is but for its
    norms.
    """
    norm = getattr(module, "conv_norm_out", None)
    if isinstance(norm, nn.GroupNorm) and isinstance(getattr(module, "conv_act", None), nn.SiLU):
        module.conv_norm_out = GroupNormNode(norm, silu=True)
        module.conv_act = nn.Identity()
    for name, child in module.named_children():
        if isinstance(child, GEGLU):
            setattr(module, name, GegluNode(child))
        elif isinstance(child, ResnetBlock2D) and ResnetBlock.fits(child):
            setattr(module, name, ResnetNode(child))
        elif isinstance(child, Upsample2D) and Upsample.fits(child):
            setattr(module, name, UpsampleNode(child))
        elif isinstance(child, nn.GroupNorm):
            setattr(module, name, GroupNormNode(child))
        else:
            substitute(child)
