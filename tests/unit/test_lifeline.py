import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from swiftdiffusion.errors import Cancelled, InvalidArgument
from swiftdiffusion.lifeline import MESSAGE_BYTES_MAX, Holder, Lifeline


def test_a_holder_sees_the_cut():
    with Lifeline() as lifeline:
        holder = Holder(lifeline.token)
        assert not holder.is_cut()
        assert not holder.is_cut()
        lifeline.cut()
        assert holder.is_cut()
    holder.close()
    assert holder.is_cut()


def test_a_holder_whose_caller_has_read_sees_the_cut():
    lifeline = Lifeline()
    holder = Holder(lifeline.token)
    holder.send(b"1")
    assert lifeline.receive(1) == b"1"
    assert not holder.is_cut()
    lifeline.cut()
    assert holder.is_cut()


def test_a_holder_that_comes_late_finds_it_cut():
    lifeline = Lifeline()
    lifeline.cut()
    holder = Holder(lifeline.token)
    assert holder.is_cut()
    holder.send(b"nobody hears this")


def test_messages_keep_their_bounds_and_order():
    with Lifeline() as lifeline, Holder(lifeline.token) as holder:
        assert lifeline.receive(0) is None
        for message in (b"one", b"two" * 30_000, b"three"):
            holder.send(message)
        assert [lifeline.receive(1) for _ in range(4)] == [b"one", b"two" * 30_000, b"three", None]


def test_messages_are_read_after_the_holder_let_go():
    with Lifeline() as lifeline:
        with Holder(lifeline.token) as holder:
            holder.send(b"last words")
        assert lifeline.receive(1) == b"last words"
        assert lifeline.receive(1) is None


def test_a_caller_sees_past_messages_that_the_holder_let_go():
    with Lifeline() as lifeline:
        with Holder(lifeline.token) as holder:
            assert lifeline.is_taken(1)
            holder.send(b"last words")
            assert not lifeline.is_let_go()
        assert lifeline.is_let_go()
        assert lifeline.receive(1) == b"last words"


def test_what_a_holder_said_that_left_messages_unread_is_read():
    with Lifeline() as lifeline:
        with Holder(lifeline.token) as holder:
            assert lifeline.is_taken(1)
            lifeline.hand_over(b"nobody hears this")
            holder.send(b"last words")
        assert lifeline.is_let_go()
        assert [lifeline.receive(1) for _ in range(2)] == [b"last words", None]


def test_the_end_reads_what_is_still_said_and_waits_for_the_holder():
    with Lifeline() as lifeline, Holder(lifeline.token) as holder, ThreadPoolExecutor(1) as threads:
        assert lifeline.is_taken(1)
        for message in (b"one", b"two"):
            holder.send(message)
        read: list[bytes] = []
        assert not lifeline.end(0, read.append)
        ending = threads.submit(lifeline.end, 10, read.append)
        assert holder.is_cut(10)
        holder.send(b"three")
        holder.close()
        assert ending.result(10)
        assert read == [b"one", b"two", b"three"]


def test_a_caller_that_does_not_read_does_not_block_the_holder():
    with Lifeline() as lifeline, Holder(lifeline.token) as holder:
        for _ in range(1000):
            holder.send(b"x" * 10_000)
        holder.send(b"x" * (MESSAGE_BYTES_MAX + 1))
        assert not holder.is_cut()


def test_what_must_come_waits_for_room():
    with Lifeline() as lifeline, Holder(lifeline.token) as holder, ThreadPoolExecutor(1) as threads:
        for _ in range(1000):
            holder.send(b"x")
        sending = threads.submit(holder.send, b"ready", 10)
        assert not sending.done()
        read: list[bytes | None] = []
        while b"ready" not in read and len(read) < 1000:
            read.append(lifeline.receive(1))
        assert read[-1] == b"ready"


def test_the_first_message_is_waited_for_as_long_as_the_caller_is_there():
    lifeline = Lifeline()
    with Holder(lifeline.token) as holder, ThreadPoolExecutor(1) as threads:
        taking = threads.submit(holder.take_over)
        assert lifeline.is_taken(1)
        lifeline.hand_over(b"all", [])
        assert taking.result(10) == (b"all", [])
        taking = threads.submit(holder.take_over)
        lifeline.cut()
        with pytest.raises(Cancelled):
            taking.result(10)


def test_a_look_at_the_caller_takes_no_message_from_it_and_sees_past_them():
    lifeline = Lifeline()
    with Holder(lifeline.token) as holder:
        assert lifeline.is_taken(1)
        lifeline.hand_over(b"first")
        lifeline.hand_over(b"second")
        start = time.monotonic()
        assert not holder.is_cut(0.1)
        assert time.monotonic() - start >= 0.09, "a message is no reason to look again at once"
        assert holder.take_over() == (b"first", [])
        lifeline.cut()
        assert holder.is_cut(1), "though a message is still to be read"
        assert holder.take_over() == (b"second", [])
        with pytest.raises(Cancelled):
            holder.take_over()


@pytest.mark.parametrize("token", ["", "../../run/docker.sock", "x" * 32, "0" * 33, 5, True])
def test_only_tokens_become_addresses(token):
    with pytest.raises(InvalidArgument, match="lifeline"):
        Holder(token)
