"""Finished pictures as files, with the request inside; previews."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.request.jpeg import insert_exif, write_jpeg
from swiftdiffusion.request.png import write_png

JPEG_QUALITY = 95


def encode_png(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A PNG with the request in its text chunk ``swiftdiffusion``."""
    return write_png(pixels, ("swiftdiffusion", json.dumps(request, ensure_ascii=False)))


def encode_jpeg(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A JPEG with the request in its EXIF user comment."""
    return write_jpeg(pixels, JPEG_QUALITY, _exif(request))


def finish_jpeg(file: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """As `encode_jpeg`, of a file that the VAE's model has encoded."""
    return insert_exif(file.data, _exif(request))


def encode_webp(pixels: NDArray[np.uint8], request: dict[str, Any]) -> bytes:
    """A WebP with the request in its EXIF user comment."""
    return _save(Image.fromarray(pixels), "WEBP", quality=95, exif=_exif(request))


ENCODERS: dict[str, Callable[[NDArray[np.uint8], dict[str, Any]], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
}
OUTPUT_FORMATS = (*ENCODERS, "raw")
JPEG_EXIF_MOST = 65_533  # bytes: a segment's length is told in two, which count themselves
JPEG_COMMENT_SURE = 60_000  # bytes that surely fit, without building the EXIF, which takes a tenth of a millisecond


def require_room(output_format: str, request: dict[str, Any]) -> None:
    """Refuse, with InvalidArgument, a request that its picture's file cannot hold."""
    if output_format != "jpeg" or len(_comment(request)) <= JPEG_COMMENT_SURE:
        return
    if (needed := len(_exif(request).tobytes())) > JPEG_EXIF_MOST:
        raise InvalidArgument(
            f"output_format is jpeg, whose files hold a request of at most {JPEG_EXIF_MOST} bytes; this one's prompts "
            f"and names take {needed}; png and webp hold it"
        )


def encode_preview(pixels: NDArray[np.uint8], longest: int = 96) -> bytes:
    """A small JPEG of uint8 [height, width, 3]; its longer side is at most `longest` pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest))
    return _save(picture, "JPEG", quality=80)


def _exif(request: dict[str, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _comment(request)
    return exif


def _comment(request: dict[str, Any]) -> bytes:
    return b"ASCII\0\0\0" + json.dumps(request).encode()


def _save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()
