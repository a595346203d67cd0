"""An S3-protocol server on loopback for tests: moto's, which holds objects in memory and enforces If-None-Match.

    python tests/services/s3.py --port 5555 --bucket sweeps

prints a line once it answers. SIGUSR1 stops it (connections are refused), SIGUSR2 starts it again with all it held.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class S3:
    """The server, in this process. Start and stop it as often as is wanted: what it holds stays."""

    def __init__(self, port: int = 0):
        self.port = port or free_port()
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process that uses it needs."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> S3:
        from moto.moto_server.threaded_moto_server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise TimeoutError(f"no S3 server at {self.endpoint}")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", action="append", default=[])
    asked = parser.parse_args()
    server = S3(asked.port).start()
    for bucket in asked.bucket:
        server.make_bucket(bucket)
    wanted = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    print(f"pid {os.getpid()}: {server.endpoint} {' '.join(asked.bucket)}", flush=True)
    while (number := signal.sigwait(wanted)) not in (signal.SIGTERM, signal.SIGINT):
        if number == signal.SIGUSR1:
            server.stop()
        else:
            server.start()
        print("stopped" if number == signal.SIGUSR1 else "started", flush=True)
    server.stop()


if __name__ == "__main__":
    sys.exit(main())
