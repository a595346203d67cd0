from __future__ import annotations

import math
from itertools import product

import pytest

from raymc.tasks import unigram

WORDS = {"abab": 3, "ab": 2, "ba": 1, "caab": 2, "xab": 1}
PIECES = ["a", "b", "c", "ab", "ba", "aab"]  # nothing has an x


def cuts(word: str):
    """All ways to cut a word into known pieces, by trying every set of places."""
    for marks in product((False, True), repeat=len(word) - 1):
        parts, start = [], 0
        for place, mark in enumerate((*marks, True), 1):
            if mark:
                parts.append(word[start:place])
                start = place
        if set(parts) <= set(PIECES):
            yield parts


def test_scores_are_those_of_em_over_all_cuts():
    probability = dict.fromkeys(PIECES, 1 / len(PIECES))
    for _ in range(6):
        expected = dict.fromkeys(PIECES, 0.0)
        for word, count in WORDS.items():
            ways = [(parts, math.prod(probability[part] for part in parts)) for parts in cuts(word)]
            for parts, weight in ways:
                for part in parts:
                    expected[part] += count * weight / sum(w for _, w in ways)
        total = sum(expected.values())
        probability = {piece: count / total for piece, count in expected.items()}
    floor = 0.5 / total
    found = unigram.scores(reversed(PIECES), WORDS)
    assert found == pytest.approx({p: math.log(max(value, floor)) for p, value in probability.items()}, rel=1e-9)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_order_of_words_and_pieces_changes_no_bit():
    first = unigram.scores(PIECES, WORDS)
    again = unigram.scores(PIECES[::-1] * 2, dict(reversed(WORDS.items())))
    assert list(first.items()) == list(again.items())
