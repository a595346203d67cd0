"""Tables made from a store's records: the floor, what is scored on which task, and another sweep's names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raymc.connectivity.pairs import Connections
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import Evaluation, Profile
from raymc.specs.sweep import SweepSpec
from raymc.store.rows import RowTable, write_rows
from raymc.store.store import Store
from raymc.sweep.results import open_sweep, write_sweep
from raymc.sweep.tables import assemble

NLI = {"dataset": {"builtin": "grammar", "domain": "harbour"}, "labels": ["no", "yes", "maybe"], "max_length": 16}
SST = {"dataset": {"builtin": "grammar"}, "labels": ["neg", "pos"], "max_length": 16}
NUMBERS = {"rows": 3, "tokens": 9, "seconds": 0.1, "device": "cpu"}
SHARED = {"calibration_error": (0.1, 0.2, 0.1), "agreement_a": (1, 0.5, 0.25), "agreement_b": (0.25, 0.5, 1)}
SHARED |= {"jensen_shannon_a": (0, 0.1, 0.2), "jensen_shannon_b": (0.2, 0.1, 0)}
QUALITY = {0: 0.9, 1: 0.6, 2: 0.8, 3: 0.7}  # accuracy of each minimum, in the order of the points


def sweep(**connectivity: Any) -> SweepSpec:
    body = {
        "name": "some",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": SST,
        "train": {"steps": 10},
        "axes": {"task": [NLI, SST], "train.snapshot": [5, None]},
        "connectivity": {"points": 3, "tasks": {"nli": NLI, "sst": SST}, **connectivity},
    }
    return SweepSpec.model_validate(body)


def rows(t: tuple[float, ...]) -> RowTable:
    losses, shares = np.ones((len(t), 3), np.float32), np.full((3, 2), 0.5, np.float32) if len(t) == 1 else None
    of_row = (np.arange(3, dtype=np.int32), np.zeros(3, np.int16), np.ones(3, np.int32))
    return RowTable(t, *of_row, losses, losses.astype(np.int16), shares, ("a", "b"))


def connections(spec: SweepSpec, store: Store) -> Connections:
    return Connections(spec, store, {point.trial.key: point for point in spec.points})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The four minima (snapshots of a run each on two tasks), as far as tables look at them."""
    store = Store(tmp_path / "store")
    store.prepare()
    for point in sweep().points:
        with store.create("minima", point.trial.key) as folder:
            (folder / "model.safetensors").write_bytes(point.trial.key.encode())
    return store


def complete(found: Connections, keys: list[str]) -> None:
    """Put a record for all that is missing: accuracies as in QUALITY, with a peak of 1 nat between two."""
    quality = {key: QUALITY[i] for i, key in enumerate(keys)}
    weights = {key: found.store.weights_digest("minima", key) for key in keys}
    for task in found.missing_endpoints(set(keys))[0]:
        for split in task.splits:
            metrics = {"accuracy": quality[task.key], "f1_macro": 0.5}
            group = found.evaluation_key(split, task.space)
            body = {"minimum": task.key, "weights": weights[task.key], "split": split, "loss": 1 - quality[task.key]}
            body |= {"row_file": write_rows(found.store, group, task.key, rows((0.0,)))}
            metrics["calibration_error"] = 0.125
            found.put(Evaluation.model_validate({**NUMBERS, **body, "metrics": metrics}))
    for task in found.missing_pairs(set(keys))[0]:
        for split, head in zip(task.splits, task.heads, strict=True):
            body = {"a": task.a, "b": task.b, "a_weights": weights[task.a], "b_weights": weights[task.b]}
            body |= {"curve": task.curve, "space": task.space, "split": split, "t": (0, 0.5, 1), "loss": (1, 2, 1)}
            body |= {"head": {"path": "path", "a": task.a, "b": task.b}[head], "distance_l2": 2.0, "cosine": 0.5}
            metrics = {"accuracy": (1, 0.75, 0.5), "f1_macro": (0, 0, 0), **SHARED}
            group, name = found.profile_key(split, task.space, task.curve, head), f"{task.a}-{task.b}"
            body |= {"row_file": write_rows(found.store, group, name, rows((0.0, 0.5, 1.0)))}
            body |= {"length": (0, 1, 2), "p_value": 0.01, "intervals": {"barrier_entezari": (0.5, 1.5)}}
            found.put(Profile.model_validate({**NUMBERS, **body, "metrics": metrics}))


