"""Drift and speed of bfloat16 at a sample of points, against passes that are made by hand."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raymc.connectivity import precision
from raymc.connectivity.pairs import Connections
from raymc.connectivity.precision import Part, chosen_rows, measure, native
from raymc.connectivity.work import PairTask
from raymc.runtime.probe import Probe, _measured
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.precision import Decision

ROWS = {"validation": 13, "test": 7}


@pytest.fixture(autouse=True)
def _able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native", lambda device: True)


@pytest.fixture
def found(master, keys, trials, connections) -> Connections:
    return connections(master[0], {key: trials[key] for key in keys["full"]})


def clock(fp32: float, bf16: float) -> Callable[[], float]:
    """Each pass in fp32 takes so many seconds, each in bf16 so many."""
    return itertools.accumulate(itertools.cycle([1.0, fp32, 1.0, bf16])).__next__


def part(found: Connections, *t: float, split: str = "validation") -> Part:
    tasks, _ = found.missing_pairs(set(found.points))
    return Part("one", split, tuple((tasks[i % len(tasks)], at) for i, at in enumerate(t)))


def by_hand(evaluator: Any, task: PairTask, t: float) -> np.ndarray:
    """Losses of the validation rows at a point in fp32, one row a batch."""
    plain, path, _ = evaluator.path(task, "", evaluator.labels("validation"))
    path.curve.point(t, plain.flat)
    rows = []
    for row in range(ROWS["validation"]):
        scorer = evaluator.scorer(task.a, "validation", np.array([row]))
        rows.append(scorer.by_row(plain.model).loss[0])
    return np.array(rows)


def test_drift_error_and_speed_are_those_of_passes_by_hand(master, found, evaluator):
    one = part(found, 0.5, 0.0, 0.25)
    decision = measure(evaluator(master[0]), [one], ROWS, 1.0, clock=clock(3.0, 1.5))["one"]
    assert decision.precision == "bf16"
    assert decision.seconds == {"fp32": 3.0, "bf16": 1.5}
    assert decision.speed == 2.0
    assert [(point.a, point.b, point.t, point.rows) for point in decision.sample] == [
        (task.a, task.b, t, 13) for task, t in one.points
    ]
    for point, (task, t) in zip(decision.sample, one.points, strict=True):
        losses = by_hand(evaluator(master[0]), task, t)
        assert point.fp32 == pytest.approx(losses.mean(), abs=1e-6)
        assert 0 < point.drift < 0.05
    assert decision.drift is not None
    assert decision.drift == max(point.drift for point in decision.sample)
    assert decision.bound == pytest.approx(decision.drift + 2 * max(point.error for point in decision.sample))


def test_the_error_is_the_standard_error_of_the_difference(master, found, evaluator):
    one = part(found, 0.5)
    decision = measure(evaluator(master[0]), [one], ROWS, 1.0, clock=clock(3.0, 1.5))["one"]
    ((task, t),), by = one.points, {}
    for name in ("fp32", "bf16"):
        fresh = evaluator(master[0])
        model, path, _ = fresh.path(dataclasses.replace(task, precision=name), "", fresh.labels("validation"))
        path.curve.point(t, model.flat)
        model.refresh()
        by[name] = fresh.scorer(task.a, "validation").by_row(model.model).loss
    off = by["bf16"] - by["fp32"]
    (point,) = decision.sample
    assert point.bf16 - point.fp32 == pytest.approx(off.mean(), abs=1e-12)
    assert point.error == pytest.approx(off.std() / np.sqrt(13), rel=1e-9)


def test_a_drift_beyond_the_tolerance_is_fp32_and_ends_the_sample(master, found, evaluator):
    decision = measure(evaluator(master[0]), [part(found, 0.5, 0.0, 0.25)], ROWS, 1e-9, clock=clock(3.0, 1.0))["one"]
    assert decision.precision == "fp32"
    assert len(decision.sample) == 1
    assert decision.of_content
    assert "beyond 1e-09" in decision.reason


def test_a_bound_beyond_the_tolerance_is_fp32_though_the_drift_is_not(master, found, evaluator):
    free = measure(evaluator(master[0]), [part(found, 0.5)], ROWS, 1.0, clock=clock(3.0, 1.0))["one"]
    assert free.drift is not None
    assert free.bound is not None
    between = (free.drift + free.bound) / 2
    held = measure(evaluator(master[0]), [part(found, 0.5)], ROWS, between, clock=clock(3.0, 1.0))["one"]
    assert (held.precision, held.drift, held.bound) == ("fp32", free.drift, free.bound)


def test_what_is_not_faster_stays_in_fp32_unless_the_rest_is_in_bf16(master, found, evaluator):
    slow = measure(evaluator(master[0]), [part(found, 0.5)], ROWS, 1.0, clock=clock(1.0, 1.0))["one"]
    assert slow.precision == "fp32"
    assert slow.reason == "bf16 is 1.00 times as fast here, less than 1.1"
    assert not slow.of_content
    options = {"clock": clock(1.0, 1.0), "on_any_machine": True}
    assert measure(evaluator(master[0]), [part(found, 0.5)], ROWS, 1.0, **options)["one"].precision == "bf16"


def test_without_bfloat16_of_its_own_nothing_is_measured(master, found, evaluator, monkeypatch):
    monkeypatch.setattr(precision, "native", lambda device: False)
    plain = evaluator(master[0])
    decision = measure(plain, [part(found, 0.5)], ROWS, 1.0)["one"]
    assert (decision.precision, decision.sample, decision.of_content) == ("fp32", (), False)
    assert decision.reason.endswith("has no bfloat16 of its own")
    assert plain.loads == 0
    grown = measure(plain, [part(found, 0.5)], ROWS, 1.0, on_any_machine=True)["one"]
    assert grown.precision == "bf16"


def test_some_rows_of_many(master, found, evaluator):
    one = measure(evaluator(master[0]), [part(found, 0.5)], ROWS, 1.0, most=5, clock=clock(3.0, 1.0))["one"]
    again = measure(evaluator(master[0]), [part(found, 0.5)], ROWS, 1.0, most=5, clock=clock(3.0, 1.0))["one"]
    assert one.sample[0].rows == 5
    assert one == again
    assert chosen_rows(5, 5).tolist() == [0, 1, 2, 3, 4]
    some = chosen_rows(10_000, 300)
    assert len(set(some.tolist())) == 300
    assert (np.diff(some) > 0).all()
    assert 4500 < some.mean() < 5500


def test_rows_are_added_where_they_may_settle_it(master, found, evaluator):
    def sample(tolerance: float) -> Decision:
        return measure(evaluator(master[0]), [part(found, 0.5)], ROWS, tolerance, most=5, clock=clock(3, 1))["one"]

    few = sample(1.0)
    assert few.drift is not None
    assert few.bound is not None
    for tolerance, rows in ((few.bound * 1.01, 5), (few.bound * 0.99, 13), ((2 * few.drift - few.bound) * 0.99, 5)):
        if tolerance > 0:
            assert sample(tolerance).sample[0].rows == rows


def test_ends_that_do_not_fit_are_left_to_the_evaluation(master, found, evaluator, monkeypatch):
    plain = evaluator(master[0])
    path, calls = plain.path, itertools.count()

    def once(*arguments: Any) -> Any:
        if next(calls) == 0:
            raise RaymcError("they don't fit")
        return path(*arguments)

    monkeypatch.setattr(plain, "path", once)
    decision = measure(plain, [part(found, 0.5, 0.0)], ROWS, 1.0, clock=clock(3.0, 1.0))["one"]
    assert [point.t for point in decision.sample] == [0.0]

    def never(*arguments: Any) -> Any:
        raise RaymcError("they don't fit")

    monkeypatch.setattr(plain, "path", never)
    assert measure(plain, [part(found, 0.5, 0.0)], ROWS, 1.0) == {}

    def damaged(*arguments: Any) -> Any:
        raise CorruptArtefact("minima", "x", "gone")

    monkeypatch.setattr(plain, "path", damaged)
    with pytest.raises(CorruptArtefact):
        measure(plain, [part(found, 0.5, 0.0)], ROWS, 1.0)


def test_a_loss_that_is_finite_in_fp32_alone(master, found, evaluator, monkeypatch):
    plain = evaluator(master[0])
    path = plain.path

    def only(task: PairTask, *arguments: Any) -> Any:
        if task.precision == "bf16":
            raise RaymcError("the loss is not finite (inf)")
        return path(task, *arguments)

    monkeypatch.setattr(plain, "path", only)
    decision = measure(plain, [part(found, 0.5)], ROWS, 1.0)["one"]
    assert (decision.precision, decision.reason) == ("fp32", "in bf16, the loss is not finite (inf)")


def test_in_a_worker_and_on_to_a_matrix_in_bf16(store, found, sweep, evaluator, monkeypatch, connections):
    """What a run does, without Ray: decided on, kept, and every pair evaluated in bf16 within what was said."""
    monkeypatch.setattr(precision, "FASTER", 0.0)
    mine = connections(store, {key: point.trial for key, point in found.points.items()})
    (key,) = mine.decisions.undecided()
    tasks, _ = mine.missing_pairs(set(mine.points))
    one = Part(key, "validation", tuple((task, t) for task in tasks for t in (0.0, 0.25, 0.5)))
    spec = mine.spec.model_dump_json()
    decided = _measured(Probe(store.uri, spec, {}, [one], 1.0, False, 1 << 30, 4096), 1, "cpu")
    assert isinstance(decided, dict)
    mine.decisions.put(key, decided[key])
    again = connections(store, {key: point.trial for key, point in found.points.items()})
    assert again.precision == "bf16"
    plain, rounded, bound = evaluator(store), evaluator(store), decided[key].bound
    assert bound is not None
    for before, after in zip(tasks, again.missing_pairs(set(again.points))[0], strict=True):
        assert (before.precision, after.precision) == ("fp32", "bf16")
        exact, found_in_bf16 = plain.pair(before, {})[0], rounded.pair(after, {})[0]
        assert found_in_bf16.precision == "bf16"
        assert exact.loss != found_in_bf16.loss
        again.put(found_in_bf16)
        assert np.abs(np.subtract(exact.loss, found_in_bf16.loss)).max() < 3 * bound
    assert again.missing_pairs(set(again.points)) == ([], [])
    assert len(mine.missing_pairs(set(mine.points))[0]) == 0  # the very records


def test_this_machine_is_looked_at():
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if found.get("avx512_bf16"):
        assert native("cpu")
    assert precision.device_name("cpu")
    assert Decision(precision="fp32", reason="").speed is None
