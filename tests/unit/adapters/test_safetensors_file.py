import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from swiftdiffusion.adapters.safetensors_file import MalformedFileError, read_header

from .lora_files import EVERY_FORM


def write_raw(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(start: Any = 0, end: Any = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(EVERY_FORM, path, {"format": "pt", "ss_network_dim": "8"})
    header = read_header(path)
    assert header.metadata == {"format": "pt", "ss_network_dim": "8"}
    assert {name: found.shape for name, found in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in EVERY_FORM.items()
    }


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(EVERY_FORM, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedFileError):
            read_header(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(MalformedFileError, match="damaged"):
        read_header(path)


def test_headers_alike_are_understood_once_and_each_files_size_is_checked(tmp_path: Path) -> None:
    first, second, cut = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "cut"))
    save_file(EVERY_FORM, first)
    save_file({name: tensor + 1 for name, tensor in EVERY_FORM.items()}, second)
    assert read_header(first) is read_header(second)
    cut.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(MalformedFileError, match="is cut short or damaged"):
        read_header(cut)


def test_pickle_under_a_false_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps({"lora_A": [1.0] * 100}))
    with pytest.raises(MalformedFileError, match="not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9])
def test_huge_header(length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(2 * 10**9)  # no space on the disk is used
    with pytest.raises(MalformedFileError, match="header"):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        [],
        {"a": 3},
        {"a": {}},
        {"a": entry(), "__metadata__": {"x": 3}},
        {"a": entry(), "__metadata__": "text"},
        {"a": entry(dtype=["F32"])},
        {"a": entry(dtype="F8_E4M3")},
        {"a": entry(shape=(-2,))},
        {"a": entry(shape=(2.0,))},
        {"a": entry(shape=(True, 2))},
        {"a": entry(shape="22")},
        {"a": entry(shape=(2**62, 2**62))},
        {"a": entry(shape=(3,))},
        {"a": entry(end=-8)},
        {"a": entry(start=-8, end=0)},
        {"a": entry(start=4, end=12)},
        {"a": entry(), "b": entry()},
        {"a": entry(start=8, end=0)},
        b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2),
    ],
)
def test_malformed_header(header: Any, tmp_path: Path) -> None:
    with pytest.raises(MalformedFileError):
        read_header(write_raw(tmp_path / "x.safetensors", header, data=bytes(8)))
