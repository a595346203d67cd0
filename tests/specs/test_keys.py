"""Keys: pinned, independent of where and how things are written, and changed by everything that decides a minimum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from raymc.specs import content, keys
from raymc.specs.base import Spec
from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone, ModelSpec
from raymc.specs.results import EvaluationSpec, space_of
from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.sweep import SweepSpec
from raymc.specs.task import GRAMMAR_VERSION, HubDataset, LocalDataset, TaskSpec
from raymc.specs.trial import TrialSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GRAMMAR = {"model": {"backbone": {"builtin": "grammar-bert"}}, "task": {"dataset": {"builtin": "grammar"}}}
HUB = {
    "model": {"backbone": "owner/name", "revision": COMMIT},
    "task": {"dataset": {"hub": "owner/rows", "revision": COMMIT}},
}


def make_files(folder: Path) -> dict[str, Any]:
    """A backbone and a dataset on disk, always of the same content, and a trial that uses them."""
    backbone, rows = folder / "backbone", folder / "rows"
    backbone.mkdir(parents=True)
    rows.mkdir()
    (backbone / "config.json").write_text('{"model_type": "bert"}')
    (backbone / "model.safetensors").write_bytes(b"weights")
    (backbone / "vocab.txt").write_text("[UNK]\ngood\nbad\n")
    for split in ("train", "validation", "test"):
        (rows / f"{split}.jsonl").write_text(f'{{"text": "{split}", "label": "a"}}\n')
    return {"model": {"backbone": str(backbone)}, "task": {"dataset": {"path": str(rows)}}}


def key(data: dict[str, Any], **changes: Any) -> str:
    """The key of a trial with some fields (dots as __) set."""
    data = json.loads(json.dumps(data))
    for name, value in changes.items():
        *parents, last = name.split("__")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return TrialSpec.model_validate(data).key


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return make_files(tmp_path / "files")


# Golden ------------------------------------------------------------------------------------------------------------

BUMP = (
    "Keys of finished minima changed: users would compute everything again, or old minima would be taken for new ones. "
    "Where a default or the meaning of a field changed on purpose, bump {version} in raymc/specs/{module}.py and pin "
    "the new values here; otherwise undo the change."
)

GOLDEN = {
    "defaults": "",
    "lora": "",
    "training": "",
    "backbone": "",
    "dataset": "",
    "hub": "",
    "files": "",
    "files, lora": "",
}


def golden_trials(files: dict[str, Any]) -> dict[str, TrialSpec]:
    lora = {"tuning": {"method": "lora", "rank": 4, "targets": ["query", "value"]}}
    trials = {
        "defaults": GRAMMAR,
        "lora": {**GRAMMAR, **lora, "seeds": {"init": 1, "head": 2, "order": 3, "dropout": 4}},
        "training": {**GRAMMAR, "train": {"steps": 10, "learning_rate": 1e-3, "clip_norm": None, "betas": [0.8, 0.9]}},
        "backbone": {**GRAMMAR, "model": {"backbone": {"builtin": "grammar-bert", "seed": 2}, "head": "backbone"}},
        "dataset": {**GRAMMAR, "task": {"dataset": {"builtin": "grammar", "label_noise": 0.1}, "labels": ["é", "b"]}},
        "hub": HUB,
        "files": files,
        "files, lora": {**files, **lora},
    }
    return {name: TrialSpec.model_validate(data) for name, data in trials.items()}


def test_golden_keys(files: dict[str, Any]):
    found = {name: trial.key for name, trial in golden_trials(files).items()}
    assert found == GOLDEN, BUMP.format(version="MINIMUM_VERSION", module="keys")


def test_golden_content(files: dict[str, Any]):
    """What is hashed, in full, so that a changed key can be explained."""
    trial = golden_trials(files)["files, lora"]
    assert trial.content == {
        "kind": "minimum",
        "version": keys.MINIMUM_VERSION,
        "model": {},
        "task": {},
        "tuning": {"method": "lora", "rank": 4, "targets": ["query", "value"]},
        "backbone": {
            "files": {
                "config.json": "75ee96ac0abde3fad70ae1ef8cbdd5e0a99dd1e2d5f5d4cbb0d5ab2f9b9ffa5c",
                "model.safetensors": "",
                "vocab.txt": "",
            }
        },
        "rows": {"sha256": "", "format": ".jsonl"},
    }


def test_golden_keys_of_what_is_made_on_the_way():
    evaluation = EvaluationSpec(
        task=TaskSpec.model_validate({"dataset": {"builtin": "grammar"}}),
        labels=("friendly", "hostile"),
        split="validation",
        space="weights",
        precision="fp32",
    )
    found = {
        "BACKBONE_VERSION": backbone_key(GrammarBackbone(builtin="grammar-bert")),
        "EVALUATION_VERSION": evaluation.key(),
        "PROFILE_VERSION": evaluation.profile_key("linear", 26),
    }
    golden = {
        "BACKBONE_VERSION": "",
        "EVALUATION_VERSION": "",
        "PROFILE_VERSION": "",
    }
    for version, value in found.items():
        assert value == golden[version], BUMP.format(version=version, module="keys")


DEFAULTS = {}


def test_defaults_are_pinned():
    found = {name: default for name, default in defaults(TrialSpec) if name.partition(".")[2]}
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
        inner = list(models(info.annotation))
        for variant in inner:
            named = f"{prefix}{name}[{variant.__name__}]" if len(inner) > 1 else prefix + name
            yield from defaults(variant, f"{named}.")


def plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Spec) else json.loads(json.dumps(value))


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType, tuple, dict):
        for part in get_args(annotation):
            yield from models(part)


# Not in the key ----------------------------------------------------------------------------------------------------


def test_keys_do_not_depend_on_where_files_lie(tmp_path: Path, files: dict[str, Any]):
    assert key(files) == key(make_files(tmp_path / "another" / "place"))


def test_keys_do_not_depend_on_the_order_of_fields(files: dict[str, Any]):
    data = {**files, "tuning": {"method": "lora", "rank": 4, "alpha": 8.0}, "train": {"steps": 5, "warmup": 0.0}}
    turned = {name: dict(reversed(section.items())) for name, section in reversed(data.items())}
    assert key(data) == key(turned)


def test_keys_do_not_depend_on_defaults_being_written_out(files: dict[str, Any]):
    for data in (GRAMMAR, HUB, files, {**GRAMMAR, "tuning": {"method": "lora"}}):
        trial = TrialSpec.model_validate(data)
        written = trial.model_dump(mode="json")
        assert TrialSpec.model_validate(written).key == trial.key
        assert TrialSpec.model_validate_json(json.dumps(written)) == trial


def test_keys_do_not_depend_on_the_spelling_of_numbers():
    assert key(GRAMMAR, train__epochs=2) == key(GRAMMAR, train__epochs=2.0)
    assert key(GRAMMAR, train__learning_rate=1e-4) == key(GRAMMAR, train__learning_rate=0.0001)


def test_keys_do_not_depend_on_the_rest_of_a_sweep():
    base = SweepSpec.model_validate({"name": "x", **GRAMMAR}).points[0].trial.key
    for section, value in {
        "name": "other",
        "description": "other",
        "connectivity": {"points": 5, "precision": "bf16"},
        "resources": {"trial": {"workers": 2, "cpus": 2}, "evaluator": {"token_budget": 64}},
        "failure": {"trial_retries": 0, "checkpoint_every": 1},
        "tracking": {"enabled": False},
        "storage": "/elsewhere",
    }.items():
        assert SweepSpec.model_validate({"name": "x", **GRAMMAR, section: value}).points[0].trial.key == base
    on_an_axis = SweepSpec.model_validate({"name": "x", **GRAMMAR, "axes": {"seeds.order": [0, 1]}})
    assert on_an_axis.points[0].trial.key == base


def test_keys_are_the_same_in_another_process(tmp_path: Path, files: dict[str, Any]):
    script = (
        "import json, sys\nfrom raymc.specs.trial import TrialSpec\n"
        "for data in json.load(sys.stdin): print(TrialSpec.model_validate(data).key)"
    )
    trials = golden_trials(files)
    given = json.dumps([trial.model_dump(mode="json") for trial in trials.values()])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, input=given, capture_output=True, text=True, check=True, env=environment)
        assert result.stdout.split() == [trial.key for trial in trials.values()]


# In the key --------------------------------------------------------------------------------------------------------

LORA = {**GRAMMAR, "tuning": {"method": "lora"}}
# Fields whose change alone doesn't change a minimum.
OUTSIDE = {
    "model.revision": "of a backbone that is no hub's",
    "task.dataset[LocalDataset].path": "the rows count, not where they lie",
    "task.dataset[LocalDataset].splits": "the rows count, not what their file is called",
    "task.dataset[GrammarDataset].validation_rows": "evaluated on, not trained on",
    "task.dataset[GrammarDataset].test_rows": "evaluated on, not trained on",
}
SPECIAL = {
    "task.train_split": ["validation"],
    "task.dataset[HubDataset].revision": [COMMIT[::-1]],
    "task.dataset[HubDataset].hub": ["owner/other"],
    "model.backbone.hidden_size": [128],
    "model.backbone.heads": [2],
}
CANDIDATES = [1, 2, 7, 0.5, 0.25, True, False, "other", ["x", "y"], [0.5, 0.6]]


def leaves(model: type[BaseModel], prefix: str = "", data: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field below a spec that has no fields: its name with variants, its name in the data, its annotation."""
    for name, info in model.model_fields.items():
        inner = list(models(info.annotation))
        for variant in inner:
            named = f"{name}[{variant.__name__}]" if len(inner) > 1 else name
            yield from leaves(variant, f"{prefix}{named}.", f"{data}{name}__")
        if not inner:
            yield prefix + name, data + name, info.annotation


LEAVES = {name: (data, annotation) for name, data, annotation in leaves(TrialSpec)}


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals(part)]


def changed(name: str, base: dict[str, Any]) -> Iterator[str]:
    """Keys of valid trials that differ from the base in this field alone."""
    field, annotation = LEAVES[name]
    original = TrialSpec.model_validate(base)
    for value in SPECIAL.get(name) or [*literals(annotation), *CANDIDATES]:
        try:
            found = key(base, **{field: value})
        except ValidationError:
            continue
        if TrialSpec.model_validate(with_field(base, field, value)) != original:
            yield found
    if NoneType in get_args(annotation):
        yield key(base, **{field: None})


@pytest.mark.parametrize("name", LEAVES)
def test_every_field_of_a_trial_changes_its_key(name: str, files: dict[str, Any]):
    pass
