"""The `adapters` backend: which LoRAs are served."""

import triton_python_backend_utils

from swiftdiffusion.services.contracts import ADAPTERS
from swiftdiffusion.triton_bridge.bridge import Bridge
from swiftdiffusion.triton_bridge.service_model import Service, ServiceModel


class TritonPythonModel(ServiceModel):
    """Triton's view of one instance."""

    pb_utils = triton_python_backend_utils
    contract = ADAPTERS

    def open_service(self, bridge: Bridge) -> Service:
        """Open the store."""
        from swiftdiffusion.services.adapters import AdapterListConfiguration, AdapterListService

        return AdapterListService(bridge.configure(AdapterListConfiguration))
