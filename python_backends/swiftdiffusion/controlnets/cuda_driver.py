"""What the CUDA driver offers and torch does not: memory for other processes, and streams that meet at words.

See https://docs.nvidia.com/cuda/cuda-driver-api, sections Memory Management and Stream Memory Operations. All calls
are for the calling thread's current device, in its primary context, which is torch's, too.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch

from swiftdiffusion.errors import Unavailable

HANDLE_BYTES = 64

_LAZY_PEER_ACCESS = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
_PORTABLE_AND_MAPPED = 3  # CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP
_AT_LEAST = 0  # CU_STREAM_WAIT_VALUE_GEQ, cyclic
_WITH_BARRIER = 0  # CU_STREAM_WRITE_VALUE_DEFAULT: what the stream did before is seen before the word


class _Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_char * HANDLE_BYTES),)


_Pointer = ctypes.c_uint64  # CUdeviceptr
_Host = ctypes.c_void_p
_Stream = ctypes.c_void_p
_Size = ctypes.c_size_t
_Word = ctypes.c_uint32
_Flags = ctypes.c_uint
_Device = ctypes.c_int
_Context = ctypes.c_void_p
_SIGNATURES = {
    "cuCtxGetCurrent": (ctypes.POINTER(_Context),),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(_Context), _Device),
    "cuCtxSetCurrent": (_Context,),
    "cuMemAlloc_v2": (ctypes.POINTER(_Pointer), _Size),
    "cuMemFree_v2": (_Pointer,),
    "cuIpcGetMemHandle": (ctypes.POINTER(_Handle), _Pointer),
    "cuIpcOpenMemHandle_v2": (ctypes.POINTER(_Pointer), _Handle, _Flags),
    "cuIpcCloseMemHandle": (_Pointer,),
    "cuMemHostRegister_v2": (_Host, _Size, _Flags),
    "cuMemHostUnregister": (_Host,),
    "cuMemHostGetDevicePointer_v2": (ctypes.POINTER(_Pointer), _Host, _Flags),
    "cuStreamWaitValue32_v2": (_Stream, _Pointer, _Word, _Flags),
    "cuStreamWriteValue32_v2": (_Stream, _Pointer, _Word, _Flags),
    "cuMemcpyAsync": (_Pointer, _Pointer, _Size, _Stream),
}


def allocate(size: int) -> int:
    """Allocate `size` bytes that other processes may open; returns the pointer."""
    pointer = _Pointer()
    _call("cuMemAlloc_v2", ctypes.byref(pointer), size)
    return pointer.value


def free(pointer: int) -> None:
    """Free what `allocate` gave; a process that has it open keeps it until it closes it."""
    _call("cuMemFree_v2", pointer)


def export(pointer: int) -> bytes:
    """A handle of `HANDLE_BYTES` by which another process opens what `allocate` gave."""
    handle = _Handle()
    _call("cuIpcGetMemHandle", ctypes.byref(handle), pointer)
    return ctypes.string_at(ctypes.byref(handle), HANDLE_BYTES)


def open_exported(handle: bytes) -> int:
    """Map another process's memory to this thread's device, over NVLink or PCIe; returns the pointer."""
    pointer = _Pointer()
    _call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), _Handle.from_buffer_copy(handle), _LAZY_PEER_ACCESS)
    return pointer.value


def close_exported(pointer: int) -> None:
    """Undo `open_exported`."""
    _call("cuIpcCloseMemHandle", pointer)


def register(address: int, size: int) -> int:
    """Let GPUs read and write host memory; returns the device's pointer to it."""
    _call("cuMemHostRegister_v2", address, size, _PORTABLE_AND_MAPPED)
    pointer = _Pointer()
    _call("cuMemHostGetDevicePointer_v2", ctypes.byref(pointer), address, 0)
    return pointer.value


def unregister(address: int) -> None:
    """Undo `register`."""
    _call("cuMemHostUnregister", address)


def wait_value(pointer: int, value: int, stream: int) -> None:
    """Enqueue: go on when the word at `pointer` has reached `value` (32 bits, cyclic)."""
    _call("cuStreamWaitValue32_v2", stream, pointer, value, _AT_LEAST)


def write_value(pointer: int, value: int, stream: int) -> None:
    """Enqueue: set the word at `pointer` when all before it is done and can be seen."""
    _call("cuStreamWriteValue32_v2", stream, pointer, value, _WITH_BARRIER)


def copy(destination: int, source: int, size: int, stream: int) -> None:
    """Enqueue a copy of `size` bytes between any two places that this device can reach."""
    _call("cuMemcpyAsync", destination, source, size, stream)


def _call(name: str, *arguments: object) -> None:
    _enter_context()
    _call_in_any_context(name, *arguments)


def _enter_context() -> None:
    """Give a thread the context of its device: `torch.cuda.device` leaves that to the first work that torch does there.

    It is retained for as long as the process lives.
    """
    context = _Context()
    _call_in_any_context("cuCtxGetCurrent", ctypes.byref(context))
    if not context.value:
        _call_in_any_context("cuDevicePrimaryCtxRetain", ctypes.byref(context), torch.cuda.current_device())
        _call_in_any_context("cuCtxSetCurrent", context)


def _call_in_any_context(name: str, *arguments: object) -> None:
    driver = _load()
    code = getattr(driver, name)(*arguments)
    if code:
        message = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(message))
        raise Unavailable(f"the CUDA driver's {name} failed: {(message.value or b'unknown error').decode()} ({code})")


@lru_cache(1)
def _load() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise Unavailable("there is no CUDA driver here (libcuda.so.1)") from None
    for name, arguments in _SIGNATURES.items():
        getattr(driver, name).argtypes = arguments
    return driver
