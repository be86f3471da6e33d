"""Serving to be measured: requests, repositories, the alternatives' pipelines; no server."""

import json
import re
import struct
import time
from base64 import b64decode
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.loras.varied_adapters import write_adapters
from benchmarks.serving.checkpoints import (
    FreshAdapters,
    ServedCheckpoint,
    add_controlnets,
    add_loras,
    draw_grid_requests,
    make_request,
    prepare_checkpoint,
)
from benchmarks.serving.client import DATA_TYPES
from benchmarks.serving.deployment import Deployment
from benchmarks.serving.held import announced, find_held
from benchmarks.serving.load import format_input_data, read_export
from benchmarks.serving.memory import MemoryWatch
from benchmarks.serving.pipelines.hot_swapping import HotSwappingDiffusers
from benchmarks.serving.pipelines.stock import StockDiffusers
from benchmarks.serving.repositories import SystemRepository, Tuning, write_diffusers, write_ours
from benchmarks.serving.served import Served
from benchmarks.serving.systems import BEST, OURS, PUBLISHED, STOCK, AddOns
from commands.benchmark import parse_options
from launch.problems import LaunchError
from launch.progress import Progress
from shapes.checkpoint import controlnet_folder, lora_file, pipeline_folder
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.placement import Placement
from swiftdiffusion.request.limits import Limits
from swiftdiffusion.request.parse import parse_request
from swiftdiffusion_build.placement.gpus import describe_gpus
from swiftdiffusion_build.placement.server_placement import ServerPlacement

CONTROLNETS = {name: controlnet_folder(name) for name in ("edges", "layout")}
FILES = (lora_file("night"), lora_file("outline"))
CHECKPOINT = ServedCheckpoint("shapes", pipeline_folder(), tuple(CONTROLNETS.values()), FILES, 128, 3.0)


def test_configurations_are_written_as_they_are_read():
    assert [*map(str, PUBLISHED)] == ["0/0", "1/0", "0/1", "1/1", "3/0", "2/2", "3/2"]
    assert AddOns.parse("3/2") == (3, 2)
    for text in ("4/0", "0/3", "1", "a/b", "-1/0", ""):
        with pytest.raises(ValueError, match="from 0/0 to 3/2"):
            AddOns.parse(text)


def test_no_two_requests_share_what_could_be_cached(tmp_path):
    adapters = FreshAdapters(FILES, tmp_path / "fresh")
    requests = list(islice(draw_grid_requests(CHECKPOINT, adapters, AddOns(1, 2), 4, "jpeg"), 3))
    assert len({request["prompt"][0] for request in requests}) == 3
    names = [name for request in requests for name in request["loras"]]
    assert len(set(names)) == 6
    assert {(adapters.folder / f"{name}.safetensors").resolve() for name in names} == {file.resolve() for file in FILES}
    assert all(request["controlnets"] == ["edges"] and len(request["control_images"]) == 1 for request in requests)
    assert requests[0].keys() <= DATA_TYPES.keys(), "inputs that the models do not have"


def test_a_load_generator_reads_back_what_was_written():
    request = {
        **make_request(CHECKPOINT, 7, 4, "png"),
        **add_loras(["a", "b"]),
        **add_controlnets(CHECKPOINT, ["edges"]),
    }
    (entry,) = json.loads(json.dumps(format_input_data([request])))["data"]
    assert entry["steps"] == {"content": [4], "shape": [1]}
    assert entry["loras"] == {"content": ["a", "b"], "shape": [2]}
    data = b64decode(entry["control_images"]["b64"])
    assert struct.unpack("<I", data[:4])[0] == len(data) - 4
    assert data[4:] == request["control_images"][0]


def test_latencies_come_from_an_export_that_holds_raw_bytes(tmp_path):
    def record(sent: int, answered: int, number: int) -> dict:
        outputs = {"image": "BYTES", "info": json.dumps({"n": number})}
        return {"timestamp": sent, "response_timestamps": [answered], "response_outputs": [outputs]}

    requests = [record(9 * 10**9, 95 * 10**8, 2), record(10**9, 3 * 10**9, 1)]
    text = json.dumps({"experiments": [{"requests": requests}]})
    (tmp_path / "export.json").write_bytes(text.encode().replace(b"BYTES", b"\xff\xd8\xe0"))
    answered = read_export(tmp_path / "export.json")
    assert [(one.seconds, one.info) for one in answered] == [(2.0, {"n": 1}), (0.5, {"n": 2})]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    write_adapters(folder, 3)
    return folder


