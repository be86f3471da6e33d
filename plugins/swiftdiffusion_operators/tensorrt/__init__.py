"""The operators as TensorRT plugins (IPluginV3) whose ``enqueue`` launches the project's kernels.

Nothing here imports TensorRT: whoever has it, of whichever kind, hands its module to `register_plugins`.
"""

from swiftdiffusion_operators.tensorrt.plugin import register_plugins

__all__ = ["register_plugins"]
