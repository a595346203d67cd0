"""A symmetric matrix over minima as cells above its diagonal."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from raymc.specs.errors import RaymcError


def values_of(matrix: pd.DataFrame, what: str) -> np.ndarray:
    """N x N floats, diagonal 0. Raises RaymcError for fewer than two minima; ValueError where it isn't symmetric."""
    if len(matrix) < 2:
        raise RaymcError(f"{what}: {len(matrix)} minima in the matrix; it takes two or more")
    values = matrix.to_numpy(dtype=float, copy=True)
    if not matrix.index.is_unique or list(matrix.index) != list(matrix.columns):
        raise ValueError("a matrix has the same keys, each once, as rows and columns")
    np.fill_diagonal(values, 0.0)
    if not np.array_equal(values, values.T, equal_nan=True):
        raise ValueError("a matrix is symmetric")
    return values


@functools.lru_cache(maxsize=64)
def above(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the cells above the diagonal, row by row."""
    return np.triu_indices(size, 1)


def upper(values: np.ndarray) -> np.ndarray:
    """The N (N - 1) / 2 cells above the diagonal, row by row (scipy's condensed form)."""
    return values[above(len(values))]


def check_whole(values: np.ndarray, what: str) -> None:
    """Raises RaymcError where cells are missing (NaN)."""
    missing, pairs = int((~np.isfinite(upper(values))).sum()), len(upper(values))
    if missing:
        raise RaymcError(
            f"{what}: {missing} of {pairs} pairs have no value; run the sweep to its end with all pairs selected, or "
            "leave out the minima that they belong to"
        )
