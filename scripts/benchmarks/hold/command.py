"""A server of diffusers, kept for other calls to measure: what compiles for minutes does so once."""

from __future__ import annotations

import argparse
import time

from benchmarks.serving.options import add_checkpoint_options
from benchmarks.serving.systems import BEST, LABELS, MODELS, STOCK, AddOns, read_add_ons
from launch.interrupts import check_interrupts
from launch.problems import LaunchError
from launch.progress import Progress

DESCRIPTION = """\
Serve a checkpoint by stock diffusers or by diffusers at its best and answer a request of each kind, so that all that
is to be measured is compiled. Until Ctrl-C `scripts/benchmark grid --held` and `trace --held` with the same --out, on
the same GPUs, measure this server instead of starting their own.
"""
EVERY_KIND = tuple(map(AddOns.parse, ("0/0", "0/1", "0/2", "3/0", "1/1", "1/2")))
"""With ControlNets and without, each of them, each number of LoRAs."""
STEPS, POLL_S = 2, 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("system", choices=(STOCK, BEST), help="which one")
    parser.add_argument(
        "--configurations",
        type=read_add_ons,
        nargs="+",
        default=EVERY_KIND,
        metavar="CONTROLNETS/LORAS",
        help=f"requests to compile for (default: one of each kind, {' '.join(map(str, EVERY_KIND))})",
    )
    add_checkpoint_options(parser)


def work(options: argparse.Namespace) -> int:
    """Serve until interrupted; raises LaunchError where it cannot be served, or dies."""
    # Only now, in the environment: what follows is not of the standard library.
    from benchmarks.serving.checkpoints import draw_grid_requests
    from benchmarks.serving.client import ask_in_turn
    from benchmarks.serving.deployment import choose_checkpoint, serve_diffusers
    from benchmarks.serving.held import announced
    from launch.server import is_ready

    system: str = options.system
    with Progress(f"serving {LABELS[system]}") as progress:
        checkpoint = choose_checkpoint(options, progress)
        with serve_diffusers(checkpoint, system, options, progress) as served:
            for add_ons in options.configurations:
                progress.update(f"first request with {add_ons}")
                progress.pulse()
                request = next(draw_grid_requests(checkpoint, served.adapters, add_ons, STEPS, "jpeg"))
                (reply,) = ask_in_turn(served.grpc_url, MODELS[system], [request])
                if reply.failure:
                    raise LaunchError(f"a request with {add_ons} failed: {reply.failure}")
            with announced(options.out, system, checkpoint, served):
                progress.update(f"ready at {served.http_url}, until Ctrl-C")
                while is_ready(served.http_url):
                    check_interrupts()
                    progress.pulse()
                    time.sleep(POLL_S)
    raise LaunchError(f"the server of {LABELS[system]} has ended")
