"""Which pairs are selected, whose heads score them, and what is said where that can't be done."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymc.connectivity.faults import connectivity_faults
from raymc.connectivity.heads import Heads
from raymc.connectivity.pairs import Connections
from raymc.connectivity.selection import Selection
from raymc.specs.errors import RaymcError
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.task import TaskSpec
from raymc.store.store import Store

BASE: dict[str, Any] = {
    "name": "some",
    "model": {"backbone": {"builtin": "grammar-bert"}},
    "task": {"dataset": {"builtin": "grammar"}, "max_length": 16},
    "train": {"steps": 10},
}
LABELS = ("neg", "pos")
NLI = {"dataset": {"builtin": "grammar", "domain": "harbour"}, "labels": ["no", "yes", "maybe"], "max_length": 16}
SST = {"dataset": {"builtin": "grammar"}, "labels": ["neg", "pos"], "max_length": 16}


def sweep(pairs: Any = "all", connectivity: dict[str, Any] | None = None, **sections: Any) -> SweepSpec:
    return SweepSpec.model_validate(BASE | {"connectivity": {"pairs": pairs, **(connectivity or {})}} | sections)


def labels_of(task: TaskSpec) -> tuple[str, ...] | None:
    return task.labels or LABELS


def chosen(spec: SweepSpec) -> list[tuple[str, str]]:
    """Names of the selected pairs."""
    selection = Selection(spec, spec.points)
    return [(selection.names[i], selection.names[j]) for i, j in selection.pairs()]


def faults(spec: SweepSpec) -> list[tuple[str, str]]:
    return [(".".join(map(str, place)), message) for place, message in connectivity_faults(spec, labels_of)]


# Selections against a comparison of whole configurations ------------------------------------------------------------


def without(body: dict[str, Any], factor: str) -> dict[str, Any]:
    head, _, rest = factor.partition(".")
    if not rest:
        return {name: value for name, value in body.items() if name != head}
    return {**body, head: without(body[head], rest)} if isinstance(body.get(head), dict) else body


def value(body: Any, factor: str) -> Any:
    for name in factor.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


AXES = {
    "seeds.order": [0, 1, 2],
    "seeds.init": [0, 1],
    "train.learning_rate": [1e-3, 1e-4],
    "tuning": [{"method": "full"}, {"method": "lora"}, {"method": "lora", "rank": 4}],
    "train.snapshot": [4, None],
    "task.dataset": [{"builtin": "grammar"}, {"builtin": "grammar", "seed": 3}],
}
FACTORS = ["seeds", "seeds.order", "seeds.init", "train", "train.learning_rate", "train.snapshot", "tuning"]
FACTORS += ["tuning.rank", "task", "task.dataset.seed", "model"]
factors = st.lists(st.sampled_from(FACTORS), max_size=2, unique=True)


@settings(max_examples=40)
@given(st.sets(st.sampled_from(sorted(AXES)), min_size=1, max_size=4), factors, factors, factors, st.booleans())
def test_selections_are_what_they_say(axes: set[str], differ, within, across, same_trajectory: bool):
    asked = {"differ": differ, "within": within, "across": across, "same_trajectory": same_trajectory}
    spec = sweep(asked, axes={name: AXES[name] for name in sorted(axes)})
    bodies = [point.trial.model_dump(mode="json") for point in spec.points]
    expected = []
    for i, j in itertools.combinations(range(len(bodies)), 2):
        one, other = bodies[i], bodies[j]
        snapshots = without(one, "train.snapshot") == without(other, "train.snapshot")
        holds = not differ or any(without(one, factor) == without(other, factor) for factor in differ)
        holds &= all(value(one, factor) == value(other, factor) for factor in within)
        holds &= all(value(one, factor) != value(other, factor) for factor in across)
        if holds and (same_trajectory or not snapshots):
            expected.append((i, j))
    selection = Selection(spec, spec.points)
    assert list(selection.pairs()) == expected
    for i, j in expected:
        told = selection.differs(i, j)
        if differ:  # what two minima of such a pair are made of is identical but for that factor
            assert told in differ
            assert without(bodies[i], told) == without(bodies[j], told)
            assert value(bodies[i], told) != value(bodies[j], told)
        else:
            assert set(told.split(", ")) == {n for n in axes if value(bodies[i], n) != value(bodies[j], n)}
    if not expected and len(bodies) > 1:
        assert faults(spec)


def test_a_pair_that_differs_in_two_things_is_not_taken():
    axes = {"seeds.order": [0, 1], "seeds.init": [0, 1]}
    assert chosen(sweep({"differ": "seeds.order"}, axes=axes)) == [
        ("order=0 init=0", "order=1 init=0"),
        ("order=0 init=1", "order=1 init=1"),
    ]
    assert len(chosen(sweep({"differ": ["seeds.order", "seeds.init"]}, axes=axes))) == 4
    assert len(chosen(sweep({"differ": "seeds"}, axes=axes))) == 6


def test_the_narrowest_factor_is_told():
    spec = sweep({"differ": ["seeds", "seeds.init"]}, axes={"seeds.order": [0, 1], "seeds.init": [0, 1]})
    selection = Selection(spec, spec.points)
    told = {pair: selection.differs(*pair) for pair in selection.pairs()}
    assert told == {
        (0, 1): "seeds.init",
        (0, 2): "seeds",
        (0, 3): "seeds",
        (1, 2): "seeds",
        (1, 3): "seeds",
        (2, 3): "seeds.init",
    }


SNAPSHOTS = {"train.snapshot": [2, 5, None], "seeds.order": [0, 1]}


def test_snapshots_of_one_run_are_left_out_unless_asked_for():
    spec = sweep(axes=SNAPSHOTS)
    selection = Selection(spec, spec.points)
    orders = [point.values["seeds.order"] for point in spec.points]
    assert list(selection.pairs()) == [(i, j) for i, j in itertools.combinations(range(6), 2) if orders[i] != orders[j]]
    both = sweep({"same_trajectory": True}, axes=SNAPSHOTS)
    selection = Selection(both, both.points)
    assert len(list(selection.pairs())) == 15
    assert sum(selection.same_trajectory(i, j) for i, j in selection.pairs()) == 6
    alone = sweep({"differ": "train.snapshot", "same_trajectory": True}, axes=SNAPSHOTS)
    assert len(chosen(alone)) == 6


# Explicit pairs -----------------------------------------------------------------------------------------------------

TWO = {"train.learning_rate": [1e-3, 1e-4], "tuning": [{"method": "full"}, {"method": "lora", "rank": 2}]}


def test_ends_by_name_by_key_and_by_values():
    spec = sweep(axes=TWO)
    names = Selection(spec, spec.points).names
    key = spec.points[2].trial.key
    pairs = [[names[0], names[1]], [key[:6], {"tuning.method": "lora", "train.learning_rate": 0.0001}]]
    pairs += [[{"tuning": {"rank": 2}, "train.learning_rate": 0.001}, key]]
    found = sweep({"only": pairs}, axes=TWO)
    assert list(Selection(found, found.points).pairs()) == [(0, 1), (1, 2), (2, 3)]
    some = sweep({"only": pairs, "within": "train.learning_rate"}, axes=TWO)
    assert list(Selection(some, some.points).pairs()) == [(0, 1), (2, 3)]


def test_a_path_may_leave_out_its_folders(tmp_path: Path):
    sets = [{"path": str(tmp_path / name)} for name in ("one", "two")]
    spec = sweep(axes={"task.dataset": sets})
    selection = Selection(spec, spec.points)
    assert selection.end({"task.dataset": {"path": "./two"}}) == 1
    with pytest.raises(RaymcError, match=r"task\.dataset"):
        selection.end({"task.dataset": {"path": "wo"}})


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("lr=0.01 tuning=full", "no minimum is 'lr=0.01 tuning=full' (did you mean lr=0.001 tuning=full?)"),
        ("abcdef", "no minimum is 'abcdef'"),
        ({"tuning.method": "full"}, "2 minima are {tuning.method: full}: lr=0.001 tuning=full ("),
        ({"train.learning_rate": 0.5}, "{train.learning_rate: 0.5}: train.learning_rate is 0.001, 0.0001"),
        ({"tuning.method": "lora", "tuning.rank": 3}, "tuning.rank is 2"),
        ({"train.learnig_rate": 0.5}, "no minimum has train.learnig_rate (did you mean train.learning_rate?)"),
        ({"existing": "hub"}, "no minimum has existing"),
    ],
)
def test_ends_that_are_not_one_minimum(end: Any, message: str):
    (fault,) = faults(sweep({"only": [[end, "lr=0.0001 tuning=full"]]}, axes=TWO))
    assert fault[0] == "connectivity.pairs.only.0.0"
    assert message in fault[1]


# Existing minima ----------------------------------------------------------------------------------------------------


def test_existing_minima_differ_in_being_so(tmp_path: Path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "bert"}')
        (folder / "model.safetensors").write_bytes(name.encode())
    minima = [{"name": f"the-{name}", "uri": str(tmp_path / name)} for name in ("one", "two")]
    spec = sweep(axes={"seeds.order": [0, 1]}, minima=minima)
    assert len(chosen(spec)) == 6
    selection = Selection(spec, spec.points)
    told = {selection.differs(i, j) for i, j in selection.pairs()}
    assert told == {"existing", "seeds.order"}
    assert chosen(sweep({"differ": "seeds"}, axes={"seeds.order": [0, 1]}, minima=minima)) == [("order=0", "order=1")]
    only = {"only": [["the-one", {"existing": "the-two"}], ["the-two", "order=1"]]}
    assert chosen(sweep(only, axes={"seeds.order": [0, 1]}, minima=minima)) == [
        ("order=1", "the-two"),
        ("the-one", "the-two"),
    ]
    assert len(chosen(sweep({"differ": "existing"}, axes={"seeds.order": [0, 1]}, minima=minima))) == 5
    assert len(chosen(sweep({"across": "existing", "within": "task"}, minima=minima))) == 3


# What is said of selections that can't be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "axes", "place", "message"),
    [
        (
            {"differ": "seeds.ordr"},
            {"seeds.order": [0, 1]},
            "differ.0",
            "no field of a trial (did you mean seeds.order",
        ),
        ({"within": ["model", "tunin"]}, {"seeds.order": [0, 1]}, "within.1", "did you mean tuning?"),
        ({"differ": "seeds.init"}, {"seeds.order": [0, 1]}, "differ.0", "all minima have the same seeds.init"),
        ({"differ": "existing"}, {"seeds.order": [0, 1]}, "differ.0", "none of the minima exists already"),
        ({"across": "seeds.init"}, {"seeds.order": [0, 1]}, "", "across select no pair of the 2 minima"),
        (
            {"differ": "seeds.order", "across": "seeds.init"},
            {"seeds.order": [0, 1], "seeds.init": [0, 1]},
            "",
            "differ, across together select no pair of the 4 minima",
        ),
        ({"differ": "train.snapshot"}, {"train.snapshot": [2, 5]}, "same_trajectory", "snapshots of one run"),
        ("all", {"train.snapshot": [2, 5]}, "", "snapshots of one run; same_trajectory: true joins them"),
        ({"only": [["order=0", "order=0"]]}, {"seeds.order": [0, 1]}, "only.0", "both ends are order=0"),
        ({"only": [["snapshot=2", "snapshot=5"]]}, {"train.snapshot": [2, 5]}, "only.0", "snapshots of one run"),
    ],
)
def test_selections_of_nothing(pairs: Any, axes: dict[str, Any], place: str, message: str):
    (fault,) = faults(sweep(pairs, axes=axes))
    assert fault[0] == ".".join(filter(None, ("connectivity.pairs", place)))
    assert message in fault[1]


def test_factors_that_never_differ_alone():
    axes = [{"seeds.order": [0, 1], "train.learning_rate": [1e-3, 1e-4]}]
    (fault,) = faults(sweep({"differ": "seeds.order"}, zip=axes))
    assert fault[1] == "no pair: those that differ in seeds.order differ in train.learning_rate too"


HOULSBY, PREFIX = {"method": "houlsby"}, {"method": "prefix"}


@pytest.mark.parametrize(
    ("sections", "place", "messages"),
    [
        ({"axes": {"tuning": [{"method": "full"}, HOULSBY], "seeds.order": [0, 1, 2]}}, "pairs", ["houlsby can't be"]),
        (
            {"axes": {"tuning": [{"method": "lora"}, HOULSBY, PREFIX]}},
            "pairs",
            ["tuning=lora and tuning=houlsby can't be joined", "prefix can't be merged"],
        ),
        (
            {"axes": {"tuning": [{"method": "lora"}, {"method": "full"}]}, "connectivity": {"space": "factors"}},
            "space",
            ["a full minimum has no factors"],
        ),
        (
            {"axes": {"model.backbone.hidden_size": [64, 32]}},
            "pairs",
            ["hidden_size=64 and hidden_size=32 can't be joined: their backbones differ in hidden_size (64 and 32)"],
        ),
        (
            {"axes": {"model.backbone.seed": [1, 2]}, "tuning": HOULSBY},
            "pairs",
            ["theirs differ; use pairs: {within: m"],
        ),
        (
            {
                "axes": {"model.backbone.seed": [1, 2]},
                "tuning": {"method": "lora"},
                "connectivity": {"space": "factors"},
            },
            "pairs",
            ["theirs differ; use connectivity.space: delta_w"],
        ),
        ({"axes": {"model.backbone.seed": [1, 2]}, "tuning": {"method": "lora"}}, "", []),
        ({"axes": {"tuning": [{"method": "lora"}, {"method": "lora", "rank": 2}]}}, "", []),
    ],
)
def test_pairs_that_no_space_joins(sections: dict[str, Any], place: str, messages: list[str]):
    found = faults(sweep(**sections))
    assert len(found) == len(messages)
    for (where, said), message in zip(found, messages, strict=True):
        assert where == f"connectivity.{place}"
        assert message in said


# Heads --------------------------------------------------------------------------------------------------------------

TASKS = {"axes": {"task": [NLI, SST], "seeds.order": [0, 1]}}  # NLI 0, 1; SST 2, 3


def tasks(**heads: str) -> dict[str, Any]:
    named = {"nli": NLI, "sst": SST}
    return {"tasks": {name: named[name] | ({"head": head} if head else {}) for name, head in heads.items()}}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", {"01": "path", "02": "a", "03": "a", "12": "a", "13": "a", "23": None}),
        ("path", {"01": "path", "02": None, "03": None, "12": None, "13": None, "23": None}),
        ("own", {"01": "a", "02": "a", "03": "a", "12": "a", "13": "a", "23": None}),
    ],
)
def test_whose_head_scores_a_path(head: str, expected: dict[str, str | None]):
    spec = sweep(connectivity=tasks(nli=head), **TASKS)
    heads = Heads(spec, spec.points, labels_of)
    (rows,) = spec.row_sets
    assert {f"{i}{j}": heads.choose(i, j, rows) for i, j in itertools.combinations(range(4), 2)} == expected
    assert heads.choose(2, 0, rows) == ("b" if head != "path" else None)
    assert [heads.scores(i, rows) for i in range(4)] == [True, True, False, False]
    text = [
        Point({}, p.trial.model_copy(update={"model": p.trial.model.model_copy(update={"kind": "seq2seq"})}))
        for p in spec.points
    ]
    assert {Heads(spec, text, labels_of).choose(i, j, rows) for i, j in itertools.combinations(range(4), 2)} == {"path"}


def test_an_own_head_is_that_of_the_end_tuned_on_the_dataset():
    """Two domains of one label set: scored on the second, its own head is the second's."""
    other = {"builtin": "grammar", "domain": "harbour"}
    connectivity = {"tasks": {"far": {"dataset": other, "max_length": 16, "head": "own"}}}
    spec = sweep(connectivity=connectivity, axes={"task.dataset": [{"builtin": "grammar"}, other]})
    heads = Heads(spec, spec.points, labels_of)
    assert (heads.choose(0, 1, spec.row_sets[0]), heads.choose(1, 0, spec.row_sets[0])) == ("b", "a")


