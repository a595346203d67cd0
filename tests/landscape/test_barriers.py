"""The barriers against profiles whose heights were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raymc.landscape.barriers import (
    above_envelope,
    ainsworth,
    better,
    between_points,
    convexity_gap,
    entezari,
    frankle,
    integral,
    mean_loss,
    peak,
    peak_between_points,
    saddle,
)
from raymc.landscape.grid import even_points

QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]

# loss on QUARTERS: Entezari, Ainsworth, t of the peak
BY_HAND = {
    "hill": ([1.0, 2.0, 4.0, 2.0, 1.0], 3.0, 3.0, 0.5),
    # chord 1, 1.5, 2, 2.5, 3; excess 0, 1.5, 2, 0.25, 0; mean of the ends 2
    "unequal ends": ([1.0, 3.0, 4.0, 2.75, 3.0], 2.0, 2.0, 0.5),
    # the highest point (3.5 at .75) is not where the profile stands highest above its chord (.25)
    "peaks differ": ([0.0, 3.0, 3.0, 3.5, 4.0], 2.0, 2.0, 0.25),
    "falling": ([3.0, 2.5, 2.0, 1.5, 1.0], 0.0, 1.0, 0.0),
    "rising and convex": ([0.0, 0.25, 1.0, 2.25, 4.0], 0.0, 2.0, 0.0),
    "rising and concave": ([0.0, 1.75, 3.0, 3.75, 4.0], 1.0, 2.0, 0.5),
    "dip": ([1.0, 0.5, 0.0, 0.5, 1.0], 0.0, 0.0, 0.0),
    "dip and hill": ([1.0, 0.0, 1.5, 0.0, 1.0], 0.5, 0.5, 0.5),
    "two hills alike": ([0.0, 1.0, 0.5, 1.0, 0.0], 1.0, 1.0, 0.25),
    "flat": ([0.3] * 5, 0.0, 0.0, 0.0),
    "negative losses": ([-2.0, -1.0, 0.0, -1.5, -1.0], 1.5, 1.5, 0.5),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_profiles_by_hand(name: str):
    loss, by_entezari, by_ainsworth, at = BY_HAND[name]
    assert entezari(QUARTERS, loss) == by_entezari
    assert ainsworth(QUARTERS, loss) == by_ainsworth
    assert frankle(QUARTERS, loss) == by_ainsworth
    assert peak(QUARTERS, loss) == at


# loss on QUARTERS: saddle, convexity gap, mean loss by the trapezoidal rule, points better than both ends
MORE_BY_HAND = {
    "hill": ([1.0, 2.0, 4.0, 2.0, 1.0], 4.0, 3.0, 2.25, 0),
    "unequal ends": ([1.0, 3.0, 4.0, 2.75, 3.0], 4.0, 2.0, 2.9375, 0),
    # the highest above its chord is point 1 over the whole; 3 at .25 over the chord 0-4 is 2
    "peaks differ": ([0.0, 3.0, 3.0, 3.5, 4.0], 4.0, 2.0, 2.875, 0),
    "rising and convex": ([0.0, 0.25, 1.0, 2.25, 4.0], 4.0, 0.0, 1.375, 0),
    "dip": ([1.0, 0.5, 0.0, 0.5, 1.0], 1.0, 0.0, 0.5, 3),
    # from point 1 to point 3 the hill stands 1.5 high; over the whole only .5
    "dip and hill": ([1.0, 0.0, 1.5, 0.0, 1.0], 1.5, 1.5, 0.625, 2),
    # below the chord of the ends everywhere (3, 2.25, 1.5, .75, 0): envelope 3, 0, 0, 0, 0; .5 over it at .5
    "step within a fall": ([3.0, 0.0, 0.5, 0.25, 0.0], 3.0, 0.5, 0.5625, 0),
    "better than the better end": ([2.0, 0.5, 1.5, 0.25, 1.0], 2.0, 1.125, 0.9375, 2),
    "flat": ([0.3] * 5, 0.3, 0.0, 0.3, 0),
}


@pytest.mark.parametrize("name", MORE_BY_HAND)
def test_saddle_gap_mean_and_better_points_by_hand(name: str):
    loss, highest, gap, mean, lower = MORE_BY_HAND[name]
    assert saddle(QUARTERS, loss) == highest
    assert convexity_gap(QUARTERS, loss) == pytest.approx(gap, abs=1e-15)
    assert mean_loss(QUARTERS, loss) == pytest.approx(mean, abs=1e-15)
    assert better(QUARTERS, loss) == lower


def test_the_integral_weighs_by_length():
    assert integral([0.0, 1.0, 4.0], [1.0, 3.0, 5.0]) == (2.0 * 1 + 4.0 * 3) / 4
    assert integral([0.0, 1.0, 1.0], [1.0, 3.0, 50.0]) == 2.0  # a leg of length 0 weighs nothing
    assert integral([0.0, 0.0, 0.0], [1.0, 3.0, 5.0]) == 3.0  # one place: the plain mean
    assert integral([0.0, 1.0, 4.0], np.array([[1.0, 3.0, 5.0], [2.0, 2.0, 2.0]])).tolist() == [3.5, 2.0]
    even = [2.5 * x for x in QUARTERS]
    assert integral(even, [1.0, 0.0, 1.5, 0.0, 1.0]) == mean_loss(QUARTERS, [1.0, 0.0, 1.5, 0.0, 1.0])
    for length, loss in (
        ([0.0, 2.0, 1.0], [1.0] * 3),
        ([1.0, 2.0], [1.0] * 2),
        ([0.0, 1.0], [1.0, math.nan]),
        ([0.0, math.inf], [1.0] * 2),
        ([0.0, 1.0], [1.0] * 3),
        ([0.0], [1.0]),
    ):
        with pytest.raises(ValueError, match="an integral needs"):
            integral(length, loss)


def test_the_gap_of_a_wave():
    """sin(2 pi t) from 0 to 1 falls, then rises: its envelope is the tangent from the start to the trough's flank."""
    t = even_points(2001)
    loss = [math.sin(2 * math.pi * x) for x in t]
    touch = min(((y - 0.0) / x, x) for x, y in zip(t[1:], loss[1:], strict=True))  # the least slope seen from (0, 0)
    height = max(y - touch[0] * x for x, y in zip(t, loss, strict=True) if x <= touch[1])
    assert convexity_gap(t, loss) == pytest.approx(height, abs=1e-12)
    assert convexity_gap(t, loss) > entezari(t, loss) + 0.3


