"""Planes against explicit bases: on hand-made triangles, on random vectors, and on a bowl with known contours."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raymc.landscape.curves import Bezier, Linear, Polygonal, Spherical
from raymc.landscape.planes import Plane, grid
from raymc.specs.errors import RaymcError

CHUNK = 1 << 18


def basis(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u and v as the paper writes them."""
    u, v = b - a, (c - a) - (c - a) @ (b - a) / ((b - a) @ (b - a)) * (b - a)
    return u / np.linalg.norm(u), v / np.linalg.norm(v)


def vectors(size: int, seed: int = 0, count: int = 3, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(size, generator=generator)
    return [shared + scale * torch.randn(size, generator=generator) for _ in range(count)]


def wide(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in tensors]


def test_a_triangle_worked_out_by_hand():
    plane = Plane(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([5.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 4.0]))
    assert plane.corners == ((0.0, 0.0), (4.0, 0.0), (1.0, 3.0))
    out = torch.empty(3)
    plane.point(2.0, 1.5, out)
    assert out.tolist() == [3.0, 1.0, 2.5]
    assert plane.position(torch.tensor([3.0, -6.0, 2.5])) == pytest.approx((2.0, 1.5, 7.0))
    assert grid(plane.corners, 5, 0.25) == ((-1.0, 0.5, 2.0, 3.5, 5.0), (-0.75, 0.375, 1.5, 2.625, 3.75))


@pytest.mark.parametrize(("size", "scale"), [(3, 1.0), (700, 1e-3), (CHUNK + 5, 0.1)])
def test_points_and_positions_are_those_of_an_explicit_basis(size: int, scale: float):
    a, b, c, other = vectors(size, 1, 4, scale)
    plane, out = Plane(a, b, c), torch.empty(size)
    x, y, z, w = wide(a, b, c, other)
    u, v = basis(x, y, z)
    assert (u @ u, v @ v, u @ v) == pytest.approx((1.0, 1.0, 0.0), abs=1e-12)
    expected = [(0.0, 0.0), ((y - x) @ u, 0.0), ((z - x) @ u, (z - x) @ v)]
    assert plane.corners == pytest.approx(np.array(expected), rel=1e-9, abs=1e-12)
    assert all(type(number) is float for corner in plane.corners for number in corner)
    for place in ((0.3 * plane.corners[1][0], 0.4 * plane.corners[2][1]), (-plane.corners[1][0], 1.0), (0.0, -2.0)):
        plane.point(*place, out)
        explicit = x + place[0] * u + place[1] * v
        assert np.abs(out.double().numpy() - explicit).max() < 1e-6 * np.abs(explicit).max()
    rest = (w - x) - (w - x) @ u * u - (w - x) @ v * v
    found = plane.position(other)
    assert found == pytest.approx(((w - x) @ u, (w - x) @ v, np.linalg.norm(rest)), rel=1e-9, abs=1e-12)


def test_corners_are_the_minima_bit_for_bit():
    minima = vectors(CHUNK + 3, 2)
    minima[2][7] = -0.0  # whose sign a sum would lose
    plane, out = Plane(*minima), torch.empty(CHUNK + 3)
    for corner, vector in zip(plane.corners, minima, strict=True):
        plane.point(*corner, out)
        assert torch.equal(out.view(torch.int32), vector.view(torch.int32))
        assert plane.position(vector) == pytest.approx((*corner, 0.0), abs=1e-9)


def test_what_the_three_share_stays_as_it_is_everywhere():
    minima = vectors(50, 3)
    for vector in minima:
        vector[:20] = torch.linspace(0.1, 0.7, 20)
    plane, out = Plane(*minima), torch.empty(50)
    plane.point(0.37, -1.9, out)
    assert torch.equal(out[:20], minima[0][:20])


def test_a_vector_in_the_plane_is_told_to_be_there():
    """Far from the origin too: the distance is no difference of squares."""
    a, b, c = (vector.double() for vector in vectors(4000, 4, scale=1e-2))
    assert Plane(a, b, c).position(a + 0.3 * (b - a) - 0.8 * (c - a)).off < 1e-12


@settings(max_examples=25)
@given(st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6), st.floats(-2, 2), st.floats(-2, 2))
def test_position_undoes_point(numbers: list[float], x: float, y: float):
    b, c = torch.tensor([*numbers[:3], 1.0]), torch.tensor([*numbers[3:], -1.0])
    a = torch.zeros(4)
    area = torch.linalg.matrix_norm(torch.stack([b, c]), ord=-2).item()
    if area < 0.1:
        return
    plane, out = Plane(a.double(), b.double(), c.double()), torch.empty(4, dtype=torch.float64)
    plane.point(x, y, out)
    assert plane.position(out) == pytest.approx((x, y, 0.0), abs=1e-9)


