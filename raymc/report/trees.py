"""The tree that puts a matrix in order: average linkage of its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Tree:
    """Average linkage over those rows of a matrix whose cells are all known.

    `leaves`: places of rows, from left to right; `merges`: (one, other, height), where a number below the number of
    leaves is that leaf (in the order of `leaves`) and further ones are earlier merges; `left_out`: places of rows that
    lack cells.
    """

    leaves: tuple[int, ...]
    merges: tuple[tuple[int, int, float], ...]
    left_out: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        return (*self.leaves, *self.left_out)

    def brackets(self) -> Iterator[tuple[tuple[float, float, float, float], tuple[float, float, float, float]]]:
        """Of each merge the places and heights of its bracket's four corners; leaf i is at place i, height 0."""
        place = [float(i) for i in range(len(self.leaves))]
        height = [0.0] * len(self.leaves)
        for one, other, high in self.merges:
            x, y = place[one], place[other]
            yield (x, x, y, y), (height[one], high, high, height[other])
            place.append((x + y) / 2)
            height.append(high)


def tree_of(matrix: pd.DataFrame) -> Tree | None:
    """The tree of a symmetric matrix in which larger is farther; None for fewer than three rows with all cells known.

    Rows that lack most cells are left out first, until no cell is missing. Raises ValueError for negative cells.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    cells = matrix.to_numpy(dtype=float, na_value=np.nan).copy()
    np.fill_diagonal(cells, 0.0)
    kept, lacking = np.arange(len(cells)), ~np.isfinite(cells)
    while len(kept) and lacking[np.ix_(kept, kept)].any():
        kept = np.delete(kept, lacking[np.ix_(kept, kept)].sum(axis=1).argmax())
    if len(kept) < 3:
        return None
    some = cells[np.ix_(kept, kept)]
    if some.min() < 0:
        raise ValueError(f"a tree of values down to {some.min():g}")
    linkage = hierarchy.linkage(squareform(some, checks=False), "average", optimal_ordering=len(kept) <= 400)
    order = hierarchy.leaves_list(linkage)
    rank = np.empty(len(kept), dtype=int)
    rank[order] = np.arange(len(kept))

    def place(node: float) -> int:
        return int(rank[int(node)]) if node < len(kept) else int(node)

    merges = tuple((place(one), place(other), float(height)) for one, other, height, _ in linkage)
    out = sorted(set(range(len(cells))) - set(kept.tolist()))
    return Tree(tuple(int(kept[i]) for i in order), merges, tuple(out))
