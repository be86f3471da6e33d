"""LoRAs on a GPU: written in place by one launch, beside a stream that runs, and gone without a trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters import chunk_copier
from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.adapters.tensor_block import TensorBlock
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.placement import Placement

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

WEIGHTS = Path(__file__).resolve().parents[2] / "build" / "shapes" / "weights"
SETS = {
    "A": (["night"], [0.9]),
    "B": (["hatching"], [-0.5]),
    "A+B": (["night", "hatching"], [0.7, 0.5]),
    "none": ([], []),
    "all": (["outline", "pixelated", "night", "hatching"], [1.0, 0.3, 0.4, 0.2]),
}


class Bench:
    """The UNet of `shapes` on an engine, and a patcher."""

    def __init__(self, engine: str, device: str, dtype: torch.dtype, pristine_on_host: bool = False) -> None:
        placement = Placement(torch.device(device), dtype)
        encoder, decoder = load_unet(WEIGHTS / "pipeline", dtype)
        self.engines = [make_engine(engine, network, placement) for network in (encoder, decoder)]
        self.patcher = Patcher({"unet": self.engines}, [placement], pristine_on_host)
        targets = Targets.read(WEIGHTS / "pipeline")
        self.loader = LoraLoader(FolderStore(WEIGHTS / "loras"), targets, ("unet",), device)

    def apply(self, name: str) -> dict[str, torch.Tensor]:
        names, scales = SETS[name]
        files = [self.loader.inspect(name).file for name in names]
        self.patcher.apply(self.loader.begin(files, scales, self.patcher.prepare).wait(60))
        return {
            name: weight.detach().float().cpu().clone()
            for engine in self.engines
            for name, weight in engine.parameters().items()
        }


@pytest.fixture(params=["torch", "cuda_graph", "cuda_graph, pristine on the host"])
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    engine, _, host = request.param.partition(", ")
    bench = Bench(engine, "cuda:0", torch.float16, bool(host))
    yield bench
    bench.loader.close()


def test_history_leaves_no_trace(bench: Bench) -> None:
    fresh = {}
    for name in SETS:
        one = Bench("torch", "cuda:0", torch.float16)
        fresh[name] = one.apply(name)
        one.loader.close()
    for name in ("A", "B", "A+B", "none", "all", "A", "none"):
        ours = bench.apply(name)
        for parameter, expected in fresh[name].items():
            assert torch.equal(ours[parameter], expected), (name, parameter)


def test_the_sums_are_those_of_the_cpu(bench: Bench) -> None:
    on_cpu = Bench("torch", "cpu", torch.float32)
    for name in SETS:
        ours, exact = bench.apply(name), on_cpu.apply(name)
        for parameter, expected in exact.items():
            torch.testing.assert_close(ours[parameter], expected, rtol=2**-10, atol=1e-6, msg=f"{name}: {parameter}")
    on_cpu.loader.close()


def test_chunks_arrive_whole_whoever_copies_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_copier, "CHUNK", 64 * 2**10)
    device = torch.device("cuda:0")
    copier = chunk_copier.ChunkCopier(device, threads=3)
    block = TensorBlock.allocate({"a": (torch.uint8, (10 * 2**20 + 7,)), "b": (torch.float32, (100_003,))})
    for seed in range(3):  # the pinned buffers are used again and again
        content = torch.randint(0, 256, block.memory.shape, generator=torch.Generator().manual_seed(seed))
        content = content.to(torch.uint8)

        def read(start: int, end: int, content: torch.Tensor = content) -> None:
            block.memory[start:end] = content[start:end]

        with copy_stream(device).use():
            copies = [copier.copy(block, read), copier.copy(block)]
        copy_stream(device).mark().wait_on_host()
        for copy in copies:
            assert copy.tensors["b"].shape == (100_003,)
            assert torch.equal(copy.memory.cpu(), content)
    copier.close()


def test_a_lora_from_the_host_cache_is_the_one_from_the_file(bench: Bench) -> None:
    file = bench.loader.inspect("night").file
    first, again = (bench.loader.load(file).result(60) for _ in range(2))
    assert bench.loader.holds(file) and first is not again
    for name, tensor in first.block.tensors.items():
        assert tensor.is_cuda
        assert torch.equal(tensor, again.block.tensors[name])


def test_a_patch_does_not_wait_for_the_device(bench: Bench) -> None:
    bench.apply("A")
    bench.apply("B")
    files = [bench.loader.inspect("night").file]
    loras = bench.loader.begin(files, [0.9], bench.patcher.prepare).wait(60)
    torch.cuda.synchronize()
    torch.cuda._sleep(500_000_000)  # a quarter of a second of the device's time
    marker = torch.cuda.Event()
    marker.record()
    assert bench.patcher.apply(loras)
    assert not marker.query(), "the host waited"
    torch.cuda.synchronize()
