"""Spanning trees of a matrix: saddles between any two minima, and which pairs to look at next."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pandas as pd

from raymc.analysis.cells import values_of
from raymc.specs.errors import RaymcError


def spanning_tree(matrix: pd.DataFrame) -> pd.DataFrame:
    """Minimum spanning tree over N minima: columns a, b, value, N - 1 rows in order of value.

    `matrix`: symmetric, NaN where a pair has no value (such a pair is no edge; 0 is one). a stands before b in the
    matrix; of equal values the first in the matrix is taken. Raises RaymcError where the pairs don't join all minima.
    """
    graph = _graph(matrix, "spanning tree")
    parts = nx.number_connected_components(graph)
    if parts > 1:
        raise RaymcError(
            f"spanning tree: the pairs that have a value leave the {len(matrix)} minima in {parts} parts; connect more "
            "pairs (next_pairs names some) or take one part"
        )
    edges = nx.minimum_spanning_edges(graph, algorithm="kruskal", data=True)
    keys = list(matrix.index)
    rows = [(keys[min(i, j)], keys[max(i, j)], body["weight"]) for i, j, body in edges]
    return pd.DataFrame(rows, columns=["a", "b", "value"]).sort_values("value", kind="stable", ignore_index=True)


def minimax(matrix: pd.DataFrame) -> pd.DataFrame:
    """By pair, the least possible largest value on a way over other minima: a symmetric frame, NaN on the diagonal.

    It is the largest value on the way through the minimum spanning tree (Draxler et al. 2018, section 3.3). Of the
    `saddle` column (largest loss on each path) it is the pass between two minima that is known so far. Raises as
    `spanning_tree`.
    """
    tree = spanning_tree(matrix)
    place = {key: i for i, key in enumerate(matrix.index)}
    cells = np.full((len(place), len(place)), np.nan)
    part = np.arange(len(place))
    for a, b, value in zip(tree["a"], tree["b"], tree["value"], strict=True):  # rising: each joins two parts
        one, other = part == part[place[a]], part == part[place[b]]
        cells[np.ix_(one, other)] = cells[np.ix_(other, one)] = value
        part[other] = part[place[a]]
    return pd.DataFrame(cells, index=matrix.index, columns=matrix.columns)


def next_pairs(matrix: pd.DataFrame, count: int, distance: pd.DataFrame | None = None) -> pd.DataFrame:
    """Pairs without a value that may lower the most costly edges of the tree (after Draxler et al. 2018, section 3.3).

    Columns a, b, replaces: the tree's edge value that the pair could make superfluous, +inf where it joins two parts
    that nothing joins yet. First pairs that join such parts; then, from the tree's largest edge down, pairs that span
    the cut which removing the edge makes. Among these the nearest first, by `distance` (a frame like `matrix`, of any
    pairs), else in the matrix's order. At most `count` rows, fewer where no pair is left.
    """
    graph, keys = _graph(matrix, "next pairs"), list(matrix.index)
    values = values_of(matrix, "next pairs")
    near = np.zeros(values.shape) if distance is None else distance.loc[keys, keys].to_numpy(dtype=float)
    forest = nx.minimum_spanning_tree(graph, algorithm="kruskal")
    found: dict[tuple[int, int], float] = {}

    def add(left: set[int], right: set[int], replaces: float) -> None:
        across = [(min(i, j), max(i, j)) for i, j in itertools.product(left, right) if np.isnan(values[i, j])]
        for pair in sorted(across, key=lambda pair: (np.nan_to_num(near[pair], nan=np.inf), pair)):
            found.setdefault(pair, replaces)

    parts = list(nx.connected_components(forest))
    while len(parts) > 1 and len(found) < count:  # one pair for each part that hangs loose, to the nearest other
        open_pairs = [
            (np.nan_to_num(near[i, j], nan=np.inf), min(i, j), max(i, j))
            for one, other in itertools.combinations(parts, 2)
            for i, j in itertools.product(one, other)
        ]
        _, i, j = min(open_pairs)
        found[i, j] = np.inf
        joined = [part for part in parts if i in part or j in part]
        parts = [part for part in parts if part not in joined] + [joined[0] | joined[1]]
    edges = sorted(forest.edges(data="weight"), key=lambda edge: (-edge[2], edge[:2]))
    for i, j, value in edges:
        if len(found) >= count:
            break
        cut = forest.copy()
        cut.remove_edge(i, j)
        add(nx.node_connected_component(cut, i), nx.node_connected_component(cut, j), value)
    rows = [(keys[i], keys[j], replaces) for (i, j), replaces in list(found.items())[:count]]
    return pd.DataFrame(rows, columns=["a", "b", "replaces"])


def _graph(matrix: pd.DataFrame, what: str) -> nx.Graph:
    """Nodes are places in the matrix; an edge wherever a pair has a value, zero too."""
    values = values_of(matrix, what)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(values)))
    pairs = itertools.combinations(range(len(values)), 2)
    graph.add_weighted_edges_from((i, j, float(values[i, j])) for i, j in pairs if not np.isnan(values[i, j]))
    return graph