def test_labels_that_only_the_hub_knows_match():
    spec = sweep(connectivity=tasks(nli="", sst=""), **TASKS)
    heads = Heads(spec, spec.points, lambda task: None)
    assert all(heads.choose(0, j, rows) == "path" for j in (1, 2, 3) for rows in spec.row_sets)


def test_the_order_of_labels_is_no_difference():
    spec = sweep(axes={"task.labels": [["neg", "pos"], ["pos", "neg"]]})
    assert Heads(spec, spec.points, labels_of).choose(0, 1, spec.row_sets[0]) == "path"


def test_faults_of_heads():
    assert faults(sweep(connectivity=tasks(nli="", sst=""), **TASKS)) == []
    only = {"axes": {"task": [NLI], "seeds.order": [0, 1]}}
    assert faults(sweep(connectivity=tasks(nli="", sst=""), **only)) == [
        ("connectivity.tasks.sst", "a head that no minimum has: none is tuned on the labels neg, pos")
    ]
    across = sweep({"differ": "task"}, connectivity=tasks(nli="path", sst=""), **TASKS)
    ((place, message),) = faults(across)
    assert place == "connectivity.tasks.nli.head"
    assert message.startswith("no selected pair has the labels no, yes, maybe at both ends")
    within = sweep(
        {"within": "task", "only": [[{"task": NLI, "seeds.order": i} for i in (0, 1)]]}, tasks(sst=""), **TASKS
    )
    assert faults(within)[0][0] == "connectivity.tasks.sst"


