"""Several workers through Ray Train give the minimum that one gives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

COMMON = [
    *("--set", "axes={seeds.order: [1]}", "--set", "train.dropout=0.0"),
    *("--set", "tracking.enabled=false", "--json"),
]


def loss(storage: Path) -> float:
    return pd.read_parquet(storage / "sweeps" / "tiny" / "minima.parquet")["validation_loss"][0]


@pytest.fixture(scope="module")
def alone(raymc, tiny, tmp_path_factory) -> float:
    storage = tmp_path_factory.mktemp("alone")
    done = raymc("run", tiny, "--storage", storage, *COMMON)
    assert done.code == 0, done.err
    return loss(storage)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_workers_and_one_give_the_same_minimum(raymc, tiny, tmp_path, strategy, alone):
    done = raymc(
        *("run", tiny, "--storage", tmp_path, *COMMON),
        *("--set", "resources.trial.workers=2", "--set", f"resources.trial.strategy={strategy}"),
    )
    assert done.code == 0, done.err
    assert loss(tmp_path) == pytest.approx(alone, abs=1e-5)
