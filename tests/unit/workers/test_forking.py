"""A child is forked while no other thread is within a library."""

import subprocess
import sys

PROGRAM = """
import os
import threading

from workers.forking import FORKS

is_within = False
has_begun, may_end = threading.Event(), threading.Event()


def work():
    global is_within
    with FORKS.no_fork():
        is_within = True
        has_begun.set()
        may_end.wait()
        is_within = False


FORKS.install()
threading.Thread(target=work).start()
has_begun.wait()
threading.Timer(0.2, may_end.set).start()
child = os.fork()
if child == 0:
    with FORKS.no_fork():  # free in the child, too
        os._exit(7 if is_within else 0)
with FORKS.no_fork():
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
raise SystemExit(code)
"""


def test_a_fork_waits_until_no_thread_is_within_a_library() -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM], timeout=60).returncode == 0
