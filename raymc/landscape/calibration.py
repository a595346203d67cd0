"""How alike the predictions of two models are on the same rows, and how well a model's confidence matches its accuracy.

Probabilities are (rows, C): non-negative, each row summing to 1. All raise ValueError for other shapes, and for values
that are no probabilities.
"""

from __future__ import annotations

import numpy as np


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """Share of rows with the same most probable class, 0 to 1; the first class where several tie."""
    p, q = _pair(p, q)
    return float(np.mean(p.argmax(axis=1) == q.argmax(axis=1)))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Mean over rows of the Jensen-Shannon divergence in nats, 0 to ln 2 (Lin 1991, eq. 4.1); exactly 0 for p = q.

    (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, where 0 ln 0 = 0.
    """
    p, q = _pair(p, q)
    divergence = (_from_middle(p, q) + _from_middle(q, p)) / 2
    return float(np.clip(divergence, 0.0, np.log(2)).mean())  # rounding may pass the bounds by an ulp


def calibration_error(p: np.ndarray, gold: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: the mean over rows of |accuracy - confidence| of their bin (Guo et al. 2017,
    eq. 3).

    `gold`: (rows,) class indices. Confidence is the probability of the most probable class; bin m of `bins` holds
    ((m - 1) / bins, m / bins], open below and closed above as there, and the first also 0.
    """
    p, gold = _probabilities(p), np.asarray(gold)
    if gold.shape != p.shape[:1] or gold.dtype.kind not in "iu" or gold.min() < 0 or gold.max() >= p.shape[1]:
        raise ValueError(f"gold needs a class below {p.shape[1]} for each of the {len(p)} rows")
    if bins < 1:
        raise ValueError(f"{bins} bins; at least 1 is needed")
    confidence = p.max(axis=1)
    edges = np.arange(1, bins) / bins
    of = np.searchsorted(edges, confidence, side="left")  # edges[m - 1] < confidence <= edges[m]
    gap = np.bincount(of, (p.argmax(axis=1) == gold) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def _from_middle(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || (p + q) / 2) by row, (rows,), in nats."""
    ratio = np.divide(2 * p, p + q, out=np.ones_like(p), where=p > 0)  # half of the least float would be 0
    return (p * np.log(ratio)).sum(axis=1)


def _pair(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _probabilities(p), _probabilities(q)
    if p.shape != q.shape:
        raise ValueError(f"probabilities of shapes {p.shape} and {q.shape} are of other rows or classes")
    return p, q


def _probabilities(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 2 or not p.size:
        raise ValueError(f"probabilities need a shape (rows, classes), not {p.shape}")
    if not (p >= 0).all() or not (np.abs(p.sum(axis=1) - 1) < 1e-3).all():  # also where a value is NaN
        raise ValueError("probabilities need rows of non-negative values that sum to 1")
    return p
