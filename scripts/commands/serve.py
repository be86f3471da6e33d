"""`scripts/serve`: a tritonserver in the foreground."""

import argparse
import sys
from pathlib import Path

from launch.interpreter import describe_interpreter
from launch.options import add_environment_options, make_parser, parse_and_pass_on
from launch.paths import LOGS, MODEL_REPOSITORY, PYTHON_BACKENDS, shorten
from launch.ports import Ports
from launch.preflight import check_serving
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server, ServerSettings

NAMES_SHOWN = 12
FOLLOW_SECONDS = 0.2

DESCRIPTION = """\
Serve the model repository with tritonserver, in the foreground, until Ctrl-C. The first time a virtual
environment is made and the packages of requirements.lock are installed. A tritonserver on PATH is used, as in
NVIDIA's container; else that of the nvidia-pytriton package.
"""

EPILOG = """\
Options not listed here, and all after --, are tritonserver's own and passed on:
  scripts/serve --log-verbose=1 --response-cache byte_size=1048576
  scripts/serve --model-control-mode=explicit --load-model=swiftdiffusion
"""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; unknown options end up in `further_options`."""
    parser = make_parser("scripts/serve", DESCRIPTION, EPILOG)
    default = Ports()
    parser.add_argument(
        "--model-repository",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="folder of models to serve, may be given several times (default: model_repository)",
    )
    parser.add_argument(
        "--python-backends",
        type=Path,
        default=PYTHON_BACKENDS,
        metavar="FOLDER",
        help="folder with a folder for each backend that models name (default: python_backends)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on, 0.0.0.0 for all (default: %(default)s)"
    )
    parser.add_argument("--http-port", type=int, default=default.http, metavar="PORT", help="default: %(default)s")
    parser.add_argument("--grpc-port", type=int, default=default.grpc, metavar="PORT", help="default: %(default)s")
    parser.add_argument(
        "--metrics-port", type=int, default=default.metrics, metavar="PORT", help="default: %(default)s"
    )
    parser.add_argument("--verbose", action="store_true", help="show the server's log here, too")
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="for loading the models (default: %(default)s)",
    )
    add_environment_options(parser)
    return parse_and_pass_on(parser, arguments)


def work(options: argparse.Namespace) -> int:
    """Serve until the person, or the server itself, ends it."""
    settings = make_settings(options)
    check_serving(describe_interpreter(sys.executable), settings.ports, settings.host)
    with Server(settings) as server:
        with Progress("starting tritonserver", live=not options.verbose) as progress:
            server.wait_until_ready(progress, show=print if options.verbose else None)
        print(describe_endpoints(server), flush=True)
        while not server.wait(FOLLOW_SECONDS if options.verbose else None):
            for line in server.log.read_new():
                print(line, flush=True)
        raise LaunchError(f"tritonserver ended by itself:\n{server.explain_failure()}")


def make_settings(options: argparse.Namespace) -> ServerSettings:
    """Check the folders named and gather the settings; raises `LaunchError` for a folder that is none."""
    repositories = tuple(path.absolute() for path in options.model_repository or [MODEL_REPOSITORY])
    for repository in repositories:
        if not repository.is_dir():
            raise LaunchError(f"{repository} is not a folder: name one of models with --model-repository.")
    return ServerSettings(
        ports=Ports(options.http_port, options.grpc_port, options.metrics_port),
        host=options.host,
        model_repositories=repositories,
        python_backends=options.python_backends.absolute(),
        log=LOGS / f"tritonserver-{options.http_port}.log",
        start_seconds=options.start_timeout,
        further_options=options.further_options,
    )


def describe_adapters(server: Server) -> list[str]:
    """Name the LoRAs where the model `adapters` is served and its store answers."""
    try:
        names = server.list_adapters() if "adapters" in server.list_models() else None
    except OSError:
        names = None
    if names is None:
        return []
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return [f"LoRAs    {', '.join(names[:NAMES_SHOWN]) or 'none'}{more}"]


def describe_endpoints(server: Server) -> str:
    """Say where the server is reached and what it serves."""
    return "\n".join(
        (
            f"HTTP     http://{server.http_url}",
            f"gRPC     {server.grpc_url}",
            f"metrics  {server.metrics_url}",
            f"models   {', '.join(server.list_models()) or 'none'}",
            *describe_adapters(server),
            f"log      {shorten(server.settings.log)}",
            "Ctrl-C stops the server.",
        )
    )
