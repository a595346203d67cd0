"""What a path's values at points t amount to: barrier heights and integrals; one definition each, named by its source.

Each takes t, P rising values from 0 to 1, and the values there: P of them, giving a float, or a numpy array of shape
(..., P), many profiles at the same t, giving an array of shape (...). All raise ValueError for what is no profile.
The supremum is taken over the points of the profile, the ends counted, so no barrier is negative except
where stated; few points can miss a narrow peak, and noise biases a maximum upward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

import numpy as np


class Measure(Protocol):
    """A number read off a profile; batched where the values are."""

    __name__: str

    @overload
    def __call__(self, t: Sequence[float], values: Sequence[float], /) -> float: ...
    @overload
    def __call__(self, t: Sequence[float] | np.ndarray, values: np.ndarray, /) -> Any: ...
    def __call__(self, t: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray, /) -> Any: ...


def _measure(of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Measure:
    """`of`, given checked float64 arrays of shapes (P,) and (..., P); a plain float for a single profile."""

    @functools.wraps(of)
    def measure(t: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray, /) -> Any:
        points, heights = np.asarray(t, dtype=np.float64), np.asarray(values, dtype=np.float64)
        _check(points, heights)
        found = of(points, heights)
        return found.item() if heights.ndim == 1 else found

    return measure


@_measure
def entezari(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """max_t [ L(t) - ((1 - t) L(0) + t L(1)) ], in the loss's unit; 0 or more (Entezari et al. 2021, eq. 1)."""
    return _excess(t, loss).max(axis=-1)


