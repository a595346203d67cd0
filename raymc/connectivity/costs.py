"""What a pair and a load cost, as far as finished batches tell."""

from __future__ import annotations

import numpy as np

_MEMORY = 0.9  # weight of what was seen before, a batch


class Costs:
    """Seconds of batches, the latest weighing most."""

    def __init__(self) -> None:
        self.rate = 0.0  # seconds a pair, its loads with it
        self.last = 0  # pairs of the last batch
        self._pairs = self._seconds = 0.0
        self._sums = [0.0] * 5  # of pairs^2, pairs * loads, loads^2, pairs * seconds, loads * seconds

    def add(self, pairs: int, loads: int, seconds: float) -> None:
        keep = _MEMORY if self.last >= pairs else 0.5  # the first batch of a worker is small, and slow
        self._pairs = keep * self._pairs + pairs
        self._seconds = keep * self._seconds + seconds
        self.rate, self.last = self._seconds / self._pairs, pairs
        new = (pairs * pairs, pairs * loads, loads * loads, pairs * seconds, loads * seconds)
        self._sums = [0.999 * old + one for old, one in zip(self._sums, new, strict=True)]

    @property
    def load_seconds(self) -> float:
        """Seconds a load: least squares of seconds = pairs * x + loads * y; 0 where batches are too much alike."""
        pp, pl, ll, ps, ls = self._sums
        determinant = pp * ll - pl * pl
        if not np.isfinite(determinant) or determinant <= 1e-3 * pp * ll:
            return 0.0
        return max(0.0, (pp * ls - pl * ps) / determinant)
