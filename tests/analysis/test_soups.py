"""Soups against a plain re-implementation on recorded scores."""

from __future__ import annotations

import itertools
import random

import pytest

from raymc.analysis.soups import connected, greedy, of_cluster, uniform

KEYS = tuple("abcdef")


def test_a_uniform_soup_weighs_all_alike():
    soup = uniform(KEYS)
    assert soup.keys == KEYS
    assert soup.weights == dict.fromkeys(KEYS, 1 / 6)
    assert soup.history == ()


@pytest.mark.parametrize("make", [uniform, lambda keys: greedy(keys, lambda some: 1.0)])
@pytest.mark.parametrize("keys", [[], ["a", "b", "a"]])
def test_nothing_and_the_same_twice_are_no_soup(make, keys):
    with pytest.raises(ValueError, match="a soup"):
        make(keys)


def recipe_one(ranked: tuple[str, ...], recorded: dict[frozenset[str], float]) -> list[str]:
    """As the paper's algorithm is printed, without its history: ingredients <- {} and ValAcc of nothing is nothing."""
    ingredients: list[str] = []
    for candidate in ranked:
        together = recorded[frozenset([*ingredients, candidate])]
        if not ingredients or together >= recorded[frozenset(ingredients)]:
            ingredients = [*ingredients, candidate]
    return ingredients


@pytest.mark.parametrize("seed", range(40))
def test_greedy_is_recipe_one_on_recorded_scores(seed: int):
    draw = random.Random(seed)
    subsets = [frozenset(s) for n in range(1, 7) for s in itertools.combinations(KEYS, n)]
    recorded = {subset: draw.randrange(5) / 4 for subset in subsets}  # few values, so that ties occur
    asked: list[tuple[str, ...]] = []

    def score(some):
        asked.append(tuple(some))
        return recorded[frozenset(some)]

    soup = greedy(KEYS, score)
    assert list(soup.keys) == recipe_one(KEYS, recorded)
    assert len(asked) == len(KEYS) == len(set(asked))
    assert [one.key for one in soup.history] == list(KEYS)
    assert [one.key for one in soup.history if one.kept] == list(soup.keys)
    assert [one.score for one in soup.history] == [recorded[frozenset(some)] for some in asked]
    assert sum(soup.weights.values()) == pytest.approx(1)


def test_greedy_with_a_tolerance_never_falls_further_than_it_below_its_best():
    recorded = {1: 0.9, 2: 0.895, 3: 0.885}
    scores = lambda some: recorded[len(some)]  # noqa: E731
    assert greedy("abc", scores).keys == ("a",)
    assert greedy("abc", scores, tolerance=0.01).keys == ("a", "b")
    assert greedy("abc", scores, tolerance=0.02).keys == ("a", "b", "c")


def test_ingredients_of_one_cluster():
    assert of_cluster("cabd", {"a": 1, "b": 2, "c": 1}, 1) == ["c", "a"]


def test_connected_ingredients_are_so_pair_by_pair():
    """b joins a and c, but a and c lie apart: a chain isn't enough for a mean."""
    heights = {"ab": 0.1, "bc": 0.1, "ac": 0.5, "ad": 0.2, "bd": 0.2, "cd": 0.0, "ae": 0.1, "be": float("nan")}

    def barrier(one, other):
        return heights.get("".join(sorted(one + other)))

    assert connected("abcd", barrier, 0.2) == ["a", "b", "d"]
    assert connected("cabd", barrier, 0.2) == ["c", "b", "d"]
    assert connected("abe", barrier, 0.2) == ["a", "b"]
    assert connected("abcd", barrier, 1.0) == ["a", "b", "c", "d"]
    assert connected("af", barrier, 1.0) == ["a"]
