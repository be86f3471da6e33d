"""A kernel, called as Triton's are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia import hopper
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from swiftdiffusion_operators.kernels.convolve import synchronise

from .copies import Descriptor
from .language import Hopper, Language, MBarrier, Tma
from .program import Program
from .values import Pointer

OPTIONS = {"num_warps", "maxnreg"}  # of a launch, for the compiler


class Kernel:
    """A function for `gluon.jit`, executed program after program."""

    def __init__(self, function: Any, seed: int) -> None:
        self.fn = function.fn
        self._seed = seed

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*arguments: Any, **keywords: Any) -> None:
            parameters = inspect.signature(self.fn).parameters
            given = {name: value for name, value in keywords.items() if name in parameters or name not in OPTIONS}
            places = [_translate_argument(argument) for argument in arguments]
            (programs,) = grid
            for number in range(programs):
                program = Program(number, programs, self._seed)
                function = _Translation(program).translate(self)
                program.execute(partial(function, *places, **given))

        return launch


def _translate_argument(argument: Any) -> Any:
    if isinstance(argument, TensorDescriptor):
        return Descriptor(argument)
    return Pointer(argument) if isinstance(argument, Tensor) else argument


class _Translation:
    """Kernels' functions with what the interpreter has in place of what the language has."""

    def __init__(self, program: Program) -> None:
        language, own = Language(program), Hopper(program)
        self._replaced = {
            gl: language,
            tl: language,
            hopper.mbarrier: MBarrier(program),
            hopper.tma: Tma(program),
            hopper.fence_async_shared: own.fence_async_shared,
            hopper.warpgroup_mma: own.warpgroup_mma,
            hopper.warpgroup_mma_wait: own.warpgroup_mma_wait,
            synchronise: language.barrier,
        }
        self._modules: dict[int, dict[str, Any]] = {}

    def translate(self, value: Any) -> Any:
        """A function or what one finds among its globals."""
        if isinstance(value, tl.constexpr):
            return value.value
        if isinstance(function := getattr(value, "fn", None), FunctionType):
            return FunctionType(
                function.__code__, self._translate_globals(function.__globals__), function.__name__,
                function.__defaults__,
            )  # fmt: skip
        try:
            return self._replaced.get(value, value)
        except TypeError:  # what cannot be looked up is no part of the language
            return value

    def _translate_globals(self, module: dict[str, Any]) -> dict[str, Any]:
        if id(module) not in self._modules:
            translated = self._modules[id(module)] = dict[str, Any]()  # now, for its functions call one another
            translated |= {name: self.translate(value) for name, value in module.items()}
        return self._modules[id(module)]