def read_parameters(file: Path) -> dict[str, str]:
    config = text_format.Parse(file.read_text(), ModelConfig())
    return {name: parameter.string_value for name, parameter in config.parameters.items()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_our_repository_has_what_is_asked_of_it(tmp_path, adapters):
    tuning = Tuning(7, {"engine": "torch"}, {"lora_bound": "3"})
    with Progress("writing") as progress:
        repository = write_ours(CHECKPOINT, adapters, tmp_path, "auto", None, tuning, progress)
    lane = read_parameters(repository.models / "swiftdiffusion" / "config.pbtxt")
    assert (lane["lora_cache_mb"], lane["engine"], lane["lora_bound"], lane["threads"]) == ("7", "torch", "3", "1")
    assert lane["adapters"] == str(adapters.resolve())
    vae = read_parameters(repository.models / "vae_decoder" / "config.pbtxt")
    assert vae["engine"] == "torch"
    assert "lora_bound" not in vae
    assert (repository.models / "controlnet_layout" / "1").is_dir()
    assert repository.count_gpus(["edges"]) == 1


def test_a_deployment_tells_how_many_gpus_it_is_on(tmp_path, monkeypatch):
    gpus = describe_gpus(2, 80)
    monkeypatch.setattr("benchmarks.serving.deployment.find_gpus", lambda: gpus)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(gpus))

    def describe(system: str, *arguments: str) -> dict[str, object]:
        options = parse_options(["grid", "--checkpoint-folder", str(tmp_path), "--checkpoint", "shapes", *arguments])
        with Progress("preparing") as progress:
            described = Deployment(options, progress).describe(system)
        assert re.fullmatch(r"\S.*, [1-9]\d* cores", str(described.pop("machine")))
        return described

    assert describe(OURS) == {"layout": "two GPUs", "lane": {}}
    assert describe(OURS, "--gpus", "1") == {"layout": "one GPU", "lane": {}}
    lane = {"second_gpu": "cuda:1"}
    assert describe(OURS, "--gpus", "1", "--lane", "second_gpu=cuda:1") == {"layout": "two GPUs", "lane": lane}
    split = {"placement": "split guidance"}
    assert describe(OURS, "--split-guidance") == {"layout": "two GPUs", "lane": split}
    whole = {"placement": "whole guidance"}
    assert describe(OURS, "--no-split-guidance") == {"layout": "two GPUs", "lane": whole}
    with pytest.raises(LaunchError, match="guidance cannot be split over 1 GPUs; allowed: 2 or more"):
        describe(OURS, "--gpus", "1", "--split-guidance")
    assert describe(STOCK) == {"layout": "one GPU", "lane": {}}
    file = tmp_path / "near.toml"
    file.write_text("text_encoder = 0\nvae_decoder = 0\n[lanes]\nfirst = 0\n[controlnets]\n")
    with pytest.raises(LaunchError, match="no 'edges'"):
        describe(OURS, "--placement", str(file))
    file.write_text(file.read_text() + "edges = 0\nlayout = 0\nedges_again = 0\n")
    assert describe(OURS, "--placement", str(file)) == {"layout": "one GPU", "lane": {"placement": "near"}}
    monkeypatch.setattr("benchmarks.serving.deployment.find_gpus", tuple)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert [describe(system)["layout"] for system in (OURS, BEST)] == ["no GPU", "no GPU"]


def test_gpus_are_counted_where_work_is_done():
    placement = ServerPlacement((0,), (0,), {"first": (0,)}, {"edges": (1,), "layout": (1,), "depth": (0,)})
    repository = SystemRepository(Path(), Path(), placement)
    assert [repository.count_gpus(names) for names in ([], ["depth"], ["edges"], ["edges", "layout"])] == [1, 1, 2, 2]
    assert SystemRepository(Path(), Path(), placement, splits_guidance=True).count_gpus([]) == 2
    split = ServerPlacement((0,), (0,), {"first": (0, 1)}, {"edges": (0, 1)})
    assert [SystemRepository(Path(), Path(), split).count_gpus(names) for names in ([], ["edges"])] == [2, 2]


def test_the_alternative_is_one_model(tmp_path, adapters):
    repository = write_diffusers(CHECKPOINT, adapters, tmp_path, BEST, compiles=True)
    (file,) = repository.models.glob("*/config.pbtxt")
    assert (repository.backends / "diffusers_pipeline" / "model.py").exists()
    parameters = read_parameters(file)
    assert (parameters["system"], parameters["compiles"]) == ("best", "true")
    assert parameters["controlnets"].split(",") == [str(path) for path in CONTROLNETS.values()]


