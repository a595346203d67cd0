"""Clusters of minima in a matrix of barriers, with a test of one cluster against more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.cluster import hierarchy

from raymc.analysis.cells import above, check_whole, upper, values_of
from raymc.specs.errors import RaymcError

METHODS = ("average", "complete", "single", "weighted")  # a cluster's own tree is then a branch of the whole tree
TESTABLE = 6  # with five minima, 10 of the 210 arrangements of two separate clusters look as good: p >= 0.048
_CHUNK = 1 << 20  # cells of the matrices that are permuted at once: 8 MiB, held about five times
_COLUMNS = 64  # minima whose cells are added up at once
_EQUAL = 1e-9  # relative: sums in another order tie with what was observed


@dataclass(frozen=True)
class Clusters:
    """Clusters of N minima, and whether they are more than what any clustering finds in one group.

    `labels`: by minimum, in the matrix's order; 1 is the largest cluster, of equal ones the first met. `p_value`: of
    one cluster against more, NaN below TESTABLE minima; `statistic`: see `find_clusters`, a correlation. `within`,
    `between`: mean of the cells inside clusters and across, in the matrix's unit, NaN where there are none. `linkage`:
    scipy's (N - 1) x 4 array; `order`: its leaves from left to right. `untested`: labels of clusters of two or more
    that are too small for a further split to be tested.
    """

    labels: dict[str, int]
    count: int
    p_value: float
    statistic: float
    within: float
    between: float
    level: float
    permutations: int
    method: str
    linkage: np.ndarray = field(repr=False, compare=False)
    order: tuple[str, ...]
    untested: tuple[int, ...]
    note: str


def find_clusters(
    matrix: pd.DataFrame, method: str = "average", level: float = 0.05, permutations: int = 1999, seed: int = 0
) -> Clusters:
    """Hierarchical clusters of minima; a group is split only while a test rejects that it is one cluster.

    `matrix`: symmetric over the N minima's keys, larger is farther, diagonal unused. `method`: scipy's linkage, one of
    METHODS.

    Statistic of a group: its tree is cut at every height; of each cut, the correlation over pairs of "in different
    clusters" with the barrier, both cleared of additive effects of the minima, mu + a_i + a_j (least squares); the
    largest. So a poor minimum, whose barriers to all are higher, is no cluster; 1: the cut and such effects explain
    all. For two clusters it is the mean between less the average of the two means within, up to scale.

    Null: effects of the minima and nothing else. The residuals of b_ij = mu + a_i + a_j + e_ij, scaled to the noise's
    variance, are permuted over the cells, added to the fitted effects, and all is done again from the linkage on; p =
    (1 + permutations with a statistic as large) / (1 + permutations). Where p is small enough, the group is cut into
    the fewest clusters whose fit is as good as the best cut's up to noise, and each is tested in turn. A group of n of
    the N minima is tested at level x (n - 1) / (N - 1), which bounds the chance of any false split by `level`
    (Meinshausen 2008; Kimes et al. 2017). Below TESTABLE minima nothing is tested. Same seed, same answer.

    Raises RaymcError for missing cells, negative ones and fewer than two minima; ValueError for an unknown method.
    """
    values, keys = values_of(matrix, "clusters"), [str(key) for key in matrix.index]
    check_whole(values, "clusters")
    if values.min() < 0:
        raise RaymcError(f"clusters: values go down to {values.min():.4g}; take a barrier or a distance, 0 or more")
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, not {method}")
    rng, size = np.random.default_rng(seed), len(keys)
    linkage = hierarchy.linkage(upper(values), method)
    groups: list[np.ndarray] = []
    tests: list[tuple[float, float]] = []
    todo = [np.arange(size)]
    while todo:
        places = todo.pop()
        parts = None
        if len(places) >= TESTABLE:
            parts, *tested = _test(values[np.ix_(places, places)], method, permutations, rng)
            tests.append((tested[0], tested[1]))
            if tested[1] > level * (len(places) - 1) / (size - 1):
                parts = None
        if parts is None:
            groups.append(places)
        else:
            todo += [places[parts == label] for label in dict.fromkeys(parts.tolist())]
    groups.sort(key=lambda places: (-len(places), places[0]))
    label = np.zeros(size, dtype=int)
    for rank, places in enumerate(groups, start=1):
        label[places] = rank
    i, j = above(size)
    apart = label[i] != label[j]
    cells = upper(values)
    statistic, p_value = tests[0] if tests else (math.nan, math.nan)
    return Clusters(
        labels=dict(zip(keys, label.tolist(), strict=True)),
        count=len(groups),
        p_value=p_value,
        statistic=statistic,
        within=_mean(cells[~apart]),
        between=_mean(cells[apart]),
        level=level,
        permutations=permutations if tests else 0,
        method=method,
        linkage=linkage,
        order=tuple(keys[i] for i in hierarchy.leaves_list(linkage)),
        untested=tuple(rank for rank, places in enumerate(groups, start=1) if 1 < len(places) < TESTABLE),
        note=_note(size, method, level, permutations),
    )


def _mean(cells: np.ndarray) -> float:
    return float(cells.mean()) if len(cells) else math.nan


def _note(size: int, method: str, level: float, permutations: int) -> str:
    if size < TESTABLE:
        return f"{size} minima are too few to tell one cluster from more: it takes {TESTABLE}, so they count as one"
    return (
        f"{method}-linkage clusters; a group is split only where its best cut explains more, beyond additive effects "
        f"of the minima, than in {permutations} permutations of what those effects leave (level {level:g} in all); "
        f"groups below {TESTABLE} minima are not split, and a minimum that is far from all is no cluster by itself"
    )


def _test(
    values: np.ndarray, method: str, permutations: int, rng: np.random.Generator
) -> tuple[np.ndarray, float, float]:
    """(each minimum's part in the cut, the statistic, p) of n x n values."""
    size = len(values)
    cells = upper(values)
    fitted = effects(cells, size)
    residuals = cells - fitted
    if np.linalg.norm(residuals) <= _EQUAL * np.linalg.norm(cells):  # nothing but effects of minima
        return np.zeros(size, dtype=int), 0.0, 1.0
    merges, fits = (found[0] for found in _fits(cells[None], size, method))
    observed = float(fits.max())
    noise = residuals * math.sqrt((size - 1) / (size - 3))  # the fit took n of the n (n - 1) / 2 degrees of freedom
    reached, chunk = 0, max(1, _CHUNK // size**2)
    for count in (min(chunk, permutations - done) for done in range(0, permutations, chunk)):
        drawn = np.stack([rng.permutation(noise) for _ in range(count)])
        reached += int((_fits(fitted + drawn, size, method)[1].max(axis=1) >= observed - _EQUAL).sum())
    unit = (1 - observed**2) / (size * (size - 3) / 2 - 1)  # the share of one degree of freedom of noise
    enough = (fits == observed) | (fits > 0) & (observed**2 - fits**2 <= 4 * unit + _EQUAL)
    parts = _parts(merges[: np.flatnonzero(enough)[-1] + 1], size)
    return parts, observed, (1 + reached) / (1 + permutations)


def _fits(cells: np.ndarray, size: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each of C matrices: (the merges, C x n - 2 x 2; the correlation after each, C x n - 2), from n - 1 parts down.

    `cells`: C x n (n - 1) / 2.
    """
    i, j = above(size)
    each = np.arange(len(cells))
    merges = np.stack([hierarchy.linkage(one, method)[: size - 2, :2] for one in cells]).astype(int)
    sums = np.zeros((len(cells), size, size))  # of what is left, between any two parts; those of a part itself unused
    sums[:, i, j] = sums[:, j, i] = cells
    left = cells - _additive(cells, sums.sum(axis=-1), size)
    sums[:, i, j] = sums[:, j, i] = left
    row, members = np.empty((2, len(cells), 2 * size - 2), dtype=int)  # of each part, those merged included
    row[:, :size], members[:, :size] = np.arange(size), 1
    inside, pairs, squares = 0.0, size * (size - 1), size * (size - 1) ** 2
    tops, norms = np.empty((2, len(cells), size - 2))
    for step in range(size - 2):
        one, other = merges[:, step].T
        x, y, n, m = row[each, one], row[each, other], members[each, one], members[each, other]
        inside = inside + sums[each, x, y]
        sums[each, x] = sums[each, :, x] = sums[each, x] + sums[each, y]
        row[:, size + step], members[:, size + step] = x, n + m
        # sums over minima of how many others are in other parts, and of its square
        pairs = pairs + (n + m) * (size - n - m) - n * (size - n) - m * (size - m)
        squares = squares + (n + m) * (size - n - m) ** 2 - n * (size - n) ** 2 - m * (size - m) ** 2
        tops[:, step] = -inside  # what is left adds up to 0: apart is minus inside
        norms[:, step] = pairs / 2 - pairs**2 / 4 / len(i) - (squares - pairs**2 / size) / (size - 2)
    one = norms > 1e-6  # else a minimum against the rest: an effect of that minimum
    length = np.linalg.norm(left, axis=1, keepdims=True)
    return merges, np.where(one, tops / np.sqrt(np.where(one, norms, 1.0)), 0.0) / length


def _parts(merges: np.ndarray, size: int) -> np.ndarray:
    """Each minimum's part after some merges."""
    parts = np.arange(size)
    for step, (one, other) in enumerate(merges):
        parts[(parts == one) | (parts == other)] = size + step
    return parts


def effects(cells: np.ndarray, size: int) -> np.ndarray:
    """Least-squares fit of mu + a_i + a_j to the n (n - 1) / 2 cells above the diagonal (last axis); n: 3 or more."""
    i, j = above(size)
    parts = []
    for first in range(0, size, _COLUMNS):  # a product, as ever: where cells tie, rounding chooses the merge
        of = np.arange(first, min(first + _COLUMNS, size))
        parts.append(cells @ ((i[:, None] == of).astype(float) + (j[:, None] == of)))
    return _additive(cells, np.concatenate(parts, axis=-1), size)


def _additive(cells: np.ndarray, sums: np.ndarray, size: int) -> np.ndarray:
    """As `effects`, given the sum of each minimum's cells (last axis)."""
    i, j = above(size)
    total = cells.sum(-1, keepdims=True)
    a = (sums - 2 * total / size) / (size - 2)  # they add up to 0
    return total / cells.shape[-1] + (a[..., i] + a[..., j])
