"""Asking the real server for pictures, and stock diffusers for the same ones."""

import base64
import io
import json
import queue
import urllib.request
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import tritonclient.grpc
import tritonclient.http
from PIL import Image, ImageDraw

WEIGHTS = Path(__file__).resolve().parents[3] / "build" / "shapes" / "weights"
DTYPES = {"seed": ("INT64", np.int64), "base64": ("BOOL", np.bool_), "trace": ("BOOL", np.bool_)}


def make_inputs(module, inputs):
    """Tensors for tritonclient's http or grpc module from plain values by input name."""
    tensors = []
    for name, value in inputs.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], str | bytes):
            data_type, array = "BYTES", np.array([v if isinstance(v, bytes) else v.encode() for v in values], object)
        else:
            is_float = isinstance(values[0], float)
            data_type, dtype = DTYPES.get(name, ("FP32", np.float32) if is_float else ("INT32", np.int32))
            array = np.array(values, dtype)
        tensor = module.InferInput(name, list(array.shape), data_type)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def read_answer(result):
    """The picture as uint8 [height, width, 3], and the info."""
    image = result.as_numpy("image")
    if image is None:
        pixels = result.as_numpy("pixels")
    else:
        pixels = np.asarray(Image.open(io.BytesIO(image[0])).convert("RGB"))
    return pixels, json.loads(result.as_numpy("info")[0])


def ask_over(client, model="swiftdiffusion", timeout=None, **inputs):
    """One request over an HTTP or gRPC client."""
    module = tritonclient.http if "http" in type(client).__module__ else tritonclient.grpc
    options = {"timeout": timeout} if timeout else {}
    return read_answer(client.infer(model, make_inputs(module, inputs), **options))


@pytest.fixture(scope="session", name="make_inputs")
def give_make_inputs():
    """`make_inputs(tritonclient.grpc, {"steps": 3})` gives tensors for a request."""
    return make_inputs


@pytest.fixture
def ask(http):
    """`ask(prompt=..., steps=...)` gives the picture and the info, over HTTP."""
    return lambda **inputs: ask_over(http, **inputs)


@pytest.fixture
def ask_grpc(grpc):
    """The same over gRPC."""
    return lambda **inputs: ask_over(grpc, **inputs)


@pytest.fixture(scope="session")
def ask_server():
    """`ask_server(server, prompt=...)` asks another server than the shared one, over HTTP."""

    def ask(server, timeout=None, **inputs):
        with tritonclient.http.InferenceServerClient(server.http_url, network_timeout=300) as client:
            return ask_over(client, timeout=timeout, **inputs)

    return ask


@pytest.fixture
def start_grpc(grpc):
    """`start_grpc(prompt=...)` starts a unary call: a queue for (result, error), and the call to cancel."""

    def start(deadline_s=None, **inputs):
        answers: queue.Queue = queue.Queue()
        call = grpc.async_infer(
            "swiftdiffusion",
            make_inputs(tritonclient.grpc, inputs),
            lambda result, error: answers.put((result, error)),
            client_timeout=deadline_s,
        )
        return answers, call

    return start


@pytest.fixture(scope="session")
def weights():
    """The shipped checkpoint's folder: pipeline, controlnets and loras."""
    return WEIGHTS


@pytest.fixture
def start_stream(grpc):
    """`start_stream(prompt=...)` gives a queue of (result, error) as the server's responses come in."""

    def start(**inputs):
        responses: queue.Queue = queue.Queue()
        grpc.start_stream(lambda result, error: responses.put((result, error)))
        grpc.async_stream_infer("swiftdiffusion_stream", make_inputs(tritonclient.grpc, inputs))
        return responses

    return start


@pytest.fixture(scope="session")
def post(server):
    """POST JSON to one of the generate endpoints; gives the open response."""

    def post(model, endpoint, **body):
        return urllib.request.urlopen(
            urllib.request.Request(
                f"http://{server.http_url}/v2/models/{model}/{endpoint}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            ),
            timeout=300,
        )

    return post


def encode_png(picture):
    """PNG bytes of a Pillow image."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def references():
    """A reference image for each ControlNet, as PNG bytes."""
    edges = Image.new("RGB", (128, 128))
    ImageDraw.Draw(edges).ellipse((20, 40, 70, 90), outline="white", width=4)
    layout = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(layout).rectangle((64, 32, 112, 80), fill="blue")
    return {"edges": encode_png(edges), "layout": encode_png(layout)}


@pytest.fixture(scope="session")
def encode_base64():
    """Text for a JSON body."""
    return lambda data: base64.b64encode(data).decode()


@pytest.fixture(scope="session")
def draw_with_diffusers():
    """Stock diffusers on the same checkpoint, fp32 on the CPU: `draw_with_diffusers(controls=..., loras=...)`."""
    base = diffusers.StableDiffusionXLPipeline.from_pretrained(WEIGHTS / "pipeline", torch_dtype=torch.float32)
    own_scheduler = base.scheduler.config
    nets = {
        name: diffusers.ControlNetModel.from_pretrained(WEIGHTS / "controlnets" / name, torch_dtype=torch.float32)
        for name in ("edges", "layout")
    }

    def draw(
        prompt, seed, steps, loras=(), controls=(), scheduler="EulerDiscreteScheduler", guidance_scale=3.0, **options
    ):
        """`loras` are (name, scale), `controls` (name, PNG bytes, scale, start, end); the rest is diffusers' own.

        The default of guidance is the model repository's.
        """
        class_name, _, karras = scheduler.partition(":")
        base.scheduler = getattr(diffusers, class_name).from_config(
            own_scheduler, **({"use_karras_sigmas": True} if karras else {})
        )
        pipeline = base
        if controls:
            names, images, scales, starts, ends = zip(*controls, strict=True)
            parts = {k: v for k, v in base.components.items() if k not in ("image_encoder", "feature_extractor")}
            pipeline = diffusers.StableDiffusionXLControlNetPipeline(**parts, controlnet=[nets[n] for n in names])
            options |= {
                "image": [Image.open(io.BytesIO(image)) for image in images],
                "controlnet_conditioning_scale": list(scales),
                "control_guidance_start": list(starts),
                "control_guidance_end": list(ends),
            }
        pipeline.set_progress_bar_config(disable=True)
        try:
            for name, _ in loras:
                pipeline.load_lora_weights(WEIGHTS / "loras", weight_name=f"{name}.safetensors", adapter_name=name)
            if loras:
                pipeline.set_adapters([name for name, _ in loras], [scale for _, scale in loras])
            generator = torch.Generator("cpu").manual_seed(seed)
            options |= {"num_inference_steps": steps, "guidance_scale": guidance_scale, "generator": generator}
            picture = pipeline(prompt, **options).images[0]
        finally:
            pipeline.unload_lora_weights()
        return np.asarray(picture)

    return draw
