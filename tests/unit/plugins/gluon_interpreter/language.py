"""The modules and functions that kernels are written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from .assembly import FUNCTIONS
from .barriers import Barrier, Barriers
from .copies import Descriptor, Fetch
from .dtypes import TORCH
from .errors import Misuse
from .program import Program, Work
from .shared_memory import View
from .values import Pointer, Value

Number = int | float | Value


def _map(function: Callable[..., Any], *operands: Number) -> Value:
    """A function of tensors to values and numbers, which become fp32."""
    tensors = [one.data if isinstance(one, Value) else torch.tensor(one, dtype=torch.float32) for one in operands]
    return Value(function(*tensors))


class Language:
    """Gluon's own module and Triton's, of which it is an extension."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __getattr__(self, name: str) -> Any:
        """Layouts and types of numbers, which are what they are."""
        real = getattr(gl, name, None)
        if isinstance(real, (type, tl.dtype)):
            return real
        raise Misuse(f"the interpreter has no {name}")

    static_range = range

    def program_id(self, axis: int) -> int:
        """Of the only axis."""
        return [self._program.number][axis]

    def num_programs(self, axis: int) -> int:
        """Along the only axis."""
        return [self._program.count][axis]

    def cdiv(self, number: int, by: int) -> int:
        """Rounded up."""
        return -(-number // by)

    def load(self, pointer: Pointer, mask: Value | None = None, other: float = 0) -> Any:
        """From global memory."""
        return pointer.load(mask, other)

    def arange(self, start: int, stop: int, layout: Any) -> Value:
        """Whole numbers."""
        return Value(torch.arange(start, stop, dtype=torch.int32))

    def zeros(self, shape: list[int], dtype: Any, layout: Any) -> Value:
        """Of that type."""
        return Value(torch.zeros(shape, dtype=TORCH[dtype]))

    def convert_layout(self, value: Value, layout: Any, assert_trivial: bool = False) -> Value:
        """The same numbers."""
        return Value(value.data)

    def where(self, condition: Value, value: Number, other: Number) -> Value:
        """One or the other."""
        return _map(torch.where, condition, value, other)

    def maximum(self, one: Number, other: Number) -> Value:
        """Of each two."""
        return _map(torch.maximum, one, other)

    def minimum(self, one: int, other: int) -> int:
        """Of two numbers."""
        return min(one, other)

    def abs(self, value: Value) -> Value:
        """Of each."""
        return _map(torch.abs, value)

    def exp2(self, value: Value) -> Value:
        """Of each."""
        return _map(torch.exp2, value)

    def sum(self, value: Value, axis: int) -> Value:
        """Along a dimension."""
        return Value(value.data.sum(axis))

    def max(self, value: Value, axis: int) -> Value:
        """Along a dimension."""
        return Value(value.data.amax(axis))

    def inline_asm_elementwise(
        self, asm: str, constraints: str, args: list[Number], dtype: Any, is_pure: bool, pack: int
    ) -> Value:
        """What is known to do the same."""
        if asm not in FUNCTIONS:
            raise Misuse(f"the interpreter does not know this assembly: {asm}")
        return _map(FUNCTIONS[asm], *args)

    def allocate_shared_memory(self, dtype: Any, shape: list[int], layout: Any) -> View | Barriers:
        """For numbers or for barriers."""
        if isinstance(layout, mbarrier.MBarrierLayout):
            return Barriers(shape[0])
        return View.allocate(self._program, dtype, shape, layout)

    def barrier(self) -> None:
        """Nothing: a partition has no warps here."""

    def warp_specialize(self, work: list[Work], warps: list[int], registers: list[int]) -> None:
        """Run partitions at the same time."""
        if not len(work) - 1 == len(warps) == len(registers):
            raise Misuse(f"{len(work)} partitions, and for all but the first {warps} warps, {registers} registers")
        self._program.specialise(work)


class MBarrier:
    """The module `mbarrier`."""

    MBarrierLayout = mbarrier.MBarrierLayout

    def __init__(self, program: Program) -> None:
        self._program = program

    def init(self, barrier: Barrier, count: int) -> None:
        """Await so many arrivals in each phase."""
        barrier.init(count)

    def wait(self, barrier: Barrier, phase: int, pred: bool = True) -> None:
        """Until the phase of that parity has passed."""
        if pred:
            running = self._program.running
            running.wait(lambda: barrier.has_passed(phase), lambda: f"a phase of parity {phase} to end at {barrier}")
            running.known |= barrier.known

    def expect(self, barrier: Barrier, bytes_: int) -> None:
        """Arrive once, and await bytes in this phase."""
        barrier.expect(bytes_, self._program.running.known)

    def arrive(self, barrier: Barrier, *, count: int = 1, pred: bool = True) -> None:
        """So many times."""
        if pred:
            barrier.arrive(count, self._program.running.known)


class Tma:
    """The module `tma`."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def async_copy_global_to_shared(
        self, descriptor: Descriptor, place: list[int], barrier: Barrier, destination: View
    ) -> None:
        """A box that lands at some time."""
        descriptor.check(place, destination)
        operation = self._program.begin(asynchronous=True)
        destination.touch(operation, self._program.running.known, writes=True)
        self._program.fetches.append(Fetch(operation, descriptor, place, barrier, destination))

    def async_copy_shared_to_global(self, descriptor: Descriptor, place: list[int], source: View) -> None:
        """A box that is read until it is waited for: here at once, since nobody may change it until then."""
        descriptor.check(place, source)
        operation, running = self._program.begin(asynchronous=True), self._program.running
        source.touch(operation, running.known, writes=False)
        running.stores.append(operation)
        descriptor.write(place, source.data)

    def store_wait(self, pending: int) -> None:
        """Until all copies from shared memory but so many have read it (PTX ISA, "cp.async.bulk.wait_group.read")."""
        self._program.running.finish(self._program.running.stores, pending)


class Hopper:
    """The functions of Hopper's own."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def fence_async_shared(self) -> None:
        """Let other hardware see what this partition has written."""
        self._program.running.fence()

    def warpgroup_mma(
        self, a: View | Value, b: View, acc: Value, *, use_acc: bool = True, is_async: bool = False
    ) -> Value:
        """A product in fp32 that reads shared memory until it is waited for: here at once, as stores do."""
        operation, running = self._program.begin(asynchronous=True), self._program.running
        for operand in (a, b):
            if isinstance(operand, View):
                operand.touch(operation, running.known, writes=False)
        product = a.data.float() @ b.data.float()
        running.products.append(operation)
        if not is_async:
            running.finish(running.products, 0)
        result = product + acc.accumulated if use_acc else product
        return Value(result, operation)

    def warpgroup_mma_wait(self, pending: int, deps: list[Value]) -> Value | tuple[Value, ...]:
        """Until all products but so many are done."""
        running = self._program.running
        running.finish(running.products, pending)
        return deps[0] if len(deps) == 1 else tuple(deps)
