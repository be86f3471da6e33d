"""A ControlNet's serving side: requests are attached to it, and get residuals for their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swiftdiffusion.controlnets.session import Attached, ControlNetSession
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.engines import Engine, make_engine
from swiftdiffusion.errors import InvalidArgument, Unavailable
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.placement import NetworkConfiguration, Placement

SESSIONS_MAX = 256  # each has a thread; far more than there are lanes


@dataclass(frozen=True)
class ControlNetConfiguration(NetworkConfiguration):
    """The `controlnet` backend's parameters."""

    controlnet: Path  # a diffusers folder
    prompt_tokens: int = 77  # of the prompts to warm up for


class ControlNetService:
    """One ControlNet, shared by every UNet of its base model."""

    def __init__(self, configuration: ControlNetConfiguration, placement: Placement) -> None:
        plan = f"controlnet_{configuration.controlnet.name}"
        network = load_controlnet(configuration.controlnet, placement.dtype)
        self._placement = placement
        self._name = configuration.controlnet.name
        self._pixels_a_latent = network.pixels_a_latent
        self._latent_channels = network.latent_channels
        self._engine = make_engine(
            configuration.engine, network, placement, captures=configuration.captures, plan=configuration.plan(plan)
        )
        self._sessions: dict[str, ControlNetSession] = {}
        for height, width in configuration.warm_up_sizes:
            empty = blank(network, configuration.prompt_tokens, height, width, placement)
            sample = empty.pooled.new_zeros(self._sample_shape(empty.batch, height, width))
            image = empty.pooled.new_zeros((1, 3, height, width))
            self._engine(
                sample,
                sample.new_ones((), dtype=torch.float32),
                empty.prompt_embeds,
                empty.pooled,
                empty.time_ids,
                image,
            )

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Attach a request, take one step of an attached one, or name what is served; as in `contracts.CONTROLNET`."""
        if "session" not in inputs:
            return {"names": np.array([self._name.encode()], dtype=np.object_)}
        token = _read_text(inputs["session"])
        if "sample" not in inputs:
            self._attach(token, inputs)
            return {"names": inputs["controlnet"]}
        session = self._sessions.get(token)
        if session is None:
            raise Unavailable("the request is not attached to the ControlNet")
        residuals = session.step(self._place(inputs["sample"]), self._place_exactly(inputs["timestep"])[0])
        return {"residuals": residuals.numpy()}

    def close(self) -> None:
        """Nothing to let go of: sessions end with their lanes, or with this process."""

    def _attach(self, token: str, inputs: Mapping[str, NDArray[Any]]) -> None:
        missing = {"controlnet", "prompt_embeds", "pooled", "time_ids", "image", "timesteps"} - inputs.keys()
        if missing:
            raise InvalidArgument(f"attaching needs the inputs {', '.join(sorted(missing))} too")
        if len(self._sessions) >= SESSIONS_MAX:
            raise Unavailable(f"{SESSIONS_MAX} requests are attached to the ControlNet already")
        height, width = inputs["image"].shape[:2]
        attached = Attached(
            sample=self._sample_shape(len(inputs["prompt_embeds"]), height, width),
            timesteps=self._place_exactly(inputs["timesteps"]),
            prompt_embeds=self._place(inputs["prompt_embeds"]),
            pooled=self._place(inputs["pooled"]),
            time_ids=self._place(inputs["time_ids"]),
            image=self._place(inputs["image"]).permute(2, 0, 1).unsqueeze(0) / 255,
        )
        session = ControlNetSession(token, attached, self._lend, self._placement)
        self._sessions[token] = session
        session.start(lambda: self._sessions.__delitem__(token))

    @contextmanager
    def _lend(self, check: Callable[[], None]) -> Iterator[Engine]:
        yield self._engine

    def _sample_shape(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        return (batch, self._latent_channels, height // self._pixels_a_latent, width // self._pixels_a_latent)

    def _place(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(array, device=self._placement.device, dtype=self._placement.dtype)

    def _place_exactly(self, array: NDArray[Any]) -> torch.Tensor:
        """In fp32: half a number type would move a timestep."""
        return torch.tensor(array, device=self._placement.device)


def _read_text(array: NDArray[Any]) -> str:
    return array.reshape(-1)[0].decode(errors="replace")
