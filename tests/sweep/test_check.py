"""What a factor, method, pair selection or task can't do is said at `validate`, at its line, and what instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raymc.connectivity.heads import Heads
from raymc.specs.errors import SpecError
from raymc.specs.load import fault_at, load_with_source
from raymc.specs.sweep import SweepSpec
from raymc.sweep.check import check
from raymc.tasks.rows import labels_of

BASE = """\
name: one
model:
  backbone: {builtin: grammar-bert}
task:
  dataset: {path: data}
  max_length: 32
tuning: {method: full}
train: {steps: 10, batch_size: 4}
axes:
  seeds.order: [1, 2]
connectivity:
  splits: [validation]
"""


def rows(folder: Path, labels: tuple[str, ...], train: int = 20) -> Path:
    folder.mkdir()
    for split, count in (("train", train), ("validation", 6)):
        lines = [json.dumps({"text": f"row {i}", "label": labels[i % len(labels)]}) + "\n" for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def config(folder: Path, **entries: object) -> None:
    """A folder that looks like a checkpoint, as far as validate looks."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(entries))
    (folder / "model.safetensors").write_bytes(b"")


@pytest.fixture
def faults(tmp_path):
    rows(tmp_path / "data", ("neg", "pos"))
    rows(tmp_path / "three", ("bad", "fine", "good"))
    config(tmp_path / "t5", model_type="t5", d_model=8)
    config(tmp_path / "llama", model_type="llama", max_position_embeddings=64)

    def find(*changes: tuple[str, str]) -> list[str]:
        text = BASE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        try:
            spec, source = load_with_source(path)
            check(spec, lambda where, message: fault_at(source, where, message))
        except SpecError as error:
            return [str(fault).removeprefix(f"{path}:") for fault in error.faults]
        return []

    return find


def test_the_base_is_sound(faults):
    assert faults() == []


