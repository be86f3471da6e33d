"""LoRAs on a GPU, or two: written in place by one launch, beside a stream that runs, and gone without a trace."""

import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from swiftdiffusion.adapters import chunk_copier
from swiftdiffusion.adapters.copy_stream import copy_stream
from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.loading import LoraLoader
from swiftdiffusion.adapters.patching import PATCHES_KEPT, Patcher
from swiftdiffusion.adapters.pending import PendingLoras
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.adapters.tensor_block import Arrangement, TensorBlock
from swiftdiffusion.adapters.weights import ScaledLora
from swiftdiffusion.engines import make_engine
from swiftdiffusion.networks.unet import load_unet
from swiftdiffusion.placement import NetworkConfiguration, Placement, send
from swiftdiffusion.unets import UNets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")

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
    shapes = {"a": (torch.uint8, (10 * 2**20 + 7,)), "b": (torch.float32, (100_003,))}
    block = TensorBlock.allocate(Arrangement.of(shapes))
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
    copier.close(10)


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


@pytest.mark.parametrize("gpus", [1, pytest.param(2, marks=needs_two)])
def test_patches_made_of_arrays_have_the_bits_of_those_made_layer_by_layer(
    gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrices = {
        name: tensor
        for name, tensor in load_file(WEIGHTS / "loras" / "night.safetensors").items()
        if name.startswith("unet.") and tensor.dim() == 2 and not any(side % 8 for side in tensor.shape)
    }
    pairs = {name.rpartition(".lora_")[0] for name in matrices if name.replace("lora_A", "lora_B") in matrices}
    for number, factor in enumerate((1.0, -0.7)):
        kept = {name: factor * tensor for name, tensor in matrices.items() if name.rpartition(".lora_")[0] in pairs}
        save_file(kept, tmp_path / f"m{number}.safetensors")
    placements = [Placement(torch.device(f"cuda:{gpu}"), torch.float16) for gpu in range(gpus)]
    configuration = NetworkConfiguration(engine="cuda_graph")
    ours, layer_by_layer = (UNets(WEIGHTS / "pipeline", configuration, placements) for _ in range(2))
    patchers = [Patcher({"unet": unets.patched}, placements) for unets in (ours, layer_by_layer)]
    monkeypatch.setattr(patchers[1], "_build_of_matrices", lambda loras: None)
    loader = LoraLoader(FolderStore(tmp_path), Targets.read(WEIGHTS / "pipeline"), ("unet",), "cuda:0")
    loras = [ScaledLora(loader.load(loader.inspect(f"m{number}").file).result(60), 0.8) for number in range(2)]
    assert patchers[0]._build_of_matrices(loras) is not None
    for wanted in (loras[:1], loras, loras[1:], [], loras[::-1]):
        for patcher in patchers:
            patcher.apply(wanted)
        for one, other in zip(ours.patched, layer_by_layer.patched, strict=True):
            for name, weight in one.parameters().items():
                assert torch.equal(weight, other.parameters()[name]), name
    loader.close()


def test_what_is_sent_is_not_waited_for() -> None:
    picture = torch.randint(256, (1024, 1024, 3), dtype=torch.uint8)
    send(picture, torch.device("cuda:0"))  # allocates what it needs
    torch.cuda.synchronize()
    torch.cuda._sleep(500_000_000)  # a quarter of a second of the device's time
    marker = torch.cuda.Event()
    marker.record()
    sent = send(picture, torch.device("cuda:0"))
    assert not marker.query(), "the host waited"
    assert torch.equal(sent.cpu(), picture)


def test_what_is_expanded_or_transposed_is_sent_whole() -> None:
    for tensor in (torch.arange(6.0).expand(2, 6), torch.arange(6.0).view(2, 3).T):
        assert torch.equal(send(tensor, torch.device("cuda:0")).cpu(), tensor)


TWIN_SETS = SETS | {"DoRA": (["dora"], [0.8]), "DoRA+A": (["dora", "night"], [0.6, 0.5])}
GPUS = [torch.device("cuda:0"), torch.device("cuda:1")]
CYCLES = 20_000_000  # about 10 ms of a GPU's time


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """The LoRAs of `shapes`, and a DoRA."""
    folder = Path(shutil.copytree(WEIGHTS / "loras", tmp_path / "loras"))
    tensors = load_file(folder / "pixelated.safetensors")
    for name in [name for name in tensors if name.startswith("unet.") and name.endswith(".lora_B.weight")]:
        generator = torch.Generator().manual_seed(len(name))
        lengths = 0.5 + torch.rand(tensors[name].shape[0], generator=generator)
        tensors[name.replace(".lora_B.weight", ".lora_magnitude_vector")] = lengths.half()
    save_file(tensors, folder / "dora.safetensors")
    return folder


class Twins:
    """The UNet of `shapes` on two GPUs, a patcher for both, and a loader that brings LoRAs to the first."""

    def __init__(self, adapters: Path, engine: str, pristine_on_host: bool = False) -> None:
        placements = [Placement(gpu, torch.float16) for gpu in GPUS]
        self.unets = UNets(WEIGHTS / "pipeline", NetworkConfiguration(engine=engine), placements)
        self.patcher = Patcher({"unet": self.unets.patched}, placements, pristine_on_host)
        self.loader = LoraLoader(FolderStore(adapters), Targets.read(WEIGHTS / "pipeline"), ("unet",), GPUS[0])

    def begin(self, name: str) -> PendingLoras:
        names, scales = TWIN_SETS[name]
        return self.loader.begin([self.loader.inspect(name).file for name in names], scales, self.patcher.prepare)

    def apply(self, name: str) -> None:
        self.patcher.apply(self.begin(name).wait(60))

    def weights(self) -> list[dict[str, torch.Tensor]]:
        """Of each twin, on the host."""
        parameters = [engine.parameters().items() for engine in self.unets.patched]
        return [
            {name: weight.detach().cpu().clone() for part in half for name, weight in part}
            for half in (parameters[:2], parameters[2:])
        ]

    def predict(self) -> torch.Tensor:
        """What a guidance batch gives, a row of each twin: enqueued, not waited for."""
        return self.unets.warm_up(77, (1, 4, 32, 32), 128, 128)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@needs_two
@pytest.mark.parametrize("engine", ["torch", "cuda_graph", "cuda_graph, pristine on the host"])
def test_both_gpus_have_what_a_fresh_engine_has(engine: str, adapters: Path) -> None:
    kind, _, host = engine.partition(", ")
    twins = Twins(adapters, kind, bool(host))
    pristine, plain = twins.weights(), twins.predict()
    assert same(*pristine)
    for name in ("A", "B", "DoRA", "A+B", "none", "all", "DoRA+A", "A", "none"):  # "A" from the host cache again
        twins.apply(name)
        fresh = Twins(adapters, kind)
        fresh.apply(name)  # before anything is captured: it knows no other weights
        ours, theirs = twins.weights(), fresh.weights()
        assert same(*ours), name
        assert same(ours[0], theirs[0]), name
        assert same(ours[0], pristine[0]) == (name == "none")
        prediction, expected = twins.predict(), fresh.predict()
        torch.testing.assert_close(prediction, expected, rtol=0, atol=0.02, msg=name)
        for row in (0, 1):
            assert name == "none" or (prediction[row] - plain[row]).abs().max() > 0.2, name
        fresh.loader.close()
    assert torch.equal(twins.predict(), plain)
    assert all(same(ours, before) for ours, before in zip(twins.weights(), pristine, strict=True))
    twins.loader.close()


@needs_two
def test_a_lora_reaches_the_second_gpu_once_and_goes_with_its_patches(adapters: Path) -> None:
    twins = Twins(adapters, "torch")
    first = twins.loader.begin([twins.loader.inspect("night").file], [0.1]).wait(60)[0]
    twins.patcher.apply([first])
    there = first.weights.on(GPUS[1])
    assert there.block.memory.device == GPUS[1]
    assert torch.equal(there.block.memory.cpu(), first.weights.block.memory.cpu())
    for scale in range(PATCHES_KEPT):
        twins.patcher.prepare([ScaledLora(first.weights, 1.0 + scale)])
        assert first.weights.on(GPUS[1]) is there
    twins.patcher.restore()
    for _ in range(2):  # all patches with it are forgotten
        for scale in range(PATCHES_KEPT):
            twins.apply("B")
            files = [twins.loader.inspect("outline").file]
            twins.patcher.apply(twins.loader.begin(files, [1.0 + scale]).wait(60))
    torch.cuda.synchronize(GPUS[1])
    held = torch.cuda.memory_allocated(GPUS[1])
    size = there.block.memory.nbytes
    del first, there
    torch.cuda.synchronize(GPUS[1])
    torch.empty(1, device=GPUS[1])  # the allocator looks at what other streams have read
    assert torch.cuda.memory_allocated(GPUS[1]) <= held - size
    twins.loader.close()


@needs_two
@pytest.mark.parametrize("engine", ["torch", "cuda_graph"])
def test_both_gpus_patch_in_order_however_late_a_stream_is(engine: str, adapters: Path) -> None:
    twins, draw = Twins(adapters, engine), random.Random(1)
    expected: dict[str, torch.Tensor] = {}
    for name in (*TWIN_SETS, "none"):
        twins.apply(name)
        expected[name] = twins.predict()
        for gpu in GPUS:
            torch.cuda.synchronize(gpu)
    done = threading.Event()

    def load_others() -> int:
        """What other requests might: new patches all the time, so that memory comes and goes on both GPUs."""
        churn, loads = random.Random(2), 0
        while not done.is_set():
            name = churn.choice(["night", "outline", "pixelated", "dora"])
            weights = twins.loader.load(twins.loader.inspect(name).file).result(60)
            twins.patcher.prepare([ScaledLora(weights, churn.uniform(0.1, 1.0))])
            loads += 1
        return loads

    def delay() -> None:
        gpu = draw.choice(GPUS)
        with torch.cuda.device(gpu):
            if draw.random() < 0.5:
                torch.cuda._sleep(CYCLES)
            else:
                with copy_stream(gpu).use():
                    torch.cuda._sleep(CYCLES)

    predictions = []
    with ThreadPoolExecutor(1) as thread:
        others = thread.submit(load_others)
        try:
            for _ in range(60):
                name = draw.choice(list(TWIN_SETS))
                delay()
                loras = twins.begin(name).wait(60)
                delay()
                twins.patcher.apply(loras)
                predictions.append((name, twins.predict()))
        finally:
            done.set()
        assert others.result(60) > 0
    wrong = [(number, name) for number, (name, ours) in enumerate(predictions) if not torch.equal(ours, expected[name])]
    assert not wrong
    twins.loader.close()


@needs_two
def test_a_patch_waits_for_its_factors_on_the_second_gpu(adapters: Path) -> None:
    twins = Twins(adapters, "cuda_graph")
    twins.apply("A")
    expected = twins.predict()
    twins.apply("none")
    plain = twins.predict()
    others = [name for name in TWIN_SETS if name not in ("A", "none")]
    for name in others:  # so that the patch is built anew, from factors that are copied anew
        twins.apply(name)
    twins.apply("none")
    with copy_stream(GPUS[1]).use():
        torch.cuda._sleep(25 * CYCLES)
        late = torch.cuda.Event()
        late.record()
    twins.apply("A")
    assert not late.query(), "the host waited"
    prediction = twins.predict()
    assert torch.equal(prediction, expected)
    assert not torch.equal(prediction, plain)
    twins.loader.close()
