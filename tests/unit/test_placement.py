import pytest
import torch

from shapes.checkpoint import controlnet_folder, pipeline_folder
from swiftdiffusion.configuration import Location
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.engines.torch_engine import TorchEngine
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import Lane
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.networks.unet import Encoder
from swiftdiffusion.placement import NetworkConfiguration, Placement, choose_placement, choose_second
from swiftdiffusion.services.controlnet import ControlNetConfiguration, ControlNetService
from swiftdiffusion.services.vae_decoder import VaeDecoderConfiguration, VaeDecoderService

CPU = Placement(torch.device("cpu"), torch.float32)


def test_sizes_to_warm_up_are_read_as_width_by_height():
    assert NetworkConfiguration(warm_up=" 1024x512,768x1344 ").warm_up_sizes == [(512, 1024), (1344, 768)]
    assert NetworkConfiguration().warm_up_sizes == []


@pytest.mark.parametrize("size", ["1024", "1024x1020", "0x64", "1024x-8", "axb", "1024X1024"])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(InvalidArgument, match=f"'warm_up' has '{size}'; allowed: WIDTHxHEIGHT"):
        NetworkConfiguration(warm_up=f"512x512, {size}")


def test_no_more_is_warmed_up_than_is_kept():
    with pytest.raises(InvalidArgument, match="'warm_up' names more sizes than 'captures' keeps, which is 1"):
        NetworkConfiguration(warm_up="512x512, 640x640", captures=1)
    with pytest.raises(InvalidArgument, match="'captures' is 0"):
        NetworkConfiguration(captures=0)


def test_every_model_warms_up(tmp_path, monkeypatch):
    called: list[tuple[str, tuple[int, ...], int | None]] = []
    run = TorchEngine.__call__

    def watch(engine, *inputs):
        prompts = len(inputs[2]) if isinstance(engine._network, Encoder) else None
        called.append((type(engine._network).__name__, tuple(inputs[0].shape), prompts))
        return run(engine, *inputs)

    monkeypatch.setattr(TorchEngine, "__call__", watch)
    size = "96x128"
    VaeDecoderService(VaeDecoderConfiguration(pipeline_folder(), warm_up=size), CPU)
    folder = controlnet_folder("edges")
    ControlNetService(ControlNetConfiguration(folder, prompt_tokens=48, warm_up=size), CPU)
    adapters = Location(str(tmp_path))

    def call(*_):
        pytest.fail("no other model is there yet")

    lane = Lane(
        LaneConfiguration(pipeline=pipeline_folder(), adapters=adapters, warm_up=size),
        CPU,
        call,
        Catalogue(call, list, bool, "controlnet_", timeout_s=2),
    )
    lane.close()
    assert called == [
        ("VaeDecoder", (1, 4, 32, 24), None),
        ("ControlNet", (2, 4, 32, 24), 2),  # with a negative prompt and without
        ("ControlNet", (2, 4, 32, 24), 1),
        ("UNetEncoder", (2, 4, 32, 24), 2),
        ("UNetDecoder", (2, 96, 8, 6), None),  # with ControlNets' residuals and without
        ("UNetDecoder", (2, 96, 8, 6), None),
        ("UNetEncoder", (2, 4, 32, 24), 1),
        ("UNetDecoder", (2, 96, 8, 6), None),
        ("UNetDecoder", (2, 96, 8, 6), None),
        ("Advance", (2, 4, 32, 24), None),
    ]


@pytest.mark.parametrize("device", ["meta", "xpu", "mps", "cpu:3", "cuda:-1", "cuda:01", "cuda:300", "", "gpu"])
def test_a_device_that_is_none_is_refused(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 64)
    with pytest.raises(InvalidArgument, match=f"'device' is '{device}'; allowed: auto, cpu, cuda, cuda:N"):
        choose_placement(device, "auto", "CPU", 0)


def test_a_gpu_is_one_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_placement("cuda:1", "auto", "CPU", 0) == Placement(torch.device("cuda:1"), torch.float16)
    assert choose_placement("auto", "auto", "GPU", 1) == Placement(torch.device("cuda:1"), torch.float16)
    assert choose_placement("cpu", "auto", "GPU", 1) == CPU
    with pytest.raises(InvalidArgument, match="'device' is 'cuda:2'; torch sees 2 GPUs"):
        choose_placement("cuda:2", "auto", "CPU", 0)


@pytest.mark.parametrize(
    ("parameter", "lane", "second"),
    [
        ("", 0, None),
        ("cuda:1", 0, 1),
        ("cuda:0=cuda:1, cuda:2=cuda:3", 0, 1),
        ("cuda:0=cuda:1, cuda:2=cuda:3", 2, 3),
        ("cuda:0=cuda:1, cuda:2=cuda:3", 1, None),
    ],
)
def test_each_lane_finds_its_second_gpu(monkeypatch, parameter, lane, second):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    first = Placement(torch.device("cuda", lane), torch.float16)
    expected = [] if second is None else [Placement(torch.device("cuda", second), torch.float16)]
    assert choose_second(parameter, first) == expected


@pytest.mark.parametrize("parameter", ["cuda:0", "cuda:4", "cpu", "1", "cuda:0=cuda:0"])
def test_a_second_gpu_that_is_none_is_refused(monkeypatch, parameter):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(InvalidArgument, match=r"'second_gpu' gives .* to the lane on cuda:0; allowed: another GPU of"):
        choose_second(parameter, Placement(torch.device("cuda:0"), torch.float16))
    with pytest.raises(InvalidArgument, match="lane on cpu"):
        choose_second("cuda:1", CPU)
