"""Which training rows are kept and which of them get a wrong label: numbers of rows alone, no text.

Every choice ranks rows by a hash of (seed, the row's index in its split), so it is the same on every platform, and what
is drawn for a row depends on no other row.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b

import numpy as np

from raymc.specs.task import Subset


def share_of(share: float, rows: int) -> int:
    """A share of some rows, as the decimal that was written, to the nearest whole one; halves to the even one."""
    return round(Fraction(repr(share)) * rows)


def window_start(subset: Subset) -> int:
    """Where a window begins on the order that it is cut from; it ends `rows` further on."""
    return subset.rows - share_of(subset.overlap, subset.rows)


def most_rows(overlap: float, split_rows: int) -> int:
    """The most rows that a window of this overlap can have in a split of `split_rows`; 0 where there are none."""
    rows = int(split_rows / (2 - Fraction(repr(overlap)))) + 1  # rounding gives or takes half a row
    while rows and 2 * rows - share_of(overlap, rows) > split_rows:
        rows -= 1
    return rows


def window(split_rows: int, subset: Subset) -> np.ndarray:
    """Indices of a window's rows in the split, int64, `subset.rows` of them.

    The window of overlap 1 is in the split's order, so that one of all rows is the split itself. In any other window
    of the same rows and seed, each row that is shared keeps its place: with one order of training, two windows differ
    in what comes where others' rows were, and in nothing else. Raises ValueError past the split's last row.
    """
    start = window_start(subset)
    if start + subset.rows > split_rows:
        raise ValueError(f"the window ends at {start + subset.rows}, and there are {split_rows} rows")
    order = np.array(_ranked("subset", subset.seed, range(split_rows)), dtype=np.int64)
    chosen = order[: subset.rows].copy()
    places = np.argsort(chosen)
    chosen[:start] = order[subset.rows : subset.rows + start]
    return chosen[places]


def mislabelled(labels: Sequence[str], indices: np.ndarray, share: float, seed: int, names: Sequence[str]) -> list[str]:
    """The rows' labels with exactly round(share x rows) of them wrong, each any of the other names alike.

    `indices` are the rows' indices in the split: they rank the rows, so a higher share keeps what a lower one changed.
    """
    noisy = list(labels)
    ranked = _ranked("noise", seed, indices.tolist())
    place = {index: k for k, index in enumerate(indices.tolist())}
    for index in ranked[: share_of(share, len(noisy))]:
        others = [name for name in names if name != noisy[place[index]]]
        noisy[place[index]] = others[_number("wrong label", seed, index) % len(others)]
    return noisy


def _ranked(what: str, seed: int, indices: Sequence[int]) -> list[int]:
    return sorted(indices, key=lambda index: _number(what, seed, index))


def _number(what: str, seed: int, index: int) -> int:
    """128 bits that (what, seed, index) decide."""
    return int.from_bytes(blake2b(f"{what}/{seed}/{index}".encode(), digest_size=16).digest(), "big")
