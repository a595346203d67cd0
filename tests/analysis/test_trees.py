"""Spanning trees and saddles against all paths and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from raymc.analysis.trees import minimax, next_pairs, spanning_tree
from raymc.specs.errors import RaymcError

NAN = np.nan


def matrix(size: int, pairs: dict[tuple[int, int], float]) -> pd.DataFrame:
    values = np.full((size, size), NAN)
    for (i, j), value in pairs.items():
        values[i, j] = values[j, i] = value
    keys = list("abcdefgh"[:size])
    return pd.DataFrame(values, index=keys, columns=keys)


def drawn(size: int, seed: int, missing: float = 0.0, ties: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    draw = (lambda: float(rng.integers(0, 3))) if ties else rng.random
    pairs = {pair: draw() for pair in itertools.combinations(range(size), 2)}
    kept = {pair: value for pair, value in pairs.items() if pair[1] == pair[0] + 1 or rng.random() >= missing}
    return matrix(size, kept)


def every_path(values: np.ndarray, i: int, j: int) -> float:
    inner = [k for k in range(len(values)) if k not in (i, j)]
    ways = (way for count in range(len(inner) + 1) for way in itertools.permutations(inner, count))
    heights = [max(values[a, b] for a, b in itertools.pairwise((i, *way, j))) for way in ways]
    return min(height for height in heights if not np.isnan(height))


@pytest.mark.parametrize(("seed", "missing", "ties"), [(0, 0, False), (1, 0, True), (2, 0.4, False), (3, 0.4, True)])
def test_saddles_are_the_lowest_of_all_paths(seed, missing, ties):
    frame = drawn(6, seed, missing, ties)
    values = np.nan_to_num(frame.to_numpy(), nan=np.inf)
    found = minimax(frame)
    assert found.to_numpy().diagonal() == pytest.approx([NAN] * 6, nan_ok=True)
    for i, j in itertools.combinations(range(6), 2):
        assert found.iloc[i, j] == found.iloc[j, i] == every_path(values, i, j)


def test_saddles_are_single_linkages_heights_and_the_tree_is_the_cheapest():
    frame = drawn(8, 5)
    cells = squareform(np.nan_to_num(frame.to_numpy()))
    np.testing.assert_allclose(
        squareform(np.nan_to_num(minimax(frame).to_numpy())), hierarchy.cophenet(hierarchy.linkage(cells, "single"))
    )
    tree = spanning_tree(frame)
    assert list(tree.columns) == ["a", "b", "value"]
    assert tree["value"].tolist() == sorted(hierarchy.linkage(cells, "single")[:, 2])
    assert all(a < b and frame.loc[a, b] == value for a, b, value in tree.itertuples(index=False))


def test_a_pair_without_a_barrier_is_an_edge():
    frame = matrix(3, {(0, 1): 0.0, (1, 2): 0.0, (0, 2): 1.0})
    assert spanning_tree(frame).to_numpy().tolist() == [["a", "b", 0.0], ["b", "c", 0.0]]
    assert minimax(frame).loc["a", "c"] == 0


def test_parts_that_nothing_joins():
    frame = matrix(4, {(0, 1): 0.5, (2, 3): 0.25})
    with pytest.raises(RaymcError, match="leave the 4 minima in 2 parts"):
        minimax(frame)
    assert next_pairs(frame, 5).to_numpy().tolist()[0] == ["a", "c", np.inf]
    near = matrix(4, {(0, 2): 3, (0, 3): 2, (1, 2): 1, (1, 3): 4, (0, 1): 0, (2, 3): 0})
    assert next_pairs(frame, 1, near).to_numpy().tolist() == [["b", "c", np.inf]]
    assert len(next_pairs(matrix(4, {}), 9)) == 3


def test_next_pairs_go_round_the_highest_edge():
    chain = matrix(4, {(0, 1): 0.1, (1, 2): 0.9, (2, 3): 0.5})
    found = next_pairs(chain, 9)
    assert found.to_numpy().tolist() == [["a", "c", 0.9], ["a", "d", 0.9], ["b", "d", 0.9]]
    near = matrix(4, {pair: 9 - sum(pair) for pair in itertools.combinations(range(4), 2)})
    assert next_pairs(chain, 2, near)["a"].tolist() == ["b", "a"]
    assert next_pairs(drawn(5, 0), 3).empty
