"""How late a LoRA may come, measured by `scripts/profile-loras` and kept in a file beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from swiftdiffusion.adapters.store import AdapterFile, AdapterStore
from swiftdiffusion.errors import NotFound, Unavailable

PROFILE_SUFFIX = ".profile.json"
PROFILE_BYTES = 2**20  # a longer file is not read


@dataclass(frozen=True)
class AdapterProfile:
    """The last step, from 0, of `steps` that may start before the LoRA is in.

    With that the pictures keep a similarity (SSIM, Wang et al. 2004) of `threshold` on the mean to those
    that had it from the start. `similarities` has the measured one for each bound that was tried.
    """

    bound: int
    steps: int
    threshold: float
    similarities: dict[str, float]

    def scale_to(self, steps: int) -> int:
        """The bound for a request of `steps` steps: the same part of the way."""
        return min(self.bound * steps // self.steps, steps - 1)

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_profile(store: AdapterStore, file: AdapterFile) -> AdapterProfile | None:
    """The file's profile; None where there is none, or none that is understood: it is a hint, not a promise."""
    try:
        text = store.read_note(file, PROFILE_SUFFIX, PROFILE_BYTES)
        profile = AdapterProfile(**json.loads(text or b""))
        known = 0 <= profile.bound < profile.steps
    except (ValueError, TypeError, RecursionError, NotFound, Unavailable):
        return None
    return profile if known else None
