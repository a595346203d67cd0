"""The defaults of a trial, pinned: a field at its default is no part of a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from raymc.specs.base import Spec
from raymc.specs.load import _models
from raymc.specs.trial import TrialSpec

DEFAULTS = {
    "model": "required",
    "model.backbone": "required",
    "model.backbone.builtin": "required",
    "model.backbone.seed": 1,
    "model.backbone.steps": 1200,
    "model.backbone.batch_size": 32,
    "model.backbone.learning_rate": 0.003,
    "model.backbone.warmup": 0.1,
    "model.backbone.rows": 8000,
    "model.backbone.domain": "all",
    "model.backbone.dropout": 0.0,
    "model.backbone.mask_probability": 0.3,
    "model.backbone.init_std": 0.08,
    "model.backbone.hidden_size": 64,
    "model.backbone.layers": 2,
    "model.backbone.heads": 4,
    "model.backbone.intermediate_size": 128,
    "model.revision": None,
    "model.head": "new",
    "model.trust_remote_code": False,
    "task": "required",
    "task.kind": "classification",
    "task.dataset": "required",
    "task.dataset[LocalDataset].path": "required",
    "task.dataset[LocalDataset].splits": {},
    "task.dataset[HubDataset].hub": "required",
    "task.dataset[HubDataset].subset": None,
    "task.dataset[HubDataset].revision": None,
    "task.dataset[GrammarDataset].builtin": "required",
    "task.dataset[GrammarDataset].domain": "village",
    "task.dataset[GrammarDataset].seed": 0,
    "task.dataset[GrammarDataset].train_rows": 2000,
    "task.dataset[GrammarDataset].train_start": 0,
    "task.dataset[GrammarDataset].validation_rows": 500,
    "task.dataset[GrammarDataset].test_rows": 500,
    "task.dataset[GrammarDataset].label_noise": 0.0,
    "task.text": "text",
    "task.text_pair": None,
    "task.label": "label",
    "task.labels": None,
    "task.train_split": "train",
    "task.max_length": 128,
    "tuning": {"method": "full"},
    "tuning[FullTuning].method": "required",
    "tuning[LoraTuning].method": "required",
    "tuning[LoraTuning].rank": 8,
    "tuning[LoraTuning].alpha": 16.0,
    "tuning[LoraTuning].dropout": 0.0,
    "tuning[LoraTuning].targets": [],
    "tuning[LoraTuning].rslora": False,
    "train": {},
    "train.steps": None,
    "train.epochs": 3.0,
    "train.batch_size": 32,
    "train.learning_rate": 5e-05,
    "train.schedule": "linear",
    "train.warmup": 0.06,
    "train.weight_decay": 0.01,
    "train.betas": [0.9, 0.999],
    "train.clip_norm": 1.0,
    "train.dropout": None,
    "train.precision": "fp32",
    "seeds": {},
    "seeds.init": 0,
    "seeds.head": 0,
    "seeds.order": 0,
    "seeds.dropout": 0,
}


def test_defaults_are_pinned():
    found = dict(defaults(TrialSpec))
    gone = {name: (DEFAULTS.get(name), found.get(name)) for name in DEFAULTS if found.get(name) != DEFAULTS[name]}
    assert not gone, (
        f"Defaults (was, is): {gone}. A field at its default is no part of a key, so a changed default changes what "
        "finished minima's keys mean: bump MINIMUM_VERSION (of model.backbone BACKBONE_VERSION, of task "
        "EVALUATION_VERSION as well) in raymc/specs/keys.py, and pin the new default here."
    )
    assert found == DEFAULTS, "A new field: its default must mean what was done before it; if so, pin it here."


def defaults(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field below a spec with its default as JSON, by dotted name with the variant of a union in brackets."""
    for name, info in model.model_fields.items():
        default = ... if info.is_required() else info.get_default(call_default_factory=True)
        yield prefix + name, "required" if default is ... else plain(default)
        inner = _models(info.annotation)
        for variant in inner:
            named = f"{prefix}{name}[{variant.__name__}]" if len(inner) > 1 else prefix + name
            yield from defaults(variant, f"{named}.")


def plain(value: Any) -> Any:
    return (
        value.model_dump(mode="json", exclude_defaults=True)
        if isinstance(value, Spec)
        else json.loads(json.dumps(value))
    )
