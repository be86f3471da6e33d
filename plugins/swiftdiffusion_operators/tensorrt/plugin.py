"""IPluginV3 for any `Operator`: shapes, formats, serialisation, and the launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from swiftdiffusion_operators.onnx import NAME, VERSION
from swiftdiffusion_operators.tensorrt.geglu import GEGLU
from swiftdiffusion_operators.tensorrt.group_norm_silu import GROUP_NORMS
from swiftdiffusion_operators.tensorrt.launch import find_launch
from swiftdiffusion_operators.tensorrt.operator import Operator

OPERATORS = (GEGLU, *GROUP_NORMS)
HWC8_CHANNELS = 8  # TensorRT pads channels to a multiple of it, and the kernels know no padding


def register_plugins(trt: ModuleType) -> None:
    """Make the plugins known to `trt` (``tensorrt`` or ``tensorrt_rtx``), for parsing, building and running.

    A second call changes nothing.
    """
    registry = trt.get_plugin_registry()
    for operator in OPERATORS:
        if registry.get_creator(operator.name, str(VERSION), NAME) is None:
            registry.register_creator(_make_creator(trt, operator), NAME)


def _make_creator(trt: Any, operator: Operator) -> Any:
    """A creator for one operator; TensorRT keeps it alive through the registry, and Python through `_CREATORS`."""
    kinds = {int: trt.PluginFieldType.INT32, float: trt.PluginFieldType.FLOAT32}
    plugin_class = _make_plugin_class(trt, operator, kinds)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = operator.name, str(VERSION), NAME
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField(name, np.array([]), kinds[kind]) for name, kind in operator.attributes.items()]
            )

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            given = {field.name: field.data for field in fields}
            return plugin_class({name: kind(given[name][0]) for name, kind in operator.attributes.items()})

    creator = Creator()
    _CREATORS.append(creator)
    return creator


def _make_plugin_class(trt: Any, operator: Operator, kinds: Mapping[type, Any]) -> Any:
    dtypes = {trt.float16: torch.float16, trt.float32: torch.float32}

    class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        def __init__(self, attributes: Mapping[str, int | float]) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = operator.name, str(VERSION), NAME
            self.num_outputs = 1
            self.attributes = attributes

        def get_capability_interface(self, capability: Any) -> Any:
            return self

        def clone(self) -> Any:
            copy = Plugin(self.attributes)
            copy.__dict__.update(self.__dict__)
            return copy

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return [input_types[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any) -> list[Any]:
            output = trt.DimsExprs(inputs[0])
            if operator.divisor != 1:
                last = len(output) - 1
                divide = trt.DimensionOperation.FLOOR_DIV
                output[last] = builder.operation(divide, output[last], builder.constant(operator.divisor))
            return [output]

        def supports_format_combination(self, position: int, tensors: Sequence[Any], inputs: int) -> bool:
            first, tensor = tensors[0].desc, tensors[position].desc
            if first.type not in dtypes or tensor.type != first.type:
                return False
            is_picture = operator.pictures and position in (0, inputs)
            if is_picture and position:
                return tensor.format == first.format
            dense = trt.TensorFormat.HWC8 if first.type == trt.float16 else trt.TensorFormat.HWC
            if is_picture and tensor.format == dense:
                return tensor.dims[1] % HWC8_CHANNELS == 0
            return tensor.format == trt.TensorFormat.LINEAR

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            pass

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            return operator.sizes([tuple(tensor.max) for tensor in inputs], self.attributes, False).workspace_bytes

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            channels_last = inputs[0].format != trt.TensorFormat.LINEAR
            self.sizes = operator.sizes([tuple(tensor.dims) for tensor in inputs], self.attributes, channels_last)
            self.dtype = dtypes[inputs[0].type]

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def enqueue(
            self,
            input_descriptions: Sequence[Any],
            output_descriptions: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            addresses = (*inputs, *[0] * operator.absent, *outputs)
            find_launch(operator.kernel)(addresses, self.sizes, self.dtype, stream, workspace)

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection(
                [
                    trt.PluginField(name, np.array([self.attributes[name]], _NUMPY[kind]), kinds[kind])
                    for name, kind in operator.attributes.items()
                ]
            )

        def set_tactic(self, tactic: int) -> None:
            pass

    return Plugin


_NUMPY = {int: np.int32, float: np.float32}
_CREATORS: list[Any] = []  # the registry holds no reference of Python's
