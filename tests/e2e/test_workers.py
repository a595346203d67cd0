"""Several workers through Ray Train give the minimum that one gives."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_workers_and_one_give_the_same_minimum(raymc, spec, tmp_path, strategy):
    common = ["--set", "axes={seeds.order: [1]}", "--set", "train.dropout=0.0", "--json"]
    one = raymc("run", spec, "--storage", tmp_path / "one", *common)
    two = raymc(
        *("run", spec, "--storage", tmp_path / "two", *common),
        *("--set", "resources.trial.workers=2", "--set", f"resources.trial.strategy={strategy}"),
    )
    assert (one.code, two.code) == (0, 0), one.err + two.err
    losses = [
        pd.read_parquet(tmp_path / name / "sweeps" / "tiny" / "minima.parquet")["validation_loss"][0]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
