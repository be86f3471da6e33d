"""Reading the headers of safetensors files.

The format (https://github.com/huggingface/safetensors#format): a 64-bit little-endian length, a
JSON object of that length, then the tensors' bytes. It is read here, and in `tensor_reader`, by
plain reads because the library maps files into memory, and a mapped file that someone truncates
meanwhile kills the process (SIGBUS), which a Triton backend does not survive.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

HEADER_LIMIT = 32 * 2**20  # bytes; an SDXL LoRA has 0.3 MB, with its training's whole history a few MB
HEADERS_KEPT, KEPT_LIMIT = 32, 2**19  # how many, and of how many bytes at most; understood they take six times as much
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class MalformedFileError(Exception):
    """A file that is not what it should be; the message is a clause whose subject is the file."""


class TensorEntry(NamedTuple):
    """Where one tensor lies: bytes ``start`` to ``end`` of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Header:
    """What a safetensors file says before its first tensor; files that say the same often share one."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]

    @cached_property
    def parameters(self) -> frozenset[tuple[str, torch.dtype, tuple[int, ...]]]:
        """The tensors' names, dtypes and shapes."""
        return frozenset((name, entry.dtype, entry.shape) for name, entry in self.tensors.items())


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; tensors are not read.

    Raises `MalformedFileError`, or `OSError` if the file cannot be read.
    """
    with path.open("rb") as file:
        return parse_header(file.read, os.fstat(file.fileno()).st_size)


def parse_header(read: Callable[[int], bytes], size: int) -> Header:
    """The same for a file of `size` bytes whose next bytes `read` gives; raises what that raises."""
    start = read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise MalformedFileError("is not a safetensors file, or is cut short: its header does not fit in it")
    if length > HEADER_LIMIT:
        raise MalformedFileError(f"has a header of {length} bytes, more than the {HEADER_LIMIT} allowed")
    text = read(length)
    return (_understand if length <= KEPT_LIMIT else _understand.__wrapped__)(text, size)


@lru_cache(maxsize=HEADERS_KEPT)
def _understand(text: bytes, file_size: int) -> Header:
    """What a header says; kept, since the files that one trainer writes alike have it the same, byte for byte."""
    try:
        fields = json.loads(text, object_pairs_hook=_refuse_duplicates)
        return _check_header(fields, data_start=8 + len(text), file_size=file_size)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Everything that JSON from outside may hold where the format has something else.
        raise MalformedFileError("is not a safetensors file: its header is malformed") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _check_header(fields: dict[str, Any], data_start: int, file_size: int) -> Header:
    metadata = fields.pop("__metadata__", None) or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata that is not text")
    tensors = {name: _check_entry(name, field, data_start) for name, field in fields.items()}
    end = data_start
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != end:
            raise ValueError("tensors overlap or leave holes")
        end = entry.end
    if end != file_size:
        raise MalformedFileError(f"is cut short or damaged: it has {file_size} bytes and its header speaks of {end}")
    return Header(tensors, metadata)


def _check_entry(name: str, field: dict[str, Any], data_start: int) -> TensorEntry:
    dtype = DTYPES.get(field["dtype"])
    if dtype is None:
        raise MalformedFileError(f"stores {name!r} as {str(field['dtype'])[:16]!r}, a dtype that is not supported")
    shape, (start, end) = tuple(field["shape"]), field["data_offsets"]
    for number in (*shape, start, end):
        if type(number) is not int or number < 0:
            raise ValueError("a size that is no whole number")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor whose bytes do not make its shape")
    return TensorEntry(dtype, shape, data_start + start, data_start + end)
