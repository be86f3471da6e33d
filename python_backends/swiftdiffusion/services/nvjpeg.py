"""JPEG files written by a GPU: nvJPEG, as torchvision brings it.

A picture of 1024² pixels takes a core 25 ms, eight of them 6. Here a file takes the VAE's model no longer than pixels
would, as it has fewer bytes to hand over.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftdiffusion.errors import InvalidArgument

JpegEncoder = Callable[[Tensor, int], NDArray[np.uint8]]
"""(uint8 [height, width, 3] on the GPU, computed; quality from 1 to 100) -> a file's bytes, with full colour
resolution, without metadata."""


def find_nvjpeg(device: torch.device) -> JpegEncoder:
    """The encoder of a GPU, ready to work; raises InvalidArgument, with the reason, where there is none."""
    if device.type != "cuda":
        raise InvalidArgument(f"{device} is no GPU")
    try:
        from torchvision.io import encode_jpeg
    except ImportError as error:
        raise InvalidArgument(f"torchvision cannot be imported ({error})") from None

    def encode(pixels: Tensor, quality: int) -> NDArray[np.uint8]:
        planes = pixels.permute(2, 0, 1).contiguous()
        torch.cuda.current_stream(device).synchronize()  # nvJPEG works on a stream of its own and waits for no other
        return encode_jpeg(planes, quality).cpu().numpy()

    try:
        encode(torch.zeros((8, 8, 3), dtype=torch.uint8, device=device), 95)
    except RuntimeError as error:
        raise InvalidArgument(f"torchvision has no nvJPEG ({error})") from None
    return encode
