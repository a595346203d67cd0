"""Adaptive profiles of real (tiny) models against the exhaustive ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.adaptive import some_rows
from raymc.specs.curves import LinearCurve
from raymc.specs.results import Profile

SPLITS = ("many", "more")  # 64 and 40 rows
TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def both(master, keys, evaluator):
    """both(**task): {row set: (adaptive, exhaustive)} of the one pair, 26 points."""
    worker = evaluator(master[0])
    a, b = keys["full"][:2]
    at = {key: worker.endpoint(EndpointTask(key, "weights", SPLITS)) for key in (a, b)}
    ends = {split: (at[a][i], at[b][i]) for i, split in enumerate(SPLITS)}

    def score(**options) -> dict[str, tuple[Profile, Profile]]:
        task = replace(PairTask(a, b, "weights", "linear", SPLITS, ("path", "path"), tolerance=TOLERANCE), **options)
        few, all_of_it = worker.pair(task, ends), worker.pair(replace(task, tolerance=None), ends)
        return {split: (few[i], all_of_it[i]) for i, split in enumerate(SPLITS)}

    return score


@pytest.fixture(scope="module")
def profiles(both) -> dict[str, tuple[Profile, Profile]]:
    return both()


def test_what_is_evaluated_is_exhaustive_bit_for_bit(profiles):
    for few, whole in profiles.values():
        shared = [i for i, t in enumerate(whole.t) if t in few.evaluated]
        assert len(shared) == len(few.evaluated) < len(whole.t)
        for i in shared:
            assert few.loss[i] == whole.loss[i]
            assert {name: values[i] for name, values in few.metrics.items()} == {
                name: values[i] for name, values in whole.metrics.items()
            }
        assert few.t == whole.t
        assert few.metrics.keys() == whole.metrics.keys()
        assert (few.distance_l2, few.length) == (whole.distance_l2, whole.length)


def test_the_rest_is_within_the_bound(profiles):
    for few, whole in profiles.values():
        assert few.bound == TOLERANCE
        np.testing.assert_allclose(few.loss, whole.loss, atol=few.bound)
        assert few.loss != whole.loss
        for name in ("accuracy", "agreement_a", "agreement_b"):
            assert np.abs(np.subtract(few.metrics[name], whole.metrics[name])).max() <= 1 / few.rows + 1e-9


def test_passes_count_whole_ones_and_some_rows(profiles):
    for few, whole in profiles.values():
        looked = len(few.t) - 2  # at some rows, everywhere between the ends
        assert few.passes == pytest.approx(len(few.evaluated) + looked * len(some_rows(few.rows)) / few.rows)
        assert (whole.passes, whole.bound, whole.evaluated) == (26, 0.0, ())  # the ends' rows aren't kept here


def test_row_sets_so_small_that_a_look_would_be_an_evaluation_are_evaluated(evaluator, master, keys):
    worker, (a, b) = evaluator(master[0]), keys["full"][:2]
    ends = {"test": tuple(worker.endpoint(EndpointTask(key, "weights", ("test",)))[0] for key in (a, b))}
    (found,) = worker.pair(PairTask(a, b, "weights", "linear", ("test",), ("path",), tolerance=TOLERANCE), ends)
    assert (found.rows, found.bound, found.evaluated, found.passes) == (7, 0.0, (), 26)


def test_intervals_are_wider_by_the_bound(profiles):
    for few, whole in profiles.values():
        assert few.intervals["barrier_entezari"][1] >= whole.intervals["barrier_entezari"][1]
        assert few.p_value >= whole.p_value


def test_ends_with_another_head_are_evaluated(both):
    for few, whole in both(heads=("a", "a")).values():
        assert few.loss[0] == whole.loss[0]
        np.testing.assert_allclose(few.loss, whole.loss, atol=few.bound or 1e-12)


def test_a_path_that_moves_a_part_alone(both):
    how = LinearCurve(curve="linear", moves=("attention",))
    for few, whole in both(how=how).values():
        np.testing.assert_allclose(few.loss, whole.loss, atol=few.bound or 1e-12)


def test_a_tolerance_too_small_to_settle_gives_the_exhaustive_profile(both):
    for few, whole in both(tolerance=1e-12).values():
        assert few.loss == whole.loss
        assert few.metrics == whole.metrics
        assert (few.bound, few.evaluated) == (0.0, ())
        assert (few.intervals, few.p_value) == (whole.intervals, whole.p_value)
