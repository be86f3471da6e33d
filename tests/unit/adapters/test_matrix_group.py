"""LoRAs of matrices patched from arrays, by the GPU's kernel in Triton's interpreter, against layer by layer."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftdiffusion.adapters import matrix_group, patching
from swiftdiffusion.adapters.matrix_group import MatrixGroup
from swiftdiffusion.adapters.patching import CPU, Patcher
from swiftdiffusion.adapters.prepared import PreparedPatch
from swiftdiffusion.adapters.weights import ScaledLora

from .conftest import MakeLoader
from .lora_files import UNET, Tensors, kohya, peft, write
from .reference import build_engines, state

MATRICES = {
    "down_blocks.1.attentions.0.proj_in": 8,
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": 16,
    "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v": 8,
    "mid_block.attentions.0.transformer_blocks.1.attn1.to_out.0": 8,
    "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_v": 8,
}
FEWER = dict.fromkeys([*MATRICES][1:3], 8) | {"up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": 8}
NOTHING: dict[str, float] = {}


def halve(tensors: Tensors) -> Tensors:
    return {name: tensor if name.endswith("alpha") else tensor.half() for name, tensor in tensors.items()}


@pytest.fixture
def load(tmp_path: Path, pipeline: Any, make_loader: MakeLoader) -> Callable[[str, float], ScaledLora]:
    """LoRAs by name: `a` and `b` of one form, `kohya` of fewer layers with alphas; the others need more than arrays."""
    files = {
        "a": halve(peft(pipeline, {"unet": MATRICES}, 1)),
        "b": halve(peft(pipeline, {"unet": MATRICES}, 2)),
        "kohya": halve(kohya(pipeline, {"unet": FEWER}, seed=3)),
        "convolutions": halve(peft(pipeline, {"unet": MATRICES | {"conv_out": 8}}, 4)),
        "odd_rank": halve(peft(pipeline, {"unet": dict.fromkeys(MATRICES, 4)}, 5)),
        "single": peft(pipeline, {"unet": MATRICES}, 6),
        "dora": halve(peft(pipeline, {"unet": FEWER}, 7)),
        "text": halve(peft(pipeline, {"text_encoder": {"encoder.layers.0.self_attn.q_proj": 8}}, 8)),
    }
    for key in [key for key in files["dora"] if key.endswith("lora_B.weight")]:
        rows = len(files["dora"][key])
        files["dora"][key.replace("lora_B.weight", "lora_magnitude_vector.weight")] = torch.ones(rows).half()
    for name, tensors in files.items():
        write(tmp_path / f"{name}.safetensors", tensors)
    loader = make_loader(networks=("unet",))
    return lambda name, scale: ScaledLora(loader.load(name).result(10), scale)


class Twins:
    """Two copies of the pipeline's UNet in half precision, as a lane on two GPUs has them, with one patcher."""

    def __init__(self, pipeline: Any) -> None:
        self.pipelines = [copy.deepcopy(pipeline) for _ in range(2)]
        for twin in self.pipelines:
            twin.unet.half()
        engines = [engine for twin in self.pipelines for engine in build_engines(twin)["unet"]]
        self.patchers = [Patcher({"unet": engines[2 * twin : 2 * twin + 2]}, [CPU]) for twin in range(2)]

    def apply(self, wanted: Sequence[ScaledLora]) -> dict[str, bytes]:
        for patcher in self.patchers:
            patcher.apply(wanted)
        first, second = map(state, self.pipelines)
        assert first == second
        return first


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Have the CPU patched as a GPU is; whether each patch that was prepared by arrays could be."""
    pytest.importorskip("triton")
    from swiftdiffusion_operators.kernels.lora_launch import GroupedPatch
    from swiftdiffusion_operators.kernels.lora_matrices import MatrixWeights

    def describe(weights: Any) -> MatrixWeights | None:
        return MatrixWeights(weights) if MatrixWeights.fit(weights) else None

    found: list[bool] = []
    prepare = MatrixGroup.prepare

    def note(self: MatrixGroup, *arguments: Any) -> PreparedPatch | None:
        patch = prepare(self, *arguments)
        found.append(patch is not None)
        return patch

    monkeypatch.setattr(matrix_group, "describe_weights", describe)
    monkeypatch.setattr(patching, "prepare_patch", GroupedPatch)
    monkeypatch.setattr(MatrixGroup, "prepare", note)
    yield found


SETS = (
    {"a": 0.7},
    {"b": -1.3},
    {"a": 1.0, "b": 0.5},
    {"kohya": 0.9, "a": 1.0},
    NOTHING,
    {"b": 1.0, "kohya": 0.2, "a": 1},
)


def test_the_bits_are_those_of_layer_by_layer(
    pipeline: Any, load: Any, described: list[bool], monkeypatch: Any
) -> None:
    twins, layer_by_layer = Twins(pipeline), Twins(pipeline)
    for wanted in SETS:
        loras = [load(name, scale) for name, scale in wanted.items()]
        ours = twins.apply(loras)
        with monkeypatch.context() as patch:
            patch.setattr(Patcher, "_build_of_matrices", lambda self, loras: None)
            assert ours == layer_by_layer.apply(loras)
    assert described == [True] * 2 * sum(map(bool, SETS)), "they were described layer by layer"


@pytest.mark.parametrize("name", ["convolutions", "odd_rank", "single", "dora"])
def test_what_is_no_aligned_matrix_is_described_layer_by_layer(
    name: str, pipeline: Any, load: Any, described: list[bool]
) -> None:
    loras = [load("a", 0.8), load(name, 1.0)]
    mixed = Twins(pipeline).apply(loras)
    assert True not in described
    assert mixed != Twins(pipeline).apply(loras[:1])


def test_scales_that_count_as_none_leave_the_base(pipeline: Any, load: Any, described: list[bool]) -> None:
    twins = Twins(pipeline)
    before = twins.apply([])
    assert twins.apply([load("a", 0.0)]) == before
    assert described == [False, False]


def test_networks_held_elsewhere_are_left_alone(pipeline: Any, load: Any, described: list[bool]) -> None:
    twins = Twins(pipeline)
    before = twins.apply([])
    assert twins.apply([load("text", 1.0)]) == before
    assert twins.apply([load("text", 1.0), load("a", 1.0)]) == Twins(pipeline).apply([load("a", 1.0)])


def test_files_of_one_form_are_worked_out_once(load: Any) -> None:
    a, b, other = (load(name, 1.0).weights.plan for name in ("a", "b", "kohya"))
    assert a is b
    assert a is not other
    assert a.matrices["unet"].parameters == tuple(f"{module}.weight" for module in sorted(MATRICES))


def test_a_group_needs_each_weight_once_on_a_device(pipeline: Any, load: Any, described: list[bool]) -> None:
    """Two engines with the same parameters there are patched as well, one by one."""
    twins = [copy.deepcopy(pipeline).unet.half() for _ in range(2)]
    engines = [engine for unet in twins for engine in build_engines(_holding(pipeline, unet))["unet"]]
    Patcher({"unet": engines}, [CPU]).apply([load("a", 1.0)])
    assert described == []
    changed = twins[0].get_submodule(next(iter(MATRICES))).weight
    assert torch.equal(changed, twins[1].get_submodule(next(iter(MATRICES))).weight)
    assert not torch.equal(changed, pipeline.unet.get_submodule(next(iter(MATRICES))).weight.half())


def _holding(pipeline: Any, unet: Any) -> Any:
    other = copy.copy(pipeline)
    other.unet = unet
    return other


def test_who_draws_does_not_wait_for_another_set_to_be_prepared(
    pipeline: Any, tmp_path: Path, make_loader: MakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.safetensors", peft(pipeline, {"unet": UNET}, seed))
    loader = make_loader()
    a, b = (ScaledLora(loader.load(name).result(10), 1.0) for name in "ab")
    patcher = Patcher({"unet": build_engines(copy.deepcopy(pipeline))["unet"]})
    patcher.prepare([a])
    entered, go_on = threading.Event(), threading.Event()
    build = patcher._build

    def slowly(uses: Any) -> PreparedPatch:
        if threading.current_thread() is preparing:
            entered.set()
            assert go_on.wait(30)
        return build(uses)

    monkeypatch.setattr(patcher, "_build", slowly)
    preparing = threading.Thread(target=patcher.prepare, args=([a, b],))
    preparing.start()
    try:
        assert entered.wait(10)
        drawing = threading.Thread(target=patcher.apply, args=([a],), daemon=True)
        drawing.start()
        drawing.join(10)
        assert patcher.applied == (("a", 1.0),), "it waits until the other set is prepared"
    finally:
        go_on.set()
        preparing.join()
