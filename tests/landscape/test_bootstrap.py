"""Intervals that cover what they say, tests that keep their level, by simulation from populations that are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import norm

from raymc.landscape import barriers, bootstrap
from raymc.landscape.bootstrap import difference, uncertainty
from raymc.landscape.grid import even_points

T = np.array(even_points(9))
NAMES = {
    "barrier_entezari": barriers.entezari,
    "barrier_ainsworth": barriers.ainsworth,
    "convexity_gap": barriers.convexity_gap,
}


def population(drop: float, tilt: float = 0.0, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Losses and errors (points, rows) of margins that fall by about `drop` mid-path and by `tilt` towards t = 1.

    Like a classifier's: skewed losses, smooth along the path, some rows changing much and most little.
    """
    random = np.random.default_rng(0)
    margin, fall, spread = random.normal(2.2, 2.0, rows), random.gamma(2.0, 0.5, rows), random.gamma(1.0, 1.0, rows)
    wave = np.sin(np.pi * T)[:, None] * random.normal(size=rows) + np.sin(2 * np.pi * T)[:, None] * random.normal(
        size=rows
    )
    margins = margin + 0.4 * spread * wave - drop * fall * np.sin(np.pi * T)[:, None] ** 2 - tilt * T[:, None]
    return np.logaddexp(0.0, -margins), (margins < 0).astype(float)


def samples(of: tuple[np.ndarray, ...], rows: int, times: int, seed: int = 1) -> Iterator[tuple[np.ndarray, ...]]:
    random = np.random.default_rng(seed)
    for _ in range(times):
        drawn = random.integers(0, of[0].shape[-1], rows)
        yield tuple(one[..., drawn] for one in of)


def test_intervals_of_95_percent_cover_95_percent():
    """A barrier of 0.4 nats between unequal ends; 1500 sets of 200 rows."""
    losses, errors = population(drop=1.1, tilt=1.0)
    truth = {name: measure(T, losses.mean(axis=1)) for name, measure in NAMES.items()}
    truth["barrier_frankle"] = barriers.frankle(T, errors.mean(axis=1))
    assert truth["barrier_entezari"] == pytest.approx(0.4, abs=0.05)
    covered, times = dict.fromkeys(truth, 0), 1500
    for rows, wrong in samples((losses, errors), 200, times):
        found = uncertainty(T, rows, np.ones(200), wrong, resamples=299).intervals
        for name, (low, high) in found.items():
            covered[name] += low <= truth[name] <= high
    shares = {name: count / times for name, count in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


@pytest.mark.parametrize("sag", [0.0, 0.01])
def test_without_a_barrier_one_in_twenty_is_significant_at_most_and_the_interval_starts_at_0(sag: float):
    """A straight and a barely convex profile: every row's deviation is centred, so the mean is known."""
    losses, _ = population(drop=0.5)
    losses += (0.4 + 0.4 * T - sag * 4 * T * (1 - T) - losses.mean(axis=1))[:, None]
    times, rejected, started = 400, 0, 0
    for (rows,) in samples((losses,), 200, times):
        found = uncertainty(T, rows, np.ones(200), resamples=199)
        rejected += found.p_value <= 0.05
        started += found.intervals["barrier_entezari"][0] > 0 or found.intervals["convexity_gap"][0] > 0
    flat = uncertainty(T, rows - 0.4 * T[:, None], np.ones(200), resamples=199)  # the chord alone is taken away
    assert flat.p_value == found.p_value
    assert rejected / times <= 0.06
    assert started / times <= 0.03


def test_real_barriers_are_found():
    found = [
        uncertainty(T, rows, np.ones(300), resamples=199) for (rows,) in samples(population(drop=1.2)[:1], 300, 100)
    ]
    assert np.mean([one.p_value <= 0.05 for one in found]) > 0.9


def test_a_dip_has_no_barrier():
    losses = population(drop=0.0)[0][:, :500] - 2.0 * (T * (1 - T))[:, None]
    found = uncertainty(T, losses, np.ones(500))
    assert found.intervals["barrier_entezari"] == found.intervals["convexity_gap"] == (0.0, 0.0)
    assert found.p_value > 0.9


def test_rows_that_are_all_alike_leave_no_doubt():
    profile = 1.0 + T + np.sin(np.pi * T)
    losses = np.repeat(profile[:, None], 10, axis=1)
    found = uncertainty(T, losses, np.ones(10), losses / 4, resamples=99)
    for name, measure in NAMES.items():
        assert found.intervals[name] == pytest.approx([measure(T, profile)] * 2, abs=1e-12)
    assert found.intervals["barrier_frankle"] == pytest.approx([barriers.ainsworth(T, profile / 4)] * 2, abs=1e-12)
    assert found.p_value == 0.01
    straight = uncertainty(T, np.repeat((1.0 + T)[:, None], 10, axis=1), np.ones(10), resamples=99)
    assert straight.p_value == 1.0
    assert straight.intervals["barrier_entezari"] == pytest.approx((0.0, 0.0), abs=1e-12)


def test_the_interval_is_the_textbooks_for_a_peak_that_is_certain():
    """One inner point, far above its ends: the barrier is the mean of the rows' heights, its interval Student's."""
    random = np.random.default_rng(0)
    heights = random.normal(1.0, 0.5, 400)
    losses = np.stack([np.full(400, 0.3), 0.4 + heights, np.full(400, 0.5)])
    low, high = uncertainty([0.0, 0.5, 1.0], losses, np.ones(400), resamples=8000).intervals["barrier_entezari"]
    half = 1.966 * heights.std(ddof=1) / 20
    assert [low, high] == pytest.approx([heights.mean() - half, heights.mean() + half], abs=0.05 * half)


def test_tokens_weigh_not_rows():
    """Rows of two lengths with unlike profiles: the mean is by token, and a row split into its tokens' sum is one."""
    random = np.random.default_rng(0)
    terms = random.integers(1, 40, 600)
    mean = 1.0 + np.where(terms > 20, 1.0, 0.2) * np.sin(np.pi * T)[:, None]
    losses = terms * (mean + 0.05 * random.normal(size=600) * np.sin(np.pi * T)[:, None])
    truth = barriers.entezari(T, losses.sum(axis=1) / terms.sum())
    low, high = uncertainty(T, losses, terms).intervals["barrier_entezari"]
    assert low < truth < high
    assert high < truth + 0.05
    assert truth > barriers.entezari(T, (losses / terms).mean(axis=1)) + 0.1
    # linearised standard error of a ratio, Cochran 1977, eq. 2.39
    over = losses[4] - (losses[0] + losses[-1]) / 2
    spread = np.sqrt(((over - truth * terms) ** 2).sum()) / terms.sum()
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.08)


