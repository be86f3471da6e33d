"""The sizes that plans are built for."""

import pytest

from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.plans.profiles import adapt, default_profiles, parse_profile


@pytest.mark.parametrize(("text", "low", "best", "high"), [
    ("fixed=2x1024x768", (2, 1024, 768), (2, 1024, 768), (2, 1024, 768)),
    ("any=1-8x512-1536x512-1024-1536", (1, 512, 512), (8, 1536, 1024), (8, 1536, 1536)),
    ("any=1-2-8x512-1024-1536x8", (1, 512, 8), (2, 1024, 8), (8, 1536, 8)),
])  # fmt: skip
def test_a_profile_is_read(text, low, best, high):
    assert parse_profile(text) == Profile(text.partition("=")[0], Size(*low), Size(*best), Size(*high))


@pytest.mark.parametrize(("text", "sentence"), [
    ("2x8x8", "not of the form"),
    ("a=2x8", "not of the form"),
    ("a=2x8x8x8", "not of the form"),
    ("a=2x8x8-", "not of the form"),
    ("a=2x16-8x8", "16-8-8; allowed: 0 < low"),
    ("a=0x8x8", "0-0-0; allowed: 0 < low"),
    ("a=1x8x12", "12 pixels; allowed: multiples of 8"),
])  # fmt: skip
def test_another_text_is_refused(text, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        parse_profile(text)


def test_the_defaults_for_sdxl():
    fixed, general = default_profiles(1024)
    assert fixed.low == fixed.high == Size(2, 1024, 1024)
    assert (general.low, general.high) == (Size(1, 512, 512), Size(8, 1536, 1536))


def test_the_vae_takes_one_picture_and_small_previews():
    fixed, general = adapt(default_profiles(1024), "vae_decoder", 8)
    assert fixed.low == fixed.high == Size(1, 1024, 1024)
    assert (general.low, general.high) == (Size(1, 64, 64), Size(1, 1536, 1536))