BERT, T5 = "architecture: {model_type: bert}", "architecture: {model_type: t5}"
SHARDED = "resources: {trial: {workers: 2, strategy: fsdp}}"
TASKS = "  splits: [validation]\n  tasks: {three: {dataset: {path: three}, max_length: 32}}\n"


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        pytest.param(
            [
                ("{method: full}", "{method: bitfit}"),
                ("{builtin: grammar-bert}", "./t5"),
                ("model:", "model:\n  kind: seq2seq"),
            ],
            "8:1: tuning",
            "bitfit doesn't fit t5: it has no biases",
            id="a method that doesn't fit the model",
        ),
        pytest.param(
            [("{method: full}", "{method: prompt}"), ("{builtin: grammar-bert}", "./llama")],
            "7:1: tuning",
            "prompt doesn't fit a classifier on llama",
            id="a method that doesn't fit the kind",
        ),
        pytest.param(
            [("{method: full}", "{method: prefix, tokens: 20}")],
            "6:3: task.max_length",
            "20 virtual tokens and rows of 32 are more than the model's 32 positions",
            id="virtual tokens beyond the positions",
        ),
        pytest.param(
            [("  max_length: 32", "  max_length: 32\n  subset: {rows: 15, overlap: 0.5}")],
            "7:",
            "task.subset.overlap",
            id="an overlap that the data can't give",
        ),
        pytest.param(
            [("  max_length: 32", "  max_length: 32\n  subset: {rows: 21}")],
            "7:12: task.subset.rows",
            "21",
            id="a subset of more rows than there are",
        ),
        pytest.param(
            [
                ("{method: full}", "{method: lora}"),
                ("seeds.order: [1, 2]", "tuning.rank: [2, 4]"),
                ("splits: [validation]", "space: factors"),
            ],
            "12:3: connectivity.space",
            "unlike shapes or scales",
            id="ranks that can't be interpolated",
        ),
        pytest.param(
            [("seeds.order: [1, 2]", "tuning: [{method: full}, {method: houlsby}]")],
            "connectivity.pairs",
            "can't be merged into the weights",
            id="methods that share no space",
        ),
        pytest.param(
            [("seeds.order: [1, 2]", "task.dataset: [{path: data}, {path: three}]")],
            "10:3: axes.task.dataset",
            "has labels bad, fine, good, the sweep's task neg, pos",
            id="label sets that don't match",
        ),
        pytest.param(
            [("seeds.order: [1, 2]", "train.snapshot: [5, 11]")],
            "10:23: axes.train.snapshot",
            "11 is past the end of the run, 10 steps",
            id="a snapshot past the end",
        ),
        pytest.param(
            [("seeds.order: [1, 2]", "train.snapshot: [5, 11]"), ("steps: 10", "epochs: 2.0")],
            "10:3: axes.train.snapshot",
            "11 is past the end of the run, 10 steps",
            id="a snapshot past the end of epochs",
        ),
        pytest.param(
            [("  splits: [validation]\n", TASKS)],
            "13:11: connectivity.tasks.three",
            "a head that no minimum has: none is tuned on the labels bad, fine, good",
            id="a head that no endpoint has",
        ),
        pytest.param(
            [("  splits: [validation]", "  pairs: {differ: train.learning_rate}")],
            "12:",
            "all minima have the same train.learning_rate",
            id="pairs that differ in what no minima differ in",
        ),
        pytest.param(
            [("  splits: [validation]", "  pairs: {within: seeds.ordr}")],
            "12:",
            "seeds.ordr is no field of a trial (did you mean seeds.order?)",
            id="a factor that there isn't",
        ),
        pytest.param(
            [("  splits: [validation]", "  floor: {metric: acuracy, value: 0.5}")],
            "12:11: connectivity.floor.metric",
            "did you mean accuracy?",
            id="a floor on a metric that there isn't",
        ),
        pytest.param(
            [("{builtin: grammar-bert}", f"{{pretrain: masked, text: {{path: nowhere.txt}}, {BERT}}}")],
            "3:",
            "nowhere.txt",
            id="pre-training on a text that isn't there",
        ),
        pytest.param(
            [("{builtin: grammar-bert}", f"{{pretrain: masked, text: {{path: data/train.jsonl}}, {T5}}}")],
            "3:",
            "t5",
            id="an objective that doesn't fit the architecture",
        ),
        pytest.param(
            [("axes:", "minima: [{name: old, uri: ./nowhere}]\naxes:")],
            "9:",
            "no folder",
            id="an existing minimum that isn't there",
        ),
        pytest.param(
            [("batch_size: 4}", f"batch_size: 4, optimizer: adafactor}}\n{SHARDED}")],
            "8:",
            "use strategy: ddp",
            id="an optimizer that the strategy can't shard",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_is_said_at_its_line(faults, changes, place, words):
    found = faults(*changes)
    assert found
    assert any(place in fault and words in fault for fault in found), found


def test_an_existing_minimum_is_scored_on_the_tasks_of_its_own_labels(tmp_path):
    """Not on those of the sweep's own task, whatever they are."""
    rows(tmp_path / "data", ("neg", "pos"))
    rows(tmp_path / "three", ("bad", "fine", "good"))
    config(tmp_path / "old", model_type="bert", id2label={"0": "good", "1": "bad", "2": "fine"})
    config(tmp_path / "nameless", model_type="bert", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    spec = SweepSpec.model_validate(
        {
            "name": "one",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"path": str(tmp_path / "data")}},
            "minima": [{"name": name, "uri": str(tmp_path / name)} for name in ("old", "nameless")],
            "connectivity": {
                "tasks": {name: {"dataset": {"path": str(tmp_path / name)}} for name in ("data", "three")},
                "splits": ["validation"],
            },
        }
    )
    heads = Heads(spec, spec.points, labels_of)
    assert heads.labels(1) == ("good", "bad", "fine")
    assert heads.labels(2) is None  # which is told when it is read
    two, three = spec.row_sets
    assert [heads.scores(i, two) for i in range(3)] == [True, False, True]
    assert [heads.scores(i, three) for i in range(3)] == [False, True, True]
    assert (heads.choose(0, 1, two), heads.choose(0, 1, three)) == ("a", "b")
