"""What a sweep lacks: before, after, when it grows, and when what is there is damaged or outdated."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymc.connectivity.kept import rows_of
from raymc.connectivity.pairs import Connections
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.curves import BezierCurve, LinearCurve
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import Evaluation, Profile
from raymc.specs.trial import TrialSpec
from raymc.store.rows import RowTable, write_rows
from raymc.store.store import Store


def kept(connections: Connections, group: str, name: str, t: tuple[float, ...] = (0.0,)) -> str:
    """Three rows, kept; the file's digest."""
    losses, shares = np.ones((len(t), 3), np.float32), np.full((3, 2), 0.5, np.float32) if len(t) == 1 else None
    of_row = (np.arange(3, dtype=np.int32), np.zeros(3, np.int16), np.ones(3, np.int32))
    table = RowTable(t, *of_row, losses, losses.astype(np.int16), shares, ("neg", "pos"))
    return write_rows(connections.store, group, name, table)


def evaluation(connections: Connections, key: str, split: str, **fields: Any) -> Evaluation:
    """Of a minimum as it is, its rows kept."""
    weights = connections.store.weights_digest("minima", key)
    numbers = {"rows": 3, "tokens": 9, "loss": 0.5, "metrics": {"accuracy": 0.5}, "seconds": 0.1, "device": "cpu"}
    file = kept(connections, connections.evaluation_key(split, connections.space(key)), key)
    body = {"minimum": key, "weights": weights, "split": split, "row_file": file}
    return Evaluation.model_validate({**body, **numbers, **fields})


def profile(connections: Connections, task: PairTask, split: str, **fields: Any) -> Profile:
    """Of a pair as it is, its rows kept where the sweep keeps them."""
    digest, t = connections.store.weights_digest, (0.0, 0.5, 1.0)
    group = connections.profile_key(split, task.space, task.curve)
    keeps = connections.spec.connectivity.rows
    body = {
        "a": task.a,
        "b": task.b,
        "curve": task.curve,
        "space": task.space,
        "split": split,
        "a_weights": digest("minima", task.a),
        "b_weights": digest("minima", task.b),
        "rows": 3,
        "tokens": 9,
        "t": t,
        "loss": (1.0, 2.0, 1.0),
        "metrics": {"accuracy": (1.0, 0.5, 1.0)},
        "length": (0.0, 1.0, 2.0),
        "fit": digest("curves", task.fit) if task.fit else "",
        "p_value": 0.5,
        "row_file": kept(connections, group, f"{task.a}-{task.b}", t) if keeps else "",
        "distance_l2": 1.0,
        "cosine": 0.5,
        "seconds": 0.1,
        "device": "cpu",
    }
    return Profile.model_validate(body | fields)


def complete(connections: Connections, keys: set[str]) -> None:
    """Put what is missing."""
    for task in connections.missing_endpoints(keys)[0]:
        for split in task.splits:
            connections.put(evaluation(connections, task.key, split))
    for task in connections.missing_pairs(keys)[0]:
        for split in task.splits:
            connections.put(profile(connections, task, split))


@pytest.fixture
def full(keys, trials) -> dict[str, TrialSpec]:
    return {key: trials[key] for key in keys["full"]}


# Missing, and then not -----------------------------------------------------------------------------------------------


def test_at_first_all_is_missing(store, full, connections):
    found = connections(store, full, splits=["validation", "test"])
    keys = sorted(full)
    endpoints, corrupt = found.missing_endpoints(set(full))
    both = ("validation", "test")
    groups = tuple(found.evaluation_key(split, "weights") for split in both)
    assert endpoints == [EndpointTask(key, "weights", both, groups, keep_rows=True) for key in keys]
    assert corrupt == []
    pairs, corrupt = found.missing_pairs(set(full))
    expected = [(keys[0], keys[1]), (keys[0], keys[2]), (keys[1], keys[2])]
    kept = {
        "records": tuple(found.profile_key(split, "weights", "linear") for split in both),
        "keep_rows": True,
        "end_groups": tuple((group, group) for group in groups),
        "points": 5,
    }
    assert pairs == [PairTask(a, b, "weights", "linear", both, ("path", "path"), **kept) for a, b in expected]
    assert {task.how for task in pairs} == {LinearCurve(curve="linear")}
    assert {task.fit for task in pairs} == {""}
    assert corrupt == []
    assert all(task.a < task.b for task in pairs)
    assert (found.done_endpoints(set(full)), found.done_pairs(set(full))) == (0, 0)


