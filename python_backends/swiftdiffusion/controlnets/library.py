"""The ControlNets that one process can load, as folders on disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch

from swiftdiffusion.controlnets.loaded import LoadedControlNet
from swiftdiffusion.denoising.conditioning import blank
from swiftdiffusion.engines import make_engine
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable, shorten
from swiftdiffusion.networks.controlnet import load_controlnet
from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion.placement import NetworkConfiguration, Placement

_log = logging.getLogger("swiftdiffusion")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ControlNetLibrary:
    """Diffusers folders by name; those of a folder of folders are looked for anew each time."""

    def __init__(
        self,
        folders: Path | Mapping[str, Path],
        configuration: NetworkConfiguration,
        prompt_tokens: int,
        placement: Placement,
    ) -> None:
        """Open it.

        Args:
            folders: a folder of diffusers folders, or some of them by name.
            configuration: engine, captures, plans and what to warm up.
            prompt_tokens: of the prompts to warm up for.
            placement: where the ControlNets run.
        """
        self._folders, self._configuration = folders, configuration
        self._prompt_tokens, self._placement = prompt_tokens, placement

    def names(self) -> list[str]:
        """Those that are there now, sorted; raises Unavailable for a folder that cannot be read."""
        return sorted(self._find())

    def measure(self, name: str) -> int:
        """The bytes of its parameters on the device, read from its files' headers; raises Unavailable."""
        try:
            return count_weights(self._folder(name)) * self._placement.dtype.itemsize
        except (InvalidArgument, OSError) as error:  # which names paths
            _log.error("ControlNet %r cannot be loaded: %s", name, error)
            raise Unavailable(f"ControlNet {name!r} cannot be loaded: its weights are missing or damaged") from None

    def load(self, name: str) -> LoadedControlNet:
        """Read it, and make it ready."""
        folder, configuration = self._folder(name), self._configuration
        network = load_controlnet(folder, self._placement.dtype)
        nbytes = sum(weight.nbytes for weight in network.weights().values())
        plan = configuration.plan(f"controlnet_{folder.name}")
        captures = configuration.prompted_captures
        engine = make_engine(configuration.engine, network, self._placement, captures=captures, plan=plan)
        loaded = LoadedControlNet(engine, nbytes, network.latent_channels, network.pixels_a_latent)
        for (height, width), wordless in product(configuration.warm_up_sizes, (0, 1)):
            empty = blank(network, self._prompt_tokens, height, width, self._placement, wordless)
            sample = empty.pooled.new_zeros(loaded.shape_sample(empty.batch, height, width))
            image = empty.pooled.new_zeros((1, 3, height, width))
            timestep = sample.new_ones((), dtype=torch.float32)
            engine(sample, timestep, empty.prompt_embeds, empty.pooled, empty.time_ids, image)
        if self._placement.device.type == "cuda":
            torch.cuda.synchronize(self._placement.device)  # other threads use it on streams of their own
        return loaded

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
