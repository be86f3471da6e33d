"""An interpreter for the part of Gluon that the kernels use, on a machine with no GPU.

It executes a kernel's own source, program after program, on torch's CPU tensors. What it has of a GPU is what goes
wrong in such kernels: partitions that run at the same time, copies that land at some later time, barriers with their
phases. All times are drawn from a seed.

It does not hope that a missing wait spoils a result. Every operation on shared memory is known to a partition once it
has waited for it, or for somebody who knew; whoever touches what an operation that it does not know of has written, or
overwrites what such a one has read, is told so, even if by chance the order was right this time (happens-before, as in
Lamport, "Time, clocks, and the ordering of events", 1978).

It has no warps within a partition, so it does not miss a `gl.barrier` between them; no layouts of registers, and of
those of shared memory only the swizzle's width; no whole numbers that overflow or are divided below zero; no clusters,
no second kernel on the GPU; and it watches no memory but shared memory for races. How fast a kernel is, how many
registers it has and whether it compiles at all, the tests that compile tell.
"""

from .errors import Deadlock, KernelError, Misuse, Race
from .launch import Kernel

__all__ = ["Deadlock", "Kernel", "KernelError", "Misuse", "Race"]
