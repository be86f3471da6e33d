"""A real tritonserver for the tests: one for all of them, and more with altered configurations."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.ports import choose_free_ports
from launch.progress import Progress
from launch.server import Server, ServerSettings

START_SECONDS = 180.0
REQUEST_SECONDS = 300.0


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Callable[..., AbstractContextManager[Server]]:
    """Start a server on free ports: `with serve(repository, "--tritonserver-option=1") as server:`."""

    @contextmanager
    def serve(
        repository: Path = MODEL_REPOSITORY, *options: str, python_backends: Path = PYTHON_BACKENDS
    ) -> Iterator[Server]:
        settings = ServerSettings(
            ports=choose_free_ports(),
            model_repositories=(repository,),
            python_backends=python_backends,
            log=tmp_path_factory.mktemp("server") / "tritonserver.log",
            start_seconds=START_SECONDS,
            stops_at_once=True,
            further_options=options,
        )
        with Server(settings) as server:
            with Progress(f"starting tritonserver for {repository.name}") as progress:
                server.wait_until_ready(progress)
            yield server

    return serve


@pytest.fixture(scope="session")
def server(serve) -> Iterator[Server]:
    """The server that all tests share, with the model repository as it is in the checkout."""
    with serve() as server:
        yield server


@pytest.fixture(scope="session")
def http(server) -> Iterator[tritonclient.http.InferenceServerClient]:
    """An HTTP client of the shared server."""
    with tritonclient.http.InferenceServerClient(
        server.http_url, concurrency=8, connection_timeout=REQUEST_SECONDS, network_timeout=REQUEST_SECONDS
    ) as client:
        yield client


@pytest.fixture
def grpc(server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """A gRPC client of the shared server; each test has its own, since a client holds one stream."""
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.fixture
def alter_repository(tmp_path) -> Callable[..., Path]:
    """Copy a model repository with changed configurations, to be served by `serve`.

    `alter(name, config)` is called for each model and changes its `ModelConfig` message in place:

        repository = alter_repository(lambda name, config: set_parameter(config, "lora_bound", "0"))
    """

    def alter_repository(
        alter: Callable[[str, model_config_pb2.ModelConfig], None], repository: Path = MODEL_REPOSITORY
    ) -> Path:
        for file in repository.glob("*/config.pbtxt"):
            config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
            for parameter in config.parameters.values():
                if parameter.string_value.startswith(".."):  # relative to the repository, which has moved
                    parameter.string_value = str((repository / parameter.string_value).resolve())
            name = file.parent.name
            alter(name, config)
            (tmp_path / "model_repository" / name / "1").mkdir(parents=True)
            (tmp_path / "model_repository" / name / "config.pbtxt").write_text(text_format.MessageToString(config))
        return tmp_path / "model_repository"

    return alter_repository


@pytest.fixture(scope="session")
def set_parameter() -> Callable[[model_config_pb2.ModelConfig, str, str], None]:
    """Set a parameter of a `ModelConfig` message, for use in an `alter` function."""

    def set_parameter(config, name, value):
        config.parameters[name].string_value = value

    return set_parameter
