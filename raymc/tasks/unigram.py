"""Probabilities of a unigram tokenizer's pieces (Kudo 2018), the same in every process.

The trainer of `tokenizers` visits words in the order of a randomly seeded hash, so its scores differ between processes:
in their last digits, and for single characters that no word needs by more. The set of pieces is taken from it, and
the scores from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

_ROUNDS = 6  # of expectation and maximization; the text's likelihood hardly grows after them
_FEWEST = 0.5  # expected uses; a piece with fewer counts as having so many


def scores(pieces: Iterable[str], words: Mapping[str, int]) -> dict[str, float]:
    """Log probability of each piece after some rounds of EM on words (word: count), from uniform probabilities.

    Best first; ties by piece.
    """
    ordered = sorted(set(pieces))
    probability = dict.fromkeys(ordered, 1.0 / len(ordered))
    longest = max(map(len, ordered))
    expected, total = probability, 1.0
    for _ in range(_ROUNDS):
        expected = dict.fromkeys(ordered, 0.0)
        for word in sorted(words):
            _expect(word, words[word], probability, longest, expected)
        total = math.fsum(expected.values())
        probability = {piece: count / total for piece, count in expected.items()}
    probability = {piece: max(count, _FEWEST) / total for piece, count in expected.items()}
    logs = {piece: math.log(probability[piece]) for piece in ordered}
    return dict(sorted(logs.items(), key=lambda item: (-item[1], item[0])))


def _expect(word: str, count: int, probability: dict[str, float], longest: int, expected: dict[str, float]) -> None:
    """Add count times the expected uses of each piece in a word, by the forward-backward algorithm."""
    size = len(word)
    spans = [
        (start, end, piece)
        for start in range(size)
        for end in range(start + 1, min(size, start + longest) + 1)
        if (piece := word[start:end]) in probability
    ]
    forward = [1.0] + [0.0] * size
    for start, end, piece in spans:
        forward[end] += forward[start] * probability[piece]
    whole = forward[size]
    if whole <= 0.0:  # a character that is no piece, or a word so long that its probability is too small a number
        return
    backward = [0.0] * size + [1.0]
    for start, end, piece in reversed(spans):
        backward[start] += backward[end] * probability[piece]
    for start, end, piece in spans:
        expected[piece] += count * forward[start] * probability[piece] * backward[end] / whole
