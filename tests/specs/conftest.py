"""A sweep's text with one of each thing, and files for trials to be made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.errors import Fault, SpecError
from raymc.specs.load import load_spec
from raymc.specs.trial import TrialSpec

BASE = """\
name: quick
description: two orders, two ranks
model:
  backbone: {builtin: grammar-bert, steps: 20}
task:
  dataset:
    builtin: grammar
    train_rows: 100
  max_length: 32
tuning: {method: lora, rank: 4}
train:
  steps: 10
  learning_rate: 1e-4
axes:
  seeds.order: [0, 1]
  tuning.rank: [2, 4]
zip:
  - seeds.init: [0, 1]
    seeds.head: [3, 4]
connectivity:
  points: 5
resources:
  evaluator: {cache: 2GiB}
"""


@pytest.fixture(scope="session")
def base() -> str:
    """A valid sweep's text."""
    return BASE


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "sweep.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def faults_of() -> Callable[..., list[Fault]]:
    """faults_of(path, *overrides): what loading says is wrong."""

    def faults_of(path: Path, *overrides: str) -> list[Fault]:
        with pytest.raises(SpecError) as caught:
            load_spec(path, overrides)
        faults = caught.value.faults
        assert str(caught.value).splitlines() == [str(fault) for fault in faults]
        return faults

    return faults_of


# Trials ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def make_files() -> Callable[[Path], dict[str, Any]]:
    def make_files(folder: Path) -> dict[str, Any]:
        """A backbone and a dataset on disk, always of the same content, and a trial that uses them."""
        backbone, rows = folder / "backbone", folder / "rows"
        backbone.mkdir(parents=True)
        rows.mkdir()
        (backbone / "config.json").write_text('{"model_type": "bert"}')
        (backbone / "model.safetensors").write_bytes(b"weights")
        (backbone / "vocab.txt").write_text("[UNK]\ngood\nbad\n")
        for split in ("train", "validation", "test"):
            (rows / f"{split}.jsonl").write_text(f'{{"text": "{split}", "label": "a"}}\n')
        return {"model": {"backbone": str(backbone)}, "task": {"dataset": {"path": str(rows)}}}

    return make_files


@pytest.fixture
def files(make_files: Callable[[Path], dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    return make_files(tmp_path / "files")


@pytest.fixture(scope="session")
def with_fields() -> Callable[..., dict[str, Any]]:
    def with_fields(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A copy of a trial's data with some fields set (dots written as __)."""
        data = json.loads(json.dumps(data))
        for name, value in changes.items():
            *parents, last = name.split("__")
            node = data
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        return data

    return with_fields


@pytest.fixture(scope="session")
def key(with_fields: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """key(data, **changes): the key of a trial."""
    return lambda data, **changes: TrialSpec.model_validate(with_fields(data, **changes)).key
