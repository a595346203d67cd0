"""Counts by kinds of pairs against a look at every pair."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raymc.connectivity.pairs import Connections
from raymc.connectivity.work import known_ends
from raymc.specs.errors import RaymcError
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.task import TaskSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import trials_by_key

GRAMMAR = {"dataset": {"builtin": "grammar"}, "max_length": 16}
HARBOUR = {"dataset": {"builtin": "grammar", "domain": "harbour"}, "labels": ["no", "yes", "maybe"], "max_length": 16}
FIT = {"steps": 10, "batch_size": 4}


def labels_of(task: TaskSpec) -> tuple[str, ...] | None:
    return task.labels or ("neg", "pos")


def sweep(**connectivity: Any) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "some",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": GRAMMAR,
            "train": {"steps": 10},
            "axes": {
                "task": [GRAMMAR, HARBOUR],
                "tuning": [{"method": "full"}, {"method": "lora"}, {"method": "lora", "rank": 4}],
                "seeds.order": [1, 2],
                "train.snapshot": [5, None],
            },
            "connectivity": {"points": 7} | connectivity,
        }
    )


SPECS = [
    sweep(pairs={"differ": ["seeds", "tuning", "task"]}, tasks={"own": GRAMMAR}),
    sweep(
        tasks={"own": GRAMMAR | {"splits": ["validation", "test"]}, "other": HARBOUR | {"head": "own"}},
        pairs={"across": ["task"], "same_trajectory": True},
        curves=["linear", {"curve": "linear", "name": "blocks", "layers": [1]}],
    ),
    sweep(
        tasks={"own": GRAMMAR | {"head": "path"}, "other": HARBOUR | {"head": "path"}},
        pairs={"within": ["tuning.method"]},
        curves=["linear", {"curve": "linear", "name": "merged", "space": "delta_w"}],
    ),
]
POINTS: list[dict[str, Point]] = [trials_by_key(spec) for spec in SPECS]


def groups(found: Connections, a: str, b: str, curve: str) -> dict[str, str]:
    """Of each row set: where the pair's record goes."""
    space = found.space(a, b, curve=curve)
    return {split: found.profile_key(split, space, curve, head) for split, head in found.heads(a, b).items()}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("which", range(len(SPECS)))
def test_counts_are_those_of_all_pairs_one_by_one(tmp_path: Path, which: int, seed: int):
    spec, points, random = SPECS[which], POINTS[which], Random(seed)
    store = Store(tmp_path)
    found = Connections(spec, store, points, labels_of)
    order = sorted(points)
    keys = {key for key in order if random.random() < 0.7}
    chosen = [(order[i], order[j]) for i, j in found.selection.pairs()]
    pairs = [pair for pair in chosen if found.heads(*pair)]
    assert 0 < len(pairs) < len(order) * (len(order) - 1) / 2
    assert list(found.pairs()) == pairs
    assert list(found.pairs(keys)) == [(a, b) for a, b in pairs if a in keys and b in keys]
    records: dict[str, set[str]] = {}
    drawn: dict[tuple[str, str, str], bool] = {}  # two names of one curve have one record
    whole = todo = 0
    total = sum(len(found.endpoint_splits(key)) for key in order)
    todo += total
    for how in spec.connectivity.curves:
        for a, b in pairs:
            missing = 0
            for split, group in groups(found, a, b, how.title).items():
                passes = 5 + known_ends(how, found.heads(a, b)[split]).count(False)
                there = drawn.setdefault((group, a, b), random.random() < 0.8)
                records.setdefault(group, {"0-1", f"{a}-gone"})
                if there:
                    records[group].add(f"{a}-{b}")
                counted = there and a in keys and b in keys
                total, todo, missing = total + passes, todo + passes * (not counted), missing + (not counted)
            whole += not missing
    for group, names in records.items():
        store.put_many(layout.PROFILES, group, {name: {} for name in names})
    assert found.total_pairs() == len(pairs) * len(spec.connectivity.curves)
    assert found.forward_passes(keys) == (todo, total)
    assert found.done_pairs(keys) == whole


def test_pairs_without_a_space_are_said(tmp_path: Path):
    spec = SPECS[2].model_copy(
        update={"connectivity": SPECS[2].connectivity.model_copy(update={"space": "factors", "pairs": "all"})}
    )
    found = Connections(spec, Store(tmp_path), POINTS[2], labels_of)
    with pytest.raises(RaymcError) as first:
        _ = [found.space(a, b, curve="linear") for a, b in found.pairs()]
    with pytest.raises(RaymcError, match=re.escape(str(first.value))):
        found.forward_passes(set())


def test_adaptive_profiles_count_as_expected_until_some_are_finished(tmp_path: Path):
    spec = sweep(points={"adaptive": {"points": 26}}, tasks={"own": GRAMMAR}, pairs={"within": ["task"]})
    found = Connections(spec, Store(tmp_path), trials_by_key(spec), labels_of)
    pairs, ends = found.total_pairs(), 12
    assert found.forward_passes(set()) == (pairs * 6 + ends,) * 2
    assert found.counts.forward_passes(set(), interior=4.5) == (round(pairs * 4.5) + ends,) * 2
    assert found.counts.measured_passes(set()) is None


@pytest.mark.parametrize("listed", [100_000, 0])
def test_fits_that_are_there_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int):
    """Looked up one by one, or where they are many by what the stored ones say of their ends."""
    monkeypatch.setattr("raymc.connectivity.counts._LISTED", listed)
    curves = ["linear", {"curve": "bezier", "fit": FIT}, {"curve": "bezier", "name": "more", "fit": FIT | {"steps": 9}}]
    spec = sweep(curves=curves, pairs={"differ": ["seeds.order"]})
    found = Connections(spec, Store(tmp_path), trials_by_key(spec), labels_of)
    assert found.counts.fits() == {"bezier": (6, 0), "more": (6, 0)}
    first, second = list(found.pairs())[:2]
    for (a, b), curve in ((first, "bezier"), (second, "bezier"), (second, "more")):
        with found.store.create(layout.CURVES, found.fit_key(a, b, curve)) as folder:
            (folder / layout.CURVE).write_text(json.dumps({"a": a, "b": b}))
    assert found.counts.fits() == {"bezier": (6, 2), "more": (6, 1)}