def test_what_was_put_is_there_and_no_longer_missing(store, full, connections):
    found = connections(store, full)
    complete(found, set(full))
    again = connections(store, full)
    assert again.missing_endpoints(set(full)) == ([], [])
    assert again.missing_pairs(set(full)) == ([], [])
    assert (again.done_endpoints(set(full)), again.done_pairs(set(full))) == (3, 3)
    key, (a, b) = min(full), sorted(full)[:2]
    assert again.evaluation(key, "validation") == evaluation(found, key, "validation")
    task = PairTask(a, b, "weights", "linear", ("validation",), ("path",))
    assert again.profile(a, b, "linear", "validation") == profile(found, task, "validation")


def test_one_split_of_two_is_half_the_work(store, full, connections):
    complete(connections(store, full, splits=["validation"]), set(full))
    both = connections(store, full, splits=["validation", "test"])
    endpoints, pairs = both.missing_endpoints(set(full))[0], both.missing_pairs(set(full))[0]
    assert {task.splits for task in endpoints} == {task.splits for task in pairs} == {("test",)}
    assert (len(endpoints), len(pairs)) == (3, 3)
    assert (both.done_endpoints(set(full)), both.done_pairs(set(full))) == (3, 0)


def test_growth_adds_the_new_pairs_alone(store, full, connections):
    old = set(sorted(full)[:2])
    complete(connections(store, {key: full[key] for key in old}), old)
    (new,) = set(full) - old
    grown = connections(store, full)
    assert [task.key for task in grown.missing_endpoints(set(full))[0]] == [new]
    pairs = [(task.a, task.b) for task in grown.missing_pairs(set(full))[0]]
    assert pairs == sorted(tuple(sorted((key, new))) for key in old)
    assert (grown.done_endpoints(set(full)), grown.done_pairs(set(full))) == (2, 1)


def test_a_minimum_that_is_not_there_yet_asks_for_nothing(store, full, connections):
    found = connections(store, full)
    there = set(sorted(full)[1:])
    assert {task.key for task in found.missing_endpoints(there)[0]} == there
    ((a, b),) = [(task.a, task.b) for task in found.missing_pairs(there)[0]]
    assert {a, b} == there
    assert list(found.pairs()) == list(itertools.combinations(sorted(full), 2))
    assert list(found.pairs(there)) == [(a, b)]


# What decides a record's place ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "evaluations", "profiles"),
    [
        ({"points": 7}, 0, 3),
        ({"precision": "bf16"}, 3, 3),
        ({"splits": ["test"]}, 3, 3),
        ({"space": "delta_w"}, 0, 0),  # full minima have one space
        ({}, 0, 0),
    ],
)
def test_a_changed_way_of_scoring_is_another_record(store, full, connections, change, evaluations: int, profiles: int):
    complete(connections(store, full), set(full))
    changed = connections(store, full, **change)
    assert len(changed.missing_endpoints(set(full))[0]) == evaluations
    assert len(changed.missing_pairs(set(full))[0]) == profiles
    complete(changed, set(full))
    assert connections(store, full).missing_pairs(set(full)) == ([], [])


def test_spaces_of_pairs(store, keys, trials, connections):
    full, lora = keys["full"][0], keys["lora"]
    auto, factors = connections(store, trials), connections(store, trials, space="factors")
    assert auto.space(full) == factors.space(full) == "weights"
    assert auto.space(full, keys["full"][1]) == factors.space(full, keys["full"][1]) == "weights"
    assert (auto.space(lora[0]), factors.space(lora[0])) == ("delta_w", "factors")
    assert (auto.space(*lora[:2]), factors.space(*lora[:2])) == ("delta_w", "factors")
    assert auto.space(full, lora[0]) == auto.space(lora[0], full) == "delta_w"
    for pair in ((full, lora[0]), (lora[0], full)):
        with pytest.raises(RaymcError, match="no factors; use connectivity"):
            factors.space(*pair)


