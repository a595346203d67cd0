"""The nudged elastic band: each piece against sums by hand, and all together on wells whose pass is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raymc.landscape.curves import arc_parameters, segments
from raymc.landscape.neb import insert, insertions, perpendicular, redistribute, tangents


def points(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# Tangents: before (0, 0), here (3, 0), after (3, 4), so that back is (3, 0) and on is (0, 4)


@pytest.mark.parametrize(
    ("losses", "direction"),
    [
        ((1.0, 2.0, 5.0), (0.0, 4.0)),  # rising: towards the higher neighbour
        ((5.0, 2.0, 1.0), (3.0, 0.0)),  # falling: away from the higher one, on along the chain
        ((1.0, 5.0, 2.0), (3.0 * 3.0, 4.0 * 4.0)),  # a maximum, after higher: on counts the larger change, 4
        ((2.0, 5.0, 1.0), (3.0 * 4.0, 4.0 * 3.0)),
        ((9.0, 1.0, 7.0), (3.0 * 8.0, 4.0 * 6.0)),  # a minimum, before higher: back counts 8
        ((7.0, 1.0, 9.0), (3.0 * 6.0, 4.0 * 8.0)),
        ((2.0, 3.0, 2.0), (3.0, 4.0)),  # as high on both sides: from neighbour to neighbour
        ((2.0, 2.0, 2.0), (3.0, 4.0)),
        ((2.0, 2.0, 3.0), (0.0, 4.0)),
        ((2.0, 3.0, 3.0), (0.0, 4.0)),
        ((3.0, 3.0, 2.0), (3.0, 0.0)),
        ((3.0, 2.0, 2.0), (3.0, 0.0)),
    ],
)
def test_a_tangent_points_along_the_chain_by_the_higher_neighbour(losses, direction):
    found = tangents(torch.zeros(2), points((3.0, 0.0)), torch.tensor([3.0, 4.0]), losses)
    exact = np.array(direction) / np.hypot(*direction)
    assert found.shape == (1, 2)
    assert found[0].tolist() == pytest.approx(exact.tolist(), abs=1e-6)


def test_tangents_of_a_long_chain_are_unit_vectors_of_their_own_neighbours():
    a, b, *inner = normal(6, 300_000) * 0.01 + 5.0
    losses = [0.0, 1.0, 2.0, 1.5, 0.5, 0.1]
    found = tangents(a, torch.stack(inner), b, losses)
    steps = [q.double() - p.double() for p, q in pairwise([a, *inner, b])]
    # rising; the top, whose neighbour after, 1.5, is the higher one, so that the larger change, 1.0, weighs the way on;
    # falling twice
    exact = torch.stack([steps[1], 1.0 * steps[2] + 0.5 * steps[1], steps[2], steps[3]])
    exact /= exact.norm(dim=1, keepdim=True)
    assert (found.double() - exact).norm(dim=1).max() < 1e-6
    assert found.double().norm(dim=1).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_a_pivot_without_a_direction_has_none():
    a = torch.ones(3)
    assert not tangents(a, torch.ones(2, 3), a, [1.0, 2.0, 3.0, 4.0]).any()


def test_a_chain_needs_a_loss_for_each_point():
    with pytest.raises(ValueError, match="2 pivots and two ends need as many losses, not 2"):
        tangents(torch.zeros(3), torch.ones(2, 3), torch.ones(3), [1.0, 2.0])


# Perpendicular


def test_gradients_lose_their_part_along_the_tangent_in_place():
    gradient, tangent = normal(3, 300_000), normal(3, 300_000, seed=1)
    tangent /= tangent.double().norm(dim=1, keepdim=True).float()
    exact = gradient.double() - (gradient.double() * tangent.double()).sum(1, keepdim=True) * tangent.double()
    assert perpendicular(gradient, tangent) is gradient
    assert (gradient.double() - exact).abs().max() < 1e-6
    assert (gradient.double() * tangent.double()).sum(1).abs().max() < 1e-4  # of norms of 550
    alone = normal(3, 300_000)[1]
    assert torch.equal(perpendicular(alone, tangent[1]), gradient[1])


def test_the_part_along_is_all_there_is_of_a_parallel_gradient():
    tangent = points((0.6, 0.8), (0.0, 0.0))
    assert perpendicular(tangent * 5.0, tangent).abs().max() < 1e-6
    left = perpendicular(points((1.0, 2.0), (1.0, 2.0)), tangent)
    assert left[0].tolist() == pytest.approx([1 - 2.2 * 0.6, 2 - 2.2 * 0.8], abs=1e-6)
    assert left[1].tolist() == [1.0, 2.0]  # without a tangent nothing is taken


# Redistribute


def slid(chain: np.ndarray, shares: list[float]) -> np.ndarray:
    """Points at shares of a chain's length, by numpy's interpolation along its length."""
    gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(chain, axis=0), axis=1))])
    places = np.interp(np.array(shares) * gone[-1], gone, np.arange(len(chain)))
    left = np.minimum(places.astype(int), len(chain) - 2)
    inside = (places - left)[:, None]
    return (1 - inside) * chain[left] + inside * chain[left + 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000), st.data())
def test_pivots_slide_along_the_chain_to_their_shares(count: int, seed: int, data):
    chain = normal(count + 2, 5, seed=seed)
    share = st.floats(0.0, 1.0)
    at = data.draw(st.none() | st.lists(share, min_size=count, max_size=count).map(sorted))
    pivots = chain[1:-1].clone()
    moved = redistribute(chain[0], pivots, chain[-1], at)
    assert moved is pivots
    exact = slid(chain.double().numpy(), at or [i / (count + 1) for i in range(1, count + 1)])
    assert np.abs(moved.double().numpy() - exact).max() < 1e-5


def test_a_wide_chain_slides_in_all_its_columns():
    chain = normal(5, 300_000)
    chain[1] *= 20.0
    exact = slid(chain.double().numpy(), [0.25, 0.5, 0.75])
    moved = redistribute(chain[0].clone(), chain[1:-1].clone(), chain[-1].clone())
    assert np.abs(moved.double().numpy() - exact).max() < 3e-5
    straight = redistribute(chain[0], torch.stack([chain[-1], chain[-1]]), chain[-1])
    assert arc_parameters([chain[0], *straight, chain[-1]]) == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0], abs=1e-6)


def test_an_even_chain_and_a_chain_of_no_length_stay():
    a, b = torch.tensor([0.0, 0.0]), torch.tensor([3.0, 0.0])
    even = points((1.0, 0.0), (2.0, 0.0))
    assert torch.equal(redistribute(a, even.clone(), b), even)
    assert torch.equal(redistribute(a, torch.zeros(2, 2), a), torch.zeros(2, 2))


def test_a_chain_without_pivots_is_left_alone():
    a, b, none = torch.zeros(2), torch.ones(2), torch.empty(0, 2)
    assert redistribute(a, none, b) is none
    assert tangents(a, none, b, [1.0, 2.0]).shape == perpendicular(none.clone(), none).shape == (0, 2)


def test_parameters_in_training_slide_too():
    pivots = torch.nn.Parameter(points((0.1, 0.0)))
    redistribute(torch.zeros(2), pivots, torch.tensor([1.0, 0.0]))
    assert pivots.tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("at", [[0.5], [0.6, 0.5], [-0.1, 0.5], [0.5, 1.1], [0.5, math.nan]])
def test_shares_must_rise_within_the_chain(at: list[float]):
    with pytest.raises(ValueError, match="2 pivots need as many rising shares"):
        redistribute(torch.zeros(2), torch.ones(2, 2), torch.ones(2), at)


# Insertions

SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
ROWS = [  # the height of the chain is 10; over their chords stand 0, 2 at a half, 0.5, 6 at a quarter
    [0.0, 0.5, 1.0, 1.5, 2.0],
    [2.0, 3.0, 5.0, 4.0, 4.0],
    [4.0, 4.0, 3.0, 2.5, 2.0],
    [2.0, 10.0, 4.0, 6.0, 10.0],
]


@pytest.mark.parametrize(
    ("threshold", "at_most", "found"),
    [
        (0.1, None, [(1, 0.5), (3, 0.25)]),
        (0.199, None, [(1, 0.5), (3, 0.25)]),
        (0.2, None, [(3, 0.25)]),
        (0.049, None, [(1, 0.5), (2, 0.25), (3, 0.25)]),
        (0.049, 2, [(1, 0.5), (3, 0.25)]),
        (0.049, 1, [(3, 0.25)]),
        (0.049, 0, []),
        (0.7, None, []),
    ],
)
def test_a_pivot_goes_where_the_loss_stands_over_the_chord(threshold: float, at_most: int | None, found: list):
    assert insertions(SHARES, ROWS, threshold, at_most) == found


def test_neither_flat_nor_straight_nor_sagging_chains_get_pivots():
    assert insertions(SHARES, [[0.3] * 5] * 3) == []
    assert insertions(SHARES, [[0.3, 0.1, 0.0, 0.1, 0.3]]) == []
    assert insertions([0.0, 1.0], [[0.0, 1.0], [1.0, 0.0]]) == []
    assert insertions(SHARES, [[0.0, 1.0, 2.0, 3.0, 4.0]], threshold=0.0) == []


@pytest.mark.parametrize(
    ("t", "rows", "message"),
    [
        ([0.0, 0.5], [[1.0, 1.0]], "rising shares from 0 to 1"),
        ([0.0, 0.5, 0.5, 1.0], [[1.0] * 4], "rising shares from 0 to 1"),
        (SHARES, [[1.0] * 4], "a finite loss for each share"),
        (SHARES, [[1.0, math.nan, 1.0, 1.0, 1.0]], "a finite loss for each share"),
        (SHARES, [[1.0, math.inf, 1.0, 1.0, 1.0]], "a finite loss for each share"),
    ],
)
def test_segments_of_another_form_are_refused(t: list[float], rows: list[list[float]], message: str):
    with pytest.raises(ValueError, match=message):
        insertions(t, rows)


def test_new_pivots_lie_on_the_chain_in_order():
    a, b, pivots = torch.zeros(2), torch.tensor([4.0, 4.0]), points((4.0, 0.0))
    found = insert(a, pivots, b, [(1, 0.5), (0, 0.75), (0, 0.25)])
    assert found.tolist() == [[1.0, 0.0], [3.0, 0.0], [4.0, 0.0], [4.0, 2.0]]
    assert insert(a, torch.empty(0, 2), b, [(0, 0.5)]).tolist() == [[2.0, 2.0]]
    same = insert(a, pivots, b, [])
    assert torch.equal(same, pivots)
    assert same.data_ptr() != pivots.data_ptr()


# All together


def autoneb(
    loss: Callable[[torch.Tensor], torch.Tensor], a: torch.Tensor, b: torch.Tensor, rounds: int, steps: int, rate: float
) -> torch.Tensor:
    """A plain AutoNEB by gradient descent: the chain, ends included. `loss` maps (m, d) to (m,)."""
    pivots = torch.empty(0, len(a))
    shares = torch.linspace(0, 1, 9)
    for _ in range(rounds):
        chain = torch.cat([a[None], pivots, b[None]])
        rows = [loss(torch.lerp(p, q, shares[:, None])).tolist() for p, q in pairwise(chain)]
        pivots = insert(a, pivots, b, insertions(shares.tolist(), rows, 0.02))
        at = arc_parameters([a, *pivots, b])[1:-1]
        for _ in range(steps):
            redistribute(a, pivots, b, at)
            chain = torch.cat([a[None], pivots, b[None]]).requires_grad_()
            losses = loss(chain)
            (gradient,) = torch.autograd.grad(losses.sum(), chain)
            with torch.no_grad():
                pivots -= rate * perpendicular(gradient[1:-1], tangents(a, pivots, b, losses.tolist()))
    return torch.cat([a[None], pivots, b[None]])


def highest(loss: Callable[[torch.Tensor], torch.Tensor], chain: torch.Tensor) -> float:
    shares = torch.linspace(0, 1, 101)[:, None]
    return max(loss(torch.lerp(p, q, shares)).max().item() for p, q in pairwise(chain))


def valley(x: torch.Tensor) -> torch.Tensor:
    return 1.0 - x.square() + 0.4 * x


def wells(point: torch.Tensor) -> torch.Tensor:
    """Minima of height 0 at x = -1 and 1 on a bent valley; any way between crosses x = 0, at its lowest at height 1."""
    x, y = point.unbind(-1)
    return (x.square() - 1).square() + 5.0 * (y - valley(x)).square()


def test_the_chain_finds_the_pass_between_two_wells():
    ends = torch.tensor([-1.0, 1.0])
    a, b = torch.stack([ends, valley(ends)], dim=1)
    straight = highest(wells, torch.stack([a, b]))
    assert straight == pytest.approx(6.0, abs=1e-3)  # (0, 0) against the pass at (0, 1)
    chain = autoneb(wells, a, b, rounds=5, steps=60, rate=0.03)
    assert highest(wells, chain) == pytest.approx(1.0, abs=1e-3)
    assert highest(wells, chain) >= 1.0 - 1e-6  # no way is lower than the pass
    assert 5 <= len(chain) - 2 <= 31
    assert torch.equal(chain[0], a)
    assert torch.equal(chain[-1], b)
    assert max(segments(chain)) < 1.0


def test_a_straight_pass_is_found_at_once_and_gets_no_bend():
    def saddle(point: torch.Tensor) -> torch.Tensor:
        return (point[:, 0].square() - 1).square() + point[:, 1:].square().sum(1)

    a, b = points((-1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    chain = autoneb(saddle, a, b, rounds=2, steps=5, rate=0.05)
    assert chain[:, 1:].abs().max() == 0.0
    assert highest(saddle, chain) == pytest.approx(1.0, abs=1e-6)
