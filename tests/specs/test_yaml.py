"""How YAML is read, and what relative paths in it mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymc.specs.load import load_spec
from raymc.specs.sweep import SweepSpec
from raymc.specs.yaml import read_yaml


def test_yaml_is_read_as_written(write):
    path = write(
        "text: [no, yes, on, 'null', 1e-4 text, 2026-01-31, 12:30:00]\n"
        "numbers: [1e-4, 1E5, .5, 010, 0x10, 1_000]\n"
        "flags: [true, &flag false, *flag]\n"
        "none: [null, ~, ]\n"
        "base: &base {a: 1, b: 2}\n"
        "again: &base 3\n"
        "merged: {<<: {a: 1, b: 2}, b: 3}\n"
    )
    source = read_yaml(path)
    assert source.data["text"] == ["no", "yes", "on", "null", "1e-4 text", "2026-01-31", "12:30:00"]
    assert source.data["numbers"] == [1e-4, 1e5, 0.5, 10, 16, 1000]
    assert source.data["flags"] == [True, False, False]
    assert all(isinstance(flag, bool) for flag in source.data["flags"])
    assert source.data["none"] == [None, None]
    assert source.data["merged"] == {"a": 1, "b": 3}
    assert source.where(("merged", "a")) == (str(path), 7, 1)  # nearest parent: it is written elsewhere
    assert source.where(("merged", "b")) == (str(path), 7, 31)


def test_small_numbers_and_words_keep_their_kind(write, base: str):
    spec = load_spec(write(base.replace("  max_length: 32", "  labels: [no, yes]")))
    assert spec.train.learning_rate == 0.0001
    assert spec.task.labels == ("no", "yes")


def test_relative_paths_are_taken_from_the_spec_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "sweeps"
    for folder in ("sweeps/near", "data/a", "models/x", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (home / "paths.yaml").write_text(
        "name: paths\n"
        "model: {backbone: ../models/x}\n"
        "task: {dataset: {path: ../data/a}}\n"
        "storage: ./store\n"
        "axes:\n"
        "  model.backbone: [near, ./far, /abs, hub/name, 'package:some/folder', {builtin: grammar-bert}]\n"
        "  task.dataset: [{path: b}, {hub: a/b}]\n"
        "zip: [{task.dataset.path: [c, d], seeds.init: [0, 1]}]\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (home / "paths.yaml", Path("../sweeps/paths.yaml")):
        spec = load_spec(name, ["axes.task.dataset=[{path: b}, {path: e, splits: {train: t.csv}}]"])
        assert spec.model.backbone == str(tmp_path / "models/x")
        assert spec.task.model_dump()["dataset"]["path"] == str(tmp_path / "data/a")
        assert spec.storage == str(home / "store")
        assert spec.axes["model.backbone"] == (
            str(home / "near"),  # a folder of that name is there
            str(home / "far"),
            "/abs",
            "hub/name",
            "package:some/folder",
            {"builtin": "grammar-bert"},
        )
        assert spec.axes["task.dataset"] == (
            {"path": str(home / "b")},
            {"path": str(home / "e"), "splits": {"train": "t.csv"}},
        )
        assert spec.zip[0]["task.dataset.path"] == (str(home / "c"), str(home / "d"))


@pytest.mark.parametrize("name", ["~no-such-user/x", "a" * 400, '"./a\\0b"', "x/" * 3000])
def test_impossible_paths_are_no_crash(write, name: str, base: str):
    text = base.replace("{builtin: grammar-bert, steps: 20}", name) + f"storage: {name}\n"
    assert load_spec(write(text)).points


def test_the_same_sweep_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write):
    """Parts given as objects get absolute paths too, from the working directory."""
    from raymc.specs.model import ModelSpec
    from raymc.specs.task import LocalDataset, TaskSpec

    path = write(
        "name: x\nmodel: {backbone: ./b}\ntask: {dataset: {path: d}}\naxes: {task.dataset: [{path: e}, {path: f}]}\n"
    )
    monkeypatch.chdir(tmp_path)
    made = SweepSpec(
        name="x",
        model=ModelSpec(backbone="./b"),
        task=TaskSpec(dataset=LocalDataset(path="d")),
        axes={"task.dataset": (LocalDataset(path="e"), LocalDataset(path="f"))},
    )
    assert [point.trial for point in made.points] == [point.trial for point in load_spec(path).points]
