"""Where things lie in the folder that a build writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The output folder; a record lies beside each file, with the ending ``.json``."""

    folder: Path
    refittable: bool = True  # plans whose weights LoRAs can change, or plain ones, to compare the two

    @property
    def plans(self) -> Path:
        """The folder of plans, which models' configurations name."""
        return self.folder / ("plans" if self.refittable else "plain_plans")

    @property
    def model_repository(self) -> Path:
        """What tritonserver serves."""
        return self.folder / "model_repository"

    @property
    def controlnets(self) -> Path:
        """Links to the ControlNets that lanes run themselves."""
        return self.folder / "lane_controlnets"

    def graph(self, network: str) -> Path:
        """A network's ONNX file."""
        return self.folder / "onnx" / f"{network}.onnx"

    def plan(self, network: str) -> Path:
        """A network's plan."""
        return self.plans / f"{network}.plan"
