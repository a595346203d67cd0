"""Distance and cosine against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raymc.landscape import distances
from raymc.landscape.distances import l2_and_cosine

CHUNK = 1 << 22


def oracle(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(x - y)), float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def measure(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    return l2_and_cosine(torch.from_numpy(a), torch.from_numpy(b))


@pytest.mark.parametrize(
    ("a", "b", "distance", "cosine"),
    [
        ([3.0, 0.0], [0.0, 4.0], 5.0, 0.0),
        ([1.0, 1.0], [1.0, 1.0], 0.0, 1.0),
        ([1.0, 2.0], [-1.0, -2.0], 20**0.5, -1.0),
        ([1.0, 0.0], [1.0, 1.0], 1.0, 0.5**0.5),
        ([0.0, 0.0], [3.0, 4.0], 5.0, 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),
    ],
)
def test_by_hand(a, b, distance: float, cosine: float):
    assert measure(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx((distance, cosine), abs=1e-15)


@pytest.mark.parametrize("size", [1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1])
def test_against_numpy_on_both_sides_of_a_chunk(size: int):
    stream = np.random.default_rng(size)
    a = stream.standard_normal(size, dtype=np.float32)
    b = a + 0.1 * stream.standard_normal(size, dtype=np.float32)
    a[-1], b[-1] = 30.0, -40.0  # a lost last element would show
    assert measure(a, b) == pytest.approx(oracle(a, b), rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 64])
def test_chunks_change_nothing(monkeypatch, chunk: int):
    a, b = np.random.default_rng(1).standard_normal((2, 10)).astype(np.float32)
    expected = oracle(a, b)
    monkeypatch.setattr(distances, "_CHUNK", chunk)
    assert measure(a, b) == pytest.approx(expected, rel=1e-14)


def test_sums_are_wider_than_the_vectors():
    """In float32 the small differences of many large weights would be lost, and squares of 1e25 overflow."""
    a = np.full(100_000, 4096.0, np.float32)
    b = a + np.float32(2.0**-10)
    assert measure(a, b)[0] == pytest.approx(2.0**-10 * 100_000**0.5, rel=1e-12)
    assert measure(a, b)[1] == pytest.approx(1.0, abs=1e-12)
    huge = np.array([1e25, 1e25], np.float32)
    assert measure(huge, -huge) == pytest.approx((float(huge[0]) * 8**0.5, -1.0))
    tiny = np.array([1e-30, 0.0], np.float32)
    assert measure(tiny, tiny) == (0.0, 1.0)


floats = st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
pairs = st.integers(1, 30).flatmap(lambda n: arrays.arrays(np.float32, (2, n), elements=floats))


@given(pairs)
def test_relations_that_hold_for_any_two_vectors(pair: np.ndarray):
    a, b = pair
    distance, cosine = measure(a, b)
    assert (distance, cosine) == measure(b, a)
    assert -1.0 <= cosine <= 1.0
    aa, bb = float(np.sum(a.astype(np.float64) ** 2)), float(np.sum(b.astype(np.float64) ** 2))
    assert distance**2 == pytest.approx(aa + bb - 2 * cosine * (aa * bb) ** 0.5, rel=1e-9, abs=1e-6)  # law of cosines
    assert measure(a, a) == (0.0, 1.0 if aa else 0.0)
    if aa:
        assert measure(a, -a)[1] == -1.0
