"""The `text_encoder` backend: prompts to embeddings."""

import triton_python_backend_utils

from swiftdiffusion.services.contracts import TEXT_ENCODER
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.service_model import Service, ServiceModel


class TritonPythonModel(ServiceModel):
    """Triton's view of one instance."""

    pb_utils = triton_python_backend_utils
    contract = TEXT_ENCODER

    def open_service(self, bridge: Bridge) -> Service:
        """Load the networks."""
        from swiftdiffusion.services.text_encoder import TextEncoderConfiguration, TextEncoderService
        from swiftdiffusion.triton_bridge.loading import load

        return load(TextEncoderService, TextEncoderConfiguration, bridge)