def test_tables_of_two_tasks_with_their_own_heads(store: Store):
    spec = sweep(pairs={"differ": ["task", "train.snapshot"], "same_trajectory": True})
    keys = [point.trial.key for point in spec.points]
    found = connections(spec, store)
    complete(found, keys)
    tables, whole, lacking = assemble(connections(spec, store), {point.trial.key: point for point in spec.points})
    assert whole == found.total_pairs() == 4
    assert not lacking
    minima = tables["minima"]
    assert list(minima["key"]) == keys
    assert list(minima["nli.validation_accuracy"][:2]) == [0.9, 0.6]
    assert minima["nli.validation_accuracy"][2:].isna().all()
    assert list(minima["sst.validation_accuracy"][2:]) == [0.8, 0.7]
    assert not minima["below_floor"].any()
    assert minima["trajectory"].nunique() == 2
    assert minima["trajectory"][0] == minima["trajectory"][1] == keys[1]
    assert minima["name"][1].endswith("snapshot=None")
    barriers = tables["barriers"]
    inside = barriers[barriers["differs"] == "train.snapshot"]
    across = barriers[barriers["differs"] == "task"]
    assert (len(inside), len(across), len(barriers)) == (2, 4, 6)  # across tasks, each is scored with its own head
    assert inside["same_trajectory"].all()
    assert not across["same_trajectory"].any()
    assert set(inside["head"]) == {"path"}
    owners = dict(zip(keys, ("nli", "nli", "sst", "sst"), strict=True))
    assert all(owners[row["head"]] == row["split"].split(".")[0] for _, row in across.iterrows())
    assert set(tables["profiles"]["head"]) == set(barriers["head"])
    assert (barriers["barrier_entezari"] == 1.0).all()
    assert barriers["barrier_frankle"].tolist() == [0.25] * 6
    assert barriers["barrier_entezari_low"].tolist() == [0.5] * 6
    assert barriers["agreement_ends"].tolist() == [0.25] * 6
    assert barriers["p_holm"].tolist() == pytest.approx([0.03] * 6)  # of three pairs on each row set
    assert minima["nli.validation_calibration_error"][:2].tolist() == [0.125] * 2
    assert tables["profiles"]["calibration_error"].tolist() == [0.1, 0.2, 0.1] * 6
    assert tables["profiles"]["jensen_shannon_a"].tolist() == [0, 0.1, 0.2] * 6


@pytest.mark.parametrize(
    ("floor", "weak"),
    [
        ({"value": 0.75}, [1, 3]),  # each on the task that it is scored on
        ({"value": 0.75, "split": "nli.validation"}, [1]),
        ({"value": 0.25, "metric": "loss"}, [1, 3]),
        ({"value": 0.2, "metric": "loss", "split": "sst.validation"}, [3]),
        ({"value": 0.5, "metric": "f1_macro"}, []),
        (None, []),
    ],
)
def test_minima_below_the_floor_count_in_no_conclusion(store: Store, floor: Any, weak: list[int]):
    spec = sweep(floor=floor)
    points = {point.trial.key: point for point in spec.points}
    found = connections(spec, store)
    complete(found, list(points))
    tables, _, _ = assemble(found, points)
    below = {list(points)[i] for i in weak}
    assert set(tables["minima"]["key"][tables["minima"]["below_floor"]]) == below
    barriers = tables["barriers"]
    assert list(barriers["below_floor"]) == [
        bool({a, b} & below) for a, b in zip(barriers["a"], barriers["b"], strict=True)
    ]
    result = {"minima": {}, "pairs": {}}
    write_sweep(store, spec, tables, result, [])
    sweep_found = open_sweep("some", storage=store.uri)
    assert sweep_found.weak() == below
    summary = sweep_found.summary()
    assert summary["pairs"].sum() == (~barriers["below_floor"]).sum()
    assert summary["left_out"].sum() == barriers["below_floor"].sum()
    matrix = sweep_found.matrix(floor=True)
    assert matrix.loc[sorted(below)].isna().all().all()
    assert sweep_found.matrix().notna().sum().sum() == 2 * (barriers["split"] == "nli.validation").sum()
    assert sweep_found.splits == ("nli.validation", "sst.validation")


