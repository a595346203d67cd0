"""Numbers as text that a page carries: rounded as stated, by byte planes, compressed."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np

MISSING = -(2**31)  # of whole numbers
MANY = 500_000  # numbers of paths in a page: with more they are rounded to fewer digits
FINE, COARSE = 6, 4  # decimals
_LARGEST = 2**31 - 2


@dataclass(frozen=True)
class Block:
    """An array as text. `kind`: float64 or steps (whole numbers of 10^-decimals, each but a row's first a difference).

    `width`: numbers in a row. NaN is NaN, in steps MISSING.
    """

    kind: str
    width: int
    decimals: int
    text: str

    def as_dict(self, name: str) -> dict[str, Any]:
        return {"id": name, "kind": self.kind, "width": self.width, "decimals": self.decimals}


def floats(values: np.ndarray) -> Block:
    """As they are, so that a page rounds them as the tables' readers do; infinities are NaN."""
    found = np.asarray(values, dtype=np.float64)
    return Block("float64", 1, 0, _packed(np.where(np.isfinite(found), found, np.nan).astype("<f8")))


def codes(values: np.ndarray) -> Block:
    """Whole numbers of 0 to 2^31 - 2, as they are."""
    return Block("steps", 1, 0, _packed(np.asarray(values).astype("<i4")))


def steps(values: np.ndarray, decimals: int) -> Block:
    """Rows of numbers, rounded to so many decimals, or fewer where they are too large for it."""
    found = np.atleast_2d(np.asarray(values, dtype=np.float64))
    known = np.isfinite(found)
    largest = float(np.abs(found[known]).max()) if known.any() else 0.0
    while decimals > 0 and largest * 10**decimals > _LARGEST / 2:  # a difference may be twice as large
        decimals -= 1
    whole = np.where(known, np.round(np.where(known, found, 0.0) * 10.0**decimals), 0.0).astype(np.int64)
    whole = np.clip(whole, -_LARGEST // 2, _LARGEST // 2)
    last = np.maximum.accumulate(np.where(known, np.arange(found.shape[1]), -1), axis=1)
    filled = np.where(last >= 0, np.take_along_axis(whole, np.maximum(last, 0), axis=1), 0)  # a gap changes nothing
    apart = np.diff(filled, axis=1, prepend=0)
    return Block("steps", found.shape[1], decimals, _packed(np.where(known, apart, MISSING).astype("<i4")))


def unpacked(block: Block) -> np.ndarray:
    """What a page reads from a block: rows of `width` numbers."""
    raw = np.frombuffer(gzip.decompress(base64.b64decode(block.text)), dtype=np.uint8)
    size = 8 if block.kind == "float64" else 4
    whole = np.ascontiguousarray(raw.reshape(size, -1).T).reshape(-1)
    if block.kind == "float64":
        return whole.view("<f8").reshape(-1, block.width)
    apart = whole.view("<i4").astype(np.int64).reshape(-1, block.width)
    missing = apart == MISSING
    return np.where(missing, np.nan, np.cumsum(np.where(missing, 0, apart), axis=1) / 10.0**block.decimals)


def compressed(content: bytes) -> str:
    """Bytes as base64 of gzip, the same for the same content."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _packed(values: np.ndarray) -> str:
    planes = np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(-1, values.dtype.itemsize).T
    return compressed(np.ascontiguousarray(planes).tobytes())
