"""The `controlnet` backend: a reference image and the UNet's inputs to residuals."""

import triton_python_backend_utils

from swiftdiffusion.services.contracts import CONTROLNET
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.service_model import Service, ServiceModel


class TritonPythonModel(ServiceModel):
    """Triton's view of one instance."""

    pb_utils = triton_python_backend_utils
    contract = CONTROLNET

    def open_service(self, bridge: Bridge) -> Service:
        """Load the networks."""
        from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService
        from swiftdiffusion.triton_bridge.loading import load

        return load(ControlNetService, ControlNetConfiguration, bridge)
