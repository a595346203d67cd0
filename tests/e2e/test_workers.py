"""Several workers through Ray Train give the backbone and the minimum that one gives."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

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


def loss(storage: Path) -> float:
    return pd.read_parquet(storage / "sweeps" / "tiny" / "minima.parquet")["validation_loss"][0]


def perplexity(storage: Path) -> float:
    (path,) = (storage / "backbones").glob("*/backbone.json")
    return json.loads(path.read_text())["validation"]["perplexity"]


@pytest.fixture(scope="module")
def common(tmp_path_factory) -> list[str]:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("\n".join(corpus(300)))
    return [*COMMON, "--set", f"model.backbone={BACKBONE.replace('TEXT', str(text))}"]


@pytest.fixture(scope="module")
def alone(raymc, tiny, tmp_path_factory, common) -> tuple[float, float]:
    storage = tmp_path_factory.mktemp("alone")
    done = raymc("run", tiny, "--storage", storage, *common)
    assert done.code == 0, done.err
    return loss(storage), perplexity(storage)


def test_two_workers_and_one_give_the_same_minimum(raymc, tiny, tmp_path, alone, common):
    """By FSDP, which takes all that DDP takes and more; DDP on two workers: tests/training."""
    done = raymc(
        *("run", tiny, "--storage", tmp_path, *common),
        *("--set", "resources.trial.workers=2", "--set", "resources.trial.strategy=fsdp"),
        all_cpus=True,
    )
    assert done.code == 0, done.err
    assert loss(tmp_path) == pytest.approx(alone[0], abs=1e-5)
    assert perplexity(tmp_path) == pytest.approx(alone[1], rel=1e-4)
