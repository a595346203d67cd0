"""A head that goes away ends the process with one line, and one that comes back doesn't."""

from __future__ import annotations

import socket
import subprocess
import sys

from raymc.runtime.head import UNREACHABLE, answers

CODE = """
import sys, time
from raymc.runtime import head
head._EVERY, head._ANSWER = 0.05, 0.5
with head.watched(sys.argv[1], print, limit=float(sys.argv[2])):
    print("watching", flush=True)
    time.sleep(float(sys.argv[3]))
print("went on")
"""


def watch(address: str, limit: float, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, address, str(limit), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_head_that_stays_and_one_that_goes():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
        out, err = watch(address, 0.2, 1.0).communicate(timeout=60)
        assert out == "watching\nwent on\n"
        assert err == ""
        process = watch(address, 0.4, 60)
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
    out, err = process.communicate(timeout=60)
    assert process.returncode == UNREACHABLE
    assert err == (
        f"Ray {address}: its head hasn't answered for 0.4 s; what is finished is kept, and the same command goes on "
        "from there\n"
    )
    assert not answers(address)
