"""One ONNX file through TensorRT: parsed, checked for plugins and names, built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdiffusion.engines.tensorrt.library import TensorRt
from swiftdiffusion.engines.tensorrt.records import GraphRecord, Profile
from swiftdiffusion.errors import Internal
from swiftdiffusion_build.export.specification import TensorSpecification
from swiftdiffusion_build.progress import Progress


@dataclass(frozen=True)
class Parsed:
    """A network in TensorRT's hands. `builder` and `parser` are kept because it lives on their memory."""

    builder: Any
    parser: Any
    network: Any
    marked: tuple[str, ...]  # weights that are marked for refitting


def parse(library: TensorRt, path: Path, record: GraphRecord) -> Parsed:
    """Parse an ONNX file, and mark what LoRAs may change for refitting.

    Raises:
        Internal: TensorRT does not know a node, or took a node's body where there should be a plugin, or does not know
            a parameter by its name.
    """
    trt = library.trt
    builder = trt.Builder(library.log)
    network = library.make_network(builder)
    parser = trt.OnnxParser(network, library.log)
    if not parser.parse_from_file(str(path)):
        errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise Internal(f"TensorRT cannot parse {path}: {errors[0] if errors else library.log.latest_error}")
    # a parser that knows no plugin of a node's name takes its body without a word
    plugins = sum(network.get_layer(n).type == trt.LayerType.PLUGIN_V3 for n in range(network.num_layers))
    if plugins != record.operators:
        raise Internal(f"TensorRT has {plugins} plugins for the {record.operators} operators of {path}")
    if unknown := [name for name in record.layers if not network.mark_weights_refittable(name)]:
        raise Internal(f"TensorRT does not know {len(unknown)} weights of {path}, among them {unknown[0]!r}")
    return Parsed(builder, parser, network, record.layers)


def build(
    library: TensorRt,
    parsed: Parsed,
    inputs: Mapping[str, TensorSpecification],
    profiles: Sequence[Profile],
    progress: Progress,
    *,
    refittable: bool,
    for_absent_gpu: bool = False,
) -> bytes:
    """Build a plan.

    Args:
        library: what builds it.
        parsed: the network.
        inputs: its inputs by name.
        profiles: the sizes that it shall take.
        progress: told each step.
        refittable: whether the weights that `parse` marked can be refitted.
        for_absent_gpu: build for another GPU than the one here, to see that it can be done where there is none.

    Raises:
        Internal: TensorRT finds no way.
    """
    trt = library.trt
    config = parsed.builder.create_builder_config()
    if for_absent_gpu:
        library.aim_at_absent_gpu(config)
    if refittable:
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
    else:
        for name in parsed.marked:
            parsed.network.unmark_weights_refittable(name)
    for profile in profiles:
        shapes = parsed.builder.create_optimization_profile()
        for name, tensor in inputs.items():
            shapes.set_shape(name, *(tensor.shape(size) for size in (profile.low, profile.best, profile.high)))
        if config.add_optimization_profile(shapes) < 0:
            raise Internal(f"TensorRT does not take the profile {profile.name!r}: {library.log.latest_error}")
    config.progress_monitor = _make_monitor(trt, progress)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise Internal(f"TensorRT did not build the plan: {library.log.latest_error}")
    return bytes(plan)


def _make_monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            progress.update(f"{phase}, {step} of {self.steps[phase]}")
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            del self.steps[phase]

    return Monitor()
