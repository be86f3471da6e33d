"""A request's LoRAs while they are on their way."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from swiftdiffusion.adapters.weights import LoraWeights, ScaledLora
from swiftdiffusion.errors import Unavailable

LOOK_S = 0.05  # how often a wait looks whether anybody still wants the picture


class PendingLoras:
    """Asked by the denoising loop between steps, waited on at the bound.

    `names`, `scales` and `futures` are equally long. The futures are shared with other requests
    for the same files, so they are never cancelled: to give up is to forget this object. Each time
    one has loaded, `prepare` is called, on the thread that loaded it, with all that are here; only
    then they count as arrived, so that who waits finds everything prepared.
    """

    def __init__(
        self,
        names: Sequence[str],
        scales: Sequence[float],
        futures: Sequence[Future[LoraWeights]],
        prepare: Callable[[Sequence[ScaledLora]], Any] = lambda loras: None,
    ) -> None:
        self.names = names
        self.scales = scales
        self._futures = futures
        self._prepare = prepare
        self._started = time.monotonic()
        self._seconds: dict[int, float] = {}
        self._arrived: tuple[ScaledLora, ...] = ()
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        for index, future in enumerate(futures):
            future.add_done_callback(partial(self._take_in, index))

    @property
    def arrived(self) -> tuple[ScaledLora, ...]:
        """Those that are here, in the request's order; raises what loading one of them raised."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            return self._arrived

    @property
    def seconds(self) -> tuple[float | None, ...]:
        """For each, how long it took to arrive; None while it is on its way."""
        return tuple(self._seconds.get(index) for index in range(len(self.names)))

    def arrive_within(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds (on a condition, not spinning); tell whether `wait` would not block.

        For a loop that has something else to look at meanwhile, such as a cancelled request.
        """
        with self._changed:
            return self._changed.wait_for(self._is_settled, timeout)

    def wait(self, timeout: float, check: Callable[[], None] = lambda: None) -> tuple[ScaledLora, ...]:
        """Wait at most `timeout` seconds for all of them and return them in the request's order.

        `check` is called now and then and may raise, for a request that can be cancelled meanwhile.
        Raises what loading one raised, as soon as it has; `Unavailable` naming the first that is late.
        """
        deadline = time.monotonic() + timeout
        while not self.arrive_within(max(0.0, min(LOOK_S, deadline - time.monotonic()))):
            check()
            if time.monotonic() >= deadline:
                late = next(name for name, seconds in zip(self.names, self.seconds, strict=True) if seconds is None)
                raise Unavailable(f"LoRA {late!r} did not load within {timeout:g} seconds; try again.")
        return self.arrived

    def _is_settled(self) -> bool:
        return self._failure is not None or len(self._arrived) == len(self.names)

    def _take_in(self, index: int, future: Future[LoraWeights]) -> None:
        seconds = time.monotonic() - self._started
        try:
            future.result()
            loaded = [place for place, other in enumerate(self._futures) if other.done() and not other.exception()]
            loras = tuple(ScaledLora(self._futures[place].result(), self.scales[place]) for place in loaded)
            if len(loras) > len(self._arrived):
                self._prepare(loras)
            failure = None
        except BaseException as error:  # for the one who waits: this thread has nobody to tell
            loras, failure = (), error
        with self._changed:
            self._seconds[index] = seconds
            self._failure = self._failure or failure
            if len(loras) > len(self._arrived):
                self._arrived = loras
            if len(self._seconds) == len(self.names):
                # their callbacks hold this object: in a circle the LoRAs would stay until Python looks for such
                self._futures = ()
            self._changed.notify_all()
