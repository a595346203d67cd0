"""The bare loops train what a sweep trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from raymc.specs.errors import RaymcError
from raymc.store import layout
from raymc.training import bare
from raymc.training.finetune import finetune, prepared
from raymc.training.parallel import Group


class Barrier:
    def __init__(self) -> None:
        self.said: list[str] = []

    def wait(self) -> None:
        self.said.append("wait")

    def abort(self) -> None:
        self.said.append("abort")


@pytest.fixture
def barrier(store) -> Barrier:
    """This process, as one of the pool's."""
    found = Barrier()
    bare._begin(found, store.uri, torch.get_num_threads(), "cpu")
    return found


@pytest.mark.parametrize("snapshot", [None, 3])
def test_a_bare_loop_reaches_the_weights_of_a_minimum(trial, store, barrier, monkeypatch, snapshot: int | None):
    spec = trial(train={"batch_size": 20, "dropout": 0.0, "warmup": 0.4, "snapshot": snapshot})
    models: list[Any] = []

    def kept(*arguments: Any) -> Any:
        models.append(prepared(*arguments))
        return models[-1]

    monkeypatch.setattr(bare, "prepared", kept)
    body = spec.model_dump_json()
    bare._ready([body])
    seconds = bare._loop(body)
    assert barrier.said == ["wait"]
    assert seconds > 0
    finetune([spec], store, Group(), checkpoint_every=0, log_every=1, report=lambda _: None)
    weights = load_file(store.folder(layout.MINIMA, spec.key) / "model.safetensors")
    state = models[0].state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_a_process_that_fails_holds_up_no_other(trial, barrier, tmp_path):
    body = trial(task={"dataset": {"path": str(tmp_path / "none")}}).model_dump_json()
    with pytest.raises(RaymcError, match="no file or folder"):
        bare._ready([body])
    assert barrier.said == ["abort"]
