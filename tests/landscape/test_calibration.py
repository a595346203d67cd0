"""Agreement, divergence and calibration against scipy, hand-worked rows and their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from raymc.landscape.calibration import agreement, calibration_error, jensen_shannon


@st.composite
def predictions(draw, count: int = 2) -> list[np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 4)))
    weights = [draw(arrays(np.int64, shape, elements=st.integers(0, 5))) for _ in range(count)]
    for one in weights:
        one[one.sum(axis=1) == 0] = 1
    return [one / one.sum(axis=1, keepdims=True) for one in weights]


def test_agreement_counts_rows_with_the_same_top_class():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]])
    q = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    assert agreement(p, q) == 0.75
    assert agreement(p, p) == 1.0


@given(predictions())
def test_divergence_is_scipys(pair):
    p, q = pair
    expected = np.mean([jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)])
    assert jensen_shannon(p, q) == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_divergence_is_symmetric_within_its_bounds_and_0_for_the_same(pair):
    p, q = pair
    assert 0.0 <= jensen_shannon(p, q) <= math.log(2)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-15)
    assert agreement(p, q) == agreement(q, p)
    assert jensen_shannon(p, p) == 0.0


def test_divergence_by_hand():
    apart, even = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    assert jensen_shannon(apart, apart[:, ::-1]) == pytest.approx(math.log(2), abs=1e-15)
    # m = (3/4, 1/4): (ln(4/3) + (ln(2/3) + ln 2) / 2) / 2
    assert jensen_shannon(apart, even) == pytest.approx((math.log(4 / 3) + math.log(4 / 3) / 2) / 2, abs=1e-15)


@pytest.mark.parametrize("least", [1e-45, 5e-324])
def test_the_smallest_probabilities_do_no_harm(least: float):
    p = np.array([[1.0, least, 0.0]])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, np.array([[0.0, 0.0, 1.0]])) == pytest.approx(math.log(2), abs=1e-12)


def test_calibration_by_hand():
    """Five bins: (.4, .6] holds .6 right and .55 wrong; (.6, .8] .8 right; (.8, 1] .9 right, .95 right and 1 wrong."""
    confidence = np.array([0.6, 0.55, 0.8, 0.9, 0.95, 1.0])
    p = np.stack([confidence, 1 - confidence], axis=1)
    gold = np.array([0, 1, 0, 0, 0, 1])
    middle, high, top = abs(0.5 - 1.15 / 2), 0.2, abs(2 / 3 - 2.85 / 3)
    expected = (2 * middle + 1 * high + 3 * top) / 6
    assert calibration_error(p, gold, bins=5) == pytest.approx(expected, abs=1e-15)
    assert calibration_error(p, gold, bins=1) == pytest.approx(abs(4 / 6 - confidence.mean()), abs=1e-15)


def test_an_edge_belongs_to_the_bin_below():
    """At 4 bins .75 lies in (.5, .75]: with .7 it makes one bin, |1/2 - .725|, not two."""
    p = np.array([[0.75, 0.25], [0.7, 0.3]])
    assert calibration_error(p, np.array([0, 1]), bins=4) == pytest.approx(0.225, abs=1e-15)
    assert calibration_error(p, np.array([0, 1]), bins=7) == pytest.approx((0.25 + 0.7) / 2, abs=1e-15)  # 5/7 = .714


def test_predictions_drawn_from_the_probabilities_are_calibrated():
    random = np.random.default_rng(0)
    p = random.dirichlet([1.0, 1.0, 1.0], 50_000)
    gold = (random.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1)
    assert calibration_error(p, gold) < 0.01
    sharpened = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert calibration_error(sharpened, gold) > 0.1


@given(predictions(1), st.integers(1, 20))
def test_calibration_error_is_a_share_and_0_for_the_certain_and_right(pair, bins: int):
    (p,) = pair
    assert 0.0 <= calibration_error(p, np.zeros(len(p), dtype=int), bins) <= 1.0
    top = p.argmax(axis=1)
    assert calibration_error(np.eye(p.shape[1])[top], top, bins) == 0.0


@pytest.mark.parametrize("bad", [np.ones(3), np.zeros((0, 2)), [[0.5, 0.6]], [[1.5, -0.5]], [[np.nan, 1.0]]])
def test_what_is_no_probability_is_refused(bad):
    good = np.array([[0.5, 0.5]])
    for call in (lambda: agreement(bad, good), lambda: jensen_shannon(good, bad), lambda: calibration_error(bad, [0])):
        with pytest.raises(ValueError, match="probabilities need"):
            call()


def test_other_rows_classes_and_bins_are_refused():
    p = np.array([[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="other rows or classes"):
        agreement(p, p[:1])
    for gold in ([0], [0, 2], [0, -1], [0.0, 1.0]):
        with pytest.raises(ValueError, match="gold needs a class below 2"):
            calibration_error(p, np.array(gold))
    with pytest.raises(ValueError, match="0 bins"):
        calibration_error(p, np.array([0, 1]), bins=0)
