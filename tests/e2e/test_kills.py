"""kill -9 in mid-run: the next run computes only what was unfinished, and the profiles are the same bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymc.store import layout
from raymc.store.store import Store

LONG = ["--set", "train.steps=60", "--set", "connectivity.points=26", "--set", "tracking.enabled=false"]


@pytest.fixture(scope="module")
def undisturbed(raymc, tiny, tmp_path_factory) -> Path:
    """The storage of a run that nothing disturbs, of one process at a time."""
    storage = tmp_path_factory.mktemp("undisturbed")
    done = raymc("run", tiny, "--storage", storage, "--json", *LONG)
    assert done.code == 0, done.err
    return storage


@pytest.fixture
def storage(undisturbed, copied, tmp_path) -> Path:
    """A storage with backbones alone: what is killed here comes after them."""
    return copied(undisturbed, tmp_path / "store", layout.BACKBONES)


def profiles(storage: Path) -> bytes:
    return (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes()


def records(storage: Path) -> list[str]:
    """Names of profiles that are finished: one a pair and split."""
    store = Store(storage)
    return [name for group in (storage / "profiles").glob("*") for name in store.records("profiles", group.name)]


def times(storage: Path) -> dict[Path, int]:
    """When the files with profiles were written."""
    return {path: path.stat().st_mtime_ns for path in (storage / "profiles").glob("*/*")}


def minima(storage: Path) -> int:
    return len(list((storage / "minima").glob("*/MANIFEST.json")))


def test_a_trial_an_actor_and_the_driver_die(start, raymc, spec, storage, undisturbed, wait_for, children, end):
    arguments = ("run", spec, "--storage", storage, "--json", *LONG)

    process = start(*arguments, all_cpus=False)
    wait_for(process, lambda: minima(storage) >= 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    kept = {path: path.stat().st_mtime_ns for path in (storage / "minima").glob("*/MANIFEST.json")}
    assert kept

    process = start(*arguments)
    trial = r"^ray::.*(ImplicitFunc|tune_trial)"
    saved = (storage / "checkpoints").glob
    wait_for(process, lambda: any(saved("*/step-*/MANIFEST.json")) and children(process, trial))
    kill(children, process, trial)
    wait_for(process, lambda: minima(storage) > len(kept))
    err = end(process)
    assert "run again, from its last checkpoint" in err

    process = start(*arguments)
    wait_for(process, lambda: len(records(storage)) >= 2)
    kill(children, process, r"^ray::EvaluatorActor")
    wait_for(process, lambda: len(records(storage)) >= 4)
    err = end(process)
    assert "is tried again: its worker died" in err
    assert minima(storage) == 4
    evaluated, names = times(storage), records(storage)
    whole = {name for name in names if names.count(name) == 2}  # on both splits

    again = raymc(*arguments)
    assert again.code == 0, again.err
    assert again.json["minima"] == {"total": 4, "computed": 0, "reused": 4, "failed": 0}
    assert again.json["pairs"] == {"total": 6, "computed": 6 - len(whole), "reused": len(whole), "failed": 0}
    assert evaluated.items() <= times(storage).items()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert profiles(storage) == profiles(undisturbed)


def kill(children: Callable[..., list[Any]], process: Any, pattern: str) -> None:
    victims = children(process, pattern)
    assert victims, f"no process was found that is {pattern}"
    os.kill(victims[0].pid, signal.SIGKILL)
