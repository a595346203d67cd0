"""What label probabilities say: how far two models agree, and whether one is as sure as it is right."""

from __future__ import annotations

import numpy as np


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """Share of rows for which both give the same label; p, q: (rows, labels), the first of equal ones counts."""
    return float((p.argmax(axis=1) == q.argmax(axis=1)).mean())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Mean over rows of the Jensen-Shannon divergence of p and q, (rows, labels), in nats: 0 (equal) to ln 2.

    (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2 (Lin 1991). 0 log 0 counts as 0.
    """
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    middle = (p + q) / 2
    both = _terms(p, middle) + _terms(q, middle)
    return float(np.clip(both.sum(axis=1) / 2, 0.0, np.log(2.0)).mean())


def calibration_error(p: np.ndarray, gold: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): mean over rows of |accuracy - confidence| of their bin.

    p: (rows, labels); gold: (rows,). Bins of equal width of the top probability, each open below and closed above.
    """
    p = np.asarray(p, dtype=np.float64)
    top = p.max(axis=1)
    right = p.argmax(axis=1) == gold
    place = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - top, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def _terms(p: np.ndarray, middle: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / middle), 0.0)
