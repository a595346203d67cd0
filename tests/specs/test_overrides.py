"""Overrides: what they set, and their faults with number, column, dotted path and message."""

from __future__ import annotations

import pytest

from raymc.specs.errors import Fault
from raymc.specs.load import fault_at, load_spec, load_with_source

# The override, its dotted path, its message, its column.
SET_FAULTS = [
    ("train.steps", "train.steps", "an override reads dotted.field=value", 1),
    ("=5", "=5", "an override reads dotted.field=value", 1),
    ("", "spec", "an override reads dotted.field=value", 1),
    ("train..steps=5", "train..steps", "an override reads dotted.field=value", 1),
    (".steps=5", ".steps", "an override reads dotted.field=value", 1),
    ("train.steps=[1", "train.steps", "not valid YAML: expected ',' or ']', but got '<stream end>'", 15),
    ("train.steps.x=5", "train.steps.x", "train.steps is 10, which has no fields", 1),
    ("axes.seeds.order.3=[5]", "axes.seeds.order.3", "no field of a trial (did you mean seeds.order?)", 1),
    ("zip.1.seeds.order=[5]", "zip.1.seeds.order", "nothing can be set in zip: it has no 1", 1),
    ("zip.²=[5]", "zip.²", "nothing can be set in zip: it has no ²", 1),
    ("seeds.order=5", "seeds.order", "seeds.order is an axis of the sweep; set axes.seeds.order=[...] instead", 1),
    ("seeds.init=5", "seeds.init", "seeds.init is an axis of the sweep; set zip.0.seeds.init=[...] instead", 1),
    ("trian.steps=5", "trian", "unknown key (did you mean train?)", 1),
    ("train.stepz=5", "train.stepz", "unknown key (did you mean train.steps?)", 1),
    ('train.steps="5"', "train.steps", "should be a valid integer, not '5'", 13),
    ("train={stepz: 5}", "train.stepz", "unknown key (did you mean train.steps?)", 8),
    (
        "train={schedule: liner}",
        "train.schedule",
        "'liner' is not one of linear, cosine, constant (did you mean linear?)",
        18,
    ),
    ("train=", "train", "should be a mapping, not None", 7),
    ("axes.seeds.order=[]", "axes.seeds.order", "empty: it needs at least 1", 18),
    ("axes.seeds.order=[4, 4]", "axes.seeds.order", "the same trial twice: seeds.order=4", 22),
    ("axes.seeds.oder=[4]", "axes.seeds.oder", "no field of a trial (did you mean seeds.order?)", 1),
    (
        "zip.0.seeds.init=[1, 2, 3]",
        "zip.0.seeds.init",
        "axes zipped together differ in length: seeds.init has 3, seeds.head has 2",
        1,
    ),
    ("zip.0.seeds.init=[1, -2]", "zip.0.seeds.init", "should be greater than or equal to 0, not -2", 22),
    ("zip=5", "zip", "should be a list, not 5", 5),
]


@pytest.mark.parametrize(("override", "dotted", "message", "column"), SET_FAULTS)
def test_fault_in_an_override(override: str, dotted: str, message: str, column: int, write, base: str, faults_of):
    faults = faults_of(write(base), "name=other", override)
    assert faults[0] == Fault("" if dotted == "spec" else dotted, message, "--set", 2, column)


def test_an_axis_that_replaces_a_section_hides_the_fields_inside(write, base: str, faults_of):
    path = write(base.replace("  tuning.rank: [2, 4]", "  tuning: [{method: full}]"))
    (fault,) = faults_of(path, "tuning.rank=2")
    assert fault.message == "tuning is an axis of the sweep; set axes.tuning=[...] instead"
    assert load_spec(path, ["axes.tuning=[{method: lora}]"]).points


@pytest.mark.parametrize("broken", ["axes: 5", "axes: [1]", "axes: text", "zip: 5", "zip: {a: 1}"])
def test_overrides_of_a_broken_file_find_the_file_s_fault(write, broken: str, base: str, faults_of):
    name = broken.partition(":")[0]
    path = write(base[: base.index("axes:")] + broken + "\n")
    assert [(fault.path, fault.line) for fault in faults_of(path, "train.steps=3")] == [(name, 14)]


def test_overrides_change_the_data_and_later_ones_win(write, base: str):
    overrides = [
        "train.steps=7",
        "train.steps=8",
        "train.learning_rate=1e-3",
        "tuning={method: lora, rank: 3, alpha: 6}",
        "axes.seeds.order=[5, 6, 7]",
        "zip.0.seeds.init=[8, 9]",
        "failure.pair_retries=0",
        "description=no",
        "storage=./store",
    ]
    path = write(base)
    spec = load_spec(path, overrides)
    assert (spec.train.steps, spec.train.learning_rate) == (8, 1e-3)
    assert spec.tuning.model_dump(exclude_unset=True) == {"method": "lora", "rank": 3, "alpha": 6.0}
    assert (spec.axes["seeds.order"], spec.zip[0]["seeds.init"]) == ((5, 6, 7), (8, 9))
    assert (spec.failure.pair_retries, spec.description) == (0, "no")
    assert spec.storage == str(path.parent / "store")


def test_a_later_fault_is_placed_where_its_field_was_written(write, base: str):
    path = write(base)
    _, source = load_with_source(path, ["train.steps=7"])
    at = {fault.path: (fault.file, fault.line, fault.column) for fault in (
        fault_at(source, ("task", "dataset"), "x"),
        fault_at(source, ("task", "train_split"), "x"),
        fault_at(source, ("train", "steps"), "x"),
        fault_at(source, ("axes", "seeds.order", 1), "x"),
    )}  # fmt: skip
    assert at == {
        "task.dataset": (str(path), 6, 3),
        "task.train_split": (str(path), 5, 1),
        "train.steps": ("--set", 1, 1),
        "axes.seeds.order.1": (str(path), 15, 20),
    }
