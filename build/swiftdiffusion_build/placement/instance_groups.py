"""A placement as Triton's configurations say it."""

from __future__ import annotations

from collections.abc import Mapping

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from swiftdiffusion_build.placement.server_placement import CPU, Gpus


def write_instance_groups(config: ModelConfig, groups: Mapping[str, Gpus]) -> None:
    """Replace a model's ``instance_group``: one for each of `groups`, by its name, with an instance on each GPU.

    On the CPU the parameter ``device`` says so too, for ``auto`` would take the machine's first GPU.
    """
    del config.instance_group[:]
    config.parameters.pop("device", None)
    for name, gpus in groups.items():
        if gpus == CPU:
            config.instance_group.add(name=name, count=1, kind=ModelInstanceGroup.KIND_CPU)
            config.parameters["device"].string_value = "cpu"
        else:
            config.instance_group.add(name=name, count=1, kind=ModelInstanceGroup.KIND_GPU, gpus=gpus)
