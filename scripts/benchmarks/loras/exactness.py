"""Sets of LoRAs one after the other against a fresh server, and two LoRAs against diffusers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.loras.local_lane import LocalLane, make_array
from launch.distribution import find_distribution
from launch.interpreter import describe_interpreter, find_library_folder
from launch.paths import OUTPUTS
from launch.ports import choose_free_ports
from launch.problems import LaunchError
from launch.progress import Progress
from launch.server import Server, ServerSettings
from shapes.checkpoint import lora_file, pipeline_folder
from swiftdiffusion.placement import Placement

Draw = Callable[[Mapping[str, Sequence[Any]]], NDArray[np.uint8]]
"""A request as plain values by input ▶ its pixels [h, w, 3]."""

REQUEST: dict[str, list[Any]] = {
    "prompt": ["a large orange cross"],
    "seed": [21],
    "steps": [12],
    "lora_bound": [0],
    "guidance_scale": [3.0],
}
SETS: dict[str, dict[str, list[Any]]] = {
    "A": {"loras": ["night"]},
    "B": {"loras": ["hatching"]},
    "A+B": {"loras": ["night", "hatching"], "lora_scales": [0.7, 0.5]},
    "none": {},
}
FRESH_ORDER = ("none", "A+B", "A", "B")


def measure_history() -> dict[str, Any]:
    """Draw A, B, A+B and none one after the other, then in another order on a fresh server.

    Where no tritonserver can be started, lanes in this process stand for the servers. Returns what drew, and the sets
    whose pictures differ in any bit.
    """
    served = can_serve()
    opened = open_server if served else open_lane
    with opened() as draw:
        pictures = {name: draw({**REQUEST, **uses}) for name, uses in SETS.items()}
    with opened() as draw:
        fresh = {name: draw({**REQUEST, **SETS[name]}) for name in FRESH_ORDER}
    if len({picture.tobytes() for picture in pictures.values()}) != len(SETS):
        raise LaunchError("two sets of LoRAs give the same picture: the comparison would show nothing")
    return {
        "drawn_by": "tritonserver" if served else "a lane in this process",
        "sets": list(SETS),
        "different": [name for name in SETS if not np.array_equal(pictures[name], fresh[name])],
    }


def measure_against_diffusers() -> dict[str, Any]:
    """Draw with two LoRAs at two scales, from the first step on, on the CPU in fp32, here and by `set_adapters`."""
    both = SETS["A+B"]
    with LocalLane(lora_file("night").parent, placement=Placement(torch.device("cpu"), torch.float32)) as lane:
        ours = lane.draw({**REQUEST, **both}).pixels
    theirs = draw_with_diffusers(both["loras"], both["lora_scales"])
    return {
        "loras": dict(zip(both["loras"], both["lora_scales"], strict=True)),
        "max_difference": int(np.abs(ours.astype(int) - theirs).max()),
        "of_reference_to_plain": int(np.abs(theirs.astype(int) - draw_with_diffusers([], [])).max()),
    }


def draw_with_diffusers(loras: Sequence[str], scales: Sequence[float]) -> NDArray[np.uint8]:
    """The same request by stock diffusers."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(pipeline_folder(), torch_dtype=torch.float32)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for name in loras:
        pipeline.load_lora_weights(lora_file(name).parent, weight_name=f"{name}.safetensors", adapter_name=name)
    if loras:
        pipeline.set_adapters(list(loras), list(scales))
    generator = torch.Generator("cpu").manual_seed(REQUEST["seed"][0])
    options = {"num_inference_steps": REQUEST["steps"][0], "guidance_scale": REQUEST["guidance_scale"][0]}
    return np.asarray(pipeline(REQUEST["prompt"][0], generator=generator, **options).images[0])


def can_serve() -> bool:
    """Whether a tritonserver and its client are here."""
    try:
        find_distribution()
        find_library_folder(describe_interpreter(sys.executable))
    except LaunchError:
        return False
    return find_spec("tritonclient") is not None


@contextmanager
def open_server() -> Iterator[Draw]:
    """A tritonserver with the model repository of the checkout."""
    import tritonclient.http as triton

    def draw(request: Mapping[str, Sequence[Any]]) -> NDArray[np.uint8]:
        inputs = []
        for name, values in {**request, "output_format": ["raw"]}.items():
            array = make_array(values)
            array = array.astype(np.int32) if array.dtype == np.int64 and name != "seed" else array
            tensor = triton.InferInput(name, list(array.shape), triton.np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        return client.infer("swiftdiffusion", inputs).as_numpy("pixels")

    log = OUTPUTS / "benchmark" / "tritonserver.log"
    settings = ServerSettings(ports=choose_free_ports(), log=log, stops_at_once=True)
    with Server(settings) as server:
        with Progress("starting tritonserver") as progress:
            server.wait_until_ready(progress)
        with triton.InferenceServerClient(server.http_url, network_timeout=300) as client:
            yield draw


@contextmanager
def open_lane() -> Iterator[Draw]:
    """A lane of `shapes` in this process."""
    with LocalLane(lora_file("night").parent) as lane:
        yield lambda request: lane.draw(request).pixels
