"""Profiles from few points: smooth ones settle, peaks, plateaus and kinks are found, what is claimed holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from raymc.landscape.adaptive import Settling, losses_of, margins, smooth_covariance, some_rows, weights
from raymc.landscape.grid import even_points

ROWS = 640
T = even_points(26)
TOLERANCE = 1e-3

Profile = Callable[[np.ndarray], np.ndarray]  # of t, (P,), to each row's loss, (P, rows)


def run(profile: Profile, t: list[float] = T, tolerance: float = TOLERANCE) -> tuple[Settling, float, float]:
    """(the profile, evaluations between the ends and looks at some rows in passes, the largest error of the mean)."""
    whole = profile(np.asarray(t))
    count = whole.shape[1]
    found, rows = Settling(t, np.ones(count), tolerance), some_rows(count)
    found.look(rows, whole[:, rows])
    place = {at: i for i, at in enumerate(t)}
    while True:
        at = found.next()
        if at is not None:
            found.add(at, whole[place[at]])
            continue
        if found.check():
            break
    error = np.abs(found.losses().mean(axis=1) - whole.mean(axis=1)).max()
    return found, len(found.known) - 2 + (len(t) - 2) * len(rows) / count, float(error)


def of_margins(bend: Callable[[np.ndarray, np.ndarray], np.ndarray], seed: int = 0) -> Profile:
    """Rows of random margins at both ends, whose path bends as `bend(t (P, 1), strength (rows,))` says."""
    random = np.random.default_rng(seed)
    a, b, strength = random.normal(2.0, 2.0, ROWS), random.normal(2.0, 2.0, ROWS), random.lognormal(0.0, 0.5, ROWS)

    def profile(t: np.ndarray) -> np.ndarray:
        along = t[:, None]
        return losses_of((1 - along) * a + along * b + bend(along, strength))

    return profile


def test_margins_and_losses_are_inverse():
    losses = np.array([1e-9, 1e-4, 0.1, np.log(2), 3.0, 40.0])
    np.testing.assert_allclose(losses_of(margins(losses)), losses, rtol=1e-9)
    assert margins(np.array([np.log(2)])) == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(margins(np.zeros(3))).all()


def test_the_weights_take_known_values_and_straight_lines_exactly():
    at, known = np.array(T), [0, 5, 12, 21, 25]
    smooth, all_of_them = smooth_covariance(at, 0.5), list(range(len(T)))
    pulls = weights(at, smooth, known, all_of_them)
    np.testing.assert_allclose(pulls.sum(axis=1), 1.0, atol=1e-9)
    np.testing.assert_allclose(pulls @ at[known], T, atol=1e-9)
    np.testing.assert_allclose(weights(at, smooth, known, known), np.eye(5), atol=1e-5)
    np.testing.assert_allclose(weights(at, smooth, [0, 25], all_of_them), np.stack([1 - at, at], axis=1))


def test_what_all_rows_share_is_known_from_two_points():
    """Rows that bend as multiples of two shapes, neither of them smooth: their covariance tells what lies between."""
    random = np.random.default_rng(3)
    at = np.array(T)
    shapes = np.stack([np.minimum(at / 0.3, (1 - at) / 0.7), (np.abs(at - 0.72) < 0.1) * 1.0])
    rows = random.normal(size=(40, 2)) @ shapes
    pulls = weights(at, rows.T @ rows, [0, 6, 18, 25], list(range(len(T))))
    other = random.normal(size=2) @ shapes
    np.testing.assert_allclose(pulls @ other[[0, 6, 18, 25]], other, atol=1e-5)


@pytest.mark.parametrize("depth", [0.0, 1.0, 3.0])
def test_a_smooth_hill_settles_within_a_few_points(depth):
    found, passes, error = run(of_margins(lambda t, strength: -depth * strength * 4 * t * (1 - t)))
    assert passes <= 6
    assert error <= TOLERANCE
    assert found.bound == TOLERANCE
    assert found.missing()


@pytest.mark.parametrize("centre", [0.04, 0.2, 0.31, 0.44, 0.6, 0.73, 0.96])
def test_a_narrow_peak_is_not_missed(centre):
    def bend(t, strength):
        return -3 * strength * np.exp(-(((t - centre) / 0.015) ** 2) / 2)

    _, _, error = run(of_margins(bend))
    assert error <= TOLERANCE


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_narrow_peak_of_some_rows_is_not_missed(share):
    some = np.random.default_rng(1).random(ROWS) < share
    _, _, error = run(of_margins(lambda t, strength: -4 * some * np.exp(-(((t - 0.68) / 0.02) ** 2) / 2)))
    assert error <= TOLERANCE


@pytest.mark.parametrize("apart", [0.0, 0.03])
@pytest.mark.parametrize("width", [0.005, 0.02, 0.05])
def test_a_plateau_between_steep_flanks_is_not_smoothed_over(width, apart):
    """`apart`: the flanks of a row lie so far from those of others; then few rows don't tell those of all."""
    random = np.random.default_rng(4)
    left, right = 0.27 + apart * random.normal(size=ROWS), 0.71 + apart * random.normal(size=ROWS)

    def bend(t, strength):
        return -3 * (np.tanh((t - left) / width) - np.tanh((t - right) / width)) / 2 * strength

    found, passes, error = run(of_margins(bend))
    assert error <= TOLERANCE
    assert (len(found.known) - 2 > 6) if apart else (passes < 6)


