"""A sweep small enough to run for real, on a real local Ray, in seconds; and `raymc` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymc.specs.model import GrammarBackbone
from raymc.store import layout
from raymc.store.store import Store

BACKBONE = {
    "builtin": "grammar-bert",
    "steps": 20,
    "batch_size": 16,
    "rows": 400,
    "hidden_size": 16,
    "heads": 2,
    "intermediate_size": 32,
}
SPEC = f"""\
name: tiny
model:
  backbone: {json.dumps(BACKBONE)}
task:
  dataset: {{builtin: grammar, train_rows: 200, validation_rows: 60, test_rows: 60}}
  max_length: 32
train: {{steps: 12, batch_size: 16, learning_rate: 1e-3, dropout: 0.1}}
axes:
  model.backbone.seed: [1, 2]
  seeds.order: [1, 2]
connectivity: {{points: 5, splits: [validation, test]}}
failure: {{checkpoint_every: 4}}
tracking: {{log_every: 2}}
"""


ONE_CPU = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
"""One process of each kind at a time: each spends seconds of CPU on its imports, of which a test machine has few."""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start `raymc ARGUMENTS` in a process of its own; the Ray that it starts has all CPUs of the machine, or one."""

    def go(*arguments: str | Path, all_cpus: bool = True, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({} if all_cpus else ONE_CPU)}
        return subprocess.Popen(
            [sys.executable, "-m", "raymc.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )

    return go


@pytest.fixture(scope="session")
def raymc(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Done]:
    """Run `raymc ARGUMENTS` to its end, on a Ray of one CPU where no more is asked for."""

    def go(*arguments: str | Path, timeout: float = 300, all_cpus: bool = False, **options: Any) -> Done:
        process = start(*arguments, all_cpus=all_cpus, **options)
        out, err = process.communicate(timeout=timeout)
        return Done(process.returncode, out, err)

    return go


@pytest.fixture(scope="session")
def _pretrained(tmp_path_factory: pytest.TempPathFactory, on_one_thread: None) -> Path:
    """The backbones of SPEC, of the seeds that tests use."""
    from raymc.training.parallel import Group
    from raymc.training.pretrain import pretrain

    store = Store(tmp_path_factory.mktemp("pretrained"))
    for seed in (1, 2):
        backbone = GrammarBackbone.model_validate({**BACKBONE, "seed": seed})
        pretrain([backbone], store, Group(), checkpoint_every=0, log_every=2, report=lambda _: None)
    return store.root


@pytest.fixture
def pretrained(_pretrained: Path, tmp_path: Path, copied: Callable[..., Path]) -> Path:
    """A storage in which SPEC's backbones lie already, for tests of what comes after."""
    return copied(_pretrained, tmp_path / "store", layout.BACKBONES)


@pytest.fixture(scope="session")
def copied() -> Callable[..., Path]:
    """copied(storage, to, "backbones", ...): a new storage with these kinds of another's artefacts."""

    def copy(storage: Path, to: Path, *kinds: str) -> Path:
        for kind in kinds:
            shutil.copytree(storage / kind, to / kind)
        return to

    return copy


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return _wait_for


@pytest.fixture(scope="session")
def children() -> Callable[..., list[psutil.Process]]:
    return _children


@pytest.fixture(scope="session")
def end() -> Callable[..., str]:
    return _end


def _wait_for(process: subprocess.Popen[str], condition, seconds: float = 120) -> None:
    """Until the condition holds. Fails where the run ends before."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended too early:\n{process.communicate()[1]}"
        assert time.monotonic() < limit, "the moment to kill never came"
        time.sleep(0.02)


def _children(process: subprocess.Popen[str], pattern: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if re.search(pattern, " ".join(child.cmdline()) or child.name()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def _end(process: subprocess.Popen[str]) -> str:
    """kill -9, and see that what computes goes with it (Ray's own agents may take longer); what it had said."""
    family = _children(process, r"raylet/raylet|^ray::.*(ImplicitFunc|EvaluatorActor)")
    assert family
    process.kill()
    _, err = process.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    return err
