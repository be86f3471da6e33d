"""A ControlNet's serving side: requests are attached to it, and get residuals for their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.configuration import require_range, split_names
from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.loaded import LoadedControlNet
from swiftdiffusion.controlnets.session import Attached, ControlNetSession
from swiftdiffusion.controlnets.shelf import MEBIBYTE, Shelf
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable, shorten
from swiftdiffusion.lifeline import Holder
from swiftdiffusion.placement import NetworkConfiguration, Placement, name_gpu
from swiftdiffusion.request.inputs import Inputs

SESSIONS_MAX = 256  # each has a thread; far more than there are lanes
TIMESTEPS_MAX = 10_000  # far more than anybody takes steps


@dataclass(frozen=True)
class ControlNetConfiguration(NetworkConfiguration):
    """The `controlnet` backend's parameters."""

    controlnet: Path | None = None  # a diffusers folder, served under the model's own name
    name: str = ""  # or under this one
    controlnets: Path | None = None  # or a folder of such folders, each served under its own
    memory_mb: float = 0.0  # for the weights of those; 0 for no limit
    pinned: str = ""  # those that are loaded at the start and stay: "edges, layout"
    load_timeout_s: float = 60.0  # how long a request waits for one to load, or for room
    prompt_tokens: int = 77  # of the prompts to warm up for

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.controlnet is None) == (self.controlnets is None):
            given = "neither is" if self.controlnet is None else "both are"
            raise InvalidArgument(
                f"parameters 'controlnet' (a diffusers folder) and 'controlnets' (a folder of them): {given} given, "
                "one is needed"
            )
        if self.controlnet is not None and (self.memory_mb or self.pinned):
            raise InvalidArgument("parameters 'memory_mb' and 'pinned' belong to 'controlnets'; one alone always stays")
        if self.name and self.controlnet is None:
            raise InvalidArgument(
                "parameter 'name' belongs to 'controlnet'; those of 'controlnets' have their folders'"
            )
        require_range("memory_mb", self.memory_mb, 0, 10_000_000)
        require_range("load_timeout_s", self.load_timeout_s, 0.1, 3600)
        require_range("prompt_tokens", self.prompt_tokens, 1, 1024)


class ControlNetService:
    """The ControlNets of one process, shared by every UNet of their base model."""

    def __init__(self, configuration: ControlNetConfiguration, placement: Placement) -> None:
        """Load what is to be there from the start.

        Raises:
            InvalidArgument: one pinned that is not there, or that the memory does not hold.
        """
        self._placement = placement
        self._load_timeout_s = configuration.load_timeout_s
        folders: Path | dict[str, Path]
        if configuration.controlnet is not None:
            self._only: str | None = configuration.controlnet.name
            self._told = [configuration.name] if configuration.name else []  # it does not know the model's name
            folders, pinned = {self._only: configuration.controlnet}, [self._only]
        else:
            assert configuration.controlnets is not None
            self._only, folders, pinned = None, configuration.controlnets, split_names(configuration.pinned)
        library = ControlNetLibrary(folders, configuration, configuration.prompt_tokens, placement)
        self._shelf = Shelf(library, int(configuration.memory_mb * MEBIBYTE), pinned)
        self._sessions: dict[str, ControlNetSession] = {}

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Attach a request, take one step of an attached one, or name what is served; as in `contracts.CONTROLNET`."""
        if "session" not in inputs:
            names = self._shelf.names() if self._only is None else self._told
            gpu = name_gpu(self._placement.device)
            return {
                "names": np.array([name.encode() for name in names], dtype=np.object_),
                "gpu": np.array([gpu.encode()], dtype=np.object_),
            }
        if "sample" not in inputs:
            self._attach(inputs)
            return {"names": inputs["controlnet"]}
        read = Inputs(inputs)
        session = self._sessions.get(read.text("session", ""))
        if session is None:
            raise Unavailable("the request is not attached to the ControlNet")
        return {"residuals": session.step(inputs["sample"], read.array("timestep", (1, 1)))}

    def close(self) -> None:
        """Load nothing more; sessions end with their lanes, or with this process."""
        self._shelf.close()

    def _attach(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        missing = {"controlnet", "timesteps"} - inputs.keys()
        if missing:
            raise InvalidArgument(f"attaching needs the inputs {', '.join(sorted(missing))} too")
        read = Inputs(inputs)
        token = read.text("session", "")
        if token in self._sessions:
            raise InvalidArgument(f"session is {token!r}, which is attached already; once is allowed")
        if len(self._sessions) >= SESSIONS_MAX:
            raise Unavailable(f"{SESSIONS_MAX} requests are attached to the ControlNet already")
        name = self._only or read.text("controlnet", "")
        if name not in (names := self._shelf.names()):
            raise NotFound(f"controlnet is {shorten(name)}; served: {', '.join(names) or 'none'}")
        attached = Attached(
            timesteps=read.array("timesteps", (1, TIMESTEPS_MAX)).copy(),  # Triton's memory goes with the call
            trace=read.boolean("trace", False),
        )
        session = ControlNetSession(Holder(token, "session"), attached, partial(self._lend, name), self._placement)
        self._sessions[token] = session
        session.start(lambda: self._sessions.__delitem__(token))

    def _lend(self, name: str, check: Callable[[], None]) -> AbstractContextManager[LoadedControlNet]:
        return self._shelf.lease(name, check, self._load_timeout_s)
