"""The plugins as TensorRT-RTX sees them, which needs no GPU."""

import numpy as np
import pytest

from swiftdiffusion.engines.tensorrt.library import load_tensorrt
from swiftdiffusion_operators.domain import NAME, VERSION
from swiftdiffusion_operators.kernels.group_norm_silu import Extent

ATTRIBUTES = {"groups": np.int32(16), "epsilon": np.float32(1e-5)}


@pytest.fixture(scope="module")
def trt():
    return load_tensorrt("tensorrt_rtx").trt


@pytest.fixture
def make_plugin(trt):
    def make_plugin(name, fields=None):
        kinds = {"groups": trt.PluginFieldType.INT32, "epsilon": trt.PluginFieldType.FLOAT32}
        values = {key: np.array([value]) for key, value in ATTRIBUTES.items()}  # the fields only point to them
        fields = fields or trt.PluginFieldCollection(
            [trt.PluginField(key, value, kinds[key]) for key, value in values.items()]
        )
        creator = trt.get_plugin_registry().get_creator(name, str(VERSION), NAME)
        return creator.create_plugin(name, fields, trt.TensorRTPhase.BUILD)

    return make_plugin


@pytest.fixture
def describe(trt):
    def describe(shape, dtype, form):
        tensor = trt.DynamicPluginTensorDesc()
        tensor.desc.dims, tensor.desc.type, tensor.desc.format = shape, dtype, form
        tensor.min = tensor.opt = tensor.max = shape
        return tensor

    return describe


def test_attributes_survive_serialisation_and_cloning(make_plugin):
    plugin = make_plugin("GroupNormSiLU")
    again = make_plugin("GroupNormSiLU", plugin.get_fields_to_serialize())
    assert plugin.attributes == again.attributes == again.clone().attributes == ATTRIBUTES


def test_pictures_may_be_channels_last_where_no_channel_is_padding(trt, make_plugin, describe):
    plugin, half, single = make_plugin("GroupNorm"), trt.float16, trt.float32
    linear, hwc8, hwc = trt.TensorFormat.LINEAR, trt.TensorFormat.HWC8, trt.TensorFormat.HWC

    def takes(channels, dtype, picture, weights=linear, output=None):
        tensors = [describe((2, channels, 8, 8), dtype, picture), *[describe((channels,), dtype, weights)] * 2]
        tensors.append(describe((2, channels, 8, 8), dtype, output or picture))
        return all(plugin.supports_format_combination(place, tensors, 3) for place in range(4))

    assert takes(48, half, linear) and takes(48, half, hwc8) and takes(48, single, linear) and takes(48, single, hwc)
    assert not takes(44, half, hwc8)
    assert not takes(48, half, hwc8, output=linear)
    assert not takes(48, half, linear, weights=hwc8)
    assert not takes(48, trt.int8, linear)


@pytest.mark.parametrize("channels", [48, 320, 1280, 2560])
def test_the_workspace_of_the_largest_shapes_suffices_for_smaller_ones(trt, make_plugin, describe, channels):
    picture = describe((-1, channels, -1, -1), trt.float16, trt.TensorFormat.LINEAR)
    picture.max = (8, channels, 128, 128)
    weight = describe((channels,), trt.float16, trt.TensorFormat.LINEAR)
    held = make_plugin("GroupNorm").get_workspace_size([picture, weight, weight], [picture])
    for batch in range(1, 9):
        for side in (1, 3, 8, 31, 64, 127, 128):
            needed = Extent(batch, channels, side * side, 16, True).workspace
            assert 4 * needed <= held
