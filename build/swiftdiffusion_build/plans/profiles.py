"""Optimisation profiles: the sizes that plans are built for, of pictures and of each network's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from swiftdiffusion.engines.tensorrt.records import Profile, Size
from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.lane import PREVIEW_LATENTS
from swiftdiffusion_build.export.subjects import Subject
from swiftdiffusion_build.plans.volume import VOLUME_LIMIT, measure_volume

# profiles that networks have of their own
PREVIEWS = "previews"
PROMPTS = "prompts"

GUIDED = 2  # a guided picture's prompts, and the samples of its guidance


def default_profiles(native: int) -> tuple[Profile, ...]:
    """For a pipeline whose pictures have `native` pixels a side: that size with guidance, then any near it."""
    small, large = (round(native * share / 64) * 64 for share in (0.5, 1.5))
    return (
        Profile("fixed", *[Size(GUIDED, native, native)] * 3),
        Profile("any", Size(1, small, small), Size(GUIDED, native, native), Size(8, large, large)),
    )


def adapt(profiles: Sequence[Profile], subject: Subject, pixels_per_latent: int) -> tuple[Profile, ...]:
    """The profiles as a network is called.

    Text encoders see no picture, and any number of a request's prompts may be remembered: they have one profile. The
    VAE takes pictures, where the UNet takes the samples of their guidance: one where a profile is fixed, and its
    decoder takes previews too. Batches end where TensorRT's largest tensor does.

    Args:
        profiles: of pictures and the samples of their guidance.
        subject: the network.
        pixels_per_latent: on a side.

    Raises:
        InvalidArgument: a profile's pictures are too large for TensorRT.
    """
    if subject.name.startswith("text_encoder"):
        return (_gather_prompts(profiles),)
    network = subject.load().to("meta")

    def limit(profile: Profile) -> Profile:
        alone = measure_volume(network, subject.inputs, replace(profile.high, batch=1))
        return _limit_batch(profile, subject.name, alone)

    if not subject.name.startswith("vae_"):
        return tuple(map(limit, profiles))
    adapted = [limit(_take_pictures(profile)) for profile in profiles]
    if subject.name == "vae_decoder":
        adapted.append(_bound_previews(profiles, pixels_per_latent))
    # of profiles that differ in their guidance alone, one is left
    return tuple({(profile.low, profile.best, profile.high): profile for profile in reversed(adapted)}.values())[::-1]


def _gather_prompts(profiles: Sequence[Profile]) -> Profile:
    most = max(GUIDED, *(profile.high.batch for profile in profiles))
    return Profile(PROMPTS, *(replace(profiles[0].best, batch=batch) for batch in (1, GUIDED, most)))


def _take_pictures(profile: Profile) -> Profile:
    low, best = replace(profile.low, batch=1), replace(profile.best, batch=1)
    return replace(profile, low=low, best=best, high=low if profile.is_fixed else profile.high)


def _bound_previews(profiles: Sequence[Profile], pixels_per_latent: int) -> Profile:
    """What the lane scales latents to for a preview, from the narrowest picture to a square one."""
    sides = [side for profile in profiles for end in (profile.low, profile.high) for side in (end.height, end.width)]
    shortest, longest = min(sides) // pixels_per_latent, max(sides) // pixels_per_latent
    most = min(PREVIEW_LATENTS, longest)
    least = max(1, shortest * most // longest - 1)  # scaling rounds down, and so may what it is scaled by
    small, square = (Size(1, side * pixels_per_latent, side * pixels_per_latent) for side in (least, most))
    return Profile(PREVIEWS, small, square, square)


def _limit_batch(profile: Profile, network: str, volume: int) -> Profile:
    """A profile without those batches that TensorRT does not take, where one sample's largest tensor has `volume`."""
    most = (VOLUME_LIMIT - 1) // volume
    if most < profile.low.batch:
        raise InvalidArgument(
            f"profile {profile.name!r} goes up to {profile.high.height}x{profile.high.width} pixels, where {network} "
            f"has a tensor of {volume * profile.low.batch:,} elements for a batch of {profile.low.batch}; "
            f"TensorRT allows fewer than {VOLUME_LIMIT:,}: smaller pictures"
            + (f", or a batch of {most} at the least" if most else "")
        )
    best, high = (replace(size, batch=min(size.batch, most)) for size in (profile.best, profile.high))
    return replace(profile, best=best, high=high)
