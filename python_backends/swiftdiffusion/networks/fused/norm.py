"""GroupNorm with the SiLU after it."""

from __future__ import annotations

from torch import Tensor, nn

from swiftdiffusion_operators import group_norm_silu


class GroupNormSiLU(nn.Module):
    """A GroupNorm's weights under their names, applied by the fused operator."""

    def __init__(self, norm: nn.GroupNorm, silu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps, self.silu = norm.num_groups, norm.eps, silu

    def forward(self, x: Tensor, shift: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """x [batch, channels, h, w], the last channels in `beside`; `shift` [batch, channels] is added first."""
        return group_norm_silu(x, self.weight, self.bias, self.groups, self.eps, self.silu, shift, beside)
