"""Keys: pinned, independent of where and how things are written, and changed by everything that decides a minimum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from raymc.specs import keys
from raymc.specs.content import backbone_key
from raymc.specs.curves import BezierCurve, LinearCurve
from raymc.specs.fields import models_in
from raymc.specs.fitting import Fitting
from raymc.specs.model import GrammarBackbone
from raymc.specs.results import EvaluationSpec
from raymc.specs.sweep import SweepSpec
from raymc.specs.task import TaskSpec
from raymc.specs.trial import TrialSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GRAMMAR = {"model": {"backbone": {"builtin": "grammar-bert"}}, "task": {"dataset": {"builtin": "grammar"}}}
HUB = {
    "model": {"backbone": "owner/name", "revision": COMMIT},
    "task": {"dataset": {"hub": "owner/rows", "revision": COMMIT}},
}


# Golden ------------------------------------------------------------------------------------------------------------

BUMP = (
    "Keys of finished minima changed: users would compute everything again, or old minima would be taken for new ones. "
    "Where a default or the meaning of a field changed on purpose, bump {version} in raymc/specs/{module}.py and pin "
    "the new values here; otherwise undo the change."
)

GOLDEN = {
    "defaults": "fab01d5e6d8679bd33a2",
    "lora": "043c789288f685f88f05",
    "training": "5fb263dfd522137732a0",
    "backbone": "8ccfdf8516d804fd945d",
    "dataset": "06556045c9990e049f2f",
    "hub": "bab1062068028858a519",
    "files": "73e7a753eda8b15d04d8",
    "files, lora": "343af59ec3c94d047a65",
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
                "config.json": "57b91535f7cc552c96df8e57bb8fba2167e2ce038a6e6b817e12e791d1235d48",
                "model.safetensors": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
                "vocab.txt": "af0392fc3f0638c2df5d1d48a21b0e2626aba9b0390fdb7273e08b1ad4e7bfbd",
            }
        },
        "rows": {"sha256": "1eaa5179a18205d955cedfe82f50d44d40e055b8ce93d600b6e5090e95090c87", "format": ".jsonl"},
    }


def test_golden_keys_of_what_is_made_on_the_way(key):
    evaluation = EvaluationSpec(
        task=TaskSpec.model_validate({"dataset": {"builtin": "grammar"}}),
        split="validation",
        space="weights",
        precision="fp32",
    )
    found = {
        "BACKBONE_VERSION": backbone_key(GrammarBackbone(builtin="grammar-bert")),
        "EVALUATION_VERSION": evaluation.key(),
        "PROFILE_VERSION": evaluation.profile_key({"curve": LinearCurve(curve="linear").content}, 26),
        "CURVE_VERSION": Fitting(
            a="0" * 20,
            b="1" * 20,
            space="weights",
            curve=BezierCurve(curve="bezier"),
            task=evaluation.task,
            kind="causal",
        ).key,
        "PLANE_VERSION": evaluation.plane_key(11, 0.25),
    }
    golden = {
        "BACKBONE_VERSION": "454c6721ee72d01d9d00",
        "EVALUATION_VERSION": "8280365044d74af5f87c",
        "PROFILE_VERSION": "b35e6d8cac4b74cda22a",
        "CURVE_VERSION": "26dcb03c631c9ce25f8d",
        "PLANE_VERSION": "d885e41154ad64fcbf0e",
    }
    for version, value in found.items():
        assert value == golden[version], BUMP.format(version=version, module="keys")


# Not in the key ----------------------------------------------------------------------------------------------------


def test_keys_do_not_depend_on_where_files_lie(tmp_path: Path, files: dict[str, Any], key, make_files):
    assert key(files) == key(make_files(tmp_path / "another" / "place"))


def test_keys_do_not_depend_on_the_order_of_fields(files: dict[str, Any], key):
    data = {**files, "tuning": {"method": "lora", "rank": 4, "alpha": 8.0}, "train": {"steps": 5, "warmup": 0.0}}
    turned = {name: dict(reversed(section.items())) for name, section in reversed(data.items())}
    assert key(data) == key(turned)


def test_keys_do_not_depend_on_defaults_being_written_out(files: dict[str, Any]):
    for data in (GRAMMAR, HUB, files, {**GRAMMAR, "tuning": {"method": "lora"}}):
        trial = TrialSpec.model_validate(data)
        written = trial.model_dump(mode="json")
        assert TrialSpec.model_validate(written).key == trial.key
        assert TrialSpec.model_validate_json(json.dumps(written)) == trial


def test_keys_do_not_depend_on_the_spelling_of_numbers(key):
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

OUTSIDE = {
    "task.dataset[LocalDataset].path": "the rows count, not where they lie",
    "task.dataset[LocalDataset].splits": "the rows count, not what their file is called",
    "model.backbone[TextBackbone].text[TextFiles].path": "the text counts, not where it lies",
    "model.backbone[TextBackbone].text[TextFiles].splits": "the text counts, not what its file is called",
    "task.dataset[GrammarDataset].validation_rows": "evaluated on, not trained on",
    "task.dataset[GrammarDataset].test_rows": "evaluated on, not trained on",
}
"""Fields whose change alone doesn't change a minimum. Think twice before you add one."""

