"""The networks of `shapes`, exported once for all tests of this folder."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from swiftdiffusion.engines.tensorrt.records import GraphRecord, read_graph_record
from swiftdiffusion_build.export.step import export_networks
from swiftdiffusion_build.export.subjects import Checkpoint, Subject
from swiftdiffusion_build.layout import Layout

NETWORKS = (
    "text_encoder",
    "text_encoder_2",
    "unet_encoder",
    "unet_decoder",
    "controlnet_edges",
    "vae_decoder",
    "vae_encoder",
)

WEIGHTS = Path(__file__).resolve().parents[3] / "build" / "shapes" / "weights"


class Details(list):
    """Keeps what a step says."""

    def update(self, detail):
        self.append(detail)

    conclude = update


class Activities(dict):
    """A `Begin` that keeps what the steps say, by activity."""

    @contextmanager
    def __call__(self, activity):
        yield self.setdefault(activity, Details())


@pytest.fixture
def begin():
    return Activities()


class Exported(NamedTuple):
    """One network's ONNX file."""

    subject: Subject
    path: Path
    record: GraphRecord


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return Checkpoint(WEIGHTS / "pipeline", (WEIGHTS / "controlnets" / "edges",))


@pytest.fixture(scope="session")
def export(checkpoint, tmp_path_factory) -> Callable[[str], Exported]:
    """Export a network of `shapes` by its name, the first time that it is asked for."""
    layout = Layout(tmp_path_factory.mktemp("build"))
    subjects = checkpoint.subjects()

    def export(name: str) -> Exported:
        path = layout.graph(name)
        if not path.exists():
            export_networks([subjects[name]], layout, Activities())
        return Exported(subjects[name], path, read_graph_record(path.with_suffix(".json")))

    return export


@pytest.fixture(params=NETWORKS, scope="module")
def exported(request, export) -> Exported:
    """Each network in turn."""
    return export(request.param)
