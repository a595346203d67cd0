"""Stored results of a sweep: kept in batches, read once, and only while they stand in the store."""

from __future__ import annotations

import pytest

from raymc.connectivity.pairs import Connections
from raymc.connectivity.records import Groups, Names, Records, keep
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.results import Evaluation, Profile
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store

NUMBERS = {"rows": 3, "tokens": 9, "seconds": 0.1, "device": "cpu", "row_file": "a digest"}


def results(store: Store, task: EndpointTask | PairTask) -> list[Evaluation | Profile]:
    """Of each row set of a task, with a file of rows that only has its name."""
    keys = (task.key,) if isinstance(task, EndpointTask) else (task.a, task.b)
    weights = [store.weights_digest("minima", key) for key in keys]
    made = []
    for split, group in zip(task.splits, task.records, strict=True):
        body = {**NUMBERS, "split": split}
        file = layout.rows_file("-".join(keys), str(body["row_file"]))
        store.write_file(store.folder("rows", group) / file, b"")
        if isinstance(task, EndpointTask):
            body |= {"minimum": task.key, "weights": weights[0], "loss": 0.5, "metrics": {"accuracy": 0.5}}
            made.append(Evaluation.model_validate(body))
        else:
            body |= {"a": task.a, "b": task.b, "a_weights": weights[0], "b_weights": weights[1], "curve": "linear"}
            body |= {"space": task.space, "t": (0, 1), "loss": (1, 2), "metrics": {"accuracy": (1, 0)}, "p_value": 0.5}
            made.append(Profile.model_validate(body | {"length": (0, 1), "distance_l2": 1, "cosine": 0.5}))
    return made


@pytest.fixture
def full(keys, trials) -> dict[str, TrialSpec]:
    return {key: trials[key] for key in keys["full"]}


@pytest.fixture
def found(store: Store, full, connections) -> Connections:
    """Of three minima on two row sets, all of it kept in one go."""
    found = connections(store, full, splits=["validation", "test"])
    keep(store, [(task, results(store, task)) for task in found.missing_endpoints(set(full))[0]])
    keep(store, [(task, results(store, task)) for task in found.missing_pairs(set(full))[0]])
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the records that are read from here on."""
    names: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda store, *what: (names.append(what[-1]), get(store, *what))[1])
    return names


def test_what_tasks_found_is_one_file_a_group(store, full, connections, found):
    for kind in (layout.EVALUATIONS, layout.PROFILES):
        groups = list((store.root / kind).iterdir())
        assert [len(list(group.iterdir())) for group in groups] == [1, 1]
        assert [len(store.records(kind, group.name)) for group in groups] == [3, 3]
    afresh = connections(Store(store.root), full, splits=["validation", "test"])
    assert afresh.missing_endpoints(set(full)) == ([], [])
    assert afresh.missing_pairs(set(full)) == ([], [])


def test_a_result_is_read_once_while_it_stands(store, full, found, asked):
    a, b, _ = sorted(full)
    for _ in range(3):
        before = found.profile(a, b, "linear", "validation")
        assert found.evaluation(a, "validation") is not None
    assert asked == [f"{a}-{b}", a]
    assert before is not None
    later = before.model_copy(update={"p_value": 0.25})
    Connections.put(found, later)
    assert found.profile(a, b, "linear", "validation") == later
    store.set_aside(layout.PROFILES, f"{found.profile_key('validation', 'weights', 'linear')}/{a}-{b}.json")
    assert found.profile(a, b, "linear", "validation") is None
    assert (found.done_endpoints(set(full)), found.done_pairs(set(full))) == (6, 2)


def test_only_so_many_results_are_in_memory(store, found, full, asked):
    records, groups = Records(store, found.spec, kept=2), Groups(found.spec)
    group = groups.evaluation("validation", "weights", "fp32")
    for _ in range(2):
        for key in sorted(full):
            assert records.evaluation(group, key, "validation") == found.evaluation(key, "validation")
    assert len(records._read) == 2
    assert len(asked) == 2 * 3 + 3  # `found` has room for all


def test_names_of_a_group_are_listed_once(store, full, found):
    names = Names(store, layout.EVALUATIONS)
    group = found.evaluation_key("test", "weights")
    assert names.of(group) == set(full)
    store.set_aside(layout.EVALUATIONS, f"{group}/{min(full)}.json")
    assert names.of(group) == set(full)
    assert Names(store, layout.EVALUATIONS).of(group) == set(full) - {min(full)}
