"""Clusters found where they are, none where there are none: errors and power of the test by simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from raymc.analysis import clusters
from raymc.analysis.clusters import effects, find_clusters
from raymc.specs.errors import RaymcError


def matrix(values: np.ndarray) -> pd.DataFrame:
    keys = [f"k{i}" for i in range(len(values))]
    values = values.astype(float)
    np.fill_diagonal(values, np.nan)
    return pd.DataFrame(values, index=keys, columns=keys)


def noisy(rng: np.random.Generator, sizes: tuple[int, ...], apart: float, poor: float) -> pd.DataFrame:
    """Noise of deviation 1 a cell, `poor` times a normal effect a minimum, `apart` between clusters."""
    size = sum(sizes)
    a, of = rng.normal(0, poor, size), np.repeat(range(len(sizes)), sizes)
    values = a[:, None] + a[None] + rng.normal(0, 1, (size, size)) + apart * (of[:, None] != of[None])
    values = np.triu(values, 1)
    return matrix(values + values.T - 2 * values.min())


def test_the_two_starts_of_the_quickstart_are_two_clusters():
    across = [[0.6948, 0.7009, 0.6995], [0.6928, 0.6964, 0.6953], [0.6934, 0.6973, 0.6962]]
    values = np.zeros((6, 6))
    values[:3, 3:], values[3:, :3] = across, np.transpose(across)
    found = find_clusters(matrix(values), permutations=999)
    assert list(found.labels.values()) == [1, 1, 1, 2, 2, 2]
    assert found.count == 2
    assert found.statistic == pytest.approx(1, abs=1e-4)
    assert found.p_value <= 0.01
    assert (found.within, found.between) == (0.0, pytest.approx(np.mean(across)))
    assert found.untested == (1, 2)


def test_effects_are_the_least_squares_fit():
    size = 7
    cells = np.random.default_rng(0).normal(size=size * (size - 1) // 2)
    i, j = np.triu_indices(size, 1)
    design = np.ones((len(cells), size + 1))
    design[:, 1:] = np.eye(size)[i] + np.eye(size)[j]
    fitted = design @ np.linalg.lstsq(design, cells, rcond=None)[0]
    np.testing.assert_allclose(effects(cells, size), fitted, atol=1e-12)
    np.testing.assert_allclose(effects(np.stack([cells, 2 * cells]), size), [fitted, 2 * fitted], atol=1e-12)


def best_cut(cells: np.ndarray, size: int) -> float:
    """The statistic by its definition: every cut of the tree, one after another."""
    i, j = np.triu_indices(size, 1)
    left, correlations = cells - effects(cells, size), []
    for count in range(2, size):
        parts = hierarchy.fcluster(hierarchy.linkage(cells, "average"), count, "maxclust")
        apart = (parts[i] != parts[j]).astype(float)
        apart -= effects(apart, size)
        length = np.linalg.norm(apart)
        correlations.append(apart @ left / length / np.linalg.norm(left) if length > 1e-9 else 0)
    return max(correlations)


def test_the_statistic_is_the_best_cuts_partial_correlation_and_p_its_rank_among_permutations(monkeypatch):
    size, seed = 9, 4
    frame = noisy(np.random.default_rng(2), (4, 5), 1, 1)
    cells = frame.to_numpy()[np.triu_indices(size, 1)]
    fitted, rng = effects(cells, size), np.random.default_rng(seed)
    noise = (cells - fitted) * math.sqrt((size - 1) / (size - 3))
    drawn = [best_cut(fitted + rng.permutation(noise), size) for _ in range(30)]
    monkeypatch.setattr(clusters, "_CHUNK", 7 * size**2)  # a few at once, the last ones fewer
    found = find_clusters(frame, permutations=30, seed=seed)
    assert found.statistic == pytest.approx(best_cut(cells, size), abs=1e-12)
    assert found.p_value == (1 + sum(one >= found.statistic for one in drawn)) / 31
    assert 1 / 31 < found.p_value < 1


def test_tree_order_and_labels_go_by_size_then_place():
    values = np.full((9, 9), 5.0)
    for group in ([0, 2], [1, 3, 4, 5, 6, 7, 8]):
        values[np.ix_(group, group)] = 0.5
    found = find_clusters(matrix(values), permutations=199)
    assert found.labels == {f"k{i}": 2 if i in (0, 2) else 1 for i in range(9)}
    np.fill_diagonal(values, 0)
    np.testing.assert_array_equal(found.linkage, hierarchy.linkage(squareform(values), "average"))
    assert {found.order.index("k0"), found.order.index("k2")} in ({0, 1}, {7, 8})


@pytest.mark.parametrize("method", ["average", "complete", "single", "weighted"])
def test_three_clusters_and_a_group_within_a_group(method):
    rng = np.random.default_rng(3)
    values = noisy(rng, (4, 4, 4), 8, 0.5).to_numpy()
    found = find_clusters(matrix(values), method, permutations=199)
    assert found.count == 3
    assert len({tuple(found.labels[f"k{i}"] for i in range(at, at + 4)) for at in (0, 4, 8)}) == 3
    nested = noisy(rng, (4, 4, 8), 8, 0.5).to_numpy(copy=True)
    nested[:8, 8:] += 40
    nested[8:, :8] += 40
    assert find_clusters(matrix(nested), method, permutations=199).count == 3


def test_a_poor_minimum_is_no_cluster_and_nothing_but_effects_is_one_cluster():
    poor = np.full((8, 8), 0.1)
    poor[3], poor[:, 3] = 4, 4
    found = find_clusters(matrix(poor), permutations=99)
    assert (found.count, found.p_value, found.statistic) == (1, 1.0, 0.0)
    assert math.isnan(found.between)
    assert find_clusters(matrix(np.full((6, 6), 0.3))).count == 1
    a = np.arange(7.0)
    assert find_clusters(matrix(a[:, None] + a[None])).count == 1


def test_minima_that_are_closer_across_than_within_are_one_cluster():
    side = np.arange(8) < 4
    values = np.where(side[:, None] == side[None], 3.0, 1.0)
    found = find_clusters(matrix(values), permutations=99)
    assert found.count == 1
    assert found.p_value > 0.2


def test_a_minimums_own_height_leaves_the_statistic_as_it_is():
    clear = noisy(np.random.default_rng(5), (4, 4), 20, 0).to_numpy()
    a = np.linspace(0, 1, 8)
    one, other = (find_clusters(matrix(clear + extra), permutations=1) for extra in (0, a[:, None] + a[None]))
    assert one.statistic == pytest.approx(other.statistic)


@pytest.mark.parametrize(("size", "poor"), [(6, 0.0), (8, 1.0), (12, 3.0)])
def test_one_noisy_cluster_is_split_in_about_five_of_a_hundred(size, poor):
    rng = np.random.default_rng(size)
    found = [find_clusters(noisy(rng, (size,), 0, poor), permutations=39, seed=i) for i in range(120)]
    assert np.mean([one.p_value <= 0.05 for one in found]) <= 0.09  # 0.05 and two standard errors
    assert all((one.count > 1) == (one.p_value <= 0.05) for one in found)


@pytest.mark.parametrize(("sizes", "least"), [((3, 3), 0.8), ((4, 4), 0.95), ((3, 3, 3), 0.9)])
def test_clear_clusters_are_found(sizes, least):
    rng = np.random.default_rng(1)
    found = [find_clusters(noisy(rng, sizes, 4, 0.5), permutations=39, seed=i) for i in range(40)]
    assert np.mean([one.p_value <= 0.05 for one in found]) >= least
    assert np.mean([one.count == len(sizes) for one in found]) >= least - 0.1


def test_five_minima_are_too_few():
    values = np.zeros((5, 5))
    values[:2, 2:] = values[2:, :2] = 1
    found = find_clusters(matrix(values))
    assert (found.count, found.permutations, found.untested) == (1, 0, (1,))
    assert math.isnan(found.p_value)
    assert "too few" in found.note


def test_same_seed_same_answer():
    values = noisy(np.random.default_rng(2), (4, 4), 2, 0.5)
    one, other, third = (find_clusters(values, permutations=99, seed=seed) for seed in (7, 7, 8))
    assert one == other
    assert one.statistic == third.statistic


def test_faults_say_what_to_do():
    values = np.ones((6, 6))
    values[0, 1] = values[1, 0] = values[2, 3] = values[3, 2] = np.nan
    with pytest.raises(RaymcError, match="2 of 15 pairs have no value; run the sweep to its end"):
        find_clusters(matrix(values))
    with pytest.raises(RaymcError, match="1 minima"):
        find_clusters(matrix(np.ones((1, 1))))
    with pytest.raises(RaymcError, match=r"values go down to -0\.5; take a barrier"):
        find_clusters(matrix(np.full((6, 6), -0.5)))
    with pytest.raises(ValueError, match="method is one of average"):
        find_clusters(matrix(np.ones((6, 6))), "ward")
    with pytest.raises(ValueError, match="symmetric"):
        find_clusters(matrix(np.triu(np.ones((6, 6)))))
