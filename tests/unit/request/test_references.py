import io
import threading

import numpy as np
import pytest
from PIL import Image

from swiftdiffusion.errors import Cancelled
from swiftdiffusion.request.codec_threads import THREADS_MAX, codec_threads
from swiftdiffusion.request.references import Reference, begin_decoding

SIZE = 64


def make_reference(number):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    return Reference(file.getvalue(), f"control_images[{number}]", SIZE, SIZE)


def test_what_a_drawing_that_ends_early_has_queued_is_not_decoded():
    references, go_on = [make_reference(number) for number in range(3)], threading.Event()
    busy = [codec_threads().submit(go_on.wait, 60) for _ in range(THREADS_MAX)]
    try:
        with pytest.raises(Cancelled), begin_decoding(references) as images:
            raise Cancelled
        assert all(images[reference].cancelled() for reference in references)
    finally:
        go_on.set()
    assert all(wait.result(60) for wait in busy)
    with begin_decoding(references) as images:
        assert [image.result(60).shape for image in images.values()] == [(SIZE, SIZE, 3)] * 3


def test_grey_of_16_bits_keeps_its_shades():
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.uint16)).save(file, "PNG")
    shades = Reference(file.getvalue(), "control_images[0]", SIZE, SIZE).decode()
    assert shades.shape == (SIZE, SIZE, 3)
    assert (shades == np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE, 1).astype(np.uint16) // 256).all()
