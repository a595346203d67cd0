"""Sweeps through the Jobs API of a head that cluster/head.sh starts: submit, status, logs, stop, resume, refusals."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SHORT = (
    *("train.steps=20", "model.backbone.steps=20", "task.dataset.validation_rows=64", "connectivity.points=5"),
    *("axes.model.backbone.seed=[11]", "axes.seeds.order=[1, 2, 3, 4, 5, 6]"),
)


class Head:
    """A head of one CPU on loopback, with a token; `raymc(...)` runs the command line against it."""

    def __init__(self, folder: Path):
        self.folder, self.secret = folder, f"hf_{secrets.token_hex(16)}"
        self.token, self.store, self.ray = folder / "token", folder / "store", Path("/tmp") / f"raymc-{os.getpid()}"
        ports = iter(free_ports(4))
        self.url = f"http://127.0.0.1:{(dashboard := next(ports))}"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": self.url,
            "HF_HUB_OFFLINE": "1",
        }
        mounted = folder / "secrets"
        mounted.mkdir()
        (mounted / "HF_TOKEN").write_text(self.secret)
        own = {"RAYMC_PORT": str(next(ports)), "RAYMC_DASHBOARD_PORT": str(dashboard), "RAYMC_SECRETS": str(mounted)}
        given = ("--num-cpus", "1", "--temp-dir", str(self.ray), "--ray-client-server-port", str(next(ports)))
        given = (*given, "--dashboard-agent-listen-port", str(next(ports)))
        self.log = (folder / "head.log").open("w")
        self.process = subprocess.Popen(
            [ROOT / "cluster" / "head.sh", *given],
            env={**self.environment, **own},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def raymc(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "raymc.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=240,
            env={**self.environment, **environment},
        )

    def json(self, *arguments: str | Path) -> Any:
        done = self.raymc(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def submit(self, *arguments: str) -> Any:
        changes = [part for change in SHORT for part in ("--set", change)]
        spec = ROOT / "sweeps" / "quickstart.yaml"
        return self.json("submit", spec, *changes, "--storage", self.store, "--env", "HF_TOKEN", *arguments)

    def minima(self) -> set[str]:
        return {path.name for path in (self.store / "minima").glob("*") if len(path.name) == 20}

    def end(self) -> None:
        """End the head and all that it started."""
        family = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(family, timeout=30)
        self.log.close()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    one = Head(tmp_path_factory.mktemp("head"))
    try:
        until(lambda: one.token.is_file() and listens(one.url) and one.raymc("jobs").returncode == 0)
        yield one
    finally:
        one.end()
        subprocess.run(["rm", "-rf", one.ray], check=True)


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


class CutProxy:
    """Passes bytes on to a port, and cuts the first connection that passes on a job's log, once it has begun."""

    def __init__(self, port: int):
        self._port, self.cuts = port, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            if near.recv(1, socket.MSG_PEEK) == b"":  # close() came
                near.close()
                return
            self._threads.append(threading.Thread(target=self._pass, args=(near,)))
            self._threads[-1].start()

    def _pass(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as far, contextlib.suppress(OSError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(4096)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)
                    if source is far and not self.cuts and b"in the store" in data:
                        self.cuts += 1
                        return

    def close(self) -> None:
        socket.create_connection(self._server.getsockname()).close()
        for thread in self._threads:
            thread.join(30)
        self._server.close()


def test_a_sweep_is_submitted_killed_stopped_and_resumed(head):
    # Two people submit the same at once, one of them in other words: it runs once.
    with ThreadPoolExecutor(2) as both:
        same = both.submit(head.submit, "--set", "description=the same in other words")
        first, other = head.submit(), same.result()
    assert {first["action"], other["action"]} == {"submitted", "attached"}
    assert first["id"] == other["id"]
    assert first["id"].startswith("raymc-quickstart-")
    assert first["files"] == 3
    assert first["bytes"] < 10_000
    assert first["needs"] == ["HF_TOKEN"]

    # The driver dies: the same submit goes on as a second attempt.
    driver = until(lambda: driver_of(head))
    driver.kill()
    until(lambda: head.json("status", "quickstart")["state"] == "FAILED")
    second = head.submit()
    assert (second["action"], second["id"], second["attempt"]) == ("resumed", f"{first['id']}-2", 2)

    # It is stopped while it trains: the log's end and its exit code say so, and what is finished is kept.
    follower = subprocess.Popen(
        [sys.executable, "-m", "raymc.cli", "logs", "quickstart", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=head.environment,
    )
    until(head.minima)
    stopped = head.json("stop", "quickstart")
    assert (stopped["state"], stopped["was_over"]) == ("STOPPED", False)
    kept = head.minima()
    assert 0 < len(kept) < 6
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 130, err
    assert "stopping: what is finished is kept" in out
    assert "Traceback" not in out + err
    told = head.raymc("status", "quickstart").stdout
    assert "stopped" in told
    assert f"raymc resume {first['id']}" in told

    # Resumed, and followed over a connection that is cut: each line comes once.
    third = head.json("resume", "quickstart")
    assert (third["action"], third["attempt"], third["needs"]) == ("resumed", 3, ["HF_TOKEN"])
    proxy = CutProxy(int(head.url.rpartition(":")[2]))
    followed = head.raymc("logs", "quickstart", "-f", "--address", proxy.url)
    proxy.close()
    assert followed.returncode == 0, followed.stderr
    assert proxy.cuts == 1
    assert followed.stdout == head.raymc("logs", third["id"]).stdout
    seen = head.json("status", third["id"])
    assert seen["state"] == "SUCCEEDED"
    assert seen["progress"]["minima"] == {"done": 6, "total": 6}
    assert seen["progress"]["pairs"] == {"done": 15, "total": 15}
    assert seen["tables"] == str(head.store / "sweeps" / "quickstart")
    result = json.loads((head.store / "sweeps" / "quickstart" / "result.json").read_text())["result"]
    assert result["minima"] == {"total": 6, "computed": 6 - len(kept), "reused": len(kept), "failed": 0}

    # Once more: it is finished, and nothing runs.
    last = head.submit()
    assert (last["action"], last["id"]) == ("finished", third["id"])
    listed = head.json("jobs")
    assert [job["state"] for job in listed] == ["FAILED", "STOPPED", "SUCCEEDED"]


def driver_of(head: Head) -> psutil.Process | None:
    for child in psutil.Process(head.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.cmdline()[2:-1] == ["raymc.cli", "run"]:
                return child
    return None


def test_a_job_whose_nodes_lack_a_secret_says_so(head):
    spec = ROOT / "sweeps" / "quickstart.yaml"
    given = ("--storage", head.store, "--set", "name=lacking", "--env", "OTHER_TOKEN", "-f")
    done = head.raymc("submit", spec, *given, OTHER_TOKEN="only-here-1234567")
    assert done.returncode == 2
    assert "OTHER_TOKEN: not in the environment of the cluster's nodes" in done.stdout
    assert "only-here-1234567" not in done.stdout + done.stderr


def test_no_secret_is_in_a_job_a_log_or_the_store(head):
    hidden = (head.secret, head.token.read_text(), "only-here-1234567")
    listed = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "list", "--address", head.url, "--log-style", "record"],
        capture_output=True,
        text=True,
        env=head.environment,
    )
    assert "raymc-quickstart" in listed.stdout
    texts = [listed.stdout, head.raymc("jobs", "--json").stdout, head.raymc("logs", "quickstart").stdout]
    files = [path for home in (head.ray, head.store) for path in home.rglob("*") if path.is_file()]
    assert len(files) > 50
    for text in hidden:
        assert not any(text in one for one in texts)
        assert not [path for path in files if text.encode() in path.read_bytes()]
    assert head.token.stat().st_mode & 0o777 == 0o600


def test_nothing_listens_beyond_loopback(head):
    family = [psutil.Process(head.process.pid), *psutil.Process(head.process.pid).children(recursive=True)]
    found = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    assert len(found) > 5
    assert set(found) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_a_wrong_token_no_token_and_a_dead_head_are_one_line(head, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    unset = {name: value for name, value in head.environment.items() if name != "RAY_AUTH_MODE"}
    without = subprocess.run([sys.executable, "-m", "raymc.cli", "jobs"], capture_output=True, text=True, env=unset)
    done = [
        (head.raymc("jobs", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")), "refuses the token"),
        (without, "wants a token, and none was sent"),
    ]
    head.end()
    submit = ("submit", ROOT / "sweeps" / "quickstart.yaml", "--storage", tmp_path / "store")
    done += [(head.raymc(*submit), "no Ray head answers"), (head.raymc("logs", "quickstart", "-f"), head.url)]
    for one, words in done:
        assert one.returncode == 4, one.stderr
        assert one.stdout == ""
        assert len(one.stderr.splitlines()) == 1
        assert words in one.stderr