def test_units_shift_and_scale():
    losses, errors = (one[:, :300] for one in population(drop=1.0))
    first = uncertainty(T, losses, np.ones(300), errors, resamples=199)
    other = uncertainty(T, 4.0 * losses + 2.0, np.ones(300), errors, resamples=199)
    for name in NAMES:
        assert other.intervals[name] == pytest.approx([4.0 * x for x in first.intervals[name]], rel=1e-9)
    assert (other.p_value, other.intervals["barrier_frankle"]) == (first.p_value, first.intervals["barrier_frankle"])


def test_the_same_seed_gives_the_same_and_a_wider_level_a_wider_interval():
    losses = population(drop=1.0)[0][:, :300]
    one, again, other, wide = (
        uncertainty(T, losses, np.ones(300), resamples=499, seed=seed, level=level)
        for seed, level in ((0, 0.95), (0, 0.95), (1, 0.95), (0, 0.99))
    )
    assert one == again != other
    (low, high), (lower, higher) = one.intervals["barrier_entezari"], wide.intervals["barrier_entezari"]
    assert lower < low < high < higher


def test_chunks_and_groups_of_rows_give_the_same_within_their_noise(monkeypatch):
    losses, errors = (one[:, :2000] for one in population(drop=1.0))
    rows = uncertainty(T, losses, np.ones(2000), errors)
    monkeypatch.setattr(bootstrap, "_CELLS", 2000 * 700)
    chunked = uncertainty(T, losses, np.ones(2000), errors)
    monkeypatch.setattr(bootstrap, "_UNITS", 500)
    order = losses[4].argsort()  # neighbours alike, as in a sorted file
    grouped = uncertainty(T, losses[:, order], np.ones(2000), errors[:, order])
    for name, (low, high) in rows.intervals.items():
        assert chunked.intervals[name] == pytest.approx((low, high), abs=0.12 * (high - low))
        assert grouped.intervals[name] == pytest.approx((low, high), abs=0.15 * (high - low))


