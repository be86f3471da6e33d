"""JPEG files written by several cores: on one, a picture of 1024² pixels takes as long as half a denoising step.

Pillow encodes bands of the picture, each on its own, and their scans become one, parted by restart markers (ITU-T T.81,
annexes B.2.4.4 and F.1.1.5.1). The pixels are those that one scan would give: blocks know nothing of one another but
the difference of their means, which begins anew at a marker, as it does in a file of its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from swiftdiffusion.request.codec_threads import codec_threads

BAND = 128  # rows that one thread encodes; a multiple of a block's
BLOCK = 8  # pixels of a block's side; without subsampling a file's unit is one of each channel
MARKER = 0xFF
FRAME, SCAN, RESTART_INTERVAL, RESTART = 0xC0, 0xDA, 0xDD, 0xD0
JFIF, EXIF = 0xE0, 0xE1  # JFIF comes first where it is there
END = b"\xff\xd9"


def write_jpeg(pixels: NDArray[np.uint8], quality: int, exif: Image.Exif) -> bytes:
    """Encode uint8 [height, width, 3] with full colour resolution and the standard's Huffman tables.

    Args:
        pixels: at most 32,760 wide, as a restart interval is told in two bytes, and 65,500 high.
        quality: as Pillow's, 1 to 100.
        exif: what the file carries beside the picture.
    """
    height, width, _ = pixels.shape
    bands = [pixels[start : start + BAND] for start in range(0, height, BAND)]
    first, *others = codec_threads().map(lambda band: _encode(band, quality, exif if band is bands[0] else None), bands)
    if not others:
        return first
    head, scan = _split(first)
    joined: list[bytes | memoryview] = [_announce(head, height, BAND // BLOCK * -(-width // BLOCK)), scan]
    for number, other in enumerate(others):
        joined += [bytes((MARKER, RESTART + number % 8)), _split(other)[1]]
    return b"".join([*joined, END])


def insert_exif(file: memoryview, exif: Image.Exif) -> bytes:
    """A JPEG file without metadata as one with them."""
    data = exif.tobytes()
    start = next(start for name, start, _ in _segments(file) if name != JFIF)
    return b"".join([file[:start], struct.pack(">BBH", MARKER, EXIF, 2 + len(data)), data, file[start:]])


def _encode(band: NDArray[np.uint8], quality: int, exif: Image.Exif | None) -> bytes:
    # into a file: Pillow lets go of the interpreter's lock only while it writes to a descriptor
    with os.fdopen(os.memfd_create("jpeg"), "w+b", buffering=0) as file:
        options = {} if exif is None else {"exif": exif}
        Image.fromarray(band).save(file, "JPEG", quality=quality, subsampling=0, **options)
        file.seek(0)
        return file.read()


def _split(file: bytes) -> tuple[bytes, memoryview]:
    """What precedes the scan's data, and those."""
    *_, (name, start, end) = _segments(file)
    assert name == SCAN, start
    return file[:end], memoryview(file)[end : -len(END)]


def _announce(head: bytes, height: int, interval: int) -> bytes:
    """A band's head as the whole picture's: of its height, and with a marker after so many units."""
    segments = {name: (start, end) for name, start, end in _segments(head)}
    at = segments[FRAME][0] + 5  # after the marker, the length and the precision
    head = head[:at] + struct.pack(">H", height) + head[at + 2 :]
    scan = segments[SCAN][0]
    return head[:scan] + struct.pack(">BBHH", MARKER, RESTART_INTERVAL, 4, interval) + head[scan:]


def _segments(file: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Each segment's name, where it begins and where it ends, up to the scan's head."""
    start, name = 2, 0
    while name != SCAN:
        marker, name, length = struct.unpack_from(">BBH", file, start)
        assert marker == MARKER, start
        end = start + 2 + length
        yield name, start, end
        start = end
