"""In what two trials differ, and which pairs differ in one factor alone: against a comparison of all fields."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymc.specs.factors import Configurations, differing, value_of
from raymc.specs.sweep import Point
from raymc.specs.trial import TrialSpec

GRAMMAR = {"builtin": "grammar-bert"}
TEXT = {"pretrain": "masked", "text": {"path": "/text"}, "architecture": {"model_type": "bert"}, "steps": 100}
BASE: dict[str, Any] = {
    "model": {"backbone": GRAMMAR},
    "task": {"dataset": {"builtin": "grammar"}},
    "tuning": {"method": "full"},
}
MISSING = object()

# dotted field: values that a sweep could give it
CHOICES: dict[str, list[Any]] = {
    "model": [
        {"backbone": GRAMMAR},
        {"backbone": {**GRAMMAR, "seed": 2}},
        {"backbone": "/folder"},
        {"backbone": "/other", "revision": "v1"},
        {"backbone": TEXT},
        {"backbone": {**TEXT, "snapshot": 100}},
        {"backbone": {**TEXT, "snapshot": 50}},
        {"backbone": {**TEXT, "text": {"hub": "some/text"}}},
        {"backbone": GRAMMAR, "perturbation": {"scale": 0.1}},
        {"backbone": GRAMMAR, "perturbation": {"scale": 0.1, "seed": 1}},
    ],
    "task": [
        {"dataset": {"builtin": "grammar"}},
        {"dataset": {"builtin": "grammar", "domain": "harbour"}},
        {"dataset": {"path": "/data"}},
        {"dataset": {"path": "/data"}, "subset": {"rows": 10}},
        {"dataset": {"path": "/data"}, "rename": {"a": "b"}},
        {"dataset": {"hub": "some/data"}, "text": "sentence"},
    ],
    "tuning": [
        {"method": "full"},
        {"method": "bitfit"},
        {"method": "lora"},
        {"method": "lora", "rank": 4},
        {"method": "prefix"},
        {"method": "prompt"},
        {"method": "prompt", "tokens": 5},
        {"method": "peft", "type": "VERA"},
        {"method": "peft", "type": "VERA", "config": {"r": 4}},
    ],
    "train": [
        {},
        {"epochs": 2.0},
        {"steps": 10},
        {"steps": 10, "epochs": 2.0},
        {"steps": 10, "snapshot": 5},
        {"steps": 10, "snapshot": 10},
        {"steps": 20},
        {"clip_norm": None},
        {"learning_rate": 1e-3},
    ],
    "seeds": [{}, {"init": 1}, {"order": 1}, {"init": 1, "order": 1}],
}
FACTORS = ["model", "model.backbone", "model.backbone.seed", "model.backbone.text", "model.perturbation"]
FACTORS += ["model.perturbation.seed", "task", "task.dataset", "task.dataset.domain", "task.subset", "tuning"]
FACTORS += ["tuning.method", "tuning.rank", "tuning.tokens", "tuning.config", "train", "train.steps", "train.snapshot"]
FACTORS += ["train.epochs", "train.learning_rate", "seeds", "seeds.init", "seeds.order"]


def trial(**sections: Any) -> TrialSpec:
    return TrialSpec.model_validate(BASE | sections)


def resolved(one: TrialSpec) -> dict[str, Any]:
    """A trial's configuration with what says nothing made equal, by its documentation."""
    body = one.model_dump(mode="json")
    if body["train"]["steps"] is not None:
        body["train"]["epochs"] = "no matter"
    for run in (body["train"], body["model"]["backbone"]):
        if isinstance(run, dict) and "snapshot" in run and run["snapshot"] in (None, run["steps"]):
            run["snapshot"] = "the end"
    return body


def without(body: dict[str, Any], factor: str) -> dict[str, Any]:
    """A copy without a field or section."""
    head, _, rest = factor.partition(".")
    if not rest:
        return {name: value for name, value in body.items() if name != head}
    inner = body.get(head)
    return {**body, head: without(inner, rest)} if isinstance(inner, dict) else body


def alone(one: TrialSpec, other: TrialSpec, factor: str) -> bool:
    """Whether two trials differ in a factor and in nothing else, by the whole of their configurations."""
    a, b = resolved(one), resolved(other)
    if a == b:
        return False
    if factor != "tuning.method":
        return without(a, factor) == without(b, factor)
    both = a["tuning"].keys() & b["tuning"].keys() - {"method"}  # fields that one method lacks are the method's
    same = all(a["tuning"][name] == b["tuning"][name] for name in both)
    methods = a["tuning"]["method"] != b["tuning"]["method"]
    return without(a, "tuning") == without(b, "tuning") and same and methods


trials = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()}).map(
    lambda sections: trial(**sections)
)
# few values on few sections, so that many pairs differ in little
sweeps = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from(values), min_size=1, max_size=3) for name, values in CHOICES.items()}
).map(lambda axes: [trial(**dict(zip(axes, some, strict=True))) for some in itertools.product(*axes.values())][:12])


@given(trials, trials, st.sampled_from(FACTORS))
def test_a_factor_covers_exactly_what_lies_in_it(one: TrialSpec, other: TrialSpec, factor: str):
    fields = differing(one, other, [factor])
    assert (fields == (factor,)) == alone(one, other, factor)
    assert (fields == ()) == (resolved(one) == resolved(other))
    assert fields == differing(other, one, [factor])