def test_factors_and_delta_w_keep_apart(store, keys, trials, connections):
    lora = {key: trials[key] for key in keys["lora"]}
    complete(connections(store, lora, space="delta_w"), set(lora))
    factors = connections(store, lora, space="factors")
    assert (len(factors.missing_endpoints(set(lora))[0]), len(factors.missing_pairs(set(lora))[0])) == (3, 3)
    assert connections(store, lora).missing_pairs(set(lora)) == ([], [])


def test_a_real_run_of_all_kinds_of_pairs(store, keys, trials, connections, evaluator):
    """Full, LoRA and mixed pairs through the evaluator, by the tasks that were asked for."""
    some = {key: trials[key] for key in (*keys["full"][:2], *keys["lora"][:2])}
    found, worker = connections(store, some), evaluator(store)
    for task in found.missing_endpoints(set(some))[0]:
        for result in worker.endpoint(task):
            assert found.evaluation(task.key, result.split) is None
            found.put(result)
    for task in found.missing_pairs(set(some))[0]:
        ends = {split: (found.evaluation(task.a, split), found.evaluation(task.b, split)) for split in task.splits}
        for result in worker.pair(task, ends):
            found.put(result)
    assert found.missing_endpoints(set(some)) == ([], [])
    assert found.missing_pairs(set(some)) == ([], [])
    spaces = {}
    for a, b in found.pairs():
        there = found.profile(a, b, "linear", "validation")
        assert there is not None
        assert there.loss[0] == found.evaluation(a, "validation").loss
        assert there.loss[-1] == found.evaluation(b, "validation").loss
        spaces[a, b] = there.space
    assert sorted(spaces.values()) == ["delta_w"] * 5 + ["weights"]
    assert (found.done_endpoints(set(some)), found.done_pairs(set(some))) == (4, 6)


# Damage and change ---------------------------------------------------------------------------------------------------


def record(connections: Connections, kind: str, *keys: str) -> Path:
    """The file of a record, which has no other: each was put by itself."""
    group = (
        connections.evaluation_key("validation", connections.space(*keys))
        if kind == "evaluations"
        else connections.profile_key("validation", connections.space(*keys), "linear")
    )
    place = connections.store.place(kind, group, "-".join(keys))
    assert place is not None
    return connections.store.folder(kind, group) / place[0]


@pytest.mark.parametrize("how", ["edited", "cut", "empty"])
def test_a_damaged_record_is_set_aside_and_missing_again(store, full, connections, how: str):
    found = connections(store, full)
    complete(found, set(full))
    a, b, c = sorted(full)
    for path in (record(found, "evaluations", b), record(found, "profiles", a, c)):
        text = path.read_text()
        path.write_text({"edited": text.replace("0.5", "0.4"), "cut": text[:-20], "empty": ""}[how])
    found = connections(store, full)
    if how != "empty":  # then it isn't known what was there
        with pytest.raises(CorruptArtefact):
            found.evaluation(b, "validation")
    endpoints, corrupt = found.missing_endpoints(set(full))
    assert [task.key for task in endpoints] == [b]
    assert [error.kind for error in corrupt] == ["evaluations"]
    pairs, corrupt = found.missing_pairs(set(full))
    assert [(task.a, task.b) for task in pairs] == [(a, c)]
    assert [error.kind for error in corrupt] == ["profiles"]
    assert len(list((store.root / "set-aside").iterdir())) == 2
    assert found.missing_pairs(set(full))[1] == []
    complete(found, set(full))
    assert connections(store, full).missing_pairs(set(full)) == ([], [])


def test_records_of_other_weights_count_for_nothing(store: Store, full, connections):
    """A minimum that was trained again after damage takes its row of the matrix with it."""
    found = connections(store, full)
    complete(found, set(full))
    a, b, c = sorted(full)
    old = store.folder("minima", b).rename(store.root / "old")
    with store.create("minima", b) as folder:
        for path in old.iterdir():
            if path.name != "MANIFEST.json":
                (folder / path.name).write_bytes(path.read_bytes() + (b" " if path.suffix == ".safetensors" else b""))
    assert found.evaluation(b, "validation") is None
    assert found.evaluation(a, "validation") is not None
    assert [task.key for task in found.missing_endpoints(set(full))[0]] == [b]
    assert [(task.a, task.b) for task in found.missing_pairs(set(full))[0]] == [(a, b), (b, c)]
    complete(found, set(full))
    assert found.missing_pairs(set(full)) == ([], [])


