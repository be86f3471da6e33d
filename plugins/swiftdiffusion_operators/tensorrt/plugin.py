"""IPluginV3 for any `Operator`: shapes, formats, serialisation, and the launch.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/extending-custom-layers.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from swiftdiffusion_operators.domain import NAME, VERSION
from swiftdiffusion_operators.tensorrt.geglu import Geglu
from swiftdiffusion_operators.tensorrt.group_norm_silu import GroupNorm, GroupNormSilu, ShiftedGroupNormSilu
from swiftdiffusion_operators.tensorrt.operator import Operator

OPERATORS: tuple[Operator, ...] = (Geglu(), GroupNorm(), GroupNormSilu(), ShiftedGroupNormSilu())
HWC8_CHANNELS = 8  # TensorRT pads channels to a multiple of it, and the kernels know no padding

_NUMPY = {int: np.int32, float: np.float32}
_creators: list[Any] = []  # a registry holds no reference of Python's


def register_plugins(trt: ModuleType) -> None:
    """Make the plugins known to `trt`, the module of a TensorRT, for parsing, building and running.

    A second call changes nothing.
    """
    registry = trt.get_plugin_registry()
    for operator in OPERATORS:
        if registry.get_creator(operator.name, str(VERSION), NAME) is None:
            _creators.append(_make_creator(trt, operator))
            registry.register_creator(_creators[-1], NAME)


def _make_creator(trt: Any, operator: Operator) -> Any:
    kinds = {int: trt.PluginFieldType.INT32, float: trt.PluginFieldType.FLOAT32}
    plugin_class = _make_plugin_class(trt, operator, kinds)

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = operator.name, str(VERSION), NAME
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField(name, np.array([]), kinds[kind]) for name, kind in operator.attributes.items()]
            )

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            given = {field.name: field.data for field in fields}
            return plugin_class({name: kind(given[name][0]) for name, kind in operator.attributes.items()})

    return Creator()


def _make_plugin_class(trt: Any, operator: Operator, kinds: Mapping[type, Any]) -> Any:
    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    dtypes = {trt.float16: torch.float16, trt.float32: torch.float32}
    channels_last = {trt.float16: trt.TensorFormat.HWC8, trt.float32: trt.TensorFormat.HWC}

    class Plugin(*bases):  # type: ignore[misc]
        def __init__(self, attributes: Mapping[str, int | float]) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = operator.name, str(VERSION), NAME
            self.num_outputs = 1
            self.attributes = attributes
            # a field holds a pointer into its array, and a collection into its fields
            self._values = {n: np.array([attributes[n]], _NUMPY[kind]) for n, kind in operator.attributes.items()}
            self._fields = trt.PluginFieldCollection(
                [trt.PluginField(n, self._values[n], kinds[kind]) for n, kind in operator.attributes.items()]
            )

        def get_capability_interface(self, capability: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(self.attributes)

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            return self._fields

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return [input_types[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any) -> list[Any]:
            output = trt.DimsExprs(inputs[0])
            if operator.divides_last != 1:
                last, divide = len(output) - 1, trt.DimensionOperation.FLOOR_DIV
                output[last] = builder.operation(divide, output[last], builder.constant(operator.divides_last))
            return [output]

        def supports_format_combination(self, position: int, tensors: Sequence[Any], inputs: int) -> bool:
            first, tensor = tensors[0].desc, tensors[position].desc
            if first.type not in dtypes or tensor.type != first.type:
                return False
            if operator.has_pictures and position == inputs:
                return tensor.format == first.format
            if operator.has_pictures and position == 0 and tensor.format == channels_last[first.type]:
                return tensor.dims[1] % HWC8_CHANNELS == 0
            return tensor.format == trt.TensorFormat.LINEAR

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Nothing depends on the profile."""

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            return operator.workspace_bytes([tuple(tensor.max) for tensor in inputs], self.attributes)

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Nothing is kept from one call to the next."""

        def set_tactic(self, tactic: int) -> None:
            """There is one."""

        def enqueue(
            self,
            input_tensors: Sequence[Any],
            output_tensors: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            first = input_tensors[0]
            operator.enqueue(
                [tuple(tensor.dims) for tensor in input_tensors],
                first.format == channels_last[first.type],
                dtypes[first.type],
                inputs,
                outputs[0],
                workspace,
                stream,
                self.attributes,
            )

    return Plugin
