"""A training on object storage that is killed on one machine goes on from its checkpoint on another, bit for bit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from raymc.store import layout
from raymc.store.store import Store
from raymc.training.finetune import finetune
from raymc.training.parallel import Group

URI = "s3://bucket/machines"


class Killed(Exception):
    pass


def train(trial: Any, store: Store, stop: int = 0) -> list[int]:
    """Train to the end, or be killed in the report of step `stop`; the steps that were reported."""
    steps: list[int] = []

    def report(point: dict[str, float]) -> None:
        steps.append(int(point["step"]))
        if point["step"] == stop:
            raise Killed

    finetune([trial], store, Group(), checkpoint_every=1, log_every=1, report=report)
    return steps


def test_a_training_goes_on_on_another_machine_after_an_outage(
    trial, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = trial("bert", train={"dropout": 0.2})
    undisturbed = Store(tmp_path / "folder")
    last = train(spec, undisturbed)[-1]
    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "first"))
    with pytest.raises(Killed):
        train(spec, Store(URI), stop=3)
    assert Store(URI).below(layout.CHECKPOINTS, spec.key) == ["step-000000002"]

    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "second"))
    s3.stop()
    back = threading.Timer(0.5, s3.start)
    back.start()
    try:
        assert train(spec, Store(URI)) == list(range(3, last + 1))
    finally:
        back.join()

    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / "third"))
    store = Store(URI)
    assert train(spec, store) == []  # it is whole
    weights, expected = (
        load_file(one.folder(layout.MINIMA, spec.key) / "model.safetensors") for one in (store, undisturbed)
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert store.weights_digest(layout.MINIMA, spec.key) == undisturbed.weights_digest(layout.MINIMA, spec.key)
    assert store.objects.list(layout.CHECKPOINTS) == []
