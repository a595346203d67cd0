"""Several workers through Ray Train give the backbone and the minimum that one gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import raymc as library
from raymc.store.store import Store
from raymc.tasks.grammar import corpus

BACKBONE = (
    "{pretrain: masked, text: {path: TEXT}, tokenizer: {vocab_size: 300}, steps: 6, batch_size: 8, max_length: 32, "
    "architecture: {model_type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 32}, dropout: 0.0, validation_rows: 20}"
)
COMMON = [
    *("--set", "axes={seeds.order: [1]}", "--set", "train.dropout=0.0"),
    *("--set", "tracking.enabled=false", "--set", "resources.evaluator.actors=1", "--json"),
]


@pytest.fixture(scope="module")
def common(tmp_path_factory) -> list[str]:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("\n".join(corpus(300)))
    return [*COMMON, "--set", f"model.backbone={BACKBONE.replace('TEXT', str(text))}"]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory, common, on_one_thread) -> Path:
    """The storage of the backbone and the minimum as this process trains them."""
    from raymc.training.finetune import finetune
    from raymc.training.parallel import Group
    from raymc.training.pretrain import pretrain

    spec = library.load_spec(tiny, [part for part in common if "=" in part])
    options: dict[str, Any] = {"checkpoint_every": 0, "log_every": 2, "report": lambda point: None}
    store, trial = Store(tmp_path_factory.mktemp("alone")), spec.points[0].trial
    pretrain([trial.model.backbone], store, Group(), **options)
    finetune([trial], store, Group(), **options)
    return store.root


def weights(storage: Path, kind: str) -> dict[str, Any]:
    (path,) = (storage / kind).glob("*/model.safetensors")
    return load_file(path)


def test_two_workers_and_one_give_the_same_minimum(raymc, tiny, tmp_path, alone, common):
    """By FSDP, which takes all that DDP takes and more; DDP on two workers: tests/training."""
    done = raymc(
        *("run", tiny, "--storage", tmp_path, *common),
        *("--set", "resources.trial.workers=2", "--set", "resources.trial.strategy=fsdp"),
        all_cpus=True,
    )
    assert done.code == 0, done.err
    for kind in ("backbones", "minima"):
        one, two = weights(alone, kind), weights(tmp_path, kind)
        assert one.keys() == two.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda said, name=name: name + said)
