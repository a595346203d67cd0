"""The defaults of a trial, pinned: a field at its default is no part of a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from raymc.specs.base import Spec
from raymc.specs.curves import (
    AlignedCurve,
    AutoNebCurve,
    BezierCurve,
    FitSpec,
    GatesCurve,
    LinearCurve,
    PolygonalCurve,
    SphericalCurve,
)
from raymc.specs.fields import models_in
from raymc.specs.trial import TrialSpec

DEFAULTS = {
    "model": "required",
    "model.kind": "classifier",
    "model.backbone": "required",
    "model.backbone[GrammarBackbone].builtin": "required",
    "model.backbone[GrammarBackbone].seed": 1,
    "model.backbone[GrammarBackbone].steps": 1200,
    "model.backbone[GrammarBackbone].batch_size": 32,
    "model.backbone[GrammarBackbone].learning_rate": 0.003,
    "model.backbone[GrammarBackbone].warmup": 0.1,
    "model.backbone[GrammarBackbone].rows": 8000,
    "model.backbone[GrammarBackbone].domain": "all",
    "model.backbone[GrammarBackbone].dropout": 0.0,
    "model.backbone[GrammarBackbone].mask_probability": 0.3,
    "model.backbone[GrammarBackbone].init_std": 0.08,
    "model.backbone[GrammarBackbone].hidden_size": 64,
    "model.backbone[GrammarBackbone].layers": 2,
    "model.backbone[GrammarBackbone].heads": 4,
    "model.backbone[GrammarBackbone].intermediate_size": 128,
    "model.backbone[TextBackbone].pretrain": "required",
    "model.backbone[TextBackbone].text": "required",
    "model.backbone[TextBackbone].text[TextFiles].path": "required",
    "model.backbone[TextBackbone].text[TextFiles].splits": {},
    "model.backbone[TextBackbone].text[HubText].hub": "required",
    "model.backbone[TextBackbone].text[HubText].subset": None,
    "model.backbone[TextBackbone].text[HubText].revision": None,
    "model.backbone[TextBackbone].text[HubText].column": "text",
    "model.backbone[TextBackbone].tokenizer": None,
    "model.backbone[TextBackbone].tokenizer.kind": "wordpiece",
    "model.backbone[TextBackbone].tokenizer.vocab_size": 8000,
    "model.backbone[TextBackbone].tokenizer.lowercase": True,
    "model.backbone[TextBackbone].architecture": {},
    "model.backbone[TextBackbone].start": None,
    "model.backbone[TextBackbone].seed": 1,
    "model.backbone[TextBackbone].steps": 2000,
    "model.backbone[TextBackbone].snapshot": None,
    "model.backbone[TextBackbone].batch_size": 32,
    "model.backbone[TextBackbone].max_length": 128,
    "model.backbone[TextBackbone].learning_rate": 0.001,
    "model.backbone[TextBackbone].schedule": "linear",
    "model.backbone[TextBackbone].warmup": 0.06,
    "model.backbone[TextBackbone].weight_decay": 0.01,
    "model.backbone[TextBackbone].clip_norm": 1.0,
    "model.backbone[TextBackbone].dropout": None,
    "model.backbone[TextBackbone].corruption": 0.15,
    "model.backbone[TextBackbone].span_length": 3.0,
    "model.backbone[TextBackbone].validation_rows": 200,
    "model.revision": None,
    "model.head": "new",
    "model.head_std": None,
    "model.perturbation": None,
    "model.perturbation.scale": "required",
    "model.perturbation.seed": 0,
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
    "task.rename": {},
    "task.prompt": None,
    "task.targets": {},
    "task.train_split": "train",
    "task.subset": None,
    "task.subset.rows": "required",
    "task.subset.seed": 0,
    "task.subset.overlap": 1.0,
    "task.label_noise": 0.0,
    "task.noise_seed": 0,
    "task.max_length": 128,
    "tuning": {"method": "full"},
    "tuning[FullTuning].method": "required",
    "tuning[LoraTuning].method": "required",
    "tuning[LoraTuning].rank": 8,
    "tuning[LoraTuning].alpha": 16.0,
    "tuning[LoraTuning].dropout": 0.0,
    "tuning[LoraTuning].targets": [],
    "tuning[LoraTuning].rslora": False,
    "tuning[HoulsbyTuning].method": "required",
    "tuning[HoulsbyTuning].bottleneck": 64,
    "tuning[HoulsbyTuning].activation": "gelu",
    "tuning[HoulsbyTuning].bias": False,
    "tuning[HoulsbyTuning].init_std": 0.02,
    "tuning[HoulsbyTuning].up_std": None,
    "tuning[HoulsbyTuning].targets": [],
    "tuning[PrefixTuning].method": "required",
    "tuning[PrefixTuning].tokens": 20,
    "tuning[PromptTuning].method": "required",
    "tuning[PromptTuning].tokens": 20,
    "tuning[Ia3Tuning].method": "required",
    "tuning[Ia3Tuning].targets": [],
    "tuning[Ia3Tuning].feedforward": [],
    "tuning[BitfitTuning].method": "required",
    "tuning[PeftTuning].method": "required",
    "tuning[PeftTuning].type": "required",
    "tuning[PeftTuning].config": {},
    "tuning[ExistingTuning].method": "required",
    "tuning[ExistingTuning].base": None,
    "train": {},
    "train.steps": None,
    "train.epochs": 3.0,
    "train.snapshot": None,
    "train.batch_size": 32,
    "train.optimizer": "adamw",
    "train.learning_rate": 5e-05,
    "train.schedule": "linear",
    "train.warmup": 0.06,
    "train.weight_decay": 0.01,
    "train.betas": [0.9, 0.999],
    "train.momentum": 0.9,
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


# Of curves: FitSpec's once, as all that are fitted share it.
CURVES = {
    LinearCurve: {"moves": [], "layers": [], "rest": "a"},
    SphericalCurve: {"moves": [], "layers": [], "rest": "a"},
    AlignedCurve: {"permute": ["heads", "neurons"]},
    BezierCurve: {"bends": 1, "fit": {}},
    PolygonalCurve: {"bends": 1, "fit": {}},
    GatesCurve: {"groups": "block", "fit": {}},
    AutoNebCurve: {"pivots": 1, "cycles": 3, "insert": 2, "threshold": 0.1, "fit": {}},
    FitSpec: {
        "steps": 300,
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": None,
        "schedule": "linear",
        "warmup": 0.1,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "t": "uniform",
        "draws": 1,
        "dropout": True,
        "seed": 0,
        "task": None,
        "select": None,
        "select_every": 50,
        "select_at": [0.25, 0.5, 0.75],
    },
}


@pytest.mark.parametrize("kind", CURVES)
def test_defaults_of_curves_are_pinned(kind: type[BaseModel]):
    found = {
        name: value for name, value in defaults(kind) if "." not in name and name not in ("curve", "name", "space")
    }
    assert found == CURVES[kind], (
        "A field at its default is no part of a key: bump CURVE_VERSION and PROFILE_VERSION in raymc/specs/keys.py "
        "where a default changed on purpose; a new field's default must mean what was done before it."
    )


def defaults(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field below a spec with its default as JSON, by dotted name with the variant of a union in brackets."""
    for name, info in model.model_fields.items():
        default = ... if info.is_required() else info.get_default(call_default_factory=True)
        yield prefix + name, "required" if default is ... else plain(default)
        inner = models_in(info.annotation)
        for variant in inner:
            named = f"{prefix}{name}[{variant.__name__}]" if len(inner) > 1 else prefix + name
            yield from defaults(variant, f"{named}.")


def plain(value: Any) -> Any:
    return (
        value.model_dump(mode="json", exclude_defaults=True)
        if isinstance(value, Spec)
        else json.loads(json.dumps(value))
    )
