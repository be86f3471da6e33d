"""The three TCP ports of a server."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass, fields

from launch.problems import LaunchError


@dataclass(frozen=True)
class Ports:
    """Port numbers; the defaults are Triton's own."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


def choose_free_ports(host: str = "127.0.0.1") -> Ports:
    """Pick three ports that nobody listens on now."""
    with ExitStack() as held:  # all three are held until the last is known, so that they differ
        sockets = [held.enter_context(_open_socket(host)) for _ in fields(Ports)]
        for each in sockets:
            each.bind((host, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def check_ports(ports: Ports, host: str) -> None:
    """Raise `LaunchError` for the first port that cannot be listened on."""
    chosen: dict[int, str] = {}
    for field in fields(Ports):
        port, option = getattr(ports, field.name), f"--{field.name}-port"
        if port in chosen:
            raise LaunchError(f"Port {port} is given twice: choose another with {chosen[port]} or {option}.")
        chosen[port] = option
        with _open_socket(host) as probe:
            try:
                probe.bind((host, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise LaunchError(
                    f"Port {port} of {host} cannot be used ({reason}): choose another with {option}."
                ) from error


def _open_socket(host: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # As a server does: a port whose last connections are still closing counts as free.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened
