from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.pending import PendingLoras
from swiftdiffusion.adapters.store import AdapterFile
from swiftdiffusion.adapters.targets import NETWORKS, Targets
from swiftdiffusion.adapters.weights import LoraWeights

from .reference import build_pipeline


class LoaderByName(LoraLoader):
    """Asked by name, as a request asks."""

    def load(self, file: AdapterFile | str) -> Future[LoraWeights]:
        return super().load(self._store.find(file) if isinstance(file, str) else file)

    def begin(self, files: Sequence[AdapterFile | str], *arguments: Any) -> PendingLoras:
        return super().begin([self._store.find(f) if isinstance(f, str) else f for f in files], *arguments)


MakeLoader = Callable[..., LoaderByName]


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
    loaders: list[LoaderByName] = []

    def make(**options: Any) -> LoaderByName:
        loaders.append(LoaderByName(FolderStore(tmp_path), targets, **{"networks": NETWORKS, **options}))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket of an S3 server (`s3_store.S3Store`), to which the environment leads."""
    import s3fs

    from .s3_store import serve_bucket

    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with serve_bucket() as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.address)
        s3fs.S3FileSystem.clear_instance_cache()  # the last test's server is gone
        yield bucket
