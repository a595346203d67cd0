"""A sweep on object storage: the matrix of a folder, through an outage, on machines that share nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import raymc
from raymc.store import layout
from raymc.store.store import Store

SPEC = """\
name: small
model:
  backbone:
    {builtin: grammar-bert, steps: 6, batch_size: 8, rows: 60, hidden_size: 16, heads: 2, intermediate_size: 32}
task:
  dataset: {builtin: grammar, train_rows: 60, validation_rows: 30, test_rows: 30}
  max_length: 32
train: {steps: 6, batch_size: 8, learning_rate: 1e-3, dropout: 0.1}
axes: {seeds.order: [1, 2, 3]}
connectivity: {points: 3, splits: [validation]}
failure: {checkpoint_every: 2}
tracking: {enabled: false}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    (tmp_path / "small.yaml").write_text(SPEC)
    return raymc.load_spec(tmp_path / "small.yaml")


@pytest.fixture
def cluster(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray whose workers have another cache than this process: as if they were on another machine."""
    import ray

    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "workers"))
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "driver"))
    yield
    ray.shutdown()


def test_a_sweep_on_object_storage(spec, s3, cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri = "s3://bucket/sweeps"
    outage = threading.Thread(target=away, args=(s3, Store(uri), 4.0))
    outage.start()
    remote = raymc.run(spec, storage=uri)
    outage.join()
    local = raymc.run(spec, storage=str(tmp_path / "folder"))
    for one in (remote, local):
        assert one.result["minima"] == {"total": 3, "computed": 3, "reused": 0, "failed": 0}
        assert one.result["pairs"] == {"total": 3, "computed": 3, "reused": 0, "failed": 0}
    pd.testing.assert_frame_equal(remote.profiles(), local.profiles(), check_exact=True)
    pd.testing.assert_frame_equal(remote.barriers(), local.barriers(), check_exact=True)

    storage = Store(uri)
    assert not storage.objects.list(layout.CHECKPOINTS)
    assert not storage.objects.list(layout.SET_ASIDE)
    assert not list((storage.root / layout.MINIMA).glob("*/*.safetensors"))  # the driver had no need of weights

    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "third"))
    again = raymc.run(spec, storage=uri)
    assert again.result["minima"] == {"total": 3, "computed": 0, "reused": 3, "failed": 0}
    assert again.result["pairs"] == {"total": 3, "computed": 0, "reused": 3, "failed": 0}
    opened = raymc.open_sweep("small", storage=uri)
    pd.testing.assert_frame_equal(opened.profiles(), local.profiles(), check_exact=True)


def away(s3: Any, store: Store, seconds: float) -> None:
    """Stop the server for so long as soon as a first minimum is there."""
    limit = time.monotonic() + 120
    while not store.objects.list(f"{layout.MANIFESTS}/{layout.MINIMA}") and time.monotonic() < limit:
        time.sleep(0.1)
    s3.stop()
    time.sleep(seconds)
    s3.start()