def test_labels_of_another_set_need_tasks_by_name():
    ((place, message),) = faults(sweep(**TASKS))
    assert place == "axes.task"
    assert "no, yes, maybe" in message
    assert "neg, pos" in message
    assert "task.rename" in message


# Floor --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floor", "place", "message"),
    [
        (
            {"metric": "acuracy", "value": 0.5},
            "metric",
            "(there are loss, accuracy, f1_macro) (did you mean accuracy?)",
        ),
        ({"value": 0.5, "split": "test"}, "split", "no row set 'test' (there are validation)"),
        ({"value": 0.5, "metric": "loss", "split": "validation"}, "", ""),
    ],
)
def test_faults_of_the_floor(floor: dict[str, Any], place: str, message: str):
    found = faults(sweep(connectivity={"floor": floor}, axes={"seeds.order": [0, 1]}))
    assert [where for where, _ in found] == ([f"connectivity.floor.{place}"] if place else [])
    assert all(message in said for _, said in found)


# Connections on a selection -----------------------------------------------------------------------------------------


def test_counts_on_a_selection(tmp_path: Path):
    spec = sweep({"differ": ["task", "seeds.order"]}, connectivity={"points": 5, **tasks(nli="", sst="path")}, **TASKS)
    points = {point.trial.key: point for point in spec.points}
    found = Connections(spec, Store(tmp_path), points, labels_of)
    keys = [point.trial.key for point in spec.points]
    assert {frozenset(pair) for pair in found.pairs()} == {
        frozenset((keys[i], keys[j])) for i, j in ((0, 1), (2, 3), (0, 2), (1, 3))
    }
    assert all(a < b for a, b in found.pairs())
    assert found.total_pairs() == 4
    assert [found.endpoint_splits(key) for key in keys] == [("nli.validation",)] * 2 + [("sst.validation",)] * 2
    first, last = sorted((keys[0], keys[2]))
    assert found.heads(first, last) == {"nli.validation": "a" if first == keys[0] else "b"}
    # endpoints 4; pairs within a task 3 interior points each; those across it one end more, on one task
    assert found.forward_passes(set()) == (4 + 2 * 3 + 2 * 4, 4 + 2 * 3 + 2 * 4)
    assert found.differs(*sorted((keys[0], keys[1]))) == "seeds.order"
    assert found.differs(first, last) == "task"
    assert not found.same_trajectory(first, last)
    own = found.profile_key("nli.validation", "weights", "linear", keys[0])
    assert own == found.profile_key("nli.validation", "weights", "linear", "a")
    assert own != found.profile_key("nli.validation", "weights", "linear")


def test_a_pair_that_no_row_set_scores_is_no_pair(tmp_path: Path):
    spec = sweep(connectivity=tasks(nli="path"), **TASKS)
    points = {point.trial.key: point for point in spec.points}
    found = Connections(spec, Store(tmp_path), points, labels_of)
    assert [set(pair) for pair in found.pairs()] == [{point.trial.key for point in spec.points[:2]}]


def test_thousands_of_minima_are_quick():
    spec = sweep({"differ": "seeds.order"}, axes={"seeds.order": list(range(50)), "seeds.init": list(range(40))})
    points = spec.points
    begin = time.process_time()
    selection = Selection(spec, points)
    pairs = list(selection.pairs())
    assert len(pairs) == 40 * 50 * 49 // 2
    assert {selection.differs(*pair) for pair in pairs} == {"seeds.order"}
    assert time.process_time() - begin < 10
