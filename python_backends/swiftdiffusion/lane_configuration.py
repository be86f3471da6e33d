"""What `config.pbtxt` says of a lane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swiftdiffusion.adapters.opening import StoreConfiguration
from swiftdiffusion.configuration import require_range
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.placement import NetworkConfiguration
from swiftdiffusion.request.limits import Limits


@dataclass(frozen=True, kw_only=True)
class LaneConfiguration(NetworkConfiguration, StoreConfiguration, Limits):
    """`swiftdiffusion`'s parameters."""

    pipeline: Path  # a diffusers folder
    text_encoder: str = "text_encoder"
    vae_decoder: str = "vae_decoder"
    controlnet_prefix: str = "controlnet_"  # a ControlNet `edges` is the model `controlnet_edges`
    controlnets: Path | None = None  # a folder of diffusers folders, of ControlNets that the lane runs itself
    controlnets_memory_mb: float = 0.0  # for the weights of those on each GPU; 0 for no limit
    controlnets_pinned: str = ""  # those of them that are loaded at the start and stay: "edges, layout"
    lora_cache_mb: int = 1024
    lora_timeout_s: float = 30.0
    pristine_weights: str = "device"  # or host: where the copies lie that LoRAs are added to
    service_timeout_s: float = 120.0  # how long one call to another model may take
    controlnet_patience_s: float = 30.0  # one that has failed and answers nothing for so long is killed and loaded anew
    controlnet_transport: str = "auto"  # one of TRANSPORTS
    controlnet_near_first: bool = True  # whether the encoder half runs after ControlNets on its GPU, not beside them
    controlnet_timeout_s: float = 2.0  # silence of a ControlNet, or a step's delay, that counts as its death
    second_gpu: str = ""  # where the negative half of guidance is predicted: see `choose_second`

    def __post_init__(self) -> None:
        NetworkConfiguration.__post_init__(self)
        StoreConfiguration.__post_init__(self)
        Limits.__post_init__(self)
        if self.controlnets is None and (self.controlnets_memory_mb or self.controlnets_pinned):
            raise InvalidArgument(
                "parameters 'controlnets_memory_mb' and 'controlnets_pinned' belong to 'controlnets' (a folder of "
                "diffusers folders), which is not given"
            )
        if self.pristine_weights not in ("device", "host"):
            raise InvalidArgument(f"parameter 'pristine_weights' is {self.pristine_weights!r}; allowed: device, host")
        require_range("lora_cache_mb", self.lora_cache_mb, 0, 1_000_000)
        require_range("lora_timeout_s", self.lora_timeout_s, 0.1, 3600)
        require_range("controlnets_memory_mb", self.controlnets_memory_mb, 0, 10_000_000)
        require_range("service_timeout_s", self.service_timeout_s, 0.1, 3600)
        require_range("controlnet_timeout_s", self.controlnet_timeout_s, 0.1, 3600)
        require_range("controlnet_patience_s", self.controlnet_patience_s, 0.1, 3600)
