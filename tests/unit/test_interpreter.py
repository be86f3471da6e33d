"""In processes of their own: what is tested holds for a whole process, and for good."""

import subprocess
import sys

HELD = "held = [[number] for number in range(200_000)]\n"
LOOK = """
import gc, time
{before}
gc.collect()
start = time.thread_time()
gc.collect()
print(time.thread_time() - start)
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_threads_change_often() -> None:
    switch = "import sys; {}print(sys.getswitchinterval())"
    hasten = "from swiftdiffusion.interpreter import shorten_pauses; shorten_pauses(); "
    assert float(run(switch.format(hasten))) <= float(run(switch.format(""))) / 10


def test_full_collections_leave_alone_what_stays() -> None:
    hasten = "from swiftdiffusion.interpreter import shorten_pauses; shorten_pauses()"
    long, short = (float(run(LOOK.format(before=HELD + after))) for after in ("", hasten))
    assert short < long / 3  # of the processor's time: 20 times less


def test_garbage_is_collected_as_before() -> None:
    program = """
import gc, weakref
from swiftdiffusion.interpreter import shorten_pauses
shorten_pauses()
class Node: pass
node = Node()
node.itself = node
watched = weakref.ref(node)
del node
gc.collect()
print(watched() is None)
"""
    assert run(program).strip() == "True"
