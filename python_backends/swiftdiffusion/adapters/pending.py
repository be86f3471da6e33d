"""A request's LoRAs while they are on their way."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial

from swiftdiffusion.adapters.weights import LoraWeights, ScaledLora
from swiftdiffusion.errors import Unavailable

LOOK_S = 0.05  # how often a wait looks whether anybody still wants the picture


class PendingLoras:
    """Asked by the denoising loop between steps, waited on at the bound.

    `names`, `scales` and `futures` are equally long. The futures are shared with other requests
    for the same files, so they are never cancelled: to give up is to forget this object.
    """

    def __init__(self, names: Sequence[str], scales: Sequence[float], futures: Sequence[Future[LoraWeights]]) -> None:
        self.names = names
        self.scales = scales
        self._futures = futures
        self._started = time.monotonic()
        self._arrivals: dict[int, float] = {}
        for index, future in enumerate(futures):
            future.add_done_callback(partial(self._note_arrival, index))

    @property
    def arrived(self) -> tuple[ScaledLora, ...]:
        """Those that are here, in the request's order; raises what loading one of them raised."""
        return tuple(
            ScaledLora(future.result(), scale)
            for future, scale in zip(self._futures, self.scales, strict=True)
            if future.done()
        )

    @property
    def seconds(self) -> tuple[float | None, ...]:
        """For each, how long it took to arrive; None while it is on its way."""
        return tuple(
            self._note_arrival(index, future) if future.done() else None for index, future in enumerate(self._futures)
        )

    def arrive_within(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds (on a condition, not spinning); tell whether `wait` would not block.

        For a loop that has something else to look at meanwhile, such as a cancelled request.
        """
        done, not_done = wait(self._futures, timeout, FIRST_EXCEPTION)
        return not not_done or any(future.exception() for future in done)

    def wait(self, timeout: float, check: Callable[[], None] = lambda: None) -> tuple[ScaledLora, ...]:
        """Wait at most `timeout` seconds for all of them and return them in the request's order.

        `check` is called now and then and may raise, for a request that can be cancelled meanwhile.
        Raises what loading one raised, as soon as it has; `Unavailable` naming the first that is late.
        """
        deadline = time.monotonic() + timeout
        while not self.arrive_within(max(0.0, min(LOOK_S, deadline - time.monotonic()))):
            check()
            if time.monotonic() >= deadline:
                break
        done, not_done = wait(self._futures, 0)
        for future in done:
            future.result()
        for name, future in zip(self.names, self._futures, strict=True):
            if future in not_done:
                raise Unavailable(f"LoRA {name!r} did not load within {timeout:g} seconds; try again.")
        return self.arrived

    def _note_arrival(self, index: int, _: Future[LoraWeights]) -> float:
        # A future wakes those who wait before it calls back, so who asks first notes the time.
        return self._arrivals.setdefault(index, time.monotonic() - self._started)
