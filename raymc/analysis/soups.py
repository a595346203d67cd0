"""Which minima go into a soup: the mean of several minima's weights (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tasted:
    """One step of a greedy soup: `score` is that of the soup with `key` in it, and `kept` whether it stays."""

    key: str
    score: float
    kept: bool


@dataclass(frozen=True)
class Soup:
    """`keys`: the ingredients in the order they were taken, all of weight 1 / len(keys). `history`: of a greedy one."""

    keys: tuple[str, ...]
    history: tuple[Tasted, ...] = ()

    @property
    def weights(self) -> dict[str, float]:
        """Each ingredient's coefficient; they add up to 1."""
        return dict.fromkeys(self.keys, 1 / len(self.keys))


def uniform(keys: Sequence[str]) -> Soup:
    """The mean of all. Raises ValueError for none, or for one that is listed twice."""
    _check(keys)
    return Soup(tuple(keys))


def greedy(ranked: Sequence[str], score: Callable[[Sequence[str]], float], tolerance: float = 0.0) -> Soup:
    """Recipe 1 of Wortsman et al. 2022: in order, an ingredient stays if the soup's score doesn't fall by it.

    `ranked`: the best on held-out rows first. `score`: of the mean of these keys on those rows, larger is better; it is
    called once a key, each time with the soup so far and one key more. `tolerance`: how far it may fall. Raises
    ValueError as `uniform` does.
    """
    _check(ranked)
    kept: list[str] = []
    history: list[Tasted] = []
    best = float("-inf")
    for key in ranked:
        found = score([*kept, key])
        stays = not kept or found >= best - tolerance  # the best ingredient is the soup to begin with
        history.append(Tasted(key, found, stays))
        if stays:
            kept.append(key)
            best = max(best, found)
    return Soup(tuple(kept), tuple(history))


def of_cluster(keys: Sequence[str], labels: Mapping[str, Hashable], named: Hashable) -> list[str]:
    """The keys of one cluster, in order. `labels`: key to cluster; a key without one is in none."""
    return [key for key in keys if key in labels and labels[key] == named]


def connected(ranked: Sequence[str], barrier: Callable[[str, str], float | None], threshold: float) -> list[str]:
    """Of keys in order, those that join every one taken before them by a barrier of `threshold` at most.

    So the first is in, and no two of them lie apart: what a mean of weights needs; a chain of low
    barriers wouldn't do.
    `barrier`: of a pair, None where it isn't known, which counts as apart; so does NaN.
    """
    found: list[str] = []
    for key in ranked:
        heights = (barrier(one, key) for one in found)
        if all(height is not None and height <= threshold for height in heights):
            found.append(key)
    return found


def _check(keys: Sequence[str]) -> None:
    if not keys:
        raise ValueError("a soup of nothing")
    if len(set(keys)) < len(keys):
        raise ValueError("a soup that has an ingredient twice")