def test_a_minimum_whose_manifest_is_damaged_is_not_a_records_fault(store, full, connections):
    found = connections(store, full)
    complete(found, set(full))
    (store.folder("minima", min(full)) / "MANIFEST.json").write_text("{}")
    with pytest.raises(CorruptArtefact) as caught:
        found.missing_endpoints(set(full))
    assert caught.value.kind == "minima"
    with pytest.raises(CorruptArtefact):
        found.missing_pairs(set(full))
    assert len(store.records("evaluations", found.evaluation_key("validation", "weights"))) == 3


# Curves --------------------------------------------------------------------------------------------------------------

BEND = {"curve": "bezier", "fit": {"steps": 2}}
CURVES = ["linear", {"curve": "linear", "moves": ["attention"]}, "spherical", "aligned", BEND, {**BEND, "bends": 2}]
TITLES = ("linear", "linear-attention", "spherical", "aligned", "bezier", "bezier-2")


def fitted(connections: Connections, a: str, b: str, curve: str, bend: bytes = b"bend", **fields: Any) -> None:
    """A fitted curve, as far as its place, its ends and the digest of its bend go."""
    digest = connections.store.weights_digest
    with connections.store.create("curves", connections.fit_key(a, b, curve)) as folder:
        ends = {"a_weights": digest("minima", a), "b_weights": digest("minima", b)}
        (folder / "curve.json").write_text(json.dumps({**ends, **fields}))
        (folder / "curve.safetensors").write_bytes(bend)


def test_each_curve_has_profiles_of_its_own(store, full, connections):
    found = connections(store, full, curves=CURVES)
    assert len({found.profile_key("validation", "weights", title) for title in TITLES}) == len(TITLES)
    assert found.total_pairs() == 3 * len(TITLES)
    pairs = found.missing_pairs(set(full))[0]
    assert [task.curve for task in pairs] == [title for title in TITLES for _ in range(3)]
    assert [task.how for task in pairs[::3]] == list(found.spec.connectivity.curves)
    assert [bool(task.fit) for task in pairs[::3]] == [False, False, False, False, True, True]
    assert len({task.fit for task in pairs}) == 1 + 6
    known = {task.curve: task.known for task in pairs}
    assert known == {title: ((True, title not in ("linear-attention", "aligned")),) for title in TITLES}
    straight = connections(store, full)
    complete(straight, set(full))
    assert found.done_pairs(set(full)) == 3
    assert {task.curve for task in found.missing_pairs(set(full))[0]} == set(TITLES) - {"linear"}


def test_a_curve_goes_by_its_content_and_not_by_its_name(store, full, connections):
    complete(connections(store, full), set(full))
    called = connections(store, full, curves=[{"curve": "linear", "name": "straight", "space": "delta_w"}])
    assert called.missing_pairs(set(full)) == ([], [])
    a, b = sorted(full)[:2]
    found = called.profile(a, b, "straight", "validation")
    assert found is not None
    assert found.curve == "straight"


def test_two_names_of_one_curve_are_one_piece_of_work(store, full, connections):
    """Full minima have one space, so these differ in nothing."""
    found = connections(store, full, curves=[BEND, {**BEND, "space": "delta_w"}])
    assert [curve for *_, curve in found.missing_fits(set(full))] == ["bezier"] * 3
    for pair in itertools.combinations(sorted(full), 2):
        fitted(found, *pair, "bezier")
    tasks = found.missing_pairs(set(full))[0]
    assert [task.curve for task in tasks] == ["bezier"] * 3
    complete(found, set(full))
    assert found.missing_pairs(set(full)) == ([], [])
    assert found.done_pairs(set(full)) == found.total_pairs() == 6


