"""Which TensorRT is here, and all in which TensorRT 10.9 to 11 and TensorRT-RTX differ.

Their Python modules have the same names, but for what is below. Loaded lazily: nothing else in the tree imports them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from swiftdiffusion.errors import InvalidArgument, Unavailable
from swiftdiffusion_operators.tensorrt import register_plugins

logger = logging.getLogger(__name__)

OLDEST = (10, 9)  # the first with `INetworkDefinition.mark_weights_refittable` and IPluginV3 in Python as used here
KINDS = ("tensorrt", "tensorrt_rtx")

HOW_TO_GET_IT = (
    "TensorRT comes by `.venv/bin/pip install tensorrt`, which fetches it from NVIDIA, or with docker/Dockerfile; "
    "TensorRT-RTX, for GeForce and RTX GPUs, by `.venv/bin/pip install -e '.[tensorrt]'`"
)

_loading = threading.Lock()  # plugins are registered once in a process, and TensorRT keeps the first log that it gets


def load_tensorrt(kind: str = "auto") -> TensorRt:
    """Import a TensorRT and make the project's plugins known to it.

    Args:
        kind: ``tensorrt``, ``tensorrt_rtx``, or ``auto``: the first of them that is installed.

    Raises:
        InvalidArgument: another kind.
        Unavailable: none is installed, or it is too old; says how to get one.
    """
    if kind not in ("auto", *KINDS):
        raise InvalidArgument(f"TensorRT's kind is {kind!r}; allowed: auto, {', '.join(KINDS)}")
    with _loading:
        for candidate in KINDS if kind == "auto" else (kind,):
            if library := _load(candidate):
                return library
    raise Unavailable(f"{'TensorRT' if kind == 'auto' else kind} is not installed. {HOW_TO_GET_IT}")


@cache
def _load(kind: str) -> TensorRt | None:
    module = _import_rtx() if kind == "tensorrt_rtx" else _import("tensorrt")
    if module is None:
        return None
    library = TensorRt(module, kind, _make_log(module))
    if kind == "tensorrt" and library.release < OLDEST:
        raise Unavailable(
            f"TensorRT {library.version} is installed; {'.'.join(map(str, OLDEST))} is needed. {HOW_TO_GET_IT}"
        )
    register_plugins(module)
    return library


def _import(name: str) -> ModuleType | None:
    """A module, or None where its package or the libraries that it opens are missing."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        logger.debug("%s cannot be imported: %s", name, error)
        return None


def _import_rtx() -> ModuleType | None:
    """TensorRT-RTX from its wheels, or from an archive whose module has another name."""
    if libraries := _import("tensorrt_rtx_libs"):
        # Its parser opens libtensorrt_rtx.so beside itself, but the wheel has only libtensorrt_rtx.so.1,
        # and where that name is missing the process ends.
        folder = Path(str(libraries.__file__)).parent
        link = folder / "libtensorrt_rtx.so"
        if not link.exists():
            try:
                link.symlink_to(next(folder.glob("libtensorrt_rtx.so.*")).name)
            except FileExistsError:
                pass  # another process was faster
            except OSError as error:
                raise Unavailable(f"{link} must link to libtensorrt_rtx.so.1 and cannot be made: {error}") from None
    return _import("tensorrt_rtx_bindings") or _import("tensorrt_rtx")


@dataclass(frozen=True)
class TensorRt:
    """One TensorRT: its module `trt`, and what is not the same in all of them."""

    trt: Any
    kind: str  # of KINDS
    log: Any  # TensorRT's messages into Python's log

    @property
    def version(self) -> str:
        """As its package has it."""
        return self.trt.__version__

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return self.kind == "tensorrt_rtx"

    def require_gpu(self, device: torch.device) -> None:
        """Refuse a device that this TensorRT does not run on; raises `Unavailable`."""
        if device.type != "cuda" or not torch.cuda.is_available():
            raise Unavailable(f"{self.kind} runs on NVIDIA GPUs, and the device here is {device}")
        if self.is_rtx:
            major, minor = torch.cuda.get_device_capability(device)
            known = [name for name in self.trt.ComputeCapability.__members__ if name.startswith("SM")]
            if f"SM{major}{minor}" not in known:
                raise Unavailable(
                    f"TensorRT-RTX does not run on {torch.cuda.get_device_name(device)} (SM{major}{minor}), "
                    f"only on {', '.join(known)}. {HOW_TO_GET_IT}"
                )

    def make_network(self, builder: Any) -> Any:
        """A network whose layers compute in the number types of the graph: the only kind from TensorRT 11 on."""
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def aim_at_absent_gpu(self, config: Any) -> None:
        """Build for a GPU of the Ampere family, where none is here."""
        config.num_compute_capabilities = 1
        config.set_compute_capability(self.trt.ComputeCapability.SM80, 0)

    def make_context(self, engine: Any) -> Any:
        """An execution context whose device memory we give it, and whose kernels are ready after its first run."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.is_rtx:
            return engine.create_execution_context(strategy)
        # RTX compiles kernels as shapes arrive, in the background unless told otherwise
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return engine.create_execution_context(config)

    def can_capture(self, context: Any, stream: int) -> bool:
        """Whether a CUDA graph can hold this context's work."""
        return not self.is_rtx or context.is_stream_capturable(stream)


def _make_log(trt: Any) -> Any:
    write: dict[Any, Callable[..., None]] = {
        trt.ILogger.INTERNAL_ERROR: logger.error,
        trt.ILogger.ERROR: logger.error,
        trt.ILogger.WARNING: logger.info,  # many, and of its own workings
        trt.ILogger.INFO: logger.debug,
        trt.ILogger.VERBOSE: logger.debug,
    }

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.latest_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.latest_error = message
            write[severity](message)

    return Log()