@pytest.mark.parametrize("at", [0.25, 0.52, 0.9])
def test_a_kink_is_not_smoothed_over(at):
    def bend(t, strength):
        return -2.5 * strength * np.minimum(t / at, (1 - t) / (1 - at))

    _, _, error = run(of_margins(bend))
    assert error <= TOLERANCE


def test_what_does_not_settle_is_taken_whole():
    random = np.random.default_rng(0)
    found, _, error = run(of_margins(lambda t, strength: -3 * random.random((len(t), ROWS)) * strength))
    assert not found.missing()
    assert found.bound == 0.0
    assert error == 0.0
    assert len(found.known) == len(T)


def test_a_profile_of_few_points_is_evaluated_as_it_is():
    found, _, error = run(of_margins(lambda t, strength: -strength * t * (1 - t)), t=[0.0, 0.5, 1.0])
    assert found.known == [0.0, 0.5, 1.0]
    assert (found.bound, error) == (0.0, 0.0)


def test_what_is_claimed_holds_on_random_paths():
    """Sums of up to four sines of a strength of each row's own: rougher than the paths of real models. Fixed draws."""
    random = np.random.default_rng(0)
    off, points = [], []
    for seed in range(60):
        waves = random.uniform(-1.5, 1.5, random.integers(1, 5))

        def bend(t, strength, waves=waves):
            return sum(height * strength * np.sin(np.pi * k * t) for k, height in enumerate(waves, 1))

        found, _, error = run(of_margins(bend, seed))
        off.append(error / found.bound if found.bound else error)
        points.append(len(found.known) - 2)
    assert np.mean(np.array(off) <= 1) >= 0.98
    assert max(off) <= 2
    assert np.mean(np.array(points) < len(T) - 2) > 0.25


def test_the_rows_that_are_looked_at_are_the_same_for_every_path():
    assert np.array_equal(some_rows(872), some_rows(872))
    assert len(some_rows(872)) == 27
    assert len(some_rows(40)) == 16
    assert list(some_rows(2)) == [0, 1]


def test_rows_count_by_their_terms():
    """A row of three terms weighs as three of one term that have its mean loss."""
    random = np.random.default_rng(2)
    terms = random.integers(1, 4, 200)
    a, b, dent = (random.uniform(0.2, high, 200) for high in (2.0, 2.0, 0.6))
    found = Settling(T, terms, TOLERANCE)
    whole = {t: terms * ((1 - t) * a + t * b + dent * t * (1 - t)) for t in T}
    while (t := found.next()) is not None:
        found.add(t, whole[t])
    exact = np.array([whole[t].sum() / terms.sum() for t in T])
    np.testing.assert_allclose(found.losses().sum(axis=1) / terms.sum(), exact, atol=TOLERANCE)
