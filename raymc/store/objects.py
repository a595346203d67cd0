"""Named contents in a folder or in object storage: made once, whole or not at all, waited for while it is away."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from raymc.specs.errors import StorageFault
from raymc.store.outage import Outage, wait_seconds
from raymc.store.remote import in_a_line, opened, opened_folder, passes

Result = TypeVar("Result")

REMOTE = ("s3", "gs")  # schemes of object storage
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between tries
_CHUNK = 4 * 2**20  # bytes read at once
_SILENCE = 60.0  # seconds without an answer after which a call is tried again
_TRANSFER = 600.0  # seconds that one answer may take in all
_UPLOAD = 300.0  # seconds that a file, or a part of 5 MB of it, may take to go up; while it does nothing is answered
_PARTS = 4  # of a file, that go up at once: so that many files at once on a slow line keep within that
_LARGE = 2**20  # bytes from which on contents are sent as files are


@dataclass(frozen=True)
class Entry:
    """One object of a listing. `changed` is by the storage's clock."""

    name: str
    size: int  # bytes
    changed: datetime  # UTC
    tag: str | None  # changes with the content


class Objects:
    """The objects under one URI: a folder, s3://bucket/prefix or gs://bucket/prefix. Safe for any number of threads.

    All methods raise StorageFault where the storage can't be used, after waiting for one that can't be reached.
    """

    def __init__(self, uri: str | Path, silence: float = _SILENCE):
        """`silence`: seconds without an answer after which a call is tried again."""
        self.uri = str(uri)
        self._scheme = self.uri.split("://")[0] if "://" in self.uri else ""
        self._silence = silence
        self._lock = threading.Lock()
        self._made: dict[bool, Any] = {}
        self._away = Outage()

    def quick(self, silence: float) -> Objects:
        """The same, that waits for an answer so many seconds (at least 2) at most; a folder answers by itself."""
        if self._scheme not in REMOTE:
            return self
        found = Objects(self.uri, max(2.0, silence))
        found._away = self._away  # one outage is said once
        return found

    def create(self, name: str, content: bytes) -> bool:
        """Make an object that isn't there yet; False where the name is taken. Of several at once one succeeds.

        With content that no other writer has, the answer is right even where a first try's answer was lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        tries = 0

        def make() -> bool:
            nonlocal tries
            tries += 1
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return tries > 1 and self._read(name) == content
            return True

        return self._reached(make)

    def put(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all; it takes the place of an earlier one."""
        import obstore

        large = len(content) >= _LARGE
        self._reached(lambda: obstore.put(self._opened(large), name, content, max_concurrency=_PARTS))

    def get(self, name: str) -> bytes | None:
        """The content, None where there is no such object."""
        return self._reached(lambda: self._read(name))

    def upload(self, name: str, path: Path) -> None:
        """As put, of a file; large ones go in parts."""
        import obstore

        self._reached(lambda: obstore.put(self._opened(True), name, path, max_concurrency=_PARTS))

    def download(self, name: str, path: Path) -> str:
        """Write an object into a file; the SHA-256 of what came, "" where there is no such object."""
        import obstore

        def fetch() -> str:
            digest = hashlib.sha256()
            try:
                chunks = obstore.get(self._store, name).stream(min_chunk_size=_CHUNK)
                with path.open("wb") as file:
                    for chunk in chunks:
                        digest.update(chunk)
                        _written(file, chunk)
            except FileNotFoundError as error:
                _raise_for_bucket(error)
                return ""
            return digest.hexdigest()

        return self._reached(fetch)

    def move(self, name: str, to: str) -> None:
        """Give an object another name; nothing happens where there is none."""
        import obstore

        def move() -> None:
            try:
                obstore.rename(self._opened(True), name, to)  # the server copies it
            except FileNotFoundError as error:
                _raise_for_bucket(error)

        self._reached(move)

    def list(self, prefix: str = "") -> list[str]:
        """Names of all objects in a folder and below, sorted. `prefix` is whole parts of a path: "claims/abc"."""
        return [entry.name for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> list[Entry]:
        """As list, with what the storage says of each."""
        import obstore

        def look() -> list[Entry]:
            found = [one for batch in obstore.list(self._store, prefix or None, chunk_size=1000) for one in batch]
            return sorted(
                (Entry(one["path"], one["size"], one["last_modified"], one["e_tag"]) for one in found),
                key=lambda entry: entry.name,
            )

        return self._reached(look)

    def folders(self, prefix: str = "") -> list[str]:
        """Last parts of the names of the folders right below a folder, sorted; of all their objects nothing is read."""
        import obstore

        def look() -> list[str]:
            return sorted(
                path.rsplit("/", 1)[-1]
                for path in obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
            )

        return self._reached(look)

    def has(self, name: str) -> bool:
        import obstore

        def look() -> bool:
            try:
                obstore.head(self._store, name)
            except FileNotFoundError:
                return False
            return True

        return self._reached(look)

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        import obstore

        def remove() -> None:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError as error:
                _raise_for_bucket(error)

        self._reached(remove)

    def reached(self, seconds: float) -> None:
        """See that the storage can be used, in so many seconds. Raises StorageFault."""
        import obstore

        quick = self.quick(seconds)
        quick._reached(lambda: next(iter(obstore.list(quick._store, chunk_size=1)), None), seconds)

    # ------------------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            _raise_for_bucket(error)
            return None

    @property
    def _store(self) -> Any:
        return self._opened()

    def _opened(self, upload: bool = False) -> Any:
        """`upload`: for what is large, and takes its time to go up."""
        upload = upload and self._scheme in REMOTE
        with self._lock:
            if upload not in self._made:
                limits = (_UPLOAD, _UPLOAD) if upload else (self._silence, _TRANSFER)
                made = opened(self.uri, *limits) if self._scheme in REMOTE else opened_folder(self.uri)
                self._made[upload] = made
            return self._made[upload]

    def _reached(self, call: Callable[[], Result], limit: float | None = None) -> Result:
        """A call's result, tried again for as long as the storage is away and the limit, in seconds, allows.

        The limit is of an outage, and of this call's own failures where others get through meanwhile.
        """
        from obstore.exceptions import BaseError

        pause, first = _FIRST_PAUSE, 0.0
        while True:
            try:
                result = call()
            except (BaseError, OSError) as error:
                text = str(error)
                if self._scheme not in REMOTE or not passes(text):
                    raise StorageFault(f"storage {self.uri}: {in_a_line(text, self.uri)}") from error
                first = first or time.monotonic()
                if not self._away.wait(self.uri, pause, text, wait_seconds() if limit is None else limit, first):
                    waited = max(self._away.seconds, time.monotonic() - first)
                    raise StorageFault(
                        f"storage {self.uri} can't be reached ({in_a_line(text, self.uri)}; waited {waited:.0f} s); "
                        "everything finished is kept, the same command goes on"
                    ) from error
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._away.over(self.uri)
                return result

    def __reduce__(self):  # to other processes as its URI
        return (Objects, (self.uri, self._silence))


def _written(file: BinaryIO, chunk: Any) -> None:
    try:
        file.write(chunk)
    except OSError as error:  # of this machine's disk
        raise StorageFault(f"{file.name} can't be written: {error.strerror or error}") from error


def _raise_for_bucket(error: FileNotFoundError) -> None:
    """Of what isn't found: re-raise where it is the bucket itself."""
    if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
        raise error
