"""What a kernel can do wrong."""


class KernelError(Exception):
    """Of all kinds."""


class Race(KernelError):
    """Two operations on the same shared memory without an order."""


class Deadlock(KernelError):
    """Partitions wait for what can never come."""


class Misuse(KernelError):
    """An operation that is undefined, or that the language does not have."""
