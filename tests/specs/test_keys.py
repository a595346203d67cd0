"""Keys: pinned, independent of where and how things are written, and changed by everything that decides a minimum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from raymc.specs import content, keys
from raymc.specs.base import Spec
from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone, ModelSpec
from raymc.specs.results import EvaluationSpec, space_of
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


def with_fields(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of a trial's data with some fields set (dots written as __)."""
    data = json.loads(json.dumps(data))
    for name, value in changes.items():
        *parents, last = name.split("__")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return data


def key(data: dict[str, Any], **changes: Any) -> str:
    return TrialSpec.model_validate(with_fields(data, **changes)).key


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


def test_golden_keys_of_what_is_made_on_the_way():
    evaluation = EvaluationSpec(
        task=TaskSpec.model_validate({"dataset": {"builtin": "grammar"}}),
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
        "BACKBONE_VERSION": "454c6721ee72d01d9d00",
        "EVALUATION_VERSION": "205dd195c659ea3b1e9e",
        "PROFILE_VERSION": "e8963fb437c16d3ef94a",
    }
    for version, value in found.items():
        assert value == golden[version], BUMP.format(version=version, module="keys")


DEFAULTS = {
    "model": "required",
    "model.backbone": "required",
    "model.backbone.builtin": "required",
    "model.backbone.seed": 1,
    "model.backbone.steps": 400,
    "model.backbone.batch_size": 64,
    "model.backbone.learning_rate": 0.002,
    "model.backbone.warmup": 0.1,
    "model.backbone.rows": 4000,
    "model.backbone.domain": "village",
    "model.backbone.mask_probability": 0.15,
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
        inner = list(models(info.annotation))
        for variant in inner:
            named = f"{prefix}{name}[{variant.__name__}]" if len(inner) > 1 else prefix + name
            yield from defaults(variant, f"{named}.")


def plain(value: Any) -> Any:
    return (
        value.model_dump(mode="json", exclude_defaults=True)
        if isinstance(value, Spec)
        else json.loads(json.dumps(value))
    )


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

OUTSIDE = {
    "task.dataset[LocalDataset].path": "the rows count, not where they lie",
    "task.dataset[LocalDataset].splits": "the rows count, not what their file is called",
    "task.dataset[GrammarDataset].validation_rows": "evaluated on, not trained on",
    "task.dataset[GrammarDataset].test_rows": "evaluated on, not trained on",
}
"""Fields whose change alone doesn't change a minimum. Think twice before you add one."""

SPECIAL: dict[str, list[Any]] = {
    "model.revision": [COMMIT[::-1]],
    "model.backbone.hidden_size": [128],
    "model.backbone.heads": [2],
    "task.train_split": ["validation", "test"],
    "task.dataset[LocalDataset].splits": [{"train": "train.jsonl"}],
    "task.dataset[HubDataset].revision": [COMMIT[::-1]],
}
CANDIDATES = [1, 2, 7, 0.5, 0.25, True, False, "other", ["x", "y"], [0.5, 0.6]]


def leaves(model: type[BaseModel], shown: str = "", written: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every field that has no fields: its name with the variants of unions, its name in the data, its annotation."""
    for name, info in model.model_fields.items():
        inner = list(models(info.annotation))
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


@pytest.mark.parametrize("name", LEAVES)
def test_every_field_of_a_trial_changes_its_key(name: str, files: dict[str, Any], tmp_path: Path):
    base = {**GRAMMAR, "tuning": {"method": "lora"}} if "[LoraTuning]" in name else GRAMMAR
    base = files if "[LocalDataset]" in name else HUB if "[HubDataset]" in name or name == "model.revision" else base
    written, annotation = LEAVES[name]
    values = SPECIAL.get(name) or [*literals(annotation), *CANDIDATES, None]
    if name == "task.dataset[LocalDataset].path":
        values = [make_files(tmp_path / "elsewhere")["task"]["dataset"]["path"]]
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


def test_a_new_version_makes_new_keys(monkeypatch: pytest.MonkeyPatch):
    before = key(GRAMMAR)
    monkeypatch.setattr("raymc.specs.trial.MINIMUM_VERSION", keys.MINIMUM_VERSION + 1)
    assert key(GRAMMAR) != before


def test_the_grammar_has_one_version():
    from raymc.tasks import grammar

    assert grammar.GRAMMAR_VERSION == GRAMMAR_VERSION, "keys hold the one in raymc/specs/task.py"


# Files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("backbone/config.json", True),
        ("backbone/model.safetensors", True),
        ("backbone/model-00001-of-00002.safetensors", True),
        ("backbone/model.safetensors.index.json", True),
        ("backbone/vocab.txt", True),
        ("backbone/tokenizer.json", True),
        ("backbone/tokenizer_config.json", True),
        ("backbone/spiece.model", True),
        ("backbone/merges.txt", True),
        ("backbone/README.md", False),
        ("backbone/pytorch_model.bin", False),  # never read
        ("backbone/modeling.py", False),
        ("rows/train.jsonl", True),
        ("rows/validation.jsonl", False),
        ("rows/test.jsonl", False),
        ("rows/notes.txt", False),
    ],
)
def test_a_changed_file_changes_the_keys_that_it_decides(
    name: str, counts: bool, files: dict[str, Any], tmp_path: Path
):
    before = key(files)
    path = tmp_path / "files" / name
    path.write_bytes(b"changed")
    assert (key(files) != before) == counts
    again = key(files)
    path.write_bytes(b"CHANGED")  # of the same size
    assert (key(files) != again) == counts


def test_remote_code_counts_where_it_is_trusted(files: dict[str, Any], tmp_path: Path):
    before = key(files, model__trust_remote_code=True)
    (tmp_path / "files/backbone/modeling.py").write_text("changed")
    assert key(files, model__trust_remote_code=True) != before


def test_a_file_changed_behind_its_time_is_hashed_again(files: dict[str, Any], tmp_path: Path):
    path = tmp_path / "files/rows/train.jsonl"
    before, stat = key(files), path.stat()
    path.write_bytes(path.read_bytes().replace(b"train", b"TRAIN"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key(files) != before


def test_a_hub_s_name_counts_by_its_commit():
    found = {
        key(HUB),
        key(HUB, model__revision=COMMIT[::-1]),
        key(HUB, model__backbone="other/name"),
        key(HUB, task__dataset__revision=COMMIT[::-1]),
        key(HUB, task__dataset__subset="mnli"),
    }
    assert len(found) == 5


def test_a_hub_s_branch_is_the_commit_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for kind, repo in (("models", "owner--cached"), ("datasets", "owner--rows")):
        (tmp_path / f"{kind}--{repo}/refs").mkdir(parents=True)
        (tmp_path / f"{kind}--{repo}/refs/main").write_text(COMMIT)
    by_branch = {"model": {"backbone": "owner/cached"}, "task": {"dataset": {"hub": "owner/rows"}}}
    assert key(by_branch) == key(HUB, model__backbone="owner/cached")


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_hub_s_name_that_can_t_be_is_said_in_one_line(revision: str | None):
    with pytest.raises(RaymcError, match=r"^the hub's model 'no such name' .* can't be read: [^\n]*$"):
        key(HUB, model__backbone="no such name", model__revision=revision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__backbone": "/no/such"}, "model.backbone: no folder /no/such"),
        ({"model__backbone": f"/{'x' * 300}"}, "model.backbone: no folder /xxx"),
        ({"model__backbone": "package:no_such.package/x"}, "'no_such.package' is not installed: pip install"),
        ({"model__backbone": "package:/x"}, "the Python package '' is not installed"),
        ({"model__backbone": "rows"}, "it has no config.json"),
        ({"task__dataset__path": "nowhere"}, "no file or folder .*nowhere"),
        ({"task__dataset__path": "x" * 300}, "no file or folder .*xxx"),
        ({"task__dataset__path": "backbone"}, "holds no data file"),
        ({"task__dataset__splits": {"train": "gone.csv"}}, "no file or folder .*rows/gone.csv"),
        ({"task__dataset__splits": {"train": "../backbone/vocab.txt"}}, "vocab.txt: not one of .jsonl, .csv"),
        ({"task__train_split": "trian"}, r"no split 'trian' in .* \(it has test, train, validation\)"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    changes: dict[str, Any], message: str, files: dict[str, Any], tmp_path: Path
):
    for name in ("model__backbone", "task__dataset__path"):
        if isinstance(changes.get(name), str) and not changes[name].startswith(("/", "package:")):
            changes = {**changes, name: str(tmp_path / "files" / changes[name])}
    with pytest.raises(RaymcError, match=message) as caught:
        key(files, **changes)
    assert len(str(caught.value).splitlines()) == 1


def test_a_backbone_of_pickles_is_refused(files: dict[str, Any], tmp_path: Path):
    folder = tmp_path / "files/backbone"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RaymcError, match=r"no \*\.safetensors \(pickles are not loaded\)"):
        key(files)


def test_a_dataset_s_files_are_found_by_the_names_of_splits(tmp_path: Path):
    (tmp_path / "train.csv").write_text("text,label\n")
    (tmp_path / "dev.parquet").write_text("")
    (tmp_path / "notes.md").write_text("")
    dataset = LocalDataset(path=str(tmp_path))
    assert content.dataset_files(dataset) == {"train": tmp_path / "train.csv", "validation": tmp_path / "dev.parquet"}
    assert content.dataset_splits(dataset) == ["validation", "train"]
    alone = LocalDataset(path=str(tmp_path / "train.csv"))
    assert content.dataset_files(alone) == {"train": tmp_path / "train.csv"}
    assert content.dataset_splits(HubDataset(hub="a/b")) is None
    (tmp_path / "validation.csv").write_text("")
    with pytest.raises(RaymcError, match=r"holds two files for split 'validation': dev.parquet, validation.csv"):
        content.dataset_files(dataset)


def test_the_format_of_rows_counts(tmp_path: Path, files: dict[str, Any]):
    rows = Path(files["task"]["dataset"]["path"])
    (rows / "same.csv").write_bytes((rows / "train.jsonl").read_bytes())
    assert key(files, task__dataset__splits={"train": "same.csv"}) != key(files)


def test_what_is_wrong_with_a_backbone_is_told_before_anything_runs(files: dict[str, Any]):
    def fault(name: str) -> str | None:
        return content.backbone_fault(ModelSpec(backbone=name))

    assert fault(files["model"]["backbone"]) is None
    assert fault("owner/name") is None
    assert fault("./gone") == "'./gone' is neither a folder that exists nor a hub id (owner/name)"
    assert fault("/gone") == "no folder /gone"


# Evaluations and profiles ------------------------------------------------------------------------------------------


def evaluation(data: dict[str, Any], **changes: Any) -> EvaluationSpec:
    fields = {
        "task": data["task"],
        "split": "validation",
        "space": "weights",
        "precision": "fp32",
    }
    return EvaluationSpec.model_validate(with_fields(fields, **changes))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"task__labels": ["a", "b"]}, True),
        ({"split": "test"}, True),
        ({"space": "delta_w"}, True),
        ({"precision": "bf16"}, True),
        ({"task__text": "sentence"}, True),
        ({"task__text_pair": "second"}, True),
        ({"task__label": "y"}, True),
        ({"task__max_length": 64}, True),
        ({"task__train_split": "test"}, True),  # its labels decide the order of the logits
    ],
)
def test_an_evaluation_s_key_holds_how_it_is_scored(changes: dict[str, Any], counts: bool, files: dict[str, Any]):
    assert (evaluation(files, **changes).key() != evaluation(files).key()) == counts


def test_an_evaluation_s_key_holds_the_rows_it_is_scored_on(files: dict[str, Any], tmp_path: Path):
    def found() -> list[str]:
        return [evaluation(files).key(), evaluation(files, task__labels=["a", "b"]).key()]

    labels_of_train, labels_given = found()
    (tmp_path / "files/rows/train.jsonl").write_text("changed")
    assert [before == now for before, now in zip((labels_of_train, labels_given), found(), strict=True)] == [
        False,
        True,
    ]
    (tmp_path / "files/rows/validation.jsonl").write_text("changed")
    assert found()[1] != labels_given
    assert evaluation(files, task__labels=["b", "a"]).key() != found()[1]


def test_a_profile_s_key_holds_its_curve_and_points(files: dict[str, Any]):
    spec = evaluation(files)
    assert (
        len({spec.key(), spec.profile_key("linear", 5), spec.profile_key("linear", 6), spec.profile_key("x", 5)}) == 4
    )


def test_the_space_of_a_pair():
    auto, factors = ConnectivitySpec(), ConnectivitySpec(space="factors")
    assert [space_of("full", auto), space_of("full", factors)] == ["weights", "weights"]
    assert [space_of("lora", auto), space_of("lora", factors)] == ["delta_w", "factors"]


def test_canonical_json():
    assert keys.canonical({"b": [1, 2.0, 1e-5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.0,1e-05,null,true]}'
    with pytest.raises(ValueError, match="JSON"):
        keys.canonical(float("nan"))
    assert len(keys.key_of({})) == 20
