"""Pre-training with snapshots, trajectories, tuning methods, several tasks and existing minima, on a real local Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raymc.tasks.grammar import corpus

TASK = "{builtin: grammar, domain: DOMAIN, train_rows: 120, validation_rows: 40, test_rows: 40}"
SPEC = """\
name: wide
model:
  backbone:
    pretrain: masked
    text: {path: TEXT}
    tokenizer: {vocab_size: 300}
    architecture:
      {model_type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32}
    steps: 12
    batch_size: 8
    max_length: 32
    validation_rows: 20
task: {dataset: VILLAGE, max_length: 32}
train: {steps: 6, batch_size: 16, learning_rate: 1e-3}
axes:
  seeds.order: [1, 2]
  train.snapshot: [3, 6]
zip:
  - model.backbone.snapshot: [0, 12, 12]
    tuning: [{method: full}, {method: full}, {method: houlsby, bottleneck: 4}]
connectivity:
  points: 5
  pairs: {differ: [model.backbone.snapshot, seeds.order, train.snapshot]}
  tasks:
    village: {dataset: VILLAGE, max_length: 32}
    sea: {dataset: SEA, max_length: 32, splits: [test]}
tracking: {enabled: false}
"""


def table(storage: Path, sweep: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(storage / "sweeps" / sweep / f"{name}.parquet")


def spec_file(folder: Path, text: str = SPEC) -> Path:
    (folder / "text.txt").write_text("\n".join(corpus(300)))
    text = text.replace("TEXT", str(folder / "text.txt"))
    text = text.replace("VILLAGE", TASK.replace("DOMAIN", "village")).replace("SEA", TASK.replace("DOMAIN", "sea"))
    (folder / "wide.yaml").write_text(text)
    return folder / "wide.yaml"


@pytest.fixture(scope="module")
def wide(raymc, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("wide")
    done = raymc("run", spec_file(folder), "--storage", folder / "store", "--json")
    assert done.code == 0, done.err
    return folder / "store", done.json


def test_one_run_gives_all_snapshots(wide):
    storage, result = wide
    assert result["minima"] == {"total": 12, "computed": 12, "reused": 0, "failed": 0}
    minima = table(storage, "wide", "minima").set_index("key")
    assert minima["trajectory"].nunique() == 6
    for _, snapshots in minima.groupby("trajectory"):
        assert sorted(snapshots["train.snapshot"]) == [3, 6]
    steps = {key: json.loads((storage / "minima" / key / "minimum.json").read_text())["steps"] for key in minima.index}
    assert steps == minima["train.snapshot"].to_dict()
    assert not list((storage / "checkpoints").glob("*"))


def test_each_snapshot_of_pretraining_is_a_backbone_with_its_perplexity(wide):
    found = [json.loads(path.read_text()) for path in (wide[0] / "backbones").glob("*/backbone.json")]
    assert len(found) == 2
    random, trained = sorted((body["validation"]["perplexity"] for body in found), reverse=True)
    assert 200 < random < 500  # 300 words, none known
    assert trained < random


def test_pairs_differ_in_one_named_factor_and_snapshots_of_one_run_are_left_out(wide):
    barriers = table(wide[0], "wide", "barriers")
    counts = barriers.groupby(["split", "space", "differs"]).size().to_dict()
    assert counts == {
        (split, space, differs): count
        for split in ("village.validation", "sea.test")
        for space, differs, count in (
            ("weights", "model.backbone.snapshot", 4),
            ("weights", "seeds.order", 4),
            ("factors", "seeds.order", 2),
        )
    }


def test_a_sweep_of_existing_minima_scores_them_as_they_are(wide, raymc, tmp_path):
    """Two Hugging Face folders beside a trained minimum; the copies' scores are the originals', bit for bit."""
    storage, _ = wide
    minima = table(storage, "wide", "minima").set_index("key")
    whole = [key for key in minima.index if (storage / "minima" / key / "config.json").is_file()]
    text = SPEC.replace("name: wide", "name: taken")
    axes_start, axes_end = text.index("axes:"), text.index("connectivity:")
    named = "".join(f"  - {{name: copy-{key}, uri: {storage / 'minima' / key}}}\n" for key in whole[:2])
    text = text[:axes_start] + "axes: {train.snapshot: [3]}\nminima:\n" + named + text[axes_end:]
    text = text.replace("pairs: {differ: [model.backbone.snapshot, seeds.order, train.snapshot]}", "pairs: all")
    done = raymc("run", spec_file(tmp_path, text), "--storage", storage, "--json")
    assert done.code == 0, done.err
    taken = table(storage, "taken", "minima").set_index("name")
    for key in whole[:2]:
        for column in ("village.validation_loss", "sea.test_loss", "village.validation_accuracy"):
            assert taken.loc[f"copy-{key}", column] == minima.loc[key, column]
    assert set(table(storage, "taken", "barriers")["differs"]) == {"existing"}
    assert done.json["pairs"]["total"] == 3