def test_differences_are_paired_by_row():
    """A path and the same with 2 % of every loss off: the difference is far surer than either barrier."""
    losses = population(drop=1.5)[0][:, :400]
    found = difference(T, losses, 0.98 * losses, np.ones(400))
    low, high = uncertainty(T, losses, np.ones(400)).intervals["barrier_entezari"]
    assert found.estimate == pytest.approx(0.02 * barriers.entezari(T, losses.mean(axis=1)), rel=1e-9)
    assert found.interval == pytest.approx((0.02 * low, 0.02 * high), rel=1e-6)
    assert found.p_value < 0.001
    back = difference(T, 0.98 * losses, losses, np.ones(400))
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]), rel=1e-9)
    assert back.p_value == found.p_value
    same = difference(T, losses, losses, np.ones(400))
    assert (same.estimate, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_differences_cover_and_equal_barriers_seldom_differ():
    one, other = population(drop=2.0)[0], population(drop=1.6, tilt=0.5)[0][:, ::-1].copy()
    truth = barriers.entezari(T, one.mean(axis=1)) - barriers.entezari(T, other.mean(axis=1))
    found = [difference(T, a, b, np.ones(200), resamples=199) for a, b in samples((one, other), 200, 500)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in (x.interval for x in found)]) <= 0.98
    assert all(
        (low <= 0 <= high) == (x.p_value > 0.05) for x in found for low, high in [x.interval] if x.p_value > 0.06
    )
    mirrored = population(drop=2.0)[0][::-1, ::-1].copy()  # other rows, walked the other way: the same barrier
    level = [
        difference(T, a, b, np.ones(200), resamples=199).p_value for a, b in samples((one, mirrored), 200, 400, seed=2)
    ]
    assert np.mean(np.array(level) <= 0.05) <= 0.07


def test_an_interval_of_a_difference_holds_its_estimate():
    """A quiet peak with a noisy point as high beside it: the bootstrap's bias is more than the peak's own error."""
    noise = np.random.default_rng(3).normal(size=(2, 400))
    noise -= noise.mean(axis=1, keepdims=True)
    losses = np.array([0 * noise[0], 1 + 0.01 * noise[0], 0.999 + noise[1], 0 * noise[0]])
    found = difference((0, 0.25, 0.75, 1), losses, 0 * losses, np.ones(400))
    assert found.estimate == pytest.approx(1.0)
    assert found.interval[0] < 0.99
    assert found.interval[1] == found.estimate


def test_against_a_path_without_a_barrier_the_difference_is_the_barrier():
    losses = population(drop=1.5)[0][:, :400]
    dip = losses[:1] - 0.2 * np.sin(np.pi * T)[:, None]
    found = difference(T, losses, dip, np.ones(400))
    assert found.interval == pytest.approx(uncertainty(T, losses, np.ones(400)).intervals["barrier_entezari"])


def test_a_path_of_its_ends_alone():
    found = uncertainty([0.0, 1.0], np.arange(8.0).reshape(2, 4), np.ones(4), resamples=99)
    assert found.p_value == 1.0
    assert found.intervals["barrier_entezari"] == found.intervals["convexity_gap"] == (0.0, 0.0)


BAD = {
    "one row": (np.ones((9, 1)), np.ones(1)),
    "a point short": (np.ones((8, 5)), np.ones(5)),
    "a row short": (np.ones((9, 5)), np.ones(4)),
    "NaN": (np.full((9, 5), np.nan), np.ones(5)),
    "no terms": (np.ones((9, 5)), np.zeros(5)),
    "negative terms": (np.ones((9, 5)), np.array([1, 1, 1, 1, -1])),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_refused(name: str):
    losses, terms = BAD[name]
    with pytest.raises(ValueError, match="a bootstrap needs"):
        uncertainty(T, losses, terms)
    with pytest.raises(ValueError, match="a bootstrap needs"):
        difference(T, losses, losses, terms)


def test_p_values_go_on_beyond_the_resamples():
    """Against tails that are known: right of an exponential one, never too small of a normal maximum's."""
    random = np.random.default_rng(5)
    for height in (9.0, 12.0, 15.0):
        found = [bootstrap._share(random.exponential(size=2000), height) for _ in range(40)]
        assert np.exp(np.mean(np.log(found))) == pytest.approx(np.exp(-height), rel=1.0)
        found = [bootstrap._share(random.normal(size=(2000, 24)).max(axis=1), height / 2) for _ in range(40)]
        assert min(found) > 24 * norm.sf(height / 2)
    assert bootstrap._share(np.linspace(0, 1, 99), 5.0) == 0.01  # too few to tell a tail


def test_a_clear_barrier_is_still_one_among_thousands_of_pairs():
    random = np.random.default_rng(6)
    rows = random.lognormal(-1.0, 1.0, 872)
    height = 0.15 * np.sin(np.pi * np.array(T))[:, None]
    found = uncertainty(T, rows * (1 + height * random.lognormal(0.0, 0.5, 872)), np.ones(872))
    assert found.p_value < 0.05 / 19_900
    small = uncertainty(T, rows * (1 + height * random.normal(0.03, 1.0, 872)), np.ones(872))
    assert small.p_value > 1e-3
