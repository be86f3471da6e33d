"""The ControlNets that one process can load, as folders on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swiftdiffusion.engines import Engine, make_engine
from swiftdiffusion.errors import NotFound, Unavailable, shorten
from swiftdiffusion.networks.controlnet import ControlNet, load_controlnet
from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion.placement import NetworkConfiguration, Placement

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Prepare(Protocol):
    """What is done with an engine before it is used, such as warming it up."""

    def __call__(self, engine: Engine, network: ControlNet) -> None:
        """Use `engine`, which runs `network`."""


@dataclass(frozen=True)
class LoadedControlNet:
    """A ControlNet that is ready to run."""

    engine: Engine
    nbytes: int  # of its parameters


class ControlNetLibrary:
    """Diffusers folders by name; those of a folder of folders are looked for anew each time."""

    def __init__(
        self, folders: Path | Mapping[str, Path], configuration: NetworkConfiguration, placement: Placement, prepare: Prepare
    ) -> None:
        """Args: a folder of diffusers folders, or some by name; engine, captures and plans; where they run."""
        self._folders, self._configuration, self._placement, self._prepare = folders, configuration, placement, prepare

    def names(self) -> list[str]:
        """Those that are there now, sorted; raises Unavailable for a folder that cannot be read."""
        return sorted(self._find())

    def measure(self, name: str) -> int:
        """The bytes of its parameters on the device, read from its files' headers."""
        return count_weights(self._folder(name)) * self._placement.dtype.itemsize

    def load(self, name: str) -> LoadedControlNet:
        """Read it, and make it ready."""
        folder, configuration = self._folder(name), self._configuration
        network = load_controlnet(folder, self._placement.dtype)
        nbytes = sum(weight.nbytes for weight in network.weights().values())
        plan = configuration.plan(f"controlnet_{folder.name}")
        engine = make_engine(
            configuration.engine, network, self._placement, captures=configuration.captures, plan=plan
        )
        self._prepare(engine, network)
        return LoadedControlNet(engine, nbytes)

    def _folder(self, name: str) -> Path:
        folders = self._find()
        if name not in folders:
            raise NotFound(f"ControlNet {shorten(name)} is not here; served: {', '.join(sorted(folders)) or 'none'}")
        return folders[name]

    def _find(self) -> Mapping[str, Path]:
        if not isinstance(self._folders, Path):
            return self._folders
        try:
            return {
                folder.name: folder
                for folder in self._folders.iterdir()
                if _NAME.fullmatch(folder.name) and (folder / "config.json").is_file()
            }
        except OSError as error:
            raise Unavailable(f"the folder of ControlNets cannot be read: {error.strerror}") from None
