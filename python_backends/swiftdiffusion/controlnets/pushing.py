"""A ControlNet's steps over a mailbox: enqueued ahead of the lane's samples, which the stream itself waits for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from swiftdiffusion.controlnets.opened_mailbox import OpenedMailbox
from swiftdiffusion.controlnets.words import RELEASE, Word
from swiftdiffusion.engines.session import Session

STEPS_AHEAD = 3  # one being computed and two that find their sample without this host; more would only hold up a stop
LOOK_S = 0.001


@torch.inference_mode()
def push_steps(
    mailbox: OpenedMailbox,
    session: Session,
    timesteps: Tensor,
    is_cut: Callable[[float], bool],
) -> None:
    """Serve all steps of a request on the current stream, until the lane lets go; then nothing is under way.

    Args:
        mailbox: the lane's.
        session: the ControlNet's.
        timesteps: [steps], one for each sample that the lane will lay into the mailbox.
        is_cut: whether the lane lets go within so many seconds.
    """
    under_way: deque[torch.cuda.Event] = deque()
    words = mailbox.words

    def settle(most: int) -> bool:
        """Wait until at most `most` steps are under way; whether the lane is still there."""
        while len(under_way) > most:
            if under_way[0].query():
                under_way.popleft()
            elif is_cut(LOOK_S):
                return False
        return not is_cut(0)

    # Nothing is enqueued before the lane has begun: where a stream waits, loading or capturing another network, which
    # waits for the whole GPU, would wait too, and the lane might be waiting for just that network.
    while words.read(Word.SAMPLES) < 1:
        if is_cut(LOOK_S):
            return
    try:
        for number, timestep in enumerate(timesteps, start=1):
            if not settle(STEPS_AHEAD - 1):
                return
            words.enqueue_wait(Word.SAMPLES, number)
            mailbox.enqueue_push(session.step(mailbox.enqueue_fetch(), timestep))
            words.enqueue_write(Word.RESIDUALS, number)
            event = torch.cuda.Event()
            event.record()
            under_way.append(event)
        if settle(0):
            while not is_cut(1):
                pass
    finally:
        words.write(Word.SAMPLES, RELEASE)  # steps whose samples will not come compute on what is there
        torch.cuda.current_stream().synchronize()