@pytest.mark.parametrize("third", [[2.0, 4.0], [0.0, 0.0], [1.0, 2.0], [-3.0, -6.0]])
def test_three_on_a_line_make_no_plane(third: list[float]):
    with pytest.raises(RaymcError, match="on one line"):
        Plane(torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor(third))


def test_equal_minima_and_unlike_sizes_make_no_plane():
    with pytest.raises(RaymcError, match="on one line"):
        Plane(torch.ones(2), torch.ones(2), torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="2, 2 and 3 parameters"):
        Plane(torch.zeros(2), torch.ones(2), torch.ones(3))


def test_a_thin_triangle_is_still_one():
    plane = Plane(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.5, 1e-4]))
    assert plane.corners[2] == pytest.approx((0.5, 1e-4), rel=1e-6)


# Curves ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Linear, Spherical, Bezier, Polygonal])
@pytest.mark.parametrize("ends", [(0, 1), (1, 2)])
def test_a_trace_is_the_position_of_each_of_the_curve_s_points(kind, ends: tuple[int, int]):
    *minima, first, second = (vector.double() for vector in vectors(300, 5, 5, 0.3))
    start, end = (minima[i] for i in ends)
    curve = kind(start, end) if kind in (Linear, Spherical) else kind(start, end, [first, second])
    plane, out = Plane(*minima), torch.empty(300, dtype=torch.float64)
    t = [0.0, 0.2, 0.5, 0.9, 1.0]
    found = plane.trace(curve, t)
    for one, place in zip(t, found, strict=True):
        curve.point(one, out)
        assert place == pytest.approx(plane.position(out), abs=1e-9)
    assert found[0] == pytest.approx((*plane.corners[ends[0]], 0.0), abs=1e-9)
    assert found[-1] == pytest.approx((*plane.corners[ends[1]], 0.0), abs=1e-9)
    if kind is Linear:
        assert max(place.off for place in found) < 1e-12
    else:
        assert found[2].off > 0.1


def test_a_bend_that_is_the_third_minimum_puts_the_curve_into_the_plane():
    """As the paper's figure 1 does: the plane through both ends and the bend."""
    a, b, bend = vectors(200, 6)
    plane = Plane(a, b, bend)
    x, y = plane.corners[2]
    for t, place in zip((0.25, 0.5), plane.trace(Bezier(a, b, [bend]), [0.25, 0.5]), strict=True):
        weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        assert place == pytest.approx(
            (weights[1] * x + weights[2] * plane.corners[1][0], weights[1] * y, 0.0), abs=1e-9
        )


# Grids ----------------------------------------------------------------------------------------------------------------


@given(
    st.floats(0.1, 50),
    st.floats(-80, 80),
    st.floats(0.1, 50),
    st.integers(2, 30),
    st.sampled_from([0.0, 0.1, 0.25, 1.0]),
)
def test_a_grid_covers_the_three_with_its_margin(
    length: float, slope: float, height: float, points: int, margin: float
):
    corners = ((0.0, 0.0), (length, 0.0), (slope, height))
    xs, ys = grid(corners, points, margin)
    for values, lines in (((0.0, length, slope), xs), ((0.0, height), ys)):
        extent = max(values) - min(values)
        assert len(lines) == points
        assert lines[0] == pytest.approx(min(values) - margin * extent)
        assert lines[-1] == pytest.approx(max(values) + margin * extent)
        assert np.diff(lines) == pytest.approx(np.full(points - 1, extent * (1 + 2 * margin) / (points - 1)))
        if margin == 0.0:  # so that the grid has the minima themselves
            assert (lines[0], lines[-1]) == (min(values), max(values))


def test_the_loss_of_a_bowl_on_a_plane_is_known_everywhere():
    """|w|^2 is the squared distance from the origin's foot plus that of the foot from the origin."""
    a, b, c = vectors(120, 7)
    plane, out = Plane(a, b, c), torch.empty(120)
    foot = plane.position(torch.zeros(120))
    for y in grid(plane.corners, 4, 0.25)[1]:
        for x in grid(plane.corners, 4, 0.25)[0]:
            plane.point(x, y, out)
            expected = (x - foot.x) ** 2 + (y - foot.y) ** 2 + foot.off**2
            assert out.double().square().sum().item() == pytest.approx(expected, rel=1e-6)
    assert math.isclose(foot.x**2 + foot.y**2 + foot.off**2, a.double().square().sum().item(), rel_tol=1e-12)
