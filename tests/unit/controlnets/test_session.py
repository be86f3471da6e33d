"""The service's side of a request, where no lane listens as it should."""

import os
import threading

import numpy as np
import torch

from swiftdiffusion.controlnets.messages import ALIVE, FAILED, News, Offer, pack_offer
from swiftdiffusion.controlnets.session import Attached, ControlNetSession, _warn_once
from swiftdiffusion.controlnets.words import create_page
from swiftdiffusion.errors import Unavailable
from swiftdiffusion.lifeline import Holder, Lifeline
from swiftdiffusion.placement import Placement


def test_a_failure_is_said_though_signs_of_life_fill_the_socket():
    def lend(check):
        raise Unavailable("no room for it")

    ended = threading.Event()
    with Lifeline() as lifeline:
        holder = Holder(lifeline.token)
        for _ in range(1000):  # as many as there is room for
            holder.send(News(ALIVE).pack())
        attached = Attached(np.zeros(1, np.float32))
        ControlNetSession(holder, attached, lend, Placement(torch.device("cpu"), torch.float32)).start(ended.set)
        assert lifeline.is_taken(10)
        lifeline.hand_over(pack_offer(None))
        assert not ended.wait(0.5), "before there is room"
        heard = []
        while message := lifeline.receive(10):
            heard.append(News.unpack(message))
        assert (heard[-1].state, heard[-1].reason) == (FAILED, "UNAVAILABLE: no room for it")
        assert ended.wait(10)


def test_that_memory_cannot_be_shared_is_logged_once_for_each_reason(caplog):
    def lend(check):
        raise Unavailable("not in this test")

    _warn_once.cache_clear()  # whatever tests ran before in this process
    offer = Offer("GPU-0", "00" * 64, "float32", (1, 4, 8, 8), 64, 1024)
    for _ in range(2):
        page = create_page()
        ended = threading.Event()
        with Lifeline() as lifeline:
            placement = Placement(torch.device("cpu"), torch.float32)
            ControlNetSession(Holder(lifeline.token), Attached(np.zeros(1, np.float32)), lend, placement).start(
                ended.set
            )
            assert lifeline.is_taken(10)
            lifeline.hand_over(pack_offer(offer), [page])
            while lifeline.receive(10):
                pass
            assert ended.wait(10)
        os.close(page)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["steps go by Triton's calls, which take longer: the ControlNet runs on the CPU"]
