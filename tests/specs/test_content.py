"""What of a file or a hub's name is part of a key, and what is said where it is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raymc.specs import content
from raymc.specs.errors import RaymcError
from raymc.specs.existing import ExistingMinimum
from raymc.specs.model import ModelSpec
from raymc.specs.task import HubDataset, LocalDataset, TaskSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = {
    "model": {"backbone": "owner/name", "revision": COMMIT},
    "task": {"dataset": {"hub": "owner/rows", "revision": COMMIT}},
}


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
    name: str, counts: bool, files: dict[str, Any], tmp_path: Path, key
):
    before = key(files)
    path = tmp_path / "files" / name
    path.write_bytes(b'{"a": 1}')
    assert (key(files) != before) == counts
    again = key(files)
    path.write_bytes(b'{"a": 2}')  # of the same size
    assert (key(files) != again) == counts


def test_remote_code_counts_where_it_is_trusted(files: dict[str, Any], tmp_path: Path, key):
    before = key(files, model__trust_remote_code=True)
    (tmp_path / "files/backbone/modeling.py").write_text("changed")
    assert key(files, model__trust_remote_code=True) != before


def test_a_file_changed_behind_its_time_is_hashed_again(files: dict[str, Any], tmp_path: Path, key):
    path = tmp_path / "files/rows/train.jsonl"
    before, stat = key(files), path.stat()
    path.write_bytes(path.read_bytes().replace(b"train", b"TRAIN"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key(files) != before


def test_a_hub_s_name_counts_by_its_commit(key):
    found = {
        key(HUB),
        key(HUB, model__revision=COMMIT[::-1]),
        key(HUB, model__backbone="other/name"),
        key(HUB, task__dataset__revision=COMMIT[::-1]),
        key(HUB, task__dataset__subset="mnli"),
    }
    assert len(found) == 5


def test_a_hub_s_branch_is_the_commit_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for kind, repo in (("models", "owner--cached"), ("datasets", "owner--rows")):
        (tmp_path / f"{kind}--{repo}/refs").mkdir(parents=True)
        (tmp_path / f"{kind}--{repo}/refs/main").write_text(COMMIT)
    by_branch = {"model": {"backbone": "owner/cached"}, "task": {"dataset": {"hub": "owner/rows"}}}
    assert key(by_branch) == key(HUB, model__backbone="owner/cached")


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_hub_s_name_that_can_t_be_is_said_in_one_line(revision: str | None, key):
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
    changes: dict[str, Any], message: str, files: dict[str, Any], tmp_path: Path, key
):
    for name in ("model__backbone", "task__dataset__path"):
        if isinstance(changes.get(name), str) and not changes[name].startswith(("/", "package:")):
            changes = {**changes, name: str(tmp_path / "files" / changes[name])}
    with pytest.raises(RaymcError, match=message) as caught:
        key(files, **changes)
    assert len(str(caught.value).splitlines()) == 1


def test_a_backbone_of_pickles_is_refused(files: dict[str, Any], tmp_path: Path, key):
    folder = tmp_path / "files/backbone"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RaymcError, match=r"no \*\.safetensors \(pickles are not loaded\)"):
        key(files)


@pytest.mark.parametrize("config", ["", "{", "[]", "\\xff"])
def test_a_backbone_s_config_that_is_none_is_said(config: str, files: dict[str, Any], key):
    (Path(files["model"]["backbone"]) / "config.json").write_text(config)
    with pytest.raises(RaymcError, match=r"is no checkpoint: its config\.json is no JSON mapping"):
        key(files)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": None}, 512),
        ({"model_type": "t5"}, None),
    ],
)
def test_how_many_tokens_a_backbone_can_read(config: dict[str, Any], limit: int | None, files: dict[str, Any]):
    (Path(files["model"]["backbone"]) / "config.json").write_text(json.dumps(config))
    assert content.positions(ModelSpec(backbone=files["model"]["backbone"])) == limit


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


def test_the_format_of_rows_counts(tmp_path: Path, files: dict[str, Any], key):
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


@pytest.mark.parametrize("given", [True, False])
def test_an_existing_adapter_is_another_on_another_backbone(tmp_path: Path, given: bool):
    """Whether the backbone is given or the one that adapter_config.json names, its content counts, not its place."""
    base, moved, adapter = tmp_path / "base", tmp_path / "moved", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"weights")
    named = "/gone" if given else str(base)
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": named}))
    (adapter / "adapter_model.safetensors").write_bytes(b"factors")

    def key(at: Path) -> str:
        one = ExistingMinimum(name="one", uri=str(adapter), base=str(at) if given else None)
        task = TaskSpec.model_validate({"dataset": {"builtin": "grammar"}})
        return one.trial(ModelSpec(backbone="unused"), task).key

    before = key(base)
    (base / "model.safetensors").write_bytes(b"others!")
    assert key(base) != before
    (base / "model.safetensors").write_bytes(b"weights")
    assert key(base) == before
    base.rename(moved)
    if given:
        assert key(moved) == before
    else:
        assert key(base) != before  # it is gone: to be said where it is opened
