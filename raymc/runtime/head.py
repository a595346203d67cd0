"""A look at the head of the cluster, without which nothing goes on."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

HEAD_AWAY = 50.0
"""Seconds that the head may be unreachable. Ray itself ends its processes after 60."""

_EVERY = 2.0  # seconds between looks
_ANSWER = 5.0  # seconds for one
UNREACHABLE = 4  # exit code


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def watched(address: str, say: Callable[[str], None], limit: float = HEAD_AWAY) -> Iterator[None]:
    """While the block runs, end this process with one line once the head at HOST:PORT was away for `limit` seconds.

    Calls that wait for the head can't be interrupted, and Ray would end the process itself, with less to say. Nothing
    is lost: what is in the store is whole.
    """
    over = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        told = False
        while not over.wait(_EVERY):
            if answers(address):
                seen, told = time.monotonic(), False
                continue
            away = time.monotonic() - seen
            if away > limit and not over.is_set():
                sys.stderr.write(
                    f"Ray {address}: its head hasn't answered for {limit:g} s; what is finished is kept, and the same "
                    "command goes on from there\n"
                )
                sys.stderr.flush()
                os._exit(UNREACHABLE)
            if not told and away > 2 * _EVERY:
                told = True
                say(f"Ray {address}: its head doesn't answer; waiting for {limit:g} s")

    thread = threading.Thread(target=watch, name="raymc-head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
