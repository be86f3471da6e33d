"""What of a command line is passed on."""

import pytest

from commands import serve, test
from launch.paths import MODEL_REPOSITORY, PYTHON_BACKENDS
from launch.ports import Ports
from launch.problems import LaunchError


def test_serve_passes_unknown_options_on_in_order():
    options = serve.parse_options(["--log-verbose=1", "--http-port", "9000", "--id", "x", "--", "--host", "y"])
    assert options.http_port == 9000
    assert options.further_options == ("--log-verbose=1", "--id", "x", "--host", "y")


def test_serve_has_tritons_own_defaults():
    settings = serve.make_settings(serve.parse_options([]))
    assert settings.ports == Ports(8000, 8001, 8002)
    assert settings.host == "127.0.0.1"
    assert settings.model_repositories == (MODEL_REPOSITORY,)
    assert settings.python_backends == PYTHON_BACKENDS


def test_serve_refuses_a_repository_that_is_none(tmp_path):
    with pytest.raises(LaunchError, match="nowhere is not a folder"):
        serve.make_settings(serve.parse_options(["--model-repository", str(tmp_path / "nowhere")]))


def test_test_passes_pytests_options_on():
    options = test.parse_options(["--only-tests", "tests/unit", "-k", "lora and not slow", "-x"])
    assert options.only_tests
    assert options.further_options == ("tests/unit", "-k", "lora and not slow", "-x")