def test_a_split_that_a_curve_is_chosen_on_goes_by_the_row_set_s_name(store, full, connections, dataset: Path):
    """Tables mark its figures as optimistic, whatever the sweep calls these rows."""
    task = {"dataset": {"path": str(dataset)}, "max_length": 16}
    elsewhere = {"dataset": {"builtin": "grammar"}, "labels": ["neg", "pos"], "head": "path"}
    choosing = {"curve": "bezier", "fit": {"steps": 2, "select": "validation"}}
    sets: dict[str, Any] = {"splits": ["validation", "test"], "curves": [choosing]}
    found = connections(store, full, **sets, tasks={"sst": task, "other": elsewhere})
    a, b = sorted(full)[:2]
    fitted(found, a, b, "bezier")
    task_of = next(task for task in found.missing_pairs({a, b})[0])
    for split in task_of.splits:
        found.put(profile(found, task_of, split, chosen_on="validation"))
    marks = {split: one.chosen_on for split in task_of.splits if (one := found.profile(a, b, "bezier", split))}
    assert marks["sst.validation"] == "sst.validation"
    assert marks["sst.test"] == "validation"
    plain = connections(store, full, **sets)  # the same records under their splits' own names
    assert [getattr(plain.profile(a, b, "bezier", s), "chosen_on", None) for s in sets["splits"]] == ["validation"] * 2


def test_a_curve_may_have_a_space_of_its_own(store, keys, trials, connections):
    lora = {key: trials[key] for key in keys["lora"]}
    found = connections(store, lora, curves=["linear", {"curve": "linear", "space": "factors"}])
    a, b = sorted(lora)[:2]
    spaces = {curve: found.space(a, b, curve=curve) for curve in ("linear", "linear-factors")}
    assert spaces == {"linear": "delta_w", "linear-factors": "factors"}
    assert (found.space(a, b), found.space(a)) == ("delta_w", "delta_w")
    tasks = found.missing_pairs(set(lora))[0]
    assert [(task.curve, task.space) for task in tasks] == [pair for pair in spaces.items() for _ in range(3)]
    assert len({task.end_groups for task in tasks}) == 1  # an end's evaluation is that in the sweep's space


def test_passes_over_ends_that_are_no_minima_are_counted(store, full, connections):
    """Five points a path: three between, and an end more where it must be scored; and each minimum once."""
    assert connections(store, full, curves=CURVES).forward_passes(set()) == (3 + 6 * 9 + 2 * 3, 3 + 6 * 9 + 2 * 3)
    some = connections(store, full)
    complete(some, set(full))
    assert some.forward_passes(set(full)) == (0, 12)
    assert connections(store, full, curves=CURVES).forward_passes(set(full)) == (5 * 9 + 2 * 3, 63)


def test_fits_are_missing_until_they_are_there(store, full, connections):
    found = connections(store, full, curves=["linear", BEND])
    a, b, c = sorted(full)
    assert connections(store, full).missing_fits(set(full)) == []
    assert found.missing_fits(set(full)) == [(a, b, "bezier"), (a, c, "bezier"), (b, c, "bezier")]
    assert found.missing_fits({a, c}) == [(a, c, "bezier")]
    fitting = found.fitting(a, b, "bezier")
    assert (fitting.a, fitting.b, fitting.space, fitting.kind) == (a, b, "weights", "classifier")
    assert fitting.curve == BezierCurve.model_validate(BEND)
    assert fitting.task == found.spec.task
    assert (found.fit_key(a, b, "bezier"), found.fit_key(a, b, "linear")) == (fitting.key, "")
    for pair in ((a, b), (a, c), (b, c)):
        fitted(found, *pair, "bezier")
    assert found.missing_fits(set(full)) == []
    complete(found, set(full))
    assert found.missing_pairs(set(full)) == ([], [])


def test_a_fit_between_other_weights_is_set_aside(store, full, connections):
    found = connections(store, full, curves=[BEND])
    a, b, c = sorted(full)
    fitted(found, a, b, "bezier", b_weights="before")
    fitted(found, a, c, "bezier")
    fitted(found, b, c, "bezier")
    (store.folder("curves", found.fit_key(b, c, "bezier")) / "curve.json").write_text("{")
    assert found.missing_fits(set(full)) == [(a, b, "bezier"), (b, c, "bezier")]
    assert len(list((store.root / "set-aside").iterdir())) == 2
    there = {pair: store.has("curves", found.fit_key(*pair, "bezier")) for pair in ((a, b), (a, c), (b, c))}
    assert there == {(a, b): False, (a, c): True, (b, c): False}


