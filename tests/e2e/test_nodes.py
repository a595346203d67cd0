"""Machines of a cluster die during training and evaluation, others come, the driver dies: the same matrix."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymc.store import layout
from raymc.store.store import Store

SET = [
    *("--set", "task.dataset={builtin: grammar, train_rows: 200, validation_rows: 300, test_rows: 60}"),
    *("--set", "train.steps=240", "--set", "failure.checkpoint_every=10", "--set", "connectivity.points=51"),
    *("--set", "connectivity.splits=[validation]", "--set", "tracking.enabled=false", "--json"),
]
QUICK = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3", "RAY_USAGE_STATS_ENABLED": "0"}


class Machines:
    """A head that has no CPUs, and raylets of one CPU each, as machines of their own."""

    def __init__(self, temporary: Path, children: Callable[..., list[Any]]):
        from ray.cluster_utils import Cluster

        self._children = children

        arguments = {"num_cpus": 0, "include_dashboard": False, "temp_dir": str(temporary)}
        self._cluster = Cluster(initialize_head=True, head_node_args=arguments)
        self.address = self._cluster.address
        self._nodes: list[Any] = []
        for _ in range(2):
            self.add()

    def add(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1, wait=False))

    def holding(self, pattern: str) -> list[Any]:
        """The machines with a process of that name."""
        return [node for node in self._nodes if self._processes(node, pattern)]

    def lose(self, node: Any) -> None:
        """kill -9 of all that runs on it; what it computed goes too."""
        workers = self._processes(node, r"^ray::")
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        _, left = psutil.wait_procs(workers, timeout=30)
        assert not left, "a machine was lost, and its processes go on"

    def _processes(self, node: Any, pattern: str) -> list[Any]:
        return self._children(node.all_processes["raylet"][0].process, pattern)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def machines(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, children: Callable[..., list[Any]]
) -> Iterator[Machines]:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    found = Machines(tmp_path_factory.mktemp("r"), children)
    yield found
    found.stop()


def checkpoints(storage: Path) -> dict[tuple[str, int], int]:
    """When each (run, step) was kept, of those that are there."""
    found = {}
    for path in (storage / "checkpoints").glob("*/step-*/MANIFEST.json"):
        try:
            found[path.parent.parent.name, int(path.parent.name[5:])] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def minima(storage: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (storage / "minima").glob("*/MANIFEST.json")}


def records(storage: Path) -> list[str]:
    store = Store(storage)
    return [name for group in (storage / "profiles").glob("*") for name in store.records("profiles", group.name)]


def profiles(storage: Path) -> bytes:
    return (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes()


def wait(process: subprocess.Popen[str], what: str, condition: Callable[[], object], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended before {what}:\n{process.communicate()[1]}"
        assert time.monotonic() < limit, f"{what}: that moment never came"
        time.sleep(0.01)


def test_machines_and_the_driver_die(machines, start, spec, pretrained, copied, tmp_path):
    def run(storage: Path) -> subprocess.Popen[str]:
        return start("run", spec, "--storage", storage, "--address", machines.address, *SET)

    undisturbed = copied(pretrained, tmp_path / "undisturbed", layout.BACKBONES)
    process = run(undisturbed)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err

    # A machine is lost while a trial on it has checkpoints; another comes.
    kept: dict[tuple[str, int], set[int]] = {}

    def seen() -> dict[tuple[str, int], set[int]]:
        for place, when in checkpoints(pretrained).items():
            kept.setdefault(place, set()).add(when)
        return kept

    process = run(pretrained)
    wait(process, "both trials had a checkpoint", lambda: len({key for key, _ in seen()}) >= 2)
    machines.lose(machines.holding(r"^ray::.*(ImplicitFunc|tune_trial)")[0])
    machines.add()

    # The driver is killed once some minima are whole.
    wait(process, "a minimum was finished", lambda: seen() and minima(pretrained))
    process.kill()
    _, err = process.communicate(timeout=60)
    before = minima(pretrained)
    assert len(before) < 4
    assert "run again, from its last checkpoint: its node was lost" in err

    # Its successor loses the machine of an evaluator.
    process = run(pretrained)
    wait(process, "profiles came", lambda: seen() and records(pretrained))
    assert len(records(pretrained)) < 6, "there is nothing left to lose"
    evaluated = {path: path.stat().st_mtime_ns for path in (pretrained / "profiles").glob("*/*")}
    machines.lose(machines.holding(r"^ray::EvaluatorActor")[0])
    machines.add()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert set(json.loads(out)["minima"]) == {"total", "computed", "reused", "failed"}, (
        "stdout has more than the result"
    )
    assert json.loads(out)["minima"]["failed"] == json.loads(out)["pairs"]["failed"] == 0

    assert before.items() <= minima(pretrained).items(), "a finished minimum was trained again"
    assert all(path.stat().st_mtime_ns == when for path, when in evaluated.items()), "profiles were written again"
    assert sorted(records(pretrained)) == sorted(set(records(pretrained)))
    again = [place for place, times in kept.items() if len(times) > 1]
    assert not again, f"steps were trained again that were in a checkpoint: {again}"
    assert profiles(pretrained) == profiles(undisturbed)
