"""How long paths are, against closed forms and written points, and the barriers of paths whose loss is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from raymc.landscape.barriers import ainsworth, entezari
from raymc.landscape.curves import Bezier, Curve, Linear, Polygonal, Spherical, arc_parameters, lengths, segments
from raymc.landscape.grid import even_points


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def written(curve: Curve, t: float) -> torch.Tensor:
    out = torch.full_like(curve.anchors[0], math.nan)
    curve.point(t, out)
    return out


def test_a_straight_path_grows_with_t_and_keeps_its_digits_far_from_zero():
    a = 1000.0 + normal(5000)
    b = a + 1e-3 * normal(5000, seed=1)
    distance = (b.double() - a.double()).norm().item()
    t = [0.0, 0.04, 0.5, 0.96, 1.0]
    assert lengths(Linear(a, b), t) == pytest.approx([x * distance for x in t], rel=1e-9)
    assert lengths(Bezier(a, b, [b]), t, chords=9)[-1] == pytest.approx(distance, rel=1e-9)
    assert lengths(Linear(a, b), [0.25, 0.75]) == pytest.approx([0.0, distance / 2], rel=1e-9)
    assert lengths(Linear(a, a), t) == [0.0] * 5
    assert lengths(Linear(a, b), []) == []


@pytest.mark.parametrize("kind", [Linear, Bezier, Spherical])
def test_lengths_are_those_of_the_chords_between_written_points(kind):
    a, b, *bends = normal(4, 300_000)  # more than one block of sums
    curve = kind(a, b, bends) if kind is Bezier else kind(a, b)
    t = [0.0, 0.1, 0.35, 0.5, 0.9, 1.0]
    points = [written(curve, x).double() for x in t]
    chords = [(q - p).norm().item() for p, q in pairwise(points)]
    assert lengths(curve, t) == pytest.approx([0.0, *np.cumsum(chords)], rel=1e-6)


def test_a_parabola_has_the_length_of_the_textbook():
    curve = Bezier(torch.zeros(2), torch.tensor([1.0, 1.0]), [torch.tensor([0.5, 0.0])])  # x = t, y = t^2
    t = even_points(6)
    exact = [x / 2 * math.sqrt(1 + 4 * x * x) + math.asinh(2 * x) / 4 for x in t]
    assert lengths(curve, t, chords=400) == pytest.approx(exact, abs=1e-6)
    dense = [lengths(curve, even_points(5 * n + 1))[::n] for n in (1, 10, 100)]
    errors = [exact[-1] - found[-1] for found in dense]
    assert errors[0] > 90 * errors[1] > 8000 * errors[2] > 0  # chords fall short by the square of their length


def test_a_quarter_circle_has_the_length_of_its_angle():
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    t = [0.0, 0.3, 0.5, 1.0]
    assert lengths(Spherical(a, b), t, chords=500) == pytest.approx([3 * math.pi / 2 * x for x in t], rel=1e-6)


def test_chords_do_not_cut_the_corners_of_a_chain():
    a, b = torch.tensor([0.0, 0.0]), torch.tensor([3.0, 0.0])
    curve = Polygonal(a, b, [torch.tensor([0.0, 4.0]), torch.tensor([3.0, 4.0])], at=[0.5, 0.6])
    assert lengths(curve, [0.0, 1.0]) == pytest.approx([0.0, 11.0])
    assert lengths(curve, [0.0, 0.25, 0.55, 0.8, 1.0]) == pytest.approx([0.0, 2.0, 5.5, 9.0, 11.0])
    assert lengths(curve, [0.25, 0.55], chords=7) == pytest.approx([0.0, 3.5])


def test_lengths_go_forward():
    with pytest.raises(ValueError, match="rising"):
        lengths(Linear(torch.zeros(2), torch.ones(2)), [0.0, 0.5, 0.4])
    with pytest.raises(ValueError, match="outside"):
        lengths(Linear(torch.zeros(2), torch.ones(2)), [0.0, 1.5])


def test_arc_parameters_are_shares_of_the_way():
    chain = torch.tensor([[0.0, 0.0], [0.0, 4.0], [3.0, 4.0], [3.0, 1.0]])
    assert segments(chain) == pytest.approx([4.0, 3.0, 3.0])
    assert arc_parameters(chain) == pytest.approx([0.0, 0.4, 0.7, 1.0])
    wide = normal(4, 300_000)
    exact = [(wide[i + 1].double() - wide[i].double()).norm().item() for i in range(3)]
    assert segments(list(wide)) == pytest.approx(exact, rel=1e-12)
    found = arc_parameters(list(wide))
    assert found[0] == 0.0
    assert found[-1] == 1.0
    even = lengths(Polygonal(wide[0], wide[-1], list(wide[1:-1]), at=found[1:-1]), found)
    assert [x / even[-1] for x in even] == pytest.approx(found)


def test_arc_parameters_rise_where_the_chain_stands_still():
    a, b = torch.zeros(2), torch.tensor([3.0, 4.0])
    assert arc_parameters([a, a, a, a, a]) == [0.0, 0.25, 0.5, 0.75, 1.0]
    for chain in ([a, a, a, b], [a, b, b, b], [a, a, b, b]):
        found = arc_parameters(chain)
        Polygonal(chain[0], chain[-1], chain[1:-1], at=found[1:-1])
        assert found == pytest.approx([float(x is b) for x in chain], abs=1e-8)


# Barriers in closed form


def profile(curve: Curve, loss, count: int = 41) -> tuple[list[float], list[float]]:
    t = even_points(count)
    return t, [float(loss(written(curve, x).double())) for x in t]


def test_a_quadratic_bowl_dips_and_a_hill_rises_by_an_eighth_of_the_square():
    a, k = normal(200), 0.7
    b = -a
    square = (b - a).double().square().sum().item()
    hill = profile(Linear(a, b), lambda x: -k / 2 * x.square().sum())
    assert entezari(*hill) == pytest.approx(k * square / 8, rel=1e-6)
    assert ainsworth(*hill) == pytest.approx(k * square / 8, rel=1e-6)
    t, bowl = profile(Linear(a, b), lambda x: k / 2 * x.square().sum())
    assert entezari(t, bowl) == 0.0
    assert bowl[0] - bowl[20] == pytest.approx(k * square / 8, rel=1e-6)
    aside = profile(Linear(a + 1, b + 3), lambda x: -k / 2 * x.square().sum())  # unequal ends: Entezari's holds
    apart = (b + 3 - a - 1).double().square().sum().item()
    assert entezari(*aside) == pytest.approx(k * apart / 8, rel=1e-5)


@pytest.mark.parametrize("height", [4.0, 3.0, 2.0, 1.0])
def test_a_bend_over_a_bowl_rises_as_computed_by_hand(height: float):
    # phi(t) = (2t - 1, 2t(1 - t)h); with u = t(1 - t) the loss is k/2 (1 - 4u + 4 h^2 u^2), highest at u = 0 or 1/4
    curve = Bezier(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0]), [torch.tensor([0.0, height])])
    found = entezari(*profile(curve, lambda x: 3.0 / 2 * x.square().sum()))
    assert found == pytest.approx(3.0 / 2 * max(0.0, height**2 / 4 - 1), abs=1e-6)


def test_on_a_ring_of_minima_the_arc_has_no_barrier_and_the_chord_has():
    def ring(x):
        return (x.square().sum() - 1) ** 2

    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert entezari(*profile(Spherical(a, b), ring)) < 1e-12
    assert entezari(*profile(Linear(a, b), ring)) == pytest.approx(0.25)
    over = torch.full((2,), math.sqrt(2.0) - 0.5)  # phi(1/2) = (a + 2 over + b) / 4 = (1, 1) / sqrt(2), on the ring
    bent = profile(Bezier(a, b, [over]), ring)
    assert bent[1][20] < 1e-12
    assert entezari(*bent) < 0.01
