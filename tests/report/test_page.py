"""A page's parts: packed numbers come back, trees are the known ones, words say what the table says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from scipy.cluster import hierarchy

from raymc.report.page.data import GROUPS, as_json
from raymc.report.page.library import SHA256, VERSION, library
from raymc.report.page.packing import floats, steps, unpacked
from raymc.report.page.words import found_in, sentence
from raymc.report.trees import tree_of
from raymc.report.values import VALUES


def test_every_value_has_a_group_on_the_page():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(VALUES)


@pytest.mark.parametrize("decimals", [0, 4, 6])
def test_rows_come_back_rounded(decimals: int):
    values = np.random.default_rng(0).normal(0.7, 2.0, (40, 26))
    values[3, 5] = values[3, 6] = values[7, 0] = values[9, 25] = math.nan
    found = unpacked(steps(values, decimals))
    np.testing.assert_allclose(found, np.round(values, decimals), atol=1e-12)


def test_numbers_too_large_for_the_decimals_keep_what_fits():
    values = np.array([[0.125, -3e5, 3e5, 2.5]])
    block = steps(values, 6)
    assert block.decimals < 6
    np.testing.assert_allclose(unpacked(block), values, atol=10.0**-block.decimals)


def test_floats_are_kept_and_infinities_are_missing():
    values = np.array([0.1, 1 / 3, 123456.7, math.nan, math.inf, 0.0])
    found = unpacked(floats(values)).ravel()
    np.testing.assert_array_equal(found[:3], values[:3])
    assert np.isnan(found[3:5]).all()
    assert found[5] == 0


def test_json_never_ends_a_script_element():
    text = as_json({"name": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)


def test_the_library_is_the_one_that_is_stated():
    source, packed = library()
    assert hashlib.sha256(source.encode()).hexdigest() == SHA256
    assert gzip.decompress(base64.b64decode(packed)).decode() == source
    assert f"plotly.js (cartesian - minified) v{VERSION}" in source[:200]
    assert "Licensed under the MIT license" in source[:200]


def frame(cells: np.ndarray) -> pd.DataFrame:
    cells = cells.astype(float)
    np.fill_diagonal(cells, math.nan)
    return pd.DataFrame(cells)


def test_a_tree_of_two_groups():
    cells = np.full((4, 4), 3.0)
    cells[0, 2] = cells[2, 0] = 1.0
    cells[1, 3] = cells[3, 1] = 2.0
    tree = tree_of(frame(cells))
    assert tree is not None
    assert {frozenset(tree.leaves[:2]), frozenset(tree.leaves[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    assert [merge[2] for merge in tree.merges] == [1.0, 2.0, 3.0]
    *_, (x, y) = tree.brackets()
    assert sorted((x[0], x[2])) == [0.5, 2.5]
    assert (y[1], sorted((y[0], y[3]))) == (3.0, [1.0, 2.0])


def test_a_tree_is_scipys_and_its_leaves_lie_under_their_brackets():
    rng = np.random.default_rng(1)
    cells = rng.random((12, 12))
    cells = cells + cells.T
    tree = tree_of(frame(cells))
    assert tree is not None
    linkage = hierarchy.linkage(cells[np.triu_indices(12, 1)], "average")
    np.testing.assert_allclose([merge[2] for merge in tree.merges], linkage[:, 2])
    for corners, _ in tree.brackets():
        assert 0 <= min(corners) < max(corners) <= 11
    spans = {}  # every merge joins neighbours: no two brackets cross
    for node, (one, other, _) in enumerate(tree.merges, start=12):
        low, high = sorted((spans.get(one, (one, one)), spans.get(other, (other, other))))
        assert low[1] + 1 == high[0]
        spans[node] = (low[0], high[1])


def test_minima_that_lack_pairs_are_left_out_of_the_tree():
    cells = np.ones((5, 5))
    cells[4, :3] = cells[:3, 4] = math.nan
    tree = tree_of(frame(cells))
    assert tree is not None
    assert (sorted(tree.leaves), tree.left_out) == ([0, 1, 2, 3], (4,))
    assert tree_of(frame(np.ones((2, 2)))) is None


def barriers(p_values: list[float]) -> pd.DataFrame:
    count = len(p_values)
    table = pd.DataFrame({"a": "a", "b": "b", "curve": "linear", "split": "test", "below_floor": [False] * count})
    table["barrier_entezari"] = [0.5 if p < 0.01 else 0.0 for p in p_values]
    table["barrier_entezari_low"], table["barrier_entezari_high"] = 0.25, 0.75
    table["p_value"] = p_values
    table["p_holm"] = [min(1.0, p * count) for p in p_values]
    return table


def test_words_count_what_the_adjusted_test_says():
    (one,) = found_in(barriers([0.0005, 0.03, 1.0]), {"a": "A", "b": "B"}, [("linear", "test")], {})
    assert (one.pairs, one.connected, one.adjusted) == (3, 2, True)
    said = sentence(one)
    assert "2 of 3 pairs are connected" in said
    assert "0.5000 nats (95 % interval 0.2500 to 0.7500), between A and B" in said


def test_many_pairs_are_not_called_connected_because_the_adjusted_test_has_no_power():
    (one,) = found_in(barriers([0.0005] * 150 + [1.0] * 50), {"a": "A", "b": "B"}, [("linear", "test")], {})
    assert (one.connected, one.adjusted) == (50, False)
    assert "by itself" in sentence(one)


def test_one_flat_pair_and_pairs_below_the_floor():
    table = barriers([1.0, 0.0005])
    table["below_floor"] = [False, True]
    (one,) = found_in(table, {"a": "A", "b": "B"}, [("linear", "test")], {("linear", "test"): (1, math.nan)})
    assert (one.pairs, one.left_out, one.p_value) == (1, 1, None)
    assert "the one pair is connected" in sentence(one)
    assert "No path is above the chord" in sentence(one)
