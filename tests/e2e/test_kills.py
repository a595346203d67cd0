"""kill -9 in mid-run: the next run computes only what was unfinished, and the profiles are the same bit for bit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

LONG = ["--set", "train.steps=60", "--set", "connectivity.points=26"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[bytes]:
    return []


def reference(raymc, spec, tmp_path: Path, kept: list[bytes]) -> bytes:
    if not kept:
        done = raymc("run", spec, "--storage", tmp_path / "reference", "--json", *LONG)
        assert done.code == 0, done.err
        kept.append((tmp_path / "reference" / "sweeps" / "tiny" / "profiles.parquet").read_bytes())
    return kept[0]


def wait_for(process: subprocess.Popen[str], condition, seconds: float = 120) -> None:
    """Until the condition holds. Fails where the run ends before."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended too early:\n{process.communicate()[1]}"
        assert time.monotonic() < limit, "the moment to kill never came"
        time.sleep(0.02)


def children(process: subprocess.Popen[str], pattern: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if re.search(pattern, " ".join(child.cmdline()) or child.name()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def minima(storage: Path) -> int:
    return len(list((storage / "minima").glob("*/MANIFEST.json")))


def test_the_driver(start, raymc, spec, tmp_path, undisturbed):
    expected = reference(raymc, spec, tmp_path, undisturbed)
    storage = tmp_path / "store"
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    wait_for(process, lambda: minima(storage) >= 2)
    there = minima(storage)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=60)
    there = minima(storage)
    again = raymc("run", spec, "--storage", storage, "--json", *LONG)
    assert again.code == 0, again.err
    assert again.json["minima"]["reused"] == there
    assert (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes() == expected

    # And once more while pairs are evaluated.
    profiles = storage / "profiles"
    subprocess.run(["rm", "-r", str(profiles), str(storage / "sweeps")], check=True)
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    wait_for(process, lambda: len(list(profiles.glob("*/*.json"))) >= 4)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=60)
    done = {path.name for path in profiles.glob("*/*.json")}
    stamps = {path: path.stat().st_mtime_ns for path in profiles.glob("*/*.json")}
    again = raymc("run", spec, "--storage", storage, "--json", *LONG)
    assert again.code == 0, again.err
    assert again.json["minima"]["computed"] == 0
    assert 6 - len(done) <= again.json["pairs"]["computed"] <= 6 - len(done) // 2
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes() == expected


def test_a_trial(start, raymc, spec, tmp_path, undisturbed):
    expected = reference(raymc, spec, tmp_path, undisturbed)
    storage = tmp_path / "store"
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    running = (storage / "checkpoints").glob
    wait_for(process, lambda: (storage / "backbones").is_dir() and any(running("*/step-*/MANIFEST.json")))
    wait_for(process, lambda: len(list((storage / "backbones").glob("*/MANIFEST.json"))) == 2)
    wait_for(process, lambda: any(running("*/step-*/MANIFEST.json")))
    victims = children(process, r"^ray::(?!IDLE|_TuneController).*(Impl|train|tune)")
    assert victims, "no trial's process was found"
    os.kill(victims[0].pid, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "run again, from its last checkpoint" in err
    assert '"failed": 0' in out
    assert (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes() == expected


def test_a_pool_actor(start, raymc, spec, tmp_path, undisturbed):
    expected = reference(raymc, spec, tmp_path, undisturbed)
    storage = tmp_path / "store"
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    wait_for(process, lambda: len(list((storage / "profiles").glob("*/*.json"))) >= 2)
    victims = children(process, r"^ray::EvaluatorActor")
    assert victims, "no evaluator's process was found"
    os.kill(victims[0].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "is tried again: its worker died" in err
    assert (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes() == expected


def test_interrupt_stops_cleanly_and_keeps_what_is_finished(start, raymc, spec, tmp_path, undisturbed):
    expected = reference(raymc, spec, tmp_path, undisturbed)
    storage = tmp_path / "store"
    process = start("run", spec, "--storage", storage, "--json", *LONG)
    wait_for(process, lambda: minima(storage) >= 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    there = minima(storage)
    again = raymc("run", spec, "--storage", storage, "--json", *LONG)
    assert again.code == 0, again.err
    assert again.json["minima"]["reused"] == there
    assert (storage / "sweeps" / "tiny" / "profiles.parquet").read_bytes() == expected
