"""The straight path: its ends bit for bit, its inside against float64, always in place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raymc.landscape.curves import Linear

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays.arrays(np.float32, st.integers(1, 40), elements=floats)
moderate = arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))

# zeros of both signs, the smallest and largest denormals, the smallest normal, ordinary, huge
SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 1.0, -3.5, 3.4e38, -3.4e38], np.float32)


def bits(tensor: torch.Tensor | np.ndarray) -> list[int]:
    array = tensor.numpy() if isinstance(tensor, torch.Tensor) else tensor
    return array.view(np.uint32).tolist()


def at(a: np.ndarray, b: np.ndarray, t: float) -> torch.Tensor:
    out = torch.full((len(a),), math.nan)
    Linear(torch.from_numpy(a.copy()), torch.from_numpy(b.copy())).point(t, out)
    return out


@given(vectors, st.randoms(use_true_random=False))
def test_the_ends_are_the_minima_bit_for_bit(a: np.ndarray, stream):
    b = a.copy()
    stream.shuffle(b)
    b = -b
    assert bits(at(a, b, 0.0)) == bits(a)
    assert bits(at(a, b, 1.0)) == bits(b)


@pytest.mark.parametrize("sign", [1, -1])
def test_zeros_keep_their_sign_and_denormals_their_value_at_the_ends(sign: int):
    a, b = SPECIAL, (sign * SPECIAL[::-1]).copy()
    assert bits(at(a, b, 0.0)) == bits(a)
    assert bits(at(a, b, 1.0)) == bits(b)
    assert bits(at(a, b, -0.0)) == bits(a)
    assert 0x80000000 in bits(at(a, b, 0.0))


@given(moderate, moderate, st.floats(0.0, 1.0))
def test_inside_it_is_the_float64_formula_to_float32_rounding(a: np.ndarray, b: np.ndarray, t: float):
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    exact = (1 - t) * a.astype(np.float64) + t * b.astype(np.float64)
    scale = np.maximum(np.abs(a), np.abs(b)).astype(np.float64)
    error = np.abs(at(a, b, t).double().numpy() - exact)
    assert (error <= 4 * 2.0**-24 * scale + 2.0**-149).all()


@pytest.mark.parametrize("t", [0.04, 0.25, 0.5, 0.52, 0.96])
def test_inside_of_a_large_vector(t: float):
    stream = np.random.default_rng(5)
    a, b = (stream.standard_normal(100_003).astype(np.float32) for _ in range(2))
    exact = (1 - t) * a.astype(np.float64) + t * b.astype(np.float64)
    error = np.abs(at(a, b, t).double().numpy() - exact)
    assert error.max() < 2.0**-21  # an ulp of the largest
    assert error.mean() < 2.0**-25


def test_a_point_between_equal_ends_is_that_end():
    a = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert all(bits(at(a, a, t)) == bits(a) for t in (0.1, 0.3, 0.5, 0.9))


def test_points_are_written_into_the_buffer_and_leave_the_ends_alone():
    a, b = torch.randn(1000), torch.randn(1000)
    kept = a.clone(), b.clone()
    whole = torch.zeros(1200)
    out = whole[100:1100]
    curve, place = Linear(a, b), out.data_ptr()
    for t in (0.0, 0.3, 1.0):
        assert curve.point(t, out) is None
        assert out.data_ptr() == place
        assert torch.equal(whole[100:1100], out)
        assert not whole[:100].any()
        assert not whole[1100:].any()
    assert torch.equal(out, b)
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])


def test_a_curve_keeps_no_state_between_points():
    a, b = torch.ones(8), torch.full((8,), 3.0)
    out = torch.empty(8)
    curve = Linear(a, b)
    walked = []
    for t in (0.0, 0.25, 0.5, 0.75, 1.0, 0.0):
        curve.point(t, out)
        walked.append(out[0].item())
    assert walked == [1.0, 1.5, 2.0, 2.5, 3.0, 1.0]


@pytest.mark.parametrize("t", [-1e-9, 1.0000001, 2.0, math.nan, math.inf, -math.inf])
def test_t_outside_the_path_is_refused(t: float):
    out = torch.zeros(3)
    with pytest.raises(ValueError, match="outside"):
        Linear(torch.ones(3), torch.ones(3)).point(t, out)
    assert not out.any()


def test_ends_of_unlike_shape_are_refused():
    with pytest.raises(ValueError, match="3 and 4 parameters"):
        Linear(torch.zeros(3), torch.zeros(4))


def test_its_name():
    assert Linear.name == "linear"