def test_a_record_of_another_sweep_goes_by_this_one_s_name(store: Store):
    spec = sweep()
    keys = [point.trial.key for point in spec.points]
    complete(connections(spec, store), keys)
    renamed = sweep(tasks={"entailment": NLI})
    found = connections(renamed, store)
    assert found.missing_endpoints(set(keys[:2])) == ([], [])
    assert found.missing_pairs(set(keys)) == ([], [])
    evaluation = found.evaluation(keys[0], "entailment.validation")
    assert evaluation is not None
    assert evaluation.split == "entailment.validation"
    a, b = next(found.pairs())
    profile = found.profile(a, b, "linear", "entailment.validation")
    assert profile is not None
    assert profile.split == "entailment.validation"


def test_a_record_with_another_head_is_missing(store: Store):
    """An interpolated head and a fixed one are different paths of the same weights."""
    spec = sweep()
    keys = [point.trial.key for point in spec.points]
    complete(connections(spec, store), keys)
    own = connections(sweep(tasks={"nli": NLI | {"head": "own"}}, pairs={"same_trajectory": True}), store)
    missing = own.missing_pairs(set(keys))[0]
    assert [{task.a, task.b} for task in missing] == [set(keys[:2])]
    assert {task.heads for task in missing} == {("a",)}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, SweepSpec]:
    """A sweep whose tables were written once, and then again by a run that was killed between two of them."""

    class Killed(BaseException):
        pass

    store, spec = Store(tmp_path / "storage"), sweep()
    write(store, spec, ["a"])
    real = store.write_file

    def killed(path: Path, content: bytes) -> None:
        if path.name == "barriers.parquet":
            raise Killed
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_file", killed)
        with pytest.raises(Killed):
            write(store, spec, ["a", "b"])
    return store, spec


def write(store: Store, spec: SweepSpec, keys: list[str]) -> None:
    last = {"minima": "below_floor", "barriers": "p_holm"}
    tables = {name: pd.DataFrame({"key": keys, column: 0.5}) for name, column in last.items()}
    write_sweep(store, spec, tables, {"precision": None}, [])


def test_a_reader_waits_for_tables_that_are_being_written(written: tuple[Store, SweepSpec]):
    store, spec = written
    found = open_sweep(spec.name, storage=str(store.root))
    assert list(found.barriers()["key"]) == ["a"]  # not reached yet
    writer = threading.Timer(0.3, write, (store, spec, ["a", "b"]))
    writer.start()
    try:
        assert list(found.minima()["key"]) == ["a", "b"]
    finally:
        writer.join()


def test_tables_whose_writer_was_cut_off_are_told_from_damage(
    written: tuple[Store, SweepSpec], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raymc.sweep.results._WRITING_SECONDS", 0.1)
    monkeypatch.setattr("raymc.sweep.results._LOOK_SECONDS", 0.02)
    store, spec = written
    found = open_sweep(spec.name, storage=str(store.root))
    with pytest.raises(RaymcError, match=r"was cut off while it did; try again in a moment, or let `raymc run`") as cut:
        found.minima()
    assert not isinstance(cut.value, CorruptArtefact)
    (store.root / "sweeps" / spec.name / "minima.parquet").write_bytes(b"damaged")
    with pytest.raises(CorruptArtefact, match=r"minima\.parquet is not what was written"):
        found.minima()
    write(store, spec, ["a", "b"])
    assert list(found.minima()["key"]) == ["a", "b"]
    assert "coming" not in (store.root / "sweeps" / spec.name / "MANIFEST.json").read_text()