@pytest.fixture(scope="module")
def pipelines(adapters) -> tuple[StockDiffusers, HotSwappingDiffusers]:
    place = Placement(torch.device("cpu"), torch.float32)
    common = (pipeline_folder(), CONTROLNETS, adapters, place)
    return StockDiffusers(*common), HotSwappingDiffusers(*common, compiles=False)


def parse(loras: list[str], controlnets: list[str], scale: float = 1.0):
    inputs = {
        **make_request(CHECKPOINT, 1, 2, "raw"),
        **add_controlnets(CHECKPOINT, controlnets),
        **add_loras(loras),
    }
    if loras:
        inputs["lora_scales"] = [scale] * len(loras)
    tensors = {
        name: np.array([v.encode() if isinstance(v, str) else v for v in values], object if name in TEXTS else None)
        for name, values in inputs.items()
    }
    return parse_request(tensors, Limits(size_min=64), lambda wanted: list(CONTROLNETS))


TEXTS = ("prompt", "output_format", "loras", "controlnets", "control_images")


@pytest.mark.parametrize(
    ("loras", "controlnets"),
    [(["lora000"], []), (["lora001", "lora002"], ["edges"]), (["lora000"], []), ([], ["layout", "edges"])],
)
def test_swapped_loras_draw_as_loaded_ones(pipelines, loras, controlnets):
    """In this order: from one LoRA to two, back to one, and to none."""
    stock, best = (pipeline.draw(parse(loras, controlnets), Stopwatch()) for pipeline in pipelines)
    assert np.abs(stock.astype(int) - best).max() <= 1
    if loras:
        plain = pipelines[0].draw(parse([], controlnets), Stopwatch())
        assert np.abs(stock.astype(int) - plain).max() > 1, "the LoRAs changed nothing"


def test_a_scale_that_cannot_be_swapped_is_refused(pipelines):
    with pytest.raises(InvalidArgument, match="at scale 1"):
        pipelines[1].draw(parse(["lora000"], [], 0.5), Stopwatch())


def test_a_server_that_is_not_held_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(LaunchError, match=r"held-stock.json: start `scripts/benchmark hold stock`"):
        find_held(tmp_path, STOCK, CHECKPOINT)
    served = Served("127.0.0.1:9", "127.0.0.1:9", FreshAdapters(FILES, tmp_path / "fresh"))
    with announced(tmp_path, STOCK, CHECKPOINT, served), pytest.raises(LaunchError, match="does not answer"):
        find_held(tmp_path, STOCK, CHECKPOINT)
    assert not (tmp_path / "held-stock.json").exists()


def test_each_gpu_has_its_own_held_server(tmp_path, monkeypatch):
    served = Served("127.0.0.1:9", "127.0.0.1:9", FreshAdapters(FILES, tmp_path / "fresh"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with announced(tmp_path, STOCK, CHECKPOINT, served):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with pytest.raises(LaunchError, match=r"there is no .*held-stock-1.json"):
            find_held(tmp_path, STOCK, CHECKPOINT)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with pytest.raises(LaunchError, match="does not answer"):
            find_held(tmp_path, STOCK, CHECKPOINT)


def test_a_store_that_is_there_has_further_names(tmp_path):
    first = FreshAdapters(FILES, tmp_path / "fresh").take(2)
    assert not {*first} & {*FreshAdapters(FILES, tmp_path / "fresh").take(2)}


def test_memory_peaks_are_kept_until_restarted(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 100'; echo '1, 50'; echo '0, 300'; echo '0, 200'; echo end; sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with MemoryWatch() as watch:
        deadline = time.monotonic() + 10
        while watch.peaks_gb() != [0.31, 0.05]:
            assert time.monotonic() < deadline, watch.peaks_gb()
            time.sleep(0.005)
        watch.restart()
        assert watch.peaks_gb() is None


def test_no_memory_is_told_where_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with MemoryWatch() as watch:
        assert watch.peaks_gb() is None


def test_a_checkpoint_that_was_cut_off_is_written_anew_and_what_is_not_its_own_stays(tmp_path, monkeypatch):
    def write(command, *_, **__):
        assert not (tmp_path / "pipeline").exists(), "half of it was left"
        for part in ("pipeline", "controlnets", "loras"):
            (tmp_path / part).mkdir()

    monkeypatch.setattr("benchmarks.serving.checkpoints.run_quietly", write)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "mine").touch()
    with Progress("preparing") as progress:
        for _ in range(2):
            assert prepare_checkpoint("sdxl", tmp_path, progress).pipeline == tmp_path / "pipeline"
            monkeypatch.setattr("benchmarks.serving.checkpoints.run_quietly", lambda *_, **__: pytest.fail("again"))
    assert (tmp_path / "mine").exists()