def test_two_points_have_no_barrier_above_their_chord():
    assert (entezari([0.0, 1.0], [1.0, 3.0]), ainsworth([0.0, 1.0], [1.0, 3.0])) == (0.0, 1.0)
    assert peak([0.0, 1.0], [1.0, 3.0]) == 0.0


def test_uneven_points_are_measured_at_their_own_t():
    t, loss = [0.0, 0.1, 0.9, 1.0], [0.0, 1.0, 1.0, 10.0]  # chord 0, 1, 9, 10
    assert entezari(t, loss) == 0.0
    assert entezari(t, [0.0, 2.0, 9.0, 10.0]) == pytest.approx(1.0, abs=1e-15)
    assert peak(t, [0.0, 2.0, 9.0, 10.0]) == 0.1


@pytest.mark.parametrize("points", [3, 7, 26, 101])
@pytest.mark.parametrize("loss", [0.1, 0.3, 1 / 3, 0.7251, 2.302585092994046])
def test_a_flat_profile_is_flat_to_the_last_bit(points: int, loss: float):
    t = even_points(points)
    assert (entezari(t, [loss] * points), ainsworth(t, [loss] * points), peak(t, [loss] * points)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("first", "last"), [(0.0, 1.0), (0.35, 0.05), (2.0, 0.125)])
def test_a_straight_profile(first: float, last: float):
    t = even_points(26)
    loss = [(1 - x) * first + x * last for x in t]
    assert entezari(t, loss) == pytest.approx(0.0, abs=1e-15)
    assert ainsworth(t, loss) == pytest.approx(abs(first - last) / 2, abs=1e-15)


