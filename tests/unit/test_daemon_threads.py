import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from swiftdiffusion.daemon_threads import DaemonThreads, repeated
from swiftdiffusion.errors import Unavailable


def test_work_is_done_and_what_it_raises_is_handed_on():
    threads = DaemonThreads(2, "test")
    assert [threads.submit(divmod, 7, n).result(5) for n in (2, 3)] == [(3, 1), (2, 1)]
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(5)
    assert threads.close(5)
    with pytest.raises(Unavailable, match="shutting down"):
        threads.submit(print)


def test_what_failing_work_held_goes_with_its_future():
    """Not when Python next looks for circles."""

    class Large:
        pass

    def fail():
        large = Large()
        held.append(weakref.ref(large))
        raise ValueError

    threads = DaemonThreads(1, "test")
    held: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        future = threads.submit(fail)
        assert future.exception(5)
        del future
        assert threads.close(5)
        assert held[0]() is None
    finally:
        gc.enable()


def test_no_more_than_so_many_run_at_a_time():
    threads, running, most, lock = DaemonThreads(3, "test"), 0, 0, threading.Lock()

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    for future in [threads.submit(work) for _ in range(20)]:
        future.result(5)
    assert most == 3
    threads.close(5)


@pytest.mark.parametrize("line", range(1, 9))
def test_as_many_run_as_may_in_whatever_order_threads_do(line):
    """The first is held up at one of its lines after its work, the second until the first has taken what it is for."""
    done, held, submitted, taken, over = (threading.Event() for _ in range(5))
    lines = 0

    def watch(frame, event, arg):
        nonlocal lines
        if frame.f_code is not DaemonThreads._work.__code__:
            return None
        if threading.current_thread().name == "test-1":
            taken.wait(0.1)
        elif done.is_set() and event == "line":
            lines += 1
            if lines == line:
                held.set()
                submitted.wait(0.1)
        return watch

    running = threading.Semaphore(0)

    def hang():
        taken.set()
        running.release()
        over.wait(10)

    threads = DaemonThreads(3, "test")
    threading.settrace(watch)
    try:
        threads.submit(done.set).result(5)
        held.wait(0.1)
        threads.submit(hang)
        submitted.set()
        assert taken.wait(5)
        time.sleep(0.05)  # until the second waits for more, if it is there
        for _ in range(2):
            threads.submit(hang)
        assert all(running.acquire(timeout=1) for _ in range(3))
    finally:
        threading.settrace(None)
        over.set()
    assert threads.close(5)


def test_an_idle_thread_is_used_again():
    threads = DaemonThreads(8, "test")
    names = set()
    for _ in range(5):
        names.add(threads.submit(lambda: threading.current_thread().name).result(5))
        time.sleep(0.02)  # until it waits for more
    assert names == {"test-0"}
    threads.close(5)


def test_work_that_hangs_is_not_waited_for():
    threads, over = DaemonThreads(1, "test"), threading.Event()
    threads.submit(over.wait)
    start = time.monotonic()
    assert not threads.close(0.1)
    assert time.monotonic() - start < 2
    over.set()


def test_a_process_ends_while_work_hangs():
    program = """if True:
        import time
        from swiftdiffusion.daemon_threads import DaemonThreads, repeated
        DaemonThreads(1, "test").submit(time.sleep, 60)"""
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True)


def test_what_is_repeated_ends_with_the_block():
    done = threading.Semaphore(0)
    with repeated(done.release, 0.001, "test"):
        assert all(done.acquire(timeout=5) for _ in range(3))
        assert "test" in [thread.name for thread in threading.enumerate()]
    assert "test" not in [thread.name for thread in threading.enumerate()]
