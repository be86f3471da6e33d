"""A decoded picture as bytes."""

import pytest
import torch

from swiftdiffusion.networks.vae_decoder import to_pixels


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_pixels_lie_as_a_response_takes_them(form):
    image = torch.rand((1, 3, 6, 4), generator=torch.Generator().manual_seed(1)).mul(3).sub(1.5)
    pixels = to_pixels(image.contiguous(memory_format=form))
    assert pixels.is_contiguous()
    assert torch.equal(pixels, ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1))