@_measure
def ainsworth(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """max_t L(t) - (L(0) + L(1)) / 2, in the loss's unit; 0 or more (Ainsworth et al. 2022, released code).

    Where the ends differ it is at least half their difference, on a straight profile too.
    """
    return _over_ends(loss)


@_measure
def frankle(t: np.ndarray, error: np.ndarray) -> np.ndarray:
    """max_t E(t) - (E(0) + E(1)) / 2 of the error rate E, as a fraction (Frankle et al. 2020, instability).

    Below 0.02 they call the pair stable.
    """
    return _over_ends(error)


@_measure
def peak(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The t at which Entezari's barrier is attained: the first, where several tie; 0 where there is no barrier."""
    return t[_excess(t, loss).argmax(axis=-1)]


@_measure
def between_points(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Entezari's barrier between the points: the vertex of the parabola through the highest point and its neighbours.

    In the loss's unit; at least `entezari`, and 0 where that is 0.
    """
    return _vertex(t, loss)[0]


@_measure
def peak_between_points(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The t of that vertex; 0 where there is no barrier."""
    return _vertex(t, loss)[1]


@_measure
def saddle(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """max_t L(t), the highest point of the path, in the loss's unit (Draxler et al. 2018)."""
    return loss.max(axis=-1)


@_measure
def convexity_gap(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """max over points i < k < j of L(t_k) less the chord from i to j at t_k; Entezari's barrier or more.

    The largest of the Entezari barriers of all sub-segments, in the loss's unit (Juneja et al. 2023, section 2); 0 for
    a convex profile.
    """
    return np.maximum(above_envelope(t, loss).max(axis=-1), _excess(t, loss).max(axis=-1))  # the whole is one of them


@_measure
def mean_loss(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """E_{t ~ U(0, 1)} L(t) by the trapezoidal rule, in the loss's unit: what curves are fitted to (Garipov et al. 2018,
    eq. 2)."""
    return _trapezoid(loss, t)


@_measure
def better(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """How many points between the ends are lower than both ends."""
    return (loss[..., 1:-1] < np.minimum(loss[..., :1], loss[..., -1:])).sum(axis=-1)


def above_envelope(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Height over the profile's lower convex envelope, (..., P); 0 at the envelope's corners, the ends among them.

    The envelope at t_k is the lowest of the chords i < k < j and of L(t_k). Gift wrapping, O(P^2) a profile.
    """
    count = len(t)
    profiles = loss.reshape(-1, count)
    above = np.zeros_like(profiles)
    corner = np.zeros(len(profiles), dtype=np.intp)  # the envelope's latest corner, then the next one
    slope, base, start = np.empty(len(profiles)), np.empty(len(profiles)), np.empty(len(profiles))
    for k in range(count - 1):
        here = np.flatnonzero(corner == k)
        if len(here):  # the envelope goes on to the point seen from here under the least slope
            slopes = (profiles[here, k + 1 :] - profiles[here, k, None]) / (t[k + 1 :] - t[k])
            least = slopes.argmin(axis=-1)
            corner[here] = k + 1 + least
            slope[here], base[here], start[here] = slopes[np.arange(len(here)), least], profiles[here, k], t[k]
        height = profiles[:, k + 1] - (base + slope * (t[k + 1] - start))
        above[:, k + 1] = np.where(corner == k + 1, 0.0, np.maximum(height, 0.0))  # whatever the rounding
    return above.reshape(loss.shape)


def integral(length: Sequence[float] | np.ndarray, loss: Sequence[float] | np.ndarray) -> Any:
    """Mean of the loss along the path by arc length, in the loss's unit (Garipov et al. 2018, eq. 1).

    `length`: (P,) of the path from its start to each point, starting at 0 and never falling; the trapezoidal rule.
    `loss`: (P,), giving a float, or (..., P), giving an array. A path of length 0 stays at one place: then the plain
    mean over its points. Raises ValueError for other lengths.
    """
    along, heights = np.asarray(length, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if along.ndim != 1 or heights.shape[-1:] != along.shape or len(along) < 2 or not np.isfinite(heights).all():
        raise ValueError("an integral needs a finite loss for each length, two or more")
    if along[0] != 0.0 or not np.isfinite(along).all() or (np.diff(along) < 0).any():
        raise ValueError("an integral needs lengths from 0 that never fall")
    found = _trapezoid(heights, along) / along[-1] if along[-1] else heights.mean(axis=-1)
    return float(found) if heights.ndim == 1 else found


def _excess(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Height over the chord, (..., P); exactly 0 at both ends."""
    first, rise = loss[..., :1], loss[..., -1:] - loss[..., :1]  # so that a flat profile is flat to the last bit
    excess = loss - (first + t * rise)
    excess[..., 0] = excess[..., -1] = 0.0
    return excess


def _vertex(t: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(height, t) of the parabola's vertex, each of shape (...)."""
    excess = _excess(t, loss)
    top = excess.argmax(axis=-1)
    middle = np.clip(top, 1, len(t) - 2)
    (x, y, z), (low, high, last) = (
        (t[middle - 1], t[middle], t[middle + 1]),
        (np.take_along_axis(excess, (middle + step)[..., None], axis=-1)[..., 0] for step in (-1, 0, 1)),
    )
    rise, fall = (high - low) / (y - x), (last - high) / (z - y)
    bend = (fall - rise) / (z - x)  # below 0 at a peak
    slope = rise + bend * (y - x)
    shift = np.divide(-slope, 2 * bend, out=np.zeros_like(slope), where=bend < 0)
    refined = high + slope * shift + bend * shift**2
    inside = (top == middle) & (high > 0)
    return np.where(inside, refined, 0.0), np.where(inside, y + shift, 0.0)


def _over_ends(values: np.ndarray) -> np.ndarray:
    """Height of the highest point over the mean of the ends."""
    return values.max(axis=-1) - (values[..., 0] + values[..., -1]) / 2


def _trapezoid(values: np.ndarray, along: np.ndarray) -> np.ndarray:
    return ((values[..., 1:] + values[..., :-1]) / 2 * np.diff(along)).sum(axis=-1)


def _check(t: np.ndarray, values: np.ndarray) -> None:
    if t.ndim != 1 or values.shape[-1:] != t.shape or len(t) < 2 or t[0] != 0.0 or t[-1] != 1.0:
        raise ValueError("a profile needs a value for each t, from t = 0 to t = 1")
    if not (np.diff(t) > 0).all() or not np.isfinite(values).all():
        raise ValueError("a profile needs rising values of t and finite values")
