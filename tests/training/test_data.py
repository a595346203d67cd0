"""Token ids of training rows that processes share: the same arrays, and never those of other rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.backbones import load_tokenizer
from raymc.tasks.rows import fingerprint, label_names, read_rows, training_rows
from raymc.tasks.tokens import tokenize
from raymc.training import data as module
from raymc.training.data import TrainingData
from raymc.training.finetune import data_of, finetune
from raymc.training.parallel import Group

ARRAYS = ("ids", "types", "offsets", "labels")


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[Any]:
    """What this process holds, from nothing on; the rows that it tokenized, a number a set."""
    counted: list[Any] = []

    def count(tokenizer: Any, rows: Any, *rest: Any) -> Any:
        counted.append(len(rows))
        return tokenize(tokenizer, rows, *rest)

    monkeypatch.setattr(module, "tokenize", count)
    monkeypatch.setattr(module, "_held", {})
    return counted


def another_process() -> None:
    module._held.clear()


def same(one: TrainingData, other: TrainingData) -> bool:
    pairs = [(getattr(one.tokens, name), getattr(other.tokens, name)) for name in ARRAYS]
    arrays = all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)
    rest = [(d.rows, d.digest, d.labels, d.tokens.pad_id, d.tokens.choices) for d in (one, other)]
    return arrays and rest[0] == rest[1]


def test_the_rows_are_those_that_are_read_and_tokenized(trial, store, tmp_path):
    spec = trial(task={"subset": {"rows": 12, "seed": 3}, "label_noise": 0.25})
    tokenizer = load_tokenizer(spec.model.backbone)
    rows, indices = training_rows(spec.task)
    labels = label_names(spec.task, read_rows(spec.task, "train"))
    tokens = tokenize(tokenizer, rows, labels, spec.task, "classifier")
    expected = TrainingData(12, fingerprint(rows, indices), labels, tokens, tokenizer)
    found = [data_of(spec, store, tmp_path / "shared")]
    another_process()
    found.append(data_of(spec, store, tmp_path / "shared"))
    assert [same(one, expected) for one in found] == [True, True]


def test_they_are_made_once_for_all_trials_of_all_processes(trial, store, tmp_path, made):
    shared = tmp_path / "shared"
    first = data_of(trial(seeds={"order": 1}), store, shared)
    assert data_of(trial(seeds={"order": 2}, train={"learning_rate": 1e-3}), store, shared) is first
    assert made == [22]
    another_process()
    mapped = data_of(trial(), store, shared)
    assert made == [22, 1]  # a row, so that its tokenizer is as if it had made all
    assert same(mapped, first)
    assert isinstance(mapped.tokens.ids.base, np.memmap)
    assert type(mapped.tokens.ids) is np.ndarray
    assert not mapped.tokens.ids.flags.writeable
    assert len(list(shared.iterdir())) == 1


@pytest.mark.parametrize(
    "task", [{"max_length": 6}, {"label_noise": 0.5}, {"subset": {"rows": 10}}, {"rename": {"pos": "good"}}]
)
def test_another_task_has_rows_of_its_own(trial, store, tmp_path, made, task: dict[str, Any]):
    found = [data_of(one, store, tmp_path / "shared") for one in (trial(), trial(task=task))]
    assert len(made) == 2
    assert not same(*found)


def test_what_decides_is_the_content_of_files(trial, store, tmp_path, dataset: Path, backbone, made):
    """Of the rows, wherever they lie, and of the tokenizer."""
    folder, model = tmp_path / "moved", tmp_path / "model"
    shutil.copytree(dataset, folder)
    shutil.copytree(backbone("bert"), model)
    spec = trial(task={"dataset": {"path": str(folder)}}, model={"backbone": str(model)})
    first = data_of(spec, store, None)
    lines = (folder / "train.jsonl").read_text().splitlines(True)
    (folder / "train.jsonl").write_text("".join(lines[::-1]))
    second = data_of(spec, store, None)
    assert [made, second.digest == first.digest] == [[22, 22], False]
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    third = data_of(spec, store, None)
    assert made == [22, 22, 22]
    assert not np.array_equal(third.tokens.ids, second.tokens.ids)


def test_a_process_holds_a_few_sets(trial, store, made):
    sizes = [10, 11, 12, 13, 14]
    for rows in [*sizes, 14, 10]:
        data_of(trial(task={"subset": {"rows": rows}}), store, None)
    assert made == [*sizes, 10]


def test_a_minimum_of_shared_rows_is_that_of_its_own(trial, tmp_path):
    spec, folders = trial(), []
    for name, shared in (("own", None), ("first", tmp_path / "shared"), ("mapped", tmp_path / "shared")):
        another_process()
        store = Store(tmp_path / name)
        finetune([spec], store, Group(), checkpoint_every=0, log_every=5, report=lambda _: None, tokens=shared)
        folder = store.folder(layout.MINIMA, spec.key)
        skipped = {layout.PROVENANCE, layout.MANIFEST}
        folders.append({path.name: path.read_bytes() for path in folder.iterdir() if path.name not in skipped})
    assert folders[0] == folders[1] == folders[2]


def test_a_folder_that_can_not_be_written_hinders_nothing(trial, store, tmp_path, made):
    (tmp_path / "file").write_text("")
    assert data_of(trial(), store, tmp_path / "file" / "shared").rows == 22
