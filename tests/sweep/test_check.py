"""What a factor, method, pair selection or task can't do is said at `validate`, at its line, and what instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from raymc.connectivity.heads import Heads
from raymc.specs.errors import RaymcError, SpecError
from raymc.specs.load import fault_at, load_with_source
from raymc.specs.sweep import SweepSpec
from raymc.sweep.check import check, trials_by_key
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


ADAPTERS = {
    "typeless": {"base_model_name_or_path": "owner/model"},
    "baseless": {"peft_type": "LORA"},
    "moved": {"peft_type": "LORA", "base_model_name_or_path": "/nowhere/model"},
    "mixed": {"peft_type": "XLORA", "base_model_name_or_path": "owner/model"},
}


@pytest.fixture
def faults(tmp_path):
    rows(tmp_path / "data", ("neg", "pos"))
    rows(tmp_path / "three", ("bad", "fine", "good"))
    config(tmp_path / "t5", model_type="t5", d_model=8)
    config(tmp_path / "llama", model_type="llama", max_position_embeddings=64)
    config(tmp_path / "bert", model_type="bert")
    tensors = {"encoder.layer.0.attention.self.query.weight": np.zeros((2, 2), np.float32)}
    save_file(tensors, tmp_path / "bert" / "model.safetensors")
    for name, entries in ADAPTERS.items():
        config(tmp_path / name)
        (tmp_path / name / "config.json").rename(tmp_path / name / "adapter_config.json")
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(entries))

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
LONG = "  splits: [validation]\n  tasks: {three: {dataset: {path: data}, max_length: 40}}\n"
TASKS = "  splits: [validation]\n  tasks: {three: {dataset: {path: three}, max_length: 32}}\n"


def curves(text: str, tasks: str = "") -> tuple[str, str]:
    """BASE's line, with tasks and curves after it: tasks on line 13, curves on the next."""
    return "  splits: [validation]\n", f"  splits: [validation]\n{tasks}  curves: [{text}]\n"


def bent(settings: str, tasks: str = "") -> tuple[str, str]:
    return curves(f"linear, {{curve: bezier, fit: {{{settings}}}}}", tasks)


TWO = "  tasks: {two: {dataset: {path: data}, max_length: 32}}\n"
BOTH = "  tasks: {two: {dataset: {path: data}, max_length: 32}, three: {dataset: {path: three}, max_length: 32}}\n"
TRAINED_ON_BOTH = ("seeds.order: [1, 2]", "task.dataset: [{path: data}, {path: three}]")
LORA, HOULSBY = (("{method: full}", f"{{method: {name}}}") for name in ("lora", "houlsby"))
FACTORS = curves("linear, {curve: linear, space: factors}")
DELTA_W = curves("linear, {curve: linear, space: delta_w}")


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ([curves("linear, bezer")], "13:20: connectivity.curves.1.curve", "(did you mean bezier?)"),
        (
            [bent("stesp: 3")],
            "13:42: connectivity.curves.1.fit.stesp",
            "(did you mean connectivity.curves.1.fit.steps?)",
        ),
        ([curves("gates, {curve: bezier, name: gates}")], "13:11: connectivity.curves", "two are called gates"),
        ([bent("task: tow")], "13:42: connectivity.curves.1.fit.task", "no task 'tow' (connectivity.tasks names none)"),
        ([bent("task: tow", TWO)], "14:42: connectivity.curves.1.fit.task", "(there are two) (did you mean two?)"),
        (
            [bent("select: dev")],
            "13:42: connectivity.curves.1.fit.select",
            "no split 'dev' in the dataset (it has train, validation)",
        ),
        ([bent("task: two, select: dev", TWO)], "14:53: connectivity.curves.1.fit.select", "no split 'dev'"),
        (
            [bent("select: train")],
            "13:42: connectivity.curves.1.fit.select",
            "train has the rows that the curve is fitted on",
        ),
        (
            [TRAINED_ON_BOTH, bent("steps: 2", BOTH)],
            "14:20: connectivity.curves.1",
            "dataset=data and dataset=three aren't both tuned on the labels of the rows it is fitted on",
        ),
        (
            [bent("steps: 2", TWO.replace("32}", "32, head: own}"))],
            "14:20: connectivity.curves.1",
            "connectivity.tasks.two has head: own",
        ),
        (
            [LORA, curves("{curve: aligned, space: factors}")],
            "13:12: connectivity.curves.0",
            "order=1 and order=2 are joined in factors, which have no heads or neurons; give it space: delta_w",
        ),
        ([HOULSBY, curves("aligned")], "13:12: connectivity.curves.0", "leave this curve or such pairs out"),
        (
            [LORA, ("seeds.order: [1, 2]", "tuning.rank: [2, 4]"), FACTORS],
            "13:36: connectivity.curves.1.space",
            "use connectivity.space: delta_w",
        ),
        ([HOULSBY, DELTA_W], "13:36: connectivity.curves.1.space", "houlsby can't be merged into the weights"),
        (
            [curves("{curve: spherical, layers: [1, 2]}")],
            "13:43: connectivity.curves.0.layers.1",
            "no block 2: a backbone has 2, from 0",
        ),
    ],
)
def test_what_a_curve_can_not_be_is_said_at_its_line(faults, changes, place, words):
    found = faults(*changes)
    assert [fault for fault in found if fault.startswith(f"{place}: ") and words in fault], found
    assert len(found) == 1


