"""The operators' bodies in ONNX against the operators."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from swiftdiffusion_operators import geglu, group_norm_silu
from swiftdiffusion_operators.domain import NAME, VERSION
from swiftdiffusion_operators.onnx import BODIES, OPSET

TYPES = {torch.float16: TensorProto.FLOAT16, torch.float32: TensorProto.FLOAT}


def run(name, inputs, shape, **attributes):
    names = [f"input_{place}" for place in range(len(inputs))]
    node = helper.make_node(
        name, names, ["y"], domain=NAME, plugin_namespace=NAME, plugin_version=str(VERSION), **attributes
    )
    kind = TYPES[inputs[0].dtype]
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info(n, kind, t.shape) for n, t in zip(names, inputs, strict=True)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(NAME, VERSION)]
    model = helper.make_model(graph, opset_imports=imports, functions=list(BODIES.values()), ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return torch.from_numpy(session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})[0])


@pytest.fixture(params=TYPES, ids=str)
def draw(request):
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(shape, generator=generator).to(request.param)


def assert_near(result, expected):
    tolerance = 2e-3 if expected.dtype == torch.float16 else 1e-6
    assert result.dtype == expected.dtype
    assert np.abs((result - expected).float().numpy()).max() <= tolerance * expected.abs().max().item()


def test_geglu(draw):
    x = draw(2, 5, 12)
    assert_near(run("GEGLU", [x], (2, 5, 6)), geglu(x))


@pytest.mark.parametrize(("name", "silu", "shifted"), [
    ("GroupNorm", False, False),
    ("GroupNormSiLU", True, False),
    ("ShiftedGroupNormSiLU", True, True),
])  # fmt: skip
def test_group_norm(draw, name, silu, shifted):
    x, weight, bias, shift = 4 * draw(3, 16, 6, 5) + 2, draw(16), draw(16), draw(3, 16)
    inputs = [x, weight, bias, *([shift] if shifted else [])]
    expected = group_norm_silu(x, weight, bias, 4, 1e-5, silu, shift if shifted else None)
    assert_near(run(name, inputs, x.shape, groups=4, epsilon=1e-5), expected)
