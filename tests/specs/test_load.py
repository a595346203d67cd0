"""Faults of a sweep's YAML and of overrides: each with its file, line, column, dotted path and message."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from raymc.specs.errors import Fault, SpecError
from raymc.specs.sweep import SweepSpec
from raymc.specs.tuning import TrainSpec
from raymc.specs.yaml import read_yaml

CURVES = "linear, spherical, aligned, bezier, polygonal, gates, autoneb"
METHODS = "full, lora, houlsby, prefix, prompt, ia3, bitfit, peft, existing"
TRAIN, SECTIONS = ", ".join(TrainSpec.model_fields), ", ".join(SweepSpec.model_fields)


def marked(base: str, old: str, new: str) -> tuple[str, int, int]:
    """The base with `old` replaced, and the line and column of the § in `new`, which is taken out."""
    assert base.count(old) == 1, old
    text = base.replace(old, new)
    before = text[: text.index("§")].split("\n")
    return text.replace("§", ""), len(before), len(before[-1]) + 1


# Of BASE: what is replaced; by what, with § where the fault is said to be; its dotted path; its message.
FILE_FAULTS = {
    # keys
    "misspelt key": ("  steps: 10", "  §stepz: 10", "train.stepz", "unknown key (did you mean train.steps?)"),
    "misspelt section": ("train:\n", "§trian:\n", "trian", "unknown key (did you mean train?)"),
    "unknown key": ("  steps: 10", "  §qqqq: 10", "train.qqqq", f"unknown key (there are {TRAIN})"),
    "misspelt key in flow style": (
        "rank: 4}",
        "§rnak: 4}",
        "tuning.rnak",
        "unknown key (did you mean tuning.rank?)",
    ),
    "misspelt key of a backbone": (
        "grammar-bert, steps: 20",
        "grammar-bert, §step: 20",
        "model.backbone.step",
        "unknown key (did you mean model.backbone.steps?)",
    ),
    "key of another variant": (
        "{method: lora, rank: 4}",
        "{method: full, §rank: 4}",
        "tuning.rank",
        "unknown key beside method: full (it goes with method: lora)",
    ),
    "key of another kind of dataset": (
        "builtin: grammar\n    train_rows: 100",
        "path: x\n    §train_rows: 100",
        "task.dataset.train_rows",
        "unknown key beside path (it goes with builtin: grammar)",
    ),
    "key of another kind of axis": (
        "seeds.order: [0, 1]",
        "seeds.order: {low: 0, high: 1, count: 2, §seed: 3}",
        "axes.seeds.order.seed",
        "unknown key beside low (it goes with sample)",
    ),
    "key with a line break": (
        "name: quick",
        'name: quick\n§"a\\nb": 1',
        "a\\nb",
        f"unknown key (there are {SECTIONS})",
    ),
    "missing section": ("name: quick\n", "§", "name", "missing"),
    "missing field": (
        "backbone: {builtin: grammar-bert, steps: 20}",
        "backbone: §{steps: 20}",
        "model.backbone",
        "needs one of builtin and pretrain; a hub id or folder is text, not a mapping",
    ),
    "missing tag": (
        "tuning: {method: lora, rank: 4}",
        "§tuning: {rank: 4}",
        "tuning.method",
        f"missing: one of {METHODS}",
    ),
    "two kinds of dataset": (
        "dataset:\n    builtin: grammar",
        "dataset:\n    §hub: owner/set\n    builtin: grammar",
        "task.dataset",
        "needs one of path, hub and builtin",
    ),
    "name of odd signs": (
        "name: quick",
        "name: §a b",
        "name",
        "should be letters, digits, -, _ and ., the first a letter or digit, not 'a b'",
    ),
    "curve that there isn't": (  # and no second fault for the list that is left empty
        "  points: 5",
        "  curves: [§bezer]",
        "connectivity.curves.0.curve",
        f"'bezer' is not one of {CURVES} (did you mean bezier?)",
    ),
    "curve with a key that it doesn't have": (
        "  points: 5",
        "  curves: [linear, {curve: bezier, §bend: 2}]",
        "connectivity.curves.1.bend",
        "unknown key (did you mean connectivity.curves.1.bends?)",
    ),
    "curve with another's key": (
        "  points: 5",
        "  curves: [{curve: spherical, §bends: 2}]",
        "connectivity.curves.0.bends",
        "unknown key beside curve: spherical (it goes with curve: bezier, curve: polygonal)",
    ),
    "fit with a key that it doesn't have": (
        "  points: 5",
        "  curves: [{curve: gates, fit: {§step: 2}}]",
        "connectivity.curves.0.fit.step",
        "unknown key (did you mean connectivity.curves.0.fit.steps?)",
    ),
    "modules that there aren't": (
        "  points: 5",
        "  curves: [{curve: linear, moves: [§attn]}]",
        "connectivity.curves.0.moves.0",
        "'attn' is not one of attention, feedforward, embeddings, norms, head (did you mean attention?)",
    ),
    "two curves of one name": (
        "  points: 5",
        "  curves: §[linear, {curve: bezier, name: linear}]",
        "connectivity.curves",
        "two are called linear: give one of them another name",
    ),
    "curve of no kind": (
        "  points: 5",
        "  curves: [§{bends: 2}]",
        "connectivity.curves.0.curve",
        f"missing: one of {CURVES}",
    ),
    "two planes of one name": (
        "  points: 5",
        "  planes: §[{through: [a, b, c], name: plane-2}, {through: [a, b, d]}]",
        "connectivity.planes",
        "two are called plane-2: give one of them another name",
    ),
    "floor in percent": (
        "  points: 5",
        "  floor: {value: §80}",
        "connectivity.floor.value",
        "80 is above 1: metrics are fractions, 80 % is 0.8",
    ),
    "feed-forward modules beside targets": (
        "{method: lora, rank: 4}",
        "{method: ia3, targets: [key], feedforward: §[dense]}",
        "tuning.feedforward",
        "dense is not among targets",
    ),
    "two existing minima of one name": (
        "connectivity:",
        "minima: §[{name: x, uri: a/b}, {name: x, uri: a/c}]\nconnectivity:",
        "minima",
        "names x twice",
    ),
    "a base of no name": (
        "connectivity:",
        "minima: [{name: x, uri: a/b, base: §''}]\nconnectivity:",
        "minima.0.base",
        "empty: it needs a name",
    ),
    "one existing minimum under two names": (
        "connectivity:",
        "minima: §[{name: x, uri: a/b}, {name: y, uri: a/b}]\nconnectivity:",
        "minima",
        "x and y are the same checkpoint",
    ),
    "a split twice of a task": (
        "  points: 5",
        "  tasks: {a: {dataset: {builtin: grammar}, splits: §[test, test]}}",
        "connectivity.tasks.a.splits",
        "names the same one twice",
    ),
    "missing bound": ("seeds.order: [0, 1]", "§seeds.order: {high: 3, step: 1}", "axes.seeds.order.low", "missing"),
    # values
    "wrong type": ("steps: 10", "steps: §ten", "train.steps", "should be a valid integer, not 'ten'"),
    "quoted number": ("steps: 10", 'steps: §"10"', "train.steps", "should be a valid integer, not '10'"),
    "quoted float": ("1e-4", '§"1e-4"', "train.learning_rate", "should be a valid number, not '1e-4'"),
    "flag for a number": ("1e-4", "§true", "train.learning_rate", "should be a valid number, not True"),
    "number for text": ("name: quick", "name: §5", "name", 'should be text, not 5; in quotes it is: "5"'),
    "number for a label": (
        "  max_length: 32",
        "  labels: [neg, §1]",
        "task.labels.1",
        'should be text, not 1; in quotes it is: "1"',
    ),
    "number for a mapping": (
        "  evaluator: {cache: 2GiB}",
        "  evaluator: §4",
        "resources.evaluator",
        "should be a mapping, not 4",
    ),
    "nothing for a mapping": (
        "connectivity:\n  points: 5",
        "§connectivity:",
        "connectivity",
        "should be a mapping, not None",
    ),
    "list for a mapping": ("{method: lora, rank: 4}", "§[lora]", "tuning", "should be a mapping"),
    "mapping for a list": ("  - seeds.init: [0, 1]\n    seeds.head: [3, 4]", "  §{}", "zip", "should be a list"),
    "out of range": (
        "points: 5",
        "points: §2",
        "connectivity.points",
        "should be greater than or equal to 3, not 2",
    ),
    "not finite": ("1e-4", "§.inf", "train.learning_rate", "should be a finite number, not inf"),
    "overflowing number": ("1e-4", "§1e999", "train.learning_rate", "should be a finite number, not inf"),
    "not one of": (
        "steps: 10",
        "schedule: §liner",
        "train.schedule",
        "'liner' is not one of linear, cosine, constant (did you mean linear?)",
    ),
    "unknown tag": ("lora", "§lra", "tuning.method", f"'lra' is not one of {METHODS} (did you mean lora?)"),
    "unknown tag of another type": ("lora", "§3", "tuning.method", f"3 is not one of {METHODS}"),
    "gpus": (
        "{cache: 2GiB}",
        "{gpus: §aut}",
        "resources.evaluator.gpus",
        "should be auto, not 'aut'",
    ),
    "size": (
        "2GiB",
        "§2 apples",
        "resources.evaluator.cache",
        "not a size in bytes, such as 512MiB or 2GB",
    ),
    "pair too short": ("steps: 10", "§betas: [0.9]", "train.betas.1", "missing"),
    "pair too long": ("steps: 10", "betas: §[0.9, 0.9, 0.9]", "train.betas", "it takes at most 2, not 3"),
    "labels repeated": ("  max_length: 32", "  labels: §[a, b, a]", "task.labels", "names a label twice"),
    "labels of one": ("  max_length: 32", "  labels: §[a]", "task.labels", "needs at least two names"),
    "heads that don't divide": (
        "{builtin: grammar-bert, steps: 20}",
        "§{builtin: grammar-bert, heads: 5}",
        "model.backbone",
        "hidden_size 64 is not a multiple of heads 5",
    ),
    "long value": (
        "steps: 10",
        f"steps: §{'x' * 500}",
        "train.steps",
        f"should be a valid integer, not '{'x' * 79}...",
    ),
    # axes
    "empty axis": ("order: [0, 1]", "order: §[]", "axes.seeds.order", "empty: it needs at least 1"),
    "axis of one bare value": ("order: [0, 1]", "order: §5", "axes.seeds.order", "should be a list, not 5"),
    "axis over an unknown field": (
        "  seeds.order: [0, 1]",
        "  §seeds.oder: [0, 1]",
        "axes.seeds.oder",
        "no field of a trial (did you mean seeds.order?)",
    ),
    "axis over a field without its section": (
        "  seeds.order: [0, 1]",
        "  §schedule: [linear]",
        "axes.schedule",
        "no field of a trial (did you mean train.schedule?)",
    ),
    "axis over a field of the sweep": (
        "  seeds.order: [0, 1]",
        "  §connectivity.points: [5]",
        "axes.connectivity.points",
        "no field of a trial",
    ),
    "zipped axis over an unknown field": (
        "  - seeds.init: [0, 1]",
        "  - §seeds.int: [0, 1]",
        "zip.0.seeds.int",
        "no field of a trial (did you mean seeds.init?)",
    ),
    "duplicate axis value": (
        "order: [0, 1]",
        "order: [0, 1, §1]",
        "axes.seeds.order",
        "the same trial twice: seeds.order=1",
    ),
    "duplicate axis value, written otherwise": (
        "  seeds.order: [0, 1]",
        "  train.epochs: [1, §1.0]",
        "axes.train.epochs",
        "the same trial twice: train.epochs=1.0",
    ),
    "axis value of the wrong type": (
        "order: [0, 1]",
        "order: [0, §x]",
        "axes.seeds.order",
        "should be a valid integer, not 'x'",
    ),
    "axis value out of range": (
        "order: [0, 1]",
        "order: [0, §-1]",
        "axes.seeds.order",
        "should be greater than or equal to 0, not -1",
    ),
    "zipped axis value out of range": (
        "head: [3, 4]",
        "head: [3, §-4]",
        "zip.0.seeds.head",
        "should be greater than or equal to 0, not -4",
    ),
    "range value out of range": (
        "  seeds.order: [0, 1]",
        "  §seeds.order: {low: -1, high: 1, step: 1}",
        "axes.seeds.order",
        "should be greater than or equal to 0, not -1",
    ),
    "whole-section value with a misspelt key": (
        "  tuning.rank: [2, 4]",
        "  tuning: [{method: full}, {method: lora, §rnk: 3}]",
        "axes.tuning",
        "tuning.rnk: unknown key (did you mean tuning.rank?)",
    ),
    "axis that takes a section's variant away": (
        "  tuning.rank: [2, 4]",
        "  tuning.method: [lora, §full]",
        "axes.tuning.method",
        "tuning.rank: unknown key beside method: full (it goes with method: lora)",
    ),
    "zip of unequal length": (
        "  - seeds.init: [0, 1]",
        "  - §seeds.init: [0, 1, 2]",
        "zip.0.seeds.init",
        "axes zipped together differ in length: seeds.init has 3, seeds.head has 2",
    ),
    "field on two axes": ("  - seeds.init:", "  - §seeds.order:", "zip.0.seeds.order", "seeds.order is on two axes"),
    "too many points": (
        "axes:\n  seeds.order: [0, 1]",
        "§axes:\n  seeds.order: {low: 0, high: 49999, step: 1}",
        "axes",
        "200000 points; a sweep has at most 100000",
    ),
    "step and count": (
        "order: [0, 1]",
        "order: §{low: 0, high: 1, step: 1, count: 2}",
        "axes.seeds.order",
        "give either step or count",
    ),
    "high below low": ("order: [0, 1]", "order: §{low: 1, high: 0, count: 2}", "axes.seeds.order", "high is below low"),
    "endless range": (
        "order: [0, 1]",
        "order: §{low: 0, high: 1, step: 1.0e-320}",
        "axes.seeds.order",
        "more than 100000 values",
    ),
    "sampled integers between fractions": (
        "order: [0, 1]",
        "order: §{sample: integers, low: 0.5, high: 9, count: 2}",
        "axes.seeds.order",
        "integers needs whole numbers as low and high",
    ),
    "more samples than integers": (
        "order: [0, 1]",
        "order: §{sample: integers, low: 0, high: 1, count: 3}",
        "axes.seeds.order",
        "there are fewer integers from low to high than count",
    ),
    # YAML
    "duplicate key": (
        "name: quick",
        "name: quick\n§name: slow",
        "",
        'not valid YAML: found duplicate key "name" with value "slow" (original value: "quick")',
    ),
    "syntax": ("order: [0, 1]", "order: [0, 1§}", "", "not valid YAML: expected ',' or ']', but got '}'"),
    "tab": ("  steps: 10", "§\tsteps: 10", "", "not valid YAML: found character '\\t' that cannot start any token"),
    "undefined alias": ("steps: 10", "steps: §*ten", "", "not valid YAML: found undefined alias 'ten'"),
    "impossible date": ("name: quick", "name: §2026-13-01", "", "not valid YAML: this can't be read as timestamp"),
    "impossible tag": ("steps: 10", "steps: §!!int ten", "", "not valid YAML: this can't be read as int"),
    "control character": ("  steps: 10", "§  steps: \x07", "", "not valid YAML: character #x0007 is not allowed"),
    "second document": ("connectivity:", "§---\nconnectivity:", "", "not valid YAML: but found another document"),
}


@pytest.mark.parametrize("case", FILE_FAULTS)
def test_fault_in_the_file(case: str, write, base: str, faults_of):
    old, new, dotted, message = FILE_FAULTS[case]
    text, line, column = marked(base, old, new)
    path = write(text)
    assert Fault(dotted, message, str(path), line, column) in faults_of(path)


def test_all_faults_are_found_at_once(write, base: str, faults_of):
    path = write(
        base.replace("steps: 10", "stepz: 10").replace("points: 5", "points: 1").replace("rank: 4}", "rank: 0}")
    )
    assert sorted(fault.path for fault in faults_of(path)) == ["connectivity.points", "train.stepz", "tuning.rank"]


def test_a_fault_reads_as_one_line(write, base: str, faults_of):
    path = write(base.replace("  steps: 10", "  stepz: 10"))
    (fault,) = faults_of(path)
    assert str(fault) == f"{path}:12:3: train.stepz: unknown key (did you mean train.steps?)"
    assert fault.as_dict() == {
        "file": str(path),
        "line": 12,
        "column": 3,
        "path": "train.stepz",
        "message": "unknown key (did you mean train.steps?)",
    }
    error = SpecError([fault])
    assert pickle.loads(pickle.dumps(error)).faults == [fault]  # faults cross process borders


def test_an_axis_inside_a_field_that_has_no_fields(write, tmp_path: Path, base: str, faults_of):
    (tmp_path / "backbone").mkdir()
    text = base.replace("{builtin: grammar-bert, steps: 20}", "./backbone")
    path = write(text.replace("  seeds.order: [0, 1]", "  model.backbone.seed: [1, 2]"))
    (fault,) = faults_of(path)
    message = f"model.backbone.seed: model.backbone is {str(tmp_path / 'backbone')!r}, which has no fields"
    assert fault == Fault("axes.model.backbone.seed", message, str(path), 15, 25)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (None, 1, "no such file"),
        (b"", 1, "a sweep is a mapping with name, model, task, ..."),
        (b"- name: x\n", 1, "a sweep is a mapping with name, model, task, ..."),
        (b"name: x\nmodel: \xff\n", 2, "not UTF-8: invalid start byte"),
        (b"- " * 1000, 1, "not valid YAML: nested too deeply"),
    ],
)
def test_a_file_that_is_no_sweep(tmp_path: Path, content: bytes | None, line: int, message: str, faults_of):
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_bytes(content)
    assert faults_of(path) == [Fault("", message, str(path), line, 1)]


def test_a_folder_is_no_sweep(tmp_path: Path, faults_of):
    assert faults_of(tmp_path) == [Fault("", "can't be read: Is a directory", str(tmp_path))]


def test_a_sweep_from_python_says_what_is_wrong():
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match=r"the same trial twice: seeds.order=1"):
        SweepSpec.model_validate({**read_base(), "axes": {"seeds.order": [1, 1]}, "zip": []})


def read_base() -> dict[str, object]:
    return {
        "name": "x",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": {"dataset": {"builtin": "grammar"}},
    }


def test_the_json_schema_takes_what_load_takes(write, base: str):
    jsonschema = pytest.importorskip("jsonschema")
    schema = SweepSpec.model_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    good = read_yaml(write(base)).data
    validator.validate(good)
    for data in (
        {**good, "trian": {}},
        {**good, "train": {"steps": "10"}},
        {**good, "axes": {"seeds.order": []}},
        {**good, "tuning": {"method": "lra"}},
        {**good, "tuning": {"method": "full", "rank": 4}},
        {key: value for key, value in good.items() if key != "model"},
    ):
        assert not validator.is_valid(data), data
