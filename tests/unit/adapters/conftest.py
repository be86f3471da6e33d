from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.store import AdapterStore
from swiftdiffusion.adapters.targets import NETWORKS, Targets

from .reference import build_pipeline

MakeLoader = Callable[..., LoraLoader]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """Not to be changed: copy it."""
    return build_pipeline()


@pytest.fixture(scope="session")
def pipeline_folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    for network in NETWORKS:
        getattr(pipeline, network).save_pretrained(folder / network)
    return folder


@pytest.fixture(scope="session")
def targets(pipeline_folder: Path) -> Targets:
    return Targets.read(pipeline_folder)


@pytest.fixture
def make_loader(tmp_path: Path, targets: Targets) -> Iterator[MakeLoader]:
    """Loaders for the LoRAs in `tmp_path`, closed after the test."""
    loaders: list[LoraLoader] = []

    def make(**options: Any) -> LoraLoader:
        loaders.append(LoraLoader(AdapterStore(tmp_path), targets, **{"networks": NETWORKS, **options}))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()
