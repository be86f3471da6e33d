"""The `vae` backend: latents to pixels."""

import triton_python_backend_utils

from swiftdiffusion.services.contracts import VAE_DECODER
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.service_model import Service, ServiceModel


class TritonPythonModel(ServiceModel):
    """Triton's view of one instance."""

    pb_utils = triton_python_backend_utils
    contract = VAE_DECODER

    def open_service(self, bridge: Bridge) -> Service:
        """Load the networks."""
        from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService
        from swiftdiffusion.triton_bridge.loading import load

        return load(VaeDecoderService, VaeDecoderConfiguration, bridge)
