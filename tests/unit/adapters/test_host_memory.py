import threading

import pytest
import torch

from swiftdiffusion.adapters.host_memory import SMALLEST, HostMemory
from swiftdiffusion.adapters.tensor_block import Arrangement, TensorBlock


def test_memory_comes_back_with_its_last_view() -> None:
    memory = HostMemory()
    first = memory.take(2 * SMALLEST)
    place, view = first.data_ptr(), first[100:200].view(torch.float32)
    del first
    assert memory.nbytes == 0
    view.fill_(1.5)
    assert memory.take(2 * SMALLEST).data_ptr() != place  # and is gone again, since nobody holds it
    del view
    assert memory.nbytes == 4 * SMALLEST
    again = {memory.take(2 * SMALLEST).data_ptr() for _ in range(3)}
    assert place in {*again, *(piece.data_ptr() for piece in memory._free)}


def test_a_piece_serves_what_is_a_little_smaller() -> None:
    memory = HostMemory()
    place = memory.take(3 * SMALLEST).data_ptr()
    assert memory.take(SMALLEST).data_ptr() != place
    fitting = memory.take(3 * SMALLEST - 5)
    assert (fitting.data_ptr(), fitting.shape, fitting.dtype) == (place, (3 * SMALLEST - 5,), torch.uint8)
    assert memory.take(3 * SMALLEST).data_ptr() != place
    del fitting
    assert place in [memory.take(3 * SMALLEST).data_ptr(), *(piece.data_ptr() for piece in memory._free)]


@pytest.mark.parametrize(("kept", "left"), [(0, 0), (3 * SMALLEST, 2 * SMALLEST), (4 * SMALLEST, 4 * SMALLEST)])
def test_what_is_kept_is_bounded(kept: int, left: int) -> None:
    memory = HostMemory(kept)
    pieces = [memory.take(2 * SMALLEST) for _ in range(2)]
    del pieces
    assert memory.nbytes == left


def test_small_pieces_are_left_to_the_library() -> None:
    memory = HostMemory()
    assert memory.take(SMALLEST - 1).shape == (SMALLEST - 1,)
    assert memory.take(0).shape == (0,)
    assert memory.nbytes == 0


def test_nobody_gets_what_another_holds() -> None:
    memory = HostMemory()
    wrong = []

    def work(number: int) -> None:
        for _ in range(50):
            piece = memory.take(SMALLEST + number)
            piece.fill_(number)
            if not (piece == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_was_there_does_not_show_between_tensors() -> None:
    arrangement = Arrangement.of({"a": (torch.uint8, (SMALLEST + 7,)), "b": (torch.uint8, (3,))})
    TensorBlock.allocate(arrangement).memory.fill_(9)
    block = TensorBlock.allocate(arrangement)
    for place in block.places.values():
        assert not block.memory[place.end : -(-place.end // 64) * 64].any()