SPECIAL: dict[str, list[Any]] = {
    "model.revision": [COMMIT[::-1]],
    "model.backbone[GrammarBackbone].hidden_size": [128],
    "model.backbone[GrammarBackbone].heads": [2],
    "model.backbone[TextBackbone].architecture": [{"model_type": "roberta"}],
    "model.backbone[TextBackbone].max_length": [64],
    "model.backbone[TextBackbone].text[TextFiles].splits": [{"train": "train.txt"}],
    "model.backbone[TextBackbone].text[HubText].revision": [COMMIT[::-1]],
    "model.backbone[TextBackbone].tokenizer.vocab_size": [500],
    "task.rename": [{"a": "b"}, {"a": "c"}],
    "task.targets": [{"a": "b"}, {"a": "c"}],
    "tuning[PeftTuning].config": [{"r": 4}, {"r": 5}],
    "task.train_split": ["validation", "test"],
    "task.dataset[LocalDataset].splits": [{"train": "train.jsonl"}],
    "task.dataset[HubDataset].revision": [COMMIT[::-1]],
}
CANDIDATES = [1, 2, 7, 0.5, 0.25, True, False, "other", ["x", "y"], [0.5, 0.6]]


def leaves(model: type[BaseModel], shown: str = "", written: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field that has no fields: its name with the variants of unions, its name in the data, its annotation."""
    for name, info in model.model_fields.items():
        inner = models_in(info.annotation)
        for variant in inner:
            part = f"{name}[{variant.__name__}]" if len(inner) > 1 else name
            yield from leaves(variant, f"{shown}{part}.", f"{written}{name}__")
        if not inner and len(literals(info.annotation)) != 1:  # a tag has one value: the variants are compared below
            yield shown + name, written + name, info.annotation


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals(part)]


LEAVES = {name: (written, annotation) for name, written, annotation in leaves(TrialSpec)}


VARIANTS: dict[str, dict[str, Any]] = {
    "[LoraTuning]": {"tuning": {"method": "lora"}},
    "[HoulsbyTuning]": {"tuning": {"method": "houlsby"}},
    "[PrefixTuning]": {"tuning": {"method": "prefix"}},
    "[PromptTuning]": {"tuning": {"method": "prompt"}},
    "[Ia3Tuning]": {"tuning": {"method": "ia3", "targets": ["x", "y", "z"]}},
    "[PeftTuning]": {"tuning": {"method": "peft", "type": "VERA"}},
    "[ExistingTuning]": {"tuning": {"method": "existing"}},
    "model.perturbation.": {"model__perturbation": {"scale": 0.1}},
    "task.subset.": {"task__subset": {"rows": 3}},
    "[TextBackbone].text[HubText]": {"model__backbone__text": {"hub": "owner/text", "revision": COMMIT}},
    "[TextBackbone].tokenizer.": {"model__backbone__tokenizer": {"kind": "bpe"}},
}
"""What a trial needs to have a field: by a part of the field's name."""


@pytest.mark.parametrize("name", LEAVES)
def test_every_field_of_a_trial_changes_its_key(
    name: str, files: dict[str, Any], tmp_path: Path, with_fields, make_files
):
    elsewhere = make_files(tmp_path / "elsewhere")
    other_start = Path(make_files(tmp_path / "start")["model"]["backbone"])
    (other_start / "model.safetensors").write_bytes(b"other weights")
    on_disk = "[LocalDataset]" in name or "[ExistingTuning]" in name
    base = files if on_disk else HUB if "[HubDataset]" in name or name == "model.revision" else GRAMMAR
    if "[TextBackbone]" in name:
        for folder in ("text", "copy"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "train.txt").write_text("some text")
        new = (
            {"start": files["model"]["backbone"]}
            if name.endswith(".start")
            else {"architecture": {"model_type": "bert"}}
        )
        text = {"path": str(tmp_path / "text")}
        base = with_fields(base, model__backbone={"pretrain": "masked", "text": text, **new})
    for part, changes in VARIANTS.items():
        base = with_fields(base, **changes) if part in name else base
    written, annotation = LEAVES[name]
    places = {
        "task.dataset[LocalDataset].path": elsewhere["task"]["dataset"]["path"],
        "model.backbone[TextBackbone].text[TextFiles].path": str(tmp_path / "copy"),
        "model.backbone[TextBackbone].start": str(other_start),
        "tuning[ExistingTuning].base": elsewhere["model"]["backbone"],
    }
    values = SPECIAL.get(name) or [*literals(annotation), *CANDIDATES, None]
    values = [places[name]] if name in places else values
    trial = TrialSpec.model_validate(base)
    found: dict[str, Any] = {}
    for value in values:
        try:
            other = TrialSpec.model_validate(with_fields(base, **{written: value}))
        except ValidationError:
            continue
        if other != trial:
            assert other.key not in found or name in OUTSIDE, f"{value!r} and {found[other.key]!r} have the same key"
            found[other.key] = value
    assert found, f"no second value of {name} that is valid: add one to SPECIAL"
    assert (trial.key in found) == (name in OUTSIDE), f"{name} is {'' if trial.key in found else 'not '}outside the key"


def test_variants_and_kinds_have_keys_of_their_own(files: dict[str, Any]):
    found = [trial.key for trial in golden_trials(files).values()]
    assert len(set(found)) == len(found)


def test_a_new_version_makes_new_keys(monkeypatch: pytest.MonkeyPatch, key):
    before = key(GRAMMAR)
    monkeypatch.setattr("raymc.specs.trial.MINIMUM_VERSION", keys.MINIMUM_VERSION + 1)
    assert key(GRAMMAR) != before


def test_canonical_json():
    assert keys.canonical({"b": [1, 2.0, 1e-5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.0,1e-05,null,true]}'
    with pytest.raises(ValueError, match="JSON"):
        keys.canonical(float("nan"))
    assert len(keys.key_of({})) == 20
