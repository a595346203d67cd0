"""Many records in one file: STORAGE/KIND/GROUP/STAMP-ID.jsonl, JSON lines that are never changed once they are there.

The first line lists the records with their bytes; the others are one record each, in that order:

    {"sha256":"...","records":[["a-b",2711],["a-c",0]]}
    {"sha256":"...","name":"a-b","body":{...}}

A `sha256` is of the bytes that follow it in its line. A record of 0 bytes has no line: what earlier files have under
that name is set aside. The stamp rises from file to file of a group, so that a later record of a name wins.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SUFFIX = ".jsonl"

_START = b'{"sha256":"'
_REST = len(_START) + 64 + len('",')  # where in a line the bytes begin that are hashed
_SETTLED_NS = 2_000_000_000  # a folder that was quiet for so long when it was listed shows later changes in its time

Place = tuple[str, int, int]  # file name, first byte and bytes of a record; 0 bytes: it is set aside


def record_line(name: str, body: Mapping[str, Any]) -> bytes:
    """One record, without its line break. Raises ValueError on NaN, which JSON doesn't have."""
    return _line({"name": name, "body": body})


def batch(lines: Mapping[str, bytes]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """(a file's content, the (first byte, bytes) of each name's record), from `record_line`s; b"": to be set aside."""
    first = _line({"records": [[name, len(line)] for name, line in lines.items()]})
    places, at = {}, len(first) + 1
    for name, line in lines.items():
        places[name] = (at, len(line))
        at += len(line) + bool(line)
    return b"\n".join([first, *(line for line in lines.values() if line), b""]), places


def read_record(line: bytes, name: str) -> dict[str, Any]:
    """The body of a record. Raises ValueError where the line isn't what was written under that name."""
    found = _read(line)
    if found.get("name") != name:
        raise ValueError("it is another record")
    return found["body"]


def new_name(home: Path) -> str:
    """A name for a batch that comes after all those in a folder, whatever the clocks of their writers say."""
    newest = max(map(_stamp, _listed(home)), default=0) if home.is_dir() else 0
    return _named(max(time.time_ns(), newest + 1))


def mended(content: bytes, name: str) -> tuple[str, bytes]:
    """(name, content) of a file with the whole records of a file whose list is damaged, of the same rank as that."""
    return _named(_stamp(name)), batch({name: content[at : at + size] for name, (at, size) in _whole(content).items()})[
        0
    ]


class Index:
    """Where in the batches of one folder each record lies. Holds no bodies, and sees what other processes add."""

    def __init__(self, home: Path):
        self._home = home
        self._files: set[str] = set()
        self._places: dict[str, Place] = {}
        self._gone: set[str] = set()  # names among the places that are set aside
        self._settled = -1  # time of change of the folder, in ns, from which on it need not be listed; -1: unknown
        self.damaged: list[str] = []  # files whose list of records can't be read: some may be unknown

    def refresh(self) -> Index:
        """Look for new files; names are compared, as the time of a folder's change is coarse."""
        try:
            changed = self._home.stat().st_mtime_ns
            if changed == self._settled:
                return self
            now = time.time_ns()
            files = _listed(self._home)
        except (FileNotFoundError, NotADirectoryError):
            changed, now, files = -1, 0, set()
        if self._files - files:  # a damaged one was replaced
            self.forget()
        for name in sorted(files - self._files):
            try:
                self._load(name)
            except FileNotFoundError:
                files.discard(name)
        self._files = files
        self._settled = changed if now - changed > _SETTLED_NS else -1
        return self

    def forget(self) -> None:
        self._files, self._places, self._gone, self._settled, self.damaged = set(), {}, set(), -1, []

    def find(self, name: str) -> Place | None:
        return self._places.get(name)

    def known(self) -> set[str]:
        """All names, of records that are set aside too."""
        return set(self._places)

    def names(self) -> set[str]:
        return self._places.keys() - self._gone

    def line(self, place: Place) -> bytes:
        """The bytes of a record. Raises FileNotFoundError where its file is no longer there, else OSError."""
        file, at, size = place
        with (self._home / file).open("rb", buffering=0) as content:
            return os.pread(content.fileno(), size, at)

    def add(self, file: str, places: Mapping[str, tuple[int, int]]) -> None:
        """Take in a file's records; those in later files stay."""
        for name, (at, size) in places.items():
            known = self._places.get(name)
            if known is None or known[0] < file:
                self._places[name] = (file, at, size)
                (self._gone.discard if size else self._gone.add)(name)
        self._files.add(file)

    def _load(self, file: str) -> None:
        with (self._home / file).open("rb") as content:
            first = content.readline()
        try:
            listed = _read(first.removesuffix(b"\n"))["records"]
        except (ValueError, KeyError):
            self.damaged.append(file)
            self.add(file, _whole((self._home / file).read_bytes()))
            return
        places, at = {}, len(first)
        for name, size in listed:
            places[name] = (at, size)
            at += size + bool(size)
        self.add(file, places)


def _line(value: Mapping[str, Any]) -> bytes:
    rest = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()[1:]
    return _START + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def _read(line: bytes) -> dict[str, Any]:
    rest = line[_REST:]
    if line[:_REST] != _START + hashlib.sha256(rest).hexdigest().encode() + b'",':
        raise ValueError("SHA-256 differs")
    return json.loads(b"{" + rest)


def _whole(content: bytes) -> dict[str, tuple[int, int]]:
    """The (first byte, bytes) of every whole record of a file, found without its list, by name.

    A damaged record, or line break, doesn't hide its neighbours.
    """
    starts = []
    at = content.find(_START)
    while at >= 0:
        starts.append(at)
        at = content.find(_START, at + 1)
    found: dict[str, tuple[int, int]] = {}
    for start, following in itertools.pairwise([*starts, len(content) + 1]):
        for end in _unique(content.find(b"\n", start), following - 1):
            try:
                name = _read(content[start:end]).get("name")
            except ValueError:
                continue
            if name is not None:  # else it is the list
                found[name] = (start, end - start)
            break
    return found


def _unique(*ends: int) -> Iterable[int]:
    return dict.fromkeys(end for end in ends if end >= 0)


def _listed(home: Path) -> set[str]:
    with os.scandir(home) as entries:
        return {entry.name for entry in entries if entry.name.endswith(SUFFIX)}


def _stamp(name: str) -> int:
    stamp = name.split("-", 1)[0]
    return int(stamp) if stamp.isdecimal() else 0


def _named(stamp: int) -> str:
    return f"{stamp:020d}-{uuid.uuid4().hex[:12]}{SUFFIX}"
