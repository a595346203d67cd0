"""MLflow's own pages over a database, on this machine, for as long as somebody looks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raymc.tracking.calls import shown
from raymc.tracking.runs import quoted
from raymc.tracking.table import TRAINING_MODE
from raymc.tracking.tracker import TrackingError

START_SECONDS = 120  # an old database takes MLflow a while to look at
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextlib.contextmanager
def serve(
    uri: str, host: str, port: int, artifacts: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """MLflow's server over a database: its address and its process, ended with the context.

    `artifacts`: where a new experiment keeps its files. Raises TrackingError where it doesn't come up.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    if artifacts is not None:
        command += ["--default-artifact-root", artifacts.as_uri()]
    # by the environment, as a command line with a password would show to everybody on the machine
    environment = {**os.environ, **_QUIET, "MLFLOW_BACKEND_STORE_URI": uri, "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{port}"
            _until_up(process, address, uri, log)
            yield address, process
        finally:
            _end(process)


def free_port(host: str, wanted: int) -> int:
    """The port wanted where it is free, else another one that is."""
    for port in (wanted, 0):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
            return trial.getsockname()[1]
    raise TrackingError(f"no port can be opened on {host}")


def page_of(address: str, sweep: str | None) -> str:
    """The page of a sweep's run; with no sweep, of the experiment where there is one, else of all.

    Raises TrackingError for a sweep of which nothing is shown.
    """
    body = {"max_results": 1000, "view_type": "ACTIVE_ONLY"}
    experiments = [one["experiment_id"] for one in _post(address, "experiments/search", body).get("experiments", [])]
    own = [one for one in experiments if one != "0"]
    if sweep is None:
        return (
            f"{address}/#/experiments/{own[0]}/runs{TRAINING_MODE}" if len(own) == 1 else f"{address}/{TRAINING_MODE}"
        )
    query = "tags.`raymc.kind` = 'sweep'"
    some = {"experiment_ids": experiments, "max_results": 1000}
    found = _post(address, "runs/search", some | {"filter": f"{query} and tags.`raymc.sweep` = {quoted(sweep)}"})
    for run in found.get("runs", []):
        place = run["info"]
        return f"{address}/#/experiments/{place['experiment_id']}/runs/{place['run_id']}{TRAINING_MODE}"
    others = sorted(
        {run["info"]["run_name"] for run in _post(address, "runs/search", some | {"filter": query}).get("runs", [])}
    )
    has = f"it shows {', '.join(others)}" if others else "it shows no sweep"
    raise TrackingError(f"nothing is tracked of sweep {sweep!r} ({has})")


def _post(address: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise TrackingError(f"MLflow at {address} can't be asked for its runs: {error}") from error


def _until_up(process: subprocess.Popen[bytes], address: str, uri: str, log: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{address}/health", timeout=5),
        ):
            return
        if process.poll() is not None or time.monotonic() > end:
            log.seek(0)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            last = shown(lines[-1])[:300] if lines else "it says nothing"
            raise TrackingError(f"MLflow's server over {shown(uri)} did not start: {last}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its workers with it, gently first."""
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