@settings(max_examples=40)
@given(sweeps, st.sampled_from(FACTORS))
def test_pairs_that_differ_in_one_factor_are_all_of_them_and_no_others(some: list[TrialSpec], factor: str):
    known = Configurations([Point({}, one) for one in some])
    found = sorted(known.pairs(factor))
    pairs = itertools.combinations(range(len(some)), 2)
    assert found == [(i, j) for i, j in pairs if alone(some[i], some[j], factor)]
    for i, j in found:
        assert known.differs(i, j, [factor]) == (factor,)
        assert known.covering(i, j, [factor]) == factor


def part(body: Any, factor: str) -> Any:
    """What a configuration has in a field or section; empty sections are as good as none."""
    for name in factor.split("."):
        body = body.get(name, MISSING) if isinstance(body, dict) else MISSING
    return MISSING if body == {} else body


@settings(max_examples=30)
@given(sweeps, st.lists(st.sampled_from(FACTORS), max_size=3))
def test_many_pairs_are_told_apart_as_two_trials_are(some: list[TrialSpec], names: list[str]):
    known = Configurations([Point({}, one) for one in some])
    for i, j in itertools.islice(itertools.combinations(range(len(some)), 2), 30):
        assert known.differs(i, j, names) == differing(some[i], some[j], names)
        for factor in names:
            same = part(resolved(some[i]), factor) == part(resolved(some[j]), factor)
            assert (known.value(i, factor) == known.value(j, factor)) == same


@pytest.mark.parametrize(
    ("one", "other", "names", "expected"),
    [
        ({}, {}, [], ()),
        ({}, {"seeds": {"order": 1}}, [], ("seeds.order",)),
        ({}, {"seeds": {"order": 1, "init": 2}}, [], ("seeds.init", "seeds.order")),
        ({}, {"seeds": {"order": 1, "init": 2}}, ["seeds"], ("seeds",)),
        ({}, {"seeds": {"order": 1, "init": 2}}, ["seeds", "seeds.init"], ("seeds", "seeds.init")),
        ({}, {"tuning": {"method": "lora"}}, [], ("tuning",)),
        ({}, {"tuning": {"method": "lora"}}, ["tuning.rank"], ("tuning",)),
        ({}, {"tuning": {"method": "lora"}}, ["tuning.method"], ("tuning.method",)),
        ({"tuning": {"method": "lora"}}, {"tuning": {"method": "lora", "rank": 2}}, [], ("tuning.rank",)),
        (
            {"tuning": {"method": "prefix"}},
            {"tuning": {"method": "prompt", "tokens": 5}},
            ["tuning.method"],
            ("tuning.method", "tuning.tokens"),
        ),
        ({"tuning": {"method": "prefix"}}, {"tuning": {"method": "prompt", "tokens": 5}}, [], ("tuning",)),
        ({}, {"model": {"backbone": "/folder"}}, [], ("model.backbone",)),
        ({}, {"model": {"backbone": {**GRAMMAR, "seed": 3}}}, [], ("model.backbone.seed",)),
        ({}, {"task": {"dataset": {"path": "/data"}}}, [], ("task.dataset",)),
        ({}, {"task": {"dataset": {"builtin": "grammar"}, "subset": {"rows": 9}}}, [], ("task.subset",)),
        # of a run that counts in steps, epochs say nothing and its end is no snapshot of its own
        ({"train": {"steps": 10}}, {"train": {"steps": 10, "epochs": 9.0}}, [], ()),
        ({"train": {"steps": 10}}, {"train": {"steps": 20}}, [], ("train.steps",)),
        ({"train": {"steps": 10}}, {"train": {"steps": 10, "snapshot": 10}}, [], ()),
        ({"train": {"steps": 10}}, {"train": {"steps": 10, "snapshot": 5}}, [], ("train.snapshot",)),
    ],
)
def test_differences_by_name(one: dict[str, Any], other: dict[str, Any], names: list[str], expected: tuple[str, ...]):
    assert differing(trial(**one), trial(**other), names) == expected


def test_what_an_existing_minimum_differs_in():
    existing = trial(tuning={"method": "existing"}, model={"backbone": "/one"})
    points = [Point({}, trial()), Point({}, existing, "one"), Point({}, trial(seeds={"order": 1}))]
    points.append(Point({}, trial(tuning={"method": "existing"}, model={"backbone": "/two"}), "two"))
    known = Configurations(points)
    assert sorted(known.pairs("existing")) == [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert known.differs(1, 3, ["model.backbone"]) == ("existing",)
    assert list(known.pairs("model.backbone")) == []
    assert list(known.pairs("seeds.order")) == [(0, 2)]
    assert known.covering(0, 1, ["existing", "seeds"]) == "existing"
    assert known.covering(1, 3, ["model"]) is None
    assert len({known.value(i, "seeds.order") for i in (0, 1, 2, 3)}) == 4  # unknown is like nothing else
    assert known.value(1, "task") == known.value(0, "task")


def test_values_of_factors():
    one = trial(train={"steps": 10, "snapshot": 10}, tuning={"method": "lora"})
    assert value_of(one, "tuning.rank") == 8
    assert value_of(one, "train.snapshot") is None
    assert value_of(one, "tuning.tokens") is None
    assert value_of(one, "seeds") == {"init": 0, "head": 0, "order": 0, "dropout": 0}
