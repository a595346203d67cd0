"""Paths: their ends bit for bit, their inside against float64 and closed forms, always in place."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raymc.landscape.curves import Bezier, Curve, Linear, Polygonal, Spherical, start_bends
from raymc.landscape.grid import even_points

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


# Every curve: the protocol


def made(kind: str, a: torch.Tensor, b: torch.Tensor, bends: list[torch.Tensor]) -> Curve:
    """One curve of each kind; the straight and the spherical one have no bends."""
    kinds = {
        "linear": lambda: Linear(a, b),
        "spherical": lambda: Spherical(a, b),
        "bezier": lambda: Bezier(a, b, bends),
        "polygonal": lambda: Polygonal(a, b, bends),
    }
    return kinds[kind]()


KINDS = ("linear", "bezier", "polygonal", "spherical")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def written(curve: Curve, t: float) -> torch.Tensor:
    out = torch.full_like(curve.anchors[0], math.nan)
    curve.point(t, out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_curve_has_its_name_its_anchors_and_exact_ends(kind: str):
    a = torch.from_numpy(SPECIAL[:8].copy())
    b = a.flip(0).roll(3)
    bends = [normal(8, seed=s) for s in range(3)]
    curve = made(kind, a, b, bends)
    assert curve.name == kind
    assert curve.anchors[0] is a
    assert curve.anchors[-1] is b
    assert len(curve.anchors) == (2 if kind in ("linear", "spherical") else 5)
    for t, end in ((0.0, a), (-0.0, a), (1.0, b)):
        assert bits(written(curve, t)) == bits(end)
    assert 0x80000000 in bits(written(curve, 0.0))
    for t in even_points(14):
        assert written(curve, t).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0.0, 1.0), st.integers(1, 4))
def test_a_point_is_the_weighted_sum_of_the_anchors(kind: str, t: float, count: int):
    a, b, *bends = normal(count + 2, 50)
    curve = made(kind, a, b, bends)
    weights = curve.weights(t)
    exact = sum(w * anchor.double() for w, anchor in zip(weights, curve.anchors, strict=True))
    assert (written(curve, t).double() - exact).abs().max() < 2e-6
    if kind != "spherical":  # the others are affine: convex combinations of their anchors
        assert math.fsum(weights) == pytest.approx(1.0, abs=1e-14)
        assert min(weights) >= 0.0


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["linear", "bezier", "polygonal"]),
    st.floats(0.0, 1.0),
    st.floats(-8.0, 8.0, width=32),
    st.floats(-8.0, 8.0, width=32),
)
def test_affine_curves_move_with_their_anchors(kind: str, t: float, scale: float, shift: float):
    anchors = normal(4, 20)
    plain = made(kind, anchors[0], anchors[-1], list(anchors[1:-1]))
    moved = anchors * scale + shift
    other = made(kind, moved[0], moved[-1], list(moved[1:-1]))
    assert torch.allclose(written(other, t), written(plain, t) * scale + shift, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_back_is_the_same_way(kind: str):
    a, b, *bends = normal(5, 30)
    there, back = made(kind, a, b, bends), made(kind, b, a, bends[::-1])
    for t in (0.0, 0.1, 0.5, 0.8):
        assert torch.allclose(written(there, t), written(back, 1.0 - t), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [-1e-9, 1.0000001, math.nan])
def test_no_curve_goes_on_beyond_its_ends(kind: str, t: float):
    a, b, *bends = normal(3, 4)
    curve, out = made(kind, a, b, bends), torch.zeros(4)
    for ask in (lambda: curve.point(t, out), lambda: curve.weights(t)):
        with pytest.raises(ValueError, match="outside"):
            ask()
    assert not out.any()


@pytest.mark.parametrize("kind", KINDS)
def test_points_go_into_the_given_buffer_and_anchors_stay(kind: str):
    anchors = normal(4, 100)
    kept = anchors.clone()
    curve = made(kind, anchors[0], anchors[-1], list(anchors[1:-1]))
    whole = torch.zeros(120)
    for t in (0.0, 0.3, 0.75, 1.0):
        curve.point(t, whole[10:110])
    assert torch.equal(whole[10:110], anchors[-1])
    assert not whole[:10].any()
    assert not whole[110:].any()
    assert torch.equal(anchors, kept)


def test_bends_in_training_can_be_looked_at():
    a, b = normal(2, 6)
    bend = torch.nn.Parameter(a.clone())
    for curve in (Bezier(a, b, [bend]), Polygonal(a, b, [bend])):
        assert not written(curve, 0.4).requires_grad


@pytest.mark.parametrize("kind", ["bezier", "polygonal"])
def test_bends_of_another_size_are_refused(kind: str):
    with pytest.raises(ValueError, match="a bend has 4 parameters where the ends have 3"):
        made(kind, torch.zeros(3), torch.ones(3), [torch.zeros(4)])


# Bezier


def casteljau(points: list[np.ndarray], t: float) -> np.ndarray:
    """de Casteljau's recursion, in float64."""
    if len(points) == 1:
        return points[0]
    return casteljau([(1 - t) * p + t * q for p, q in pairwise(points)], t)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_bezier_is_de_casteljaus_curve(count: int):
    a, b, *bends = normal(count + 2, 64, seed=count)
    curve = Bezier(a, b, bends)
    points = [p.double().numpy() for p in curve.anchors]
    for t in (1e-7, 0.04, 0.25, 0.5, 0.6, 0.96, 1 - 1e-7):
        assert np.abs(written(curve, t).double().numpy() - casteljau(points, t)).max() < 1e-6