def test_a_profile_of_another_fit_counts_for_nothing(store, full, connections):
    """A curve that was damaged and fitted again, on another machine say, is another path."""
    found = connections(store, full, curves=[BEND])
    a, b = sorted(full)[:2]
    for pair in itertools.combinations(sorted(full), 2):
        fitted(found, *pair, "bezier")
    complete(found, set(full))
    store.set_aside("curves", found.fit_key(a, b, "bezier"))
    assert [(task.a, task.b) for task in found.missing_pairs(set(full))[0]] == [(a, b)]
    fitted(found, a, b, "bezier", bend=b"another")
    assert found.profile(a, b, "bezier", "validation") is None
    complete(found, set(full))
    profile = found.profile(a, b, "bezier", "validation")
    assert profile is not None
    assert profile.fit == store.weights_digest("curves", found.fit_key(a, b, "bezier"))


# Rows ----------------------------------------------------------------------------------------------------------------


def only(folder: Path, name: str) -> Path:
    """The one file of rows of that name; a hash comes after it."""
    (found,) = (path for path in folder.iterdir() if path.name.rpartition("-")[0] == name)
    return found


def test_rows_that_are_gone_are_missing_again(store, full, connections):
    found = connections(store, full)
    complete(found, set(full))
    a, b, c = sorted(full)
    folders = [found.evaluation_key("validation", "weights"), found.profile_key("validation", "weights", "linear")]
    for folder, name in zip(folders, (a, f"{b}-{c}"), strict=True):
        only(store.root / "rows" / folder, name).unlink()
    endpoints, corrupt = found.missing_endpoints(set(full))
    assert ([task.key for task in endpoints], corrupt) == ([a], [])
    pairs, corrupt = found.missing_pairs(set(full))
    assert ([(task.a, task.b) for task in pairs], corrupt) == ([(b, c)], [])
    complete(found, set(full))
    assert found.missing_endpoints(set(full)) == found.missing_pairs(set(full)) == ([], [])


def test_rows_that_are_not_what_was_written_are_made_again(store, full, connections):
    found = connections(store, full)
    complete(found, set(full))
    a, b, _ = sorted(full)
    along, end = found.profile(a, b, "linear", "validation"), found.evaluation(a, "validation")
    assert along is not None
    assert end is not None
    assert (rows_of(found, along).t, rows_of(found, end).t) == (along.t, (0.0,))
    group = found.profile_key("validation", "weights", "linear")
    only(store.root / "rows" / group, f"{a}-{b}").write_bytes(b"other")
    with pytest.raises(CorruptArtefact, match="makes it anew"):
        rows_of(found, along)
    assert [(task.a, task.b) for task in found.missing_pairs(set(full))[0]] == [(a, b)]
    complete(found, set(full))
    assert found.missing_pairs(set(full)) == ([], [])


def test_a_sweep_that_keeps_no_rows_of_pairs_asks_for_none(store, full, connections):
    """Those of minima are kept all the same: the ends of paths are read from them."""
    found = connections(store, full, rows=False)
    tasks = found.missing_pairs(set(full))[0]
    assert {(task.keep_rows, task.groups) for task in tasks} == {(False, ())}
    assert {task.records for task in tasks} == {
        task.records for task in connections(store, full).missing_pairs(set(full))[0]
    }
    assert all(task.end_groups for task in tasks)
    assert all(task.groups for task in found.missing_endpoints(set(full))[0])
    complete(found, set(full))
    assert found.missing_pairs(set(full)) == ([], [])
    keeping = connections(store, full)
    assert keeping.missing_endpoints(set(full)) == ([], [])
    assert len(keeping.missing_pairs(set(full))[0]) == 3  # the records are there, the rows aren't
    complete(keeping, set(full))
    assert found.missing_pairs(set(full)) == keeping.missing_pairs(set(full)) == ([], [])
