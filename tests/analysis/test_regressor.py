"""Permutations drawn many at once against the definition: one after another, each cleared of the other regressors."""

from __future__ import annotations

import numpy as np
import pytest

from raymc.analysis import regressor
from raymc.analysis.regressor import LEVEL, RegressorTest, drawn_permutations, permute


@pytest.mark.parametrize("missing", [0, 5])
def test_many_at_once_are_as_one_after_another(missing, monkeypatch):
    size, rng = 8, np.random.default_rng(missing)
    i, j = np.triu_indices(size, 1)
    levels = np.array([np.arange(size) // 4, np.arange(size) // 2 % 2])  # one onto the other leaves next to nothing
    x, other = (levels[:, i] != levels[:, j]).astype(float)
    others = np.column_stack([np.ones(len(i)), other])
    y = 0.5 * x + other + rng.normal(size=len(i))
    there = np.ones(len(i), dtype=bool)
    there[rng.choice(len(i), missing, replace=False)] = False
    draws, exact = drawn_permutations(size, 150, seed=1)
    draws = np.concatenate([draws, [[0, 1, 4, 5, 2, 3, 6, 7]]])  # that one
    monkeypatch.setattr(regressor, "_CELLS", 40 * there.sum())
    test = RegressorTest(x, others, y, there, size)
    permute([test], draws, there, size)
    found = test.found("effect", "low", "high", "p_value")

    def clear(values: np.ndarray) -> np.ndarray:
        known = others[there]
        return values - known @ np.linalg.lstsq(known, values, rcond=None)[0]

    own = clear(x[there])
    effect = own @ y[there] / (own @ own)
    square = np.zeros((size, size))
    square[i, j] = square[j, i] = x - others @ np.linalg.lstsq(others[there], x[there], rcond=None)[0]
    drawn = [clear(square[np.ix_(order, order)][i, j][there]) for order in draws]
    kept = [one / np.linalg.norm(one) if np.linalg.norm(one) > 1e-9 else 0 * one for one in drawn]

    def share(true: float) -> float:
        """p of the hypothesis that the effect is that."""
        rest = clear(y[there] - true * x[there])
        return float(np.mean([abs(one @ rest) >= abs(kept[0] @ rest) * (1 - 1e-9) for one in kept]))

    assert not exact
    assert found["effect"] == pytest.approx(effect, rel=1e-12)
    assert found["p_value"] == share(0.0)
    for end in (found["low"], found["high"]):
        assert share(end + 1e-6 * (effect - end)) > LEVEL >= share(end - 1e-6 * (effect - end))


def test_a_permutation_that_is_nearly_another_regressor_is_told_by_what_little_is_left():
    size, rng, swap = 8, np.random.default_rng(0), np.array([1, 0, 3, 2, 5, 4, 7, 6])
    i, j = np.triu_indices(size, 1)

    def swapped(cells: np.ndarray) -> np.ndarray:
        square = np.zeros((size, size))
        square[i, j] = square[j, i] = cells
        return square[np.ix_(swap, swap)][i, j]

    drawn = rng.normal(size=len(i))
    drawn -= drawn.mean()
    same, turned = drawn + swapped(drawn), drawn - swapped(drawn)
    x = same / np.linalg.norm(same) + turned / np.linalg.norm(turned)  # uncorrelated with itself when swapped
    others = np.column_stack([np.ones(len(i)), swapped(x) + 1e-6 * rng.normal(size=len(i))])
    y = x + rng.normal(size=len(i))
    test = RegressorTest(x, others, y, np.ones(len(i), dtype=bool), size)
    permute([test], swap[None], np.ones(len(i), dtype=bool), size)

    def clear(values: np.ndarray) -> np.ndarray:
        return values - others @ np.linalg.lstsq(others, values, rcond=None)[0]

    own, left = clear(x), clear(swapped(clear(x)))
    rest = clear(y) - own @ clear(y) / (own @ own) * own
    left /= np.linalg.norm(left)
    np.testing.assert_allclose(test._products[0], [[left @ own, left @ rest]], rtol=1e-7)
