import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from swiftdiffusion.adapters.safetensors_file import MalformedFileError, read_header
from swiftdiffusion.adapters.tensor_reader import ReadingPlan, TensorReader

from .lora_files import EVERY_FORM

TENSORS = EVERY_FORM | {
    "large": torch.randn(7, 100, generator=torch.Generator().manual_seed(0)),
    "more": torch.arange(64.0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    return path


@pytest.mark.parametrize("chosen", [list(TENSORS), ["scalar", "bfloat"], ["large"], ["empty"], []])
@pytest.mark.parametrize("step", [1, 64, 1000, 10**6])
def test_parts_in_any_order_make_the_whole(path: Path, chosen: list[str], step: int) -> None:
    with TensorReader(path, ReadingPlan(read_header(path), chosen)) as reader:
        size = len(reader.block.memory)
        before = reader.block.memory.clone()
        for start in reversed(range(0, size, step)):
            reader.read(start, min(start + step, size))
    assert reader.block.tensors.keys() == set(chosen)
    for name, tensor in reader.block.tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])
    used = {reader.block.places[name].start + byte for name in chosen for byte in range(TENSORS[name].nbytes)}
    for byte in set(range(size)) - used:  # between tensors nothing is written
        assert reader.block.memory[byte] == before[byte] == 0


def test_what_lies_side_by_side_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"layer {number}": torch.full((64,), float(number)) for number in range(50)}, path)
    calls = itertools.count()

    def count(part: memoryview, source: int) -> None:
        next(calls)
        read(part, source)

    with TensorReader(path, ReadingPlan(read_header(path), [f"layer {number}" for number in range(50)])) as reader:
        read = reader._read_exactly
        monkeypatch.setattr(reader, "_read_exactly", count)
        reader.read(0, len(reader.block.memory))
    assert next(calls) == 1
    assert [int(tensor[0]) for tensor in reader.block.tensors.values()] == sorted(
        range(50), key=lambda number: f"layer {number}"
    )


def test_cut_after_the_header_was_read(path: Path) -> None:
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-4])
    with (
        TensorReader(path, ReadingPlan(header, TENSORS)) as reader,
        pytest.raises(MalformedFileError, match="cut short while it was being read"),
    ):
        reader.read(0, len(reader.block.memory))