@pytest.mark.parametrize(
    "changes",
    [
        [curves("linear, spherical, aligned, bezier, polygonal, gates, autoneb")],
        [bent("select: validation")],
        [bent("task: two", TWO)],
        [LORA, curves("aligned, {curve: linear, space: factors}")],
        [curves("{curve: aligned, space: factors}")],  # full minima have one space
        [curves("{curve: linear, layers: [0, 1], moves: [attention]}")],
    ],
)
def test_curves_that_can_be(faults, changes):
    assert faults(*changes) == []


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
        pytest.param(
            [("{builtin: grammar-bert}", "./bert"), ("{method: full}", "{method: lora, targets: [query, q_proj]}")],
            "7:41: tuning.targets.1",
            "the backbone has no module called q_proj (it has query)",
            id="a target that the backbone lacks",
        ),
        pytest.param(
            [("{builtin: grammar-bert}", "./bert\n  head: backbone")],
            "4:3: model.head",
            "carries no classification head; use head: new",
            id="a head that the backbone lacks",
        ),
        pytest.param(
            [("{builtin: grammar-bert}", "./bert\n  kind: seq2seq")],
            "4:3: model.kind",
            "seq2seq needs an encoder and a decoder, as T5 has, and the backbone is of type bert",
            id="a kind that the backbone isn't",
        ),
        pytest.param(
            [("{builtin: grammar-bert}", "./llama\n  kind: causal\n  head_std: 0.1")],
            "5:3: model.head_std",
            "a causal model has no classification head",
            id="a head that no such model has",
        ),
        pytest.param(
            [("  max_length: 32", "  max_length: 32\n  prompt: '{text} It was'")],
            "7:3: task.prompt",
            "it is for kind: seq2seq and causal",
            id="a prompt that a classifier doesn't read",
        ),
        pytest.param(
            [("  splits: [validation]\n", LONG)],
            "13:42: connectivity.tasks.three.max_length",
            "40 tokens are more than the 32 that a backbone can read",
            id="a scored task longer than the positions",
        ),
        pytest.param(
            [("axes:\n", "zip:\n  - task.dataset: [{path: data}, {path: nowhere}]\n    seeds.init: [1, 2]\naxes:\n")],
            "10:5: zip.0.task.dataset",
            "no file or folder",
            id="a value of a zipped axis",
        ),
        pytest.param(
            [("{method: full}", "{method: existing}")],
            "7:10: tuning.method",
            "listed in minima",
            id="an existing minimum that isn't listed",
        ),
        *(
            pytest.param([("axes:", f"minima: [{{name: x, uri: {name}}}]\naxes:")], "9:20: minima.0.uri", said, id=what)
            for name, said, what in (
                ("typeless", "names no peft_type", "an adapter of no type"),
                ("baseless", "names no backbone; give its base", "an adapter of no backbone"),
                ("moved", "/nowhere/model isn't there; give its base", "an adapter of a backbone that is gone"),
                ("mixed", "XLORA doesn't fit", "an adapter of a type that doesn't fit"),
                ("bert", "carries no classification head", "an existing classifier without a head"),
            )
        ),
        pytest.param(
            [("axes:", "minima: [{name: old, uri: ./moved, base: ./data}]\naxes:")],
            "9:36: minima.0.base",
            "data is no checkpoint",
            id="a base that is no checkpoint",
        ),
        pytest.param(
            [("axes:", "minima: [{name: old, uri: ./t5, base: ./bert}]\naxes:")],
            "9:33: minima.0.base",
            "a base is for a PEFT folder",
            id="a base of a whole model",
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


def test_a_model_that_the_hub_does_not_know_is_said_at_its_line(tmp_path, monkeypatch):
    """Not at validate, which fetches nothing, but where keys are made."""

    def unknown(repo: str, revision: str | None, kind: str) -> str:
        raise RaymcError(f"the hub's {kind} {repo!r} (revision main) can't be read: 404")

    monkeypatch.setattr("raymc.specs.content.hub_commit", unknown)
    rows(tmp_path / "data", ("neg", "pos"))
    path = tmp_path / "spec.yaml"
    for old, new, place in (
        ("{builtin: grammar-bert}", "owner/model", "3:3: model.backbone"),
        ("{path: data}", "{hub: owner/set}", "5:3: task.dataset"),
    ):
        path.write_text(BASE.replace(old, new))
        spec, source = load_with_source(path)
        with pytest.raises(SpecError) as error:
            trials_by_key(spec, lambda where, message, source=source: fault_at(source, where, message))
        assert str(error.value).startswith(f"{path}:{place}: the hub's ")


def test_peft_types_and_fields_that_there_are_not(faults):
    """This imports peft, unlike all else that validate looks at."""
    for config, said in (
        ("type: VERRA", "7:24: tuning.type: peft has no 'VERRA'; did you mean VERA?"),
        ("type: VERA, config: {rank: 8}", "7:45: tuning.config.rank: VeraConfig has no such field"),
    ):
        (found,) = faults(("{method: full}", f"{{method: peft, {config}}}"))
        assert found.startswith(said)