EXPANDED = {  # science.md, section 1, written out
    1: lambda t, a, b, p: (1 - t) ** 2 * a + 2 * t * (1 - t) * p[0] + t**2 * b,
    2: lambda t, a, b, p: (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * p[0] + 3 * t**2 * (1 - t) * p[1] + t**3 * b,
    3: lambda t, a, b, p: (
        (1 - t) ** 4 * a
        + 4 * t * (1 - t) ** 3 * p[0]
        + 6 * t**2 * (1 - t) ** 2 * p[1]
        + 4 * t**3 * (1 - t) * p[2]
        + t**4 * b
    ),
    4: lambda t, a, b, p: (
        (1 - t) ** 5 * a
        + 5 * t * (1 - t) ** 4 * p[0]
        + 10 * t**2 * (1 - t) ** 3 * p[1]
        + 10 * t**3 * (1 - t) ** 2 * p[2]
        + 5 * t**4 * (1 - t) * p[3]
        + t**5 * b
    ),
}


@pytest.mark.parametrize("count", EXPANDED)
def test_bezier_is_the_formula_written_out(count: int):
    a, b, *bends = normal(count + 2, 64, seed=9)
    for t in (0.1, 0.5, 0.52, 0.9):
        exact = EXPANDED[count](t, a.double(), b.double(), [p.double() for p in bends])
        assert (written(Bezier(a, b, bends), t).double() - exact).abs().max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_bends_start_evenly_on_the_segment_where_both_curves_are_straight(count: int):
    a, b = normal(2, 40)
    bends = start_bends(a, b, count)
    assert len(bends) == count
    for i, bend in enumerate(bends, 1):
        assert torch.allclose(bend, a + (b - a) * i / (count + 1), atol=1e-6)
    for curve in (Bezier(a, b, bends), Polygonal(a, b, bends)):
        for t in (0.1, 0.37, 0.5, 0.8):
            assert torch.allclose(written(curve, t), torch.lerp(a, b, t), atol=1e-6)


# Polygonal


def test_a_chain_is_straight_between_its_knots_and_exact_at_them():
    a, b, *bends = normal(5, 30)
    bends[1][:2] = torch.tensor([-0.0, 0.0])
    for at in (None, [0.2, 0.3, 0.9]):
        curve = Polygonal(a, b, bends, at)
        knots = [0.0, *(at or [0.25, 0.5, 0.75]), 1.0]
        assert curve.knots == tuple(knots)
        for knot, anchor in zip(knots, curve.anchors, strict=True):
            assert bits(written(curve, knot)) == bits(anchor)
        for piece in range(4):
            for share in (0.1, 0.5, 0.9):
                t = knots[piece] + share * (knots[piece + 1] - knots[piece])
                exact = (1 - share) * curve.anchors[piece].double() + share * curve.anchors[piece + 1].double()
                assert (written(curve, t).double() - exact).abs().max() < 1e-6


@pytest.mark.parametrize("at", [[0.5], [0.5, 0.5], [0.6, 0.4], [0.0, 0.5], [0.5, 1.0], [0.5, math.nan]])
def test_knots_must_rise_between_the_ends(at: list[float]):
    with pytest.raises(ValueError, match="2 bends need as many rising t"):
        Polygonal(torch.zeros(2), torch.ones(2), [torch.zeros(2)] * 2, at)


# Spherical


@pytest.mark.parametrize("stretch", [1.0, 0.3])
@pytest.mark.parametrize("spread", [2.0, 0.05, 1e-3])
def test_slerp_is_its_formula(stretch: float, spread: float):
    a = normal(3000, seed=3)
    b = (a + spread * normal(3000, seed=4)) * stretch
    x, y = a.double().numpy(), b.double().numpy()
    angle = math.acos(x @ y / math.sqrt((x @ x) * (y @ y)))
    curve = Spherical(a, b)
    assert curve.angle == pytest.approx(angle, rel=1e-8)
    for t in (0.1, 0.5, 0.8):
        exact = (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
        assert np.abs(written(curve, t).double().numpy() - exact).max() < 2e-6


def test_slerp_keeps_the_norm_of_equal_norms_where_the_chord_loses_it():
    a, b = normal(2, 4000)
    a, b = a / a.double().norm().float(), b / b.double().norm().float()
    norms = [written(Spherical(a, b), t).double().norm().item() for t in even_points(11)]
    assert norms == pytest.approx([1.0] * 11, abs=1e-6)
    assert written(Linear(a, b), 0.5).norm() < 0.75


@pytest.mark.parametrize("b", [[2.0, -4.0], [1.0, -2.0], [0.0, 0.0], [1e-20, -2e-20]])
def test_slerp_without_an_angle_is_the_straight_path(b: list[float]):
    a, b_ = torch.tensor([1.0, -2.0]), torch.tensor(b)
    for one, other in ((a, b_), (b_, a)):
        for t in (0.0, 0.3, 1.0):
            assert torch.allclose(written(Spherical(one, other), t), written(Linear(one, other), t), rtol=1e-6)
    assert torch.equal(written(Spherical(b_ * 0, b_ * 0), 0.5), torch.zeros(2))


@pytest.mark.parametrize("tilt", [0.0, 1e-5])
def test_slerp_of_opposite_ends_is_refused(tilt: float):
    with pytest.raises(ValueError, match="opposite directions"):
        Spherical(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([-3.0, -6.0, tilt]))
    assert Spherical(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.1])).angle == pytest.approx(
        math.pi - 0.1, abs=1e-3
    )