@pytest.mark.parametrize("height", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(("first", "last"), [(1.0, 1.0), (0.5, 2.5), (4.0, 1.0)])
def test_a_quadratic_has_its_closed_form(height: float, first: float, last: float):
    """L(t) = chord + 4 h t (1 - t): Entezari h at 1/2; Ainsworth the parabola's vertex, where it lies inside."""
    t = even_points(10_001)
    loss = [(1 - x) * first + x * last + 4 * height * x * (1 - x) for x in t]
    assert entezari(t, loss) == pytest.approx(height, abs=1e-12)
    assert peak(t, loss) == pytest.approx(0.5, abs=1e-4)
    rise = last - first
    vertex = min(1.0, max(0.0, 0.5 + rise / (8 * height)))
    top = first + rise * vertex + 4 * height * vertex * (1 - vertex)
    assert ainsworth(t, loss) == pytest.approx(top - (first + last) / 2, abs=1e-7)


@pytest.mark.parametrize("points", [3, 5, 26, 51])
def test_refined_the_minima_of_a_double_well(points: int):
    """(x^2 - 1)^2 along the straight path from -1 to 1: 1 at the middle; an even count of points misses it."""
    t = even_points(points)
    loss = [((2 * x - 1) ** 2 - 1) ** 2 for x in t]
    nearest = min(abs(2 * x - 1) for x in t)
    assert entezari(t, loss) == pytest.approx((nearest**2 - 1) ** 2, abs=1e-15)
    assert entezari(t, loss) == ainsworth(t, loss)


def test_refined_two_points_of_one_bowl_there_is_no_barrier_above_the_chord():
    """x'x is convex: Entezari 0; Ainsworth 0 too where the ends are equally deep."""
    a, b = [1.0, -2.0, 0.5], [-2.0, 1.0, 0.5]
    t = even_points(26)
    loss = [sum(((1 - s) * x + s * y) ** 2 for x, y in zip(a, b, strict=True)) for s in t]
    assert entezari(t, loss) == 0.0
    assert ainsworth(t, loss) == 0.0
    assert min(loss) < loss[0] / 4


def test_frankle_reads_an_error_rate():
    accuracy = [0.9, 0.85, 0.5, 0.8, 0.86]
    assert frankle(QUARTERS, [1 - x for x in accuracy]) == pytest.approx(0.5 - (0.1 + 0.14) / 2)


BAD = {
    "no points": ([], []),
    "one point": ([0.0], [1.0]),
    "a value short": ([0.0, 0.5, 1.0], [1.0, 2.0]),
    "starts late": ([0.1, 1.0], [1.0, 1.0]),
    "ends early": ([0.0, 0.9], [1.0, 1.0]),
    "falling t": ([0.0, 0.5, 0.25, 1.0], [1.0] * 4),
    "t twice": ([0.0, 0.5, 0.5, 1.0], [1.0] * 4),
    "t NaN": ([0.0, math.nan, 1.0], [1.0] * 3),
    "loss NaN": ([0.0, 0.5, 1.0], [1.0, math.nan, 1.0]),
    "loss NaN at the end": ([0.0, 0.5, 1.0], [math.nan, 2.0, 1.0]),
    "loss infinite": ([0.0, 0.5, 1.0], [1.0, math.inf, 1.0]),
}


ALL = [entezari, ainsworth, frankle, peak, saddle, convexity_gap, mean_loss, better]


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_profile_is_refused(measure, name: str):
    with pytest.raises(ValueError, match="a profile needs"):
        measure(*BAD[name])


# Whatever the profile ------------------------------------------------------------------------------------------------

values = st.floats(-100.0, 100.0)


@st.composite
def profiles(draw) -> tuple[list[float], list[float]]:
    t = draw(st.sampled_from([even_points(count) for count in (2, 3, 4, 7, 26)]))
    return t, draw(st.lists(values, min_size=len(t), max_size=len(t)))


@given(profiles())
def test_no_barrier_is_negative_and_ainsworth_is_at_least_half_the_ends_difference(profile):
    t, loss = profile
    assert entezari(t, loss) >= 0.0
    assert ainsworth(t, loss) >= abs(loss[0] - loss[-1]) / 2 - 1e-12
    assert ainsworth(t, loss) >= 0.0


@given(profiles())
def test_the_two_differ_by_half_the_ends_difference_at_most(profile):
    """max (L - mean) = max (L - chord + chord - mean), and chord - mean lies within half the ends' difference."""
    t, loss = profile
    half = abs(loss[0] - loss[-1]) / 2
    assert abs(entezari(t, loss) - ainsworth(t, loss)) <= half + 1e-12


@given(profiles())
def test_with_equal_ends_the_definitions_agree(profile):
    t, loss = profile
    loss = [*loss[:-1], loss[0]]
    assert entezari(t, loss) == pytest.approx(ainsworth(t, loss), abs=1e-12)


@given(profiles(), values, values)
def test_entezari_ignores_an_affine_function_of_t(profile, constant: float, slope: float):
    t, loss = profile
    shifted = [value + constant + slope * x for x, value in zip(t, loss, strict=True)]
    assert entezari(t, shifted) == pytest.approx(entezari(t, loss), abs=1e-11)


@given(profiles(), values)
def test_ainsworth_ignores_a_constant_alone(profile, constant: float):
    t, loss = profile
    assert ainsworth(t, [value + constant for value in loss]) == pytest.approx(ainsworth(t, loss), abs=1e-11)


@given(profiles(), st.floats(0.0, 50.0))
def test_barriers_scale_with_the_loss(profile, factor: float):
    t, loss = profile
    scaled = [factor * value for value in loss]
    assert entezari(t, scaled) == pytest.approx(factor * entezari(t, loss), abs=1e-9)
    assert ainsworth(t, scaled) == pytest.approx(factor * ainsworth(t, loss), abs=1e-9)


@given(profiles())
def test_walked_the_other_way_the_barrier_is_the_same_and_its_place_mirrored(profile):
    t, loss = profile
    back = [1.0 - x for x in reversed(t)]
    assert entezari(back, loss[::-1]) == pytest.approx(entezari(t, loss), abs=1e-11)
    assert ainsworth(back, loss[::-1]) == ainsworth(t, loss)
    excess = [v - ((1 - x) * loss[0] + x * loss[-1]) for x, v in zip(t, loss, strict=True)]
    first, second = sorted(excess, reverse=True)[:2]
    assume(first - second > 1e-9 and first > 1e-9)  # one peak only
    assert peak(back, loss[::-1]) == pytest.approx(1.0 - peak(t, loss), abs=1e-12)


@given(profiles())
def test_at_the_peak_the_profile_stands_that_high_above_its_chord(profile):
    t, loss = profile
    at = peak(t, loss)
    chord = (1 - at) * loss[0] + at * loss[-1]
    assert loss[t.index(at)] - chord == pytest.approx(entezari(t, loss), abs=1e-11)


@given(profiles(), st.data())
def test_more_points_never_lower_a_barrier(profile, data):
    t, loss = profile
    keep = [0, *(i for i in range(1, len(t) - 1) if data.draw(st.booleans())), len(t) - 1]
    some = [t[i] for i in keep], [loss[i] for i in keep]
    assert entezari(t, loss) >= entezari(*some)
    assert ainsworth(t, loss) >= ainsworth(*some)


def _gap_by_every_segment(t: list[float], loss: list[float]) -> float:
    def over(i: int, k: int, j: int) -> float:
        share = (t[k] - t[i]) / (t[j] - t[i])
        return loss[k] - ((1 - share) * loss[i] + share * loss[j])

    count = range(len(t))
    return max((over(i, k, j) for i in count for j in count for k in range(i + 1, j)), default=0.0)


@given(profiles())
def test_the_convexity_gap_is_the_largest_barrier_of_all_segments(profile):
    t, loss = profile
    gap = convexity_gap(t, loss)
    assert gap == pytest.approx(max(0.0, _gap_by_every_segment(t, loss)), abs=1e-11)
    assert gap >= entezari(t, loss)


@given(profiles())
def test_a_profile_less_its_height_above_the_envelope_is_convex(profile):
    t, loss = profile
    height = above_envelope(np.array(t), np.array(loss))
    assert (height >= 0).all()
    assert height[0] == height[-1] == 0.0
    slopes = np.diff(loss - height) / np.diff(t)
    assert (np.diff(slopes) >= -1e-9).all()


@given(profiles())
def test_mean_loss_lies_between_the_least_and_the_saddle(profile):
    t, loss = profile
    assert min(loss) - 1e-12 <= mean_loss(t, loss) <= saddle(t, loss) + 1e-12


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("points", [2, 3, 26])
def test_many_profiles_at_once_are_each_alone(measure, points: int):
    t = even_points(points)
    batch = np.random.default_rng(0).normal(size=(3, 5, points)).round(1)  # rounded, so that points tie
    batch[0, 0], batch[0, 1] = 0.3, np.linspace(1.0, 3.0, points)
    found = measure(t, batch)
    assert found.shape == (3, 5)
    assert found.tolist() == [[measure(t, one.tolist()) for one in row] for row in batch]
    assert type(measure(t, batch[0, 0])) is type(measure(t, batch[0, 0].tolist()))
    assert measure(t, batch[:, :0]).shape == (3, 0)


@pytest.mark.parametrize("count", [2, 3, 26, 61, 10_001])
def test_even_points(count: int):
    t = even_points(count)
    assert (len(t), t[0], t[-1]) == (count, 0.0, 1.0)
    assert all(x == pytest.approx(i / (count - 1), abs=0) for i, x in enumerate(t))


def test_the_refined_barrier_points_is_that_of_a_parabola():
    """A loss that is a parabola over its chord: its vertex is found wherever the points lie."""
    t = np.array([0.0, 0.2, 0.35, 0.6, 0.85, 1.0])
    for first, rise, height in ((1.0, 0.5, 2.0), (0.3, -0.2, 0.01)):
        loss = first + rise * t + 4 * height * t * (1 - t)
        assert between_points(t, loss) == pytest.approx(height)
        assert peak_between_points(t, loss) == pytest.approx(0.5)
    flat = np.stack([np.ones(6), -np.ones(6) + t, (t - 0.5) ** 2])
    assert between_points(t, flat).tolist() == [0.0, 0.0, 0.0]
    assert peak_between_points(t, flat).tolist() == [0.0, 0.0, 0.0]


@given(st.lists(st.floats(0, 10), min_size=5, max_size=5))
def test_the_refined_barrier_points_is_no_lower_than_that_of_the_points(loss):
    t = np.linspace(0, 1, 5)
    assert between_points(t, np.array(loss)) >= entezari(t, np.array(loss)) - 1e-12
    top = peak(t, np.array(loss))
    assert abs(peak_between_points(t, np.array(loss)) - top) <= 0.125 + 1e-9
