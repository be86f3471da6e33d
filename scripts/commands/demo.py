"""`scripts/demo`: one prompt drawn four times, with and without its add-ons."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.interpreter import describe_interpreter
from launch.options import add_environment_options, make_parser
from launch.paths import OUTPUTS, shorten
from launch.ports import choose_free_ports
from launch.preflight import check_serving
from launch.progress import Progress
from launch.server import Server, ServerSettings

if TYPE_CHECKING:
    from demonstration.stream import Drawing

DESCRIPTION = """\
Start a server and draw the same prompt with the same seed four times: as it is, with a ControlNet, with a LoRA, and
with both. The first time a virtual environment is made and the packages of requirements.lock are installed.
"""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("scripts/demo", DESCRIPTION)
    parser.add_argument("--prompt", help="what to draw (default: a scene that suits the reference image)")
    parser.add_argument("--controlnet", default="edges", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--control-image", type=Path, metavar="FILE", help="the ControlNet's reference image (default: one is drawn)"
    )
    parser.add_argument("--lora", default="night", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUTS / "demo", metavar="FOLDER", help="default: outputs/demo in the checkout"
    )
    add_environment_options(parser)
    return parser.parse_args(arguments)


def work(options: argparse.Namespace) -> int:
    """Start a server, draw, save, and say where and how long each stage took."""
    # Only now, in the environment: what follows is not of the standard library.
    from tritonclient.grpc import InferenceServerClient

    from demonstration.reference import DEFAULT_PROMPT, make_reference
    from demonstration.sheet import make_sheet
    from demonstration.times import format_times

    started = time.monotonic()
    reference = make_reference(options.controlnet, options.control_image)
    options.prompt = options.prompt or DEFAULT_PROMPT
    options.output.mkdir(parents=True, exist_ok=True)
    reference.save(options.output / "reference.png")
    settings = ServerSettings(
        ports=choose_free_ports(), log=options.output.absolute() / "tritonserver.log", stops_at_once=True
    )
    check_serving(describe_interpreter(sys.executable), settings.ports, settings.host)
    drawings: dict[str, Drawing] = {}
    with Server(settings) as server:
        with Progress("starting tritonserver") as progress:
            server.wait_until_ready(progress)
        print(f'"{options.prompt}"', flush=True)
        with InferenceServerClient(server.grpc_url) as client:
            for label, inputs in make_requests(options, (options.output / "reference.png").read_bytes()).items():
                drawings[label] = draw(server, client, label, inputs)
    for label, drawing in drawings.items():
        (options.output / f"{label.replace(' ', '-')}.png").write_bytes(drawing.file)
    pictures = {f"reference for {options.controlnet}": reference}
    pictures |= {label: drawing.picture for label, drawing in drawings.items()}
    sheet = options.output / "side-by-side.png"
    make_sheet(f'"{options.prompt}", seed {options.seed}, {options.steps} steps', pictures).save(sheet)
    print("\nMilliseconds by stage:")
    print(format_times({label: drawing.info["seconds"] for label, drawing in drawings.items()}))
    print(f"\nAll of it took {time.monotonic() - started:.0f} s. Saved in {shorten(options.output)}/, side by side:")
    print(shorten(sheet))
    return 0


def make_requests(options: argparse.Namespace, reference: bytes) -> dict[str, dict[str, list[Any]]]:
    """Give the inputs of the four requests, by what each shows."""
    plain = {"prompt": [options.prompt], "seed": [options.seed], "steps": [options.steps]}
    control = {"controlnets": [options.controlnet], "control_images": [reference]}
    lora = {"loras": [options.lora]}
    return {
        "plain": plain,
        f"with {options.controlnet}": plain | control,
        f"with {options.lora}": plain | lora,
        "with both": plain | control | lora,
    }


def draw(server: Server, client: Any, label: str, inputs: dict[str, list[Any]]) -> Drawing:
    """Send one request and show its steps."""
    from demonstration.stream import draw_over_stream

    with Progress(f"drawing {label}") as progress:
        return draw_over_stream(server, client, inputs, lambda step, steps: progress.update(f"step {step} of {steps}"))
