"""Orders of interchangeable units against a look at every order there is."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from raymc.landscape.matching import Axis, Symmetry, aligned, assign, assign_groups, permuted, units

SEEDS = range(5)
# 4 units of 2 outputs each: rows of a weight and a bias, fused threefold in a transposed weight, and what reads them.
ROWS, BIAS, FUSED, READ = Axis("rows", 0), Axis("bias", 0), Axis("fused", 1, 3), Axis("read", 1)
LAYER = Symmetry("heads", 4, (ROWS, BIAS, FUSED, READ))
GROUPS = Symmetry("heads", 3, (Axis("keys", 0), Axis("key_bias", 0)), 2, (Axis("queries", 0), Axis("out", 1)))
SHAPES = {"rows": (8, 3), "bias": (8,), "fused": (5, 24), "read": (3, 8)}
GROUP_SHAPES = {"keys": (6, 5), "key_bias": (6,), "queries": (12, 5), "out": (5, 12)}


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return sum((a[name].double() - b[name].double()).square().sum().item() for name in a)


def reordered_layer(t: dict[str, torch.Tensor], order: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """By hand, on explicit shapes."""
    p = list(order)
    return {
        "rows": t["rows"].reshape(4, 2, 3)[p].reshape(8, 3),
        "bias": t["bias"].reshape(4, 2)[p].reshape(8),
        "fused": t["fused"].reshape(5, 3, 4, 2)[:, :, p].reshape(5, 24),
        "read": t["read"].reshape(3, 4, 2)[:, p].reshape(3, 8),
    }


def reordered_groups(
    t: dict[str, torch.Tensor], order: tuple[int, ...], inside: tuple[tuple[int, ...], ...]
) -> dict[str, torch.Tensor]:
    p = list(order)
    queries, out = t["queries"].reshape(3, 2, 2, 5)[p], t["out"].reshape(5, 3, 2, 2)[:, p]
    return {
        "keys": t["keys"].reshape(3, 2, 5)[p].reshape(6, 5),
        "key_bias": t["key_bias"].reshape(3, 2)[p].reshape(6),
        "queries": torch.stack([queries[i][list(q)] for i, q in enumerate(inside)]).reshape(12, 5),
        "out": torch.stack([out[:, i][:, list(q)] for i, q in enumerate(inside)], dim=1).reshape(5, 12),
    }


@pytest.mark.parametrize("n", range(1, 6))
def test_an_assignment_is_the_best_of_all(n: int):
    for seed in SEEDS:
        gain = np.random.default_rng(seed).normal(size=(n, n))
        order, total = assign(gain)
        assert sorted(order.tolist()) == list(range(n))
        best = max(sum(gain[i, p[i]] for i in range(n)) for p in permutations(range(n)))
        assert total == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (2, 2), (3, 2), (2, 3), (3, 1)])
def test_an_assignment_of_groups_is_the_best_of_all(n: int, k: int):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        gain, inner = rng.normal(size=(n, n)), rng.normal(size=(n, k, n, k))

        def total(p, qs, gain=gain, inner=inner):
            return sum(gain[g, p[g]] + sum(inner[g, j, p[g], q] for j, q in enumerate(qs[g])) for g in range(n))

        outer, order = assign_groups(gain, inner)
        inside = order.reshape(n, k) - outer[:, None] * k  # each unit came along with its group
        assert all(sorted(row) == list(range(k)) for row in inside.tolist())
        every = (total(p, qs) for p in permutations(range(n)) for qs in product(list(permutations(range(k))), repeat=n))
        assert total(outer, inside) == pytest.approx(max(every), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_layer_is_brought_as_near_as_any_order_brings_it(seed: int):
    a, b = drawn(SHAPES, seed), drawn(SHAPES, seed + 100)
    every = [reordered_layer(b, order) for order in permutations(range(4))]
    found = aligned(LAYER, a, b)
    assert distance(a, found) == min(distance(a, other) for other in every)
    assert sum(all(torch.equal(found[name], other[name]) for name in found) for other in every) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_are_brought_as_near_as_any_order_brings_them(seed: int):
    a, b = drawn(GROUP_SHAPES, seed), drawn(GROUP_SHAPES, seed + 100)
    inside = product(((0, 1), (1, 0)), repeat=3)
    every = [reordered_groups(b, p, q) for p, q in product(permutations(range(3)), list(inside))]
    found = aligned(GROUPS, a, b)
    assert distance(a, found) == min(distance(a, other) for other in every)
    assert sum(all(torch.equal(found[name], other[name]) for name in found) for other in every) == 1


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_order_is_undone(noise: float):
    layer, groups = drawn(SHAPES, 1), drawn(GROUP_SHAPES, 1)
    for symmetry, a, moved in (
        (LAYER, layer, reordered_layer(layer, (2, 0, 3, 1))),
        (GROUPS, groups, reordered_groups(groups, (2, 0, 1), ((1, 0), (0, 1), (1, 0)))),
    ):
        assert distance(a, moved) > 1
        near = {name: t + noise * drawn({name: tuple(t.shape)}, 3)[name] for name, t in a.items()}
        found = aligned(symmetry, near, moved)
        assert all(torch.equal(found[name], a[name]) for name in a)


def test_units_that_tie_stay():
    """Dead units, duplicates and equal inputs: an order that gains nothing isn't taken."""
    for symmetry, shapes in ((LAYER, SHAPES), (GROUPS, GROUP_SHAPES)):
        a, b = drawn(shapes, 1), drawn(shapes, 2)
        zero = {name: torch.zeros(shape) for name, shape in shapes.items()}
        one = {name: torch.ones(shape) for name, shape in shapes.items()}
        for ours, theirs in ((a, a), (zero, b), (a, zero), (one, b), (a, one)):
            found = aligned(symmetry, ours, theirs)
            assert all(torch.equal(found[name], theirs[name]) for name in theirs)
    many = Symmetry("neurons", 6, (Axis("rows", 0),))
    a = {"rows": torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])}
    b = {"rows": torch.tensor([[0.0, 1e-3], [1.0, 1.0], [3.0, 0.0], [0.0, 2e-3], [1.0, 2.0], [0.0, 2.0]])}
    expected = b["rows"][[0, 1, 5, 3, 4, 2]]  # rows 2 and 5 belong to each other's; the rest has nothing to gain
    assert torch.equal(aligned(many, a, b)["rows"], expected)


def test_a_unit_reads_the_same_in_every_tensor():
    t = drawn(SHAPES, 1)
    order = torch.tensor([2, 0, 3, 1])
    by_hand = reordered_layer(t, (2, 0, 3, 1))
    for axis in LAYER.axes:
        moved = permuted(t[axis.name], axis, order)
        assert torch.equal(moved, by_hand[axis.name])
        assert torch.equal(units(moved, axis, 4), units(t[axis.name], axis, 4)[order])


def test_a_dimension_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="fused: 24 entries are not 3 x 5 units"):
        units(torch.zeros(5, 24), FUSED, 5)
