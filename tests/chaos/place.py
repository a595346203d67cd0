"""Where chaos happens: a cluster of several raylets and an MLflow server, all of them children of this process."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

QUICK = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
MACHINES = 2


def running(pattern: str) -> list[psutil.Process]:
    """This process's descendants of that name."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if re.search(pattern, " ".join(child.cmdline())):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


class Place:
    """Use as a context: it is gone at the end."""

    def __init__(self, folder: Path):
        os.environ.update(QUICK)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.tracking = f"http://127.0.0.1:{self._port}"
        self._server: subprocess.Popen[bytes] | None = None
        self._nodes: list[Any] = []

    def __enter__(self) -> Place:
        from ray.cluster_utils import Cluster

        self._temporary = tempfile.TemporaryDirectory(prefix="chaos-")
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": self._temporary.name}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self.mend()
        return self

    def __exit__(self, *exc: object) -> None:
        family = psutil.Process().children(recursive=True)
        self._cluster.shutdown()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=20)

    def mend(self) -> None:
        """As many machines as there should be, and a server that answers."""
        while len(self._nodes) < MACHINES:
            self._nodes.append(self._cluster.add_node(num_cpus=1, wait=False))
        if self._server is None or self._server.poll() is not None:
            command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
            command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
            command += ["--artifacts-destination", str(self._folder / "mlartifacts")]
            with (self._folder / "mlflow.log").open("a") as log:
                self._server = subprocess.Popen(command, stdout=log, stderr=log)
            limit = time.monotonic() + 120
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                        return
                if time.monotonic() > limit or self._server.poll() is not None:
                    raise RuntimeError("the MLflow server doesn't start: see mlflow.log")
                time.sleep(0.2)

    def lose_machine(self, chance: random.Random) -> None:
        node = chance.choice(self._nodes)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def lose_server(self) -> None:
        assert self._server is not None
        family = psutil.Process(self._server.pid).children(recursive=True)
        self._server.kill()
        self._server.wait()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
