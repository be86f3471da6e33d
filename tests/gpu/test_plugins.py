"""The plugins' launches, by raw addresses on a given stream as TensorRT makes them, against the operators."""

import pytest
import torch

from swiftdiffusion_operators import geglu, group_norm_silu
from swiftdiffusion_operators.tensorrt.plugin import OPERATORS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GROUPS, EPSILON = 32, 1e-5
TOLERANCES = {torch.float16: 2e-3, torch.float32: 1e-5}
CASES = [
    (operator, dtype, channels_last)
    for operator in OPERATORS
    for dtype in TOLERANCES
    for channels_last in ((False, True) if operator.has_pictures else (False,))
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].name}-{case[1]}-{'last' if case[2] else 'first'}")
def case(request):
    """An operator, its inputs and attributes, and what the PyTorch operator gives, computed on the CPU in fp32."""
    operator, dtype, channels_last = request.param
    generator = torch.Generator().manual_seed(4)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    if operator.name == "GEGLU":
        inputs = [draw(2, 77, 2 * 640)]
        return operator, inputs, {}, channels_last, geglu(inputs[0].float())
    x, weight, bias, shift = 4 * draw(2, 320, 40, 24) + 2, draw(320), draw(320), draw(2, 320)
    inputs = [x, weight, bias, *([shift] if operator.name.startswith("Shifted") else [])]
    wide = [tensor.float() for tensor in inputs]
    expected = group_norm_silu(*wide[:3], GROUPS, EPSILON, "SiLU" in operator.name, *wide[3:])
    return operator, inputs, {"groups": GROUPS, "epsilon": EPSILON}, channels_last, expected


class Enqueued:
    """Device memory around one operator, enqueued as by a plugin."""

    def __init__(self, operator, inputs, attributes, channels_last, expected):
        form = torch.channels_last if channels_last else torch.contiguous_format
        self.inputs = [i.cuda().contiguous(memory_format=form) if i.ndim == 4 else i.cuda() for i in inputs]
        self.output = torch.empty_like(expected, dtype=inputs[0].dtype, device="cuda")
        if channels_last:
            self.output = self.output.contiguous(memory_format=form)
        shapes = [tuple(tensor.shape) for tensor in inputs]
        size = operator.workspace_bytes(shapes, attributes)
        self.workspace = torch.full((max(size, 16),), 255, dtype=torch.uint8, device="cuda")  # as fp32: NaN
        self.arguments = (operator, shapes, channels_last, attributes)
        self.expected = expected

    def enqueue(self, stream):
        operator, shapes, channels_last, attributes = self.arguments
        operator.enqueue(
            shapes,
            channels_last,
            self.output.dtype,
            [tensor.data_ptr() for tensor in self.inputs],
            self.output.data_ptr(),
            self.workspace.data_ptr(),
            stream.cuda_stream,
            attributes,
        )

    def difference(self):
        torch.cuda.synchronize()
        return ((self.output.cpu().float() - self.expected).abs().max() / self.expected.abs().max()).item()


def test_a_launch_gives_the_operators_result(case):
    enqueued, stream = Enqueued(*case), torch.cuda.Stream()
    torch.cuda.synchronize()
    enqueued.enqueue(stream)
    assert enqueued.difference() <= TOLERANCES[enqueued.output.dtype]


def test_a_launch_can_be_captured_and_replayed(case):
    enqueued, stream = Enqueued(*case), torch.cuda.Stream()
    torch.cuda.synchronize()
    enqueued.enqueue(stream)  # compiled here, for a capture cannot
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        enqueued.enqueue(stream)
    enqueued.output.zero_()
    enqueued.inputs[0].neg_()
    graph.replay()
    assert enqueued.difference() > 0.1
    enqueued.inputs[0].neg_()
    graph.replay()
    assert enqueued.difference() <= TOLERANCES[enqueued.output.dtype]
