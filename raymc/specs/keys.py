"""Content keys: the hash of a canonical JSON text, stable across processes, machines and spellings."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

# Bumped when the meaning of a key's content changes (a default, the training procedure, an evaluation).
MINIMUM_VERSION = 1
BACKBONE_VERSION = 1
EVALUATION_VERSION = 2  # calibration, and probabilities of every row beside it
PROFILE_VERSION = 3  # p-values beyond what the resamples resolve
ADAPTIVE_VERSION = 2  # of the way adaptive profiles are taken, a part of their keys alone
CURVE_VERSION = 1
PLANE_VERSION = 1
PRECISION_VERSION = 1  # of the way a precision is decided on


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats as their shortest exact decimal. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_of(value: Any) -> str:
    """20 hex digits (80 bits) of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, kept for as long as the file, its size and its times of change stay the same."""
    stat = path.stat()
    return _file_digest(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, inode: int, size: int, mtime_ns: int, ctime_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
