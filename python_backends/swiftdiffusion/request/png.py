"""PNG files written by several cores: on one, a picture of 1024² pixels takes longer than several denoising steps.

https://www.w3.org/TR/png-3, the zlib stream of RFC 1950. Pillow does it on one core, and makes smaller files (a fifth
smaller at the most of those tried): speed is bought with size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from swiftdiffusion.request.codec_threads import codec_threads

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BITS, RGB = 8, 2  # a channel, the colour type
UP = 2  # the filter that takes each row's difference from the one above; Paeth's makes smaller files and takes longer
PART_BYTES = 1 << 18  # that one thread deflates: enough for its matches, few enough for many threads
ZLIB_HEAD = b"\x78\x01"
END = b"\x03\x00"  # an empty last block


def write_png(pixels: NDArray[np.uint8], text: tuple[str, str]) -> bytes:
    """Encode uint8 [height, width, 3], with a key and a text in a chunk ``iTXt``."""
    height, width, _ = pixels.shape
    filtered = _filter(pixels)
    rows = max(1, PART_BYTES // filtered.shape[1])
    parts = [filtered[start : start + rows] for start in range(0, height, rows)]
    deflated = codec_threads().map(_deflate, parts) if len(parts) > 1 else map(_deflate, parts)
    stream = b"".join([ZLIB_HEAD, *deflated, END, struct.pack(">I", zlib.adler32(filtered.data))])
    key, value = (part.encode() for part in text)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, BITS, RGB, 0, 0, 0)),
        (b"iTXt", key + b"\0\0\0\0\0" + value),
        (b"IDAT", stream),
        (b"IEND", b""),
    )
    return b"".join([SIGNATURE, *(piece for name, data in chunks for piece in _chunk(name, data))])


def _filter(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each row as its difference from the one above, after the filter's number."""
    rows = pixels.reshape(pixels.shape[0], -1)
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _deflate(part: NDArray[np.uint8]) -> bytes:
    """Blocks that end on a whole byte and refer to nothing before them, so that parts can be joined."""
    # run lengths and Huffman's code: searching for matches takes two to three times as long on noise and gradients, for
    # nothing; only flat areas would become smaller
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return compressor.compress(part.data) + compressor.flush(zlib.Z_FULL_FLUSH)  # lets go of the interpreter's lock


def _chunk(name: bytes, data: bytes) -> Iterator[bytes]:
    yield struct.pack(">I", len(data))
    yield name
    yield data
    yield struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
