"""Networks for the GPU: diffusers' layers exchanged for ones that run the fused operators, channels last.

Weights keep their names and may be overwritten in place at any time.
"""

from swiftdiffusion.networks.fused.fuse import fuse

__all__ = ["fuse"]
