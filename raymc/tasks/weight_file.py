"""A safetensors file read once: its bytes go straight into the tensors they are, and are hashed on the way."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

_CHUNK = 1 << 20  # bytes read and hashed at a time: they are still in the core's cache when they are hashed
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself allows
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
_BYTES |= {"U64": 8, "I64": 8, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file. `dtype`: as torch has it, else its name in the format; `start`: bytes after the header."""

    dtype: torch.dtype | str
    shape: tuple[int, ...]
    start: int
    size: int


class WeightFile:
    """An open safetensors file, its header read. Use as a context.

    Raises ValueError where it is none that lies as the format says (no holes, sizes that fit), OSError where it can't
    be read.
    """

    def __init__(self, path: Path):
        self._size = path.stat().st_size
        self._file: IO[bytes] = path.open("rb", buffering=0)
        try:
            self._header = _exactly(self._file, 8)
            length = int.from_bytes(self._header, "little")
            if length > min(_LONGEST_HEADER, self._size - 8):
                raise ValueError("its header is longer than the file")
            self._header += _exactly(self._file, length)
            self.entries = _entries(self._header[8:], self._size - 8 - length)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def read(self, into: Mapping[str, torch.Tensor], hashed: bool) -> str:
        """Fill tensors (by name; contiguous, on the CPU, of the entry's type and shape) from the file, once.

        The SHA-256 of the whole file, where it is `hashed`, over the bytes that were read; else "".
        """
        digest = hashlib.sha256(self._header)
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].start):
            tensor = into.get(name)
            if tensor is not None:
                if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape) or not tensor.is_contiguous():
                    raise ValueError(f"{name} is {entry.dtype} {entry.shape} in the file")
                if entry.size:
                    self._take(memoryview(tensor.numpy().reshape(-1).data).cast("B"), digest)
            elif hashed:
                left = entry.size
                while left:
                    part = _exactly(self._file, min(left, _CHUNK))
                    digest.update(part)
                    left -= len(part)
            else:
                self._file.seek(entry.size, 1)
        return digest.hexdigest() if hashed else ""

    def _take(self, place: memoryview, digest: Any) -> None:
        at = 0
        while at < len(place):
            part = place[at : at + _CHUNK]
            done = self._file.readinto(part)  # type: ignore[attr-defined]
            if not done:
                raise ValueError("it ends early")
            digest.update(part[:done])
            at += done


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = file.read(count - len(found))
        if not part:
            raise ValueError("it ends early")
        found += part
    return found


def _entries(header: bytes, size: int) -> dict[str, Entry]:
    """What the header says, seen to cover the bytes behind it without holes. Raises ValueError."""
    entries = {}
    try:
        for name, body in json.loads(header).items():
            if name == "__metadata__":
                continue
            start, end = body["data_offsets"]
            shape = tuple(int(one) for one in body["shape"])
            if min(shape, default=0) < 0 or end - start != math.prod(shape) * _BYTES[body["dtype"]]:
                raise ValueError(f"{name} has a size that isn't that of its shape")
            dtype = _DTYPES[body["dtype"]] if body["dtype"] in _DTYPES else str(body["dtype"])
            entries[name] = Entry(dtype, shape, start, end - start)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("its header isn't one of safetensors") from error
    at = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.size)):
        if entry.start != at:
            raise ValueError("its tensors don't lie one behind another")
        at += entry.size
    if at != size:
        raise ValueError("its tensors don't fill it")
    return entries
