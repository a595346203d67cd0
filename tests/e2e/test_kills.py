"""kill -9 in mid-run: the next run computes only what was unfinished, and the profiles are the same bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

LONG = ["--set", "train.steps=60", "--set", "connectivity.points=26", "--set", "tracking.enabled=false"]


@pytest.fixture(scope="module")
def expected(raymc, tiny, tmp_path_factory) -> bytes:
    """The profiles of a run that nothing disturbs."""
    storage = tmp_path_factory.mktemp("undisturbed")
    done = raymc("run", tiny, "--storage", storage, "--json", *LONG)
    assert done.code == 0, done.err
    return profiles(storage)


def profiles(storage: Path) -> bytes:
    return (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes()


def records(storage: Path) -> list[Path]:
    """Profiles that are finished: one a pair and split."""
    return list((storage / "profiles").glob("*/*.json"))


def minima(storage: Path) -> int:
    return len(list((storage / "minima").glob("*/MANIFEST.json")))


def test_the_driver_is_interrupted_then_killed_twice(start, raymc, spec, tmp_path, expected, wait_for, end):
    storage = tmp_path / "store"
    arguments = ("run", spec, "--storage", storage, "--json", *LONG)

    process = start(*arguments)
    wait_for(process, lambda: minima(storage) >= 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    kept = {path: path.stat().st_mtime_ns for path in (storage / "minima").glob("*/MANIFEST.json")}
    assert kept

    process = start(*arguments)
    wait_for(process, lambda: minima(storage) > len(kept))
    end(process)

    process = start(*arguments)
    wait_for(process, lambda: len(records(storage)) >= 4)
    end(process)
    assert minima(storage) == 4
    evaluated = {path: path.stat().st_mtime_ns for path in records(storage)}
    names = [path.name for path in evaluated]
    whole = {name for name in names if names.count(name) == 2}  # on both splits

    again = raymc(*arguments)
    assert again.code == 0, again.err
    assert again.json["minima"] == {"total": 4, "computed": 0, "reused": 4, "failed": 0}
    assert again.json["pairs"] == {"total": 6, "computed": 6 - len(whole), "reused": len(whole), "failed": 0}
    assert {path: path.stat().st_mtime_ns for path in evaluated} == evaluated
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert profiles(storage) == expected


def test_a_trial_and_a_pool_actor(start, spec, tmp_path, expected, wait_for, children):
    storage = tmp_path / "store"
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    wait_for(process, lambda: len(list((storage / "backbones").glob("*/MANIFEST.json"))) == 2)
    wait_for(process, lambda: any((storage / "checkpoints").glob("*/step-*/MANIFEST.json")))
    victims = children(process, r"^ray::.*(ImplicitFunc|tune_trial)")
    assert victims, "no trial's process was found"
    os.kill(victims[0].pid, signal.SIGKILL)

    wait_for(process, lambda: len(records(storage)) >= 2)
    victims = children(process, r"^ray::EvaluatorActor")
    assert victims, "no evaluator's process was found"
    os.kill(victims[0].pid, signal.SIGKILL)

    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "run again, from its last checkpoint" in err
    assert "is tried again: its worker died" in err
    assert '"failed": 0' in out
    assert profiles(storage) == expected
