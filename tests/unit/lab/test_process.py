"""When a program of the lab has ended."""

import subprocess
import sys

from deploy.lab import process
from deploy.lab.process import wait_until

# Only the first thread ends; the other holds the process, and so its sockets, until its input does.
_ENDING = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)
"""


def test_a_process_whose_threads_are_still_ending_has_not_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", _ENDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == b"\n"
        wait_until(lambda: process._stat(ending.pid)[0] == "D", what="the first thread to end", timeout=20)
        assert ending.stdin is not None
        ending.stdin.close()
        wait_until(lambda: process._stat(ending.pid)[0] == "Z", what="the last thread to end", timeout=20)
