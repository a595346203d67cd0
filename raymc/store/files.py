"""Files of a storage, each written whole or not at all; of object storage, by way of this machine's mirror."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from raymc.specs.errors import RaymcError, StorageFault
from raymc.store import layout
from raymc.store.mirror import Mirror, mirror_root
from raymc.store.objects import REMOTE, Objects
from raymc.store.outage import wait_seconds

_STALE_SECONDS = 7 * 24 * 3600
_REACHED_SECONDS = 10.0  # at the start of a run an address is rather wrong than away


class Files:
    """A storage; `root`: its folder, or its mirror's. Any number of readers and writers, in any number of processes."""

    def __init__(self, uri: str | Path):
        """Raises RaymcError for a scheme that isn't supported."""
        text = str(uri).removeprefix("file://")
        scheme, separator, rest = text.partition("://")
        self.seconds = 0.0  # that results took to write, through this object
        self.mirror: Mirror | None = None
        if not separator:
            self.root = Path(text).expanduser().resolve()
            self.objects = Objects(self.root)
            return
        if scheme not in REMOTE:
            known = ", ".join(f"{one}://" for one in REMOTE)
            raise RaymcError(f"storage {uri}: a folder, or one of {known}; not {scheme}://")
        if not rest.strip("/"):
            raise RaymcError(f"storage {uri}: no bucket is named ({scheme}://BUCKET/PREFIX)")
        if "@" in rest.split("/")[0]:
            raise RaymcError(f"storage {scheme}://...: names and passwords belong in the environment, not in the URI")
        self.objects = Objects(text.rstrip("/"))
        self.root = mirror_root(self.objects.uri)
        self.mirror = Mirror(self.root, self.objects)

    @property
    def uri(self) -> str:
        """What another process opens the same storage with."""
        return self.objects.uri

    def prepare(self) -> None:
        """Make the folder and see that it can be written. Raises RaymcError."""
        self.reached()
        with self._writing():
            (self.root / layout.TEMPORARY).mkdir(parents=True, exist_ok=True)
            probe = self.root / layout.TEMPORARY / f"probe-{uuid.uuid4().hex}"
            probe.write_text("")
            probe.unlink()
            for left in (self.root / layout.TEMPORARY).iterdir():  # of processes that were killed
                with contextlib.suppress(FileNotFoundError):  # another process took it away
                    if all(map(_stale, chain([left], left.rglob("*")))):  # what is in use has something new in it
                        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

        if self.mirror is not None:
            self._make_once()

    def _make_once(self) -> None:
        """See that object storage can be written, and makes an object only where there is none. Raises StorageFault."""
        name = f"{layout.TEMPORARY}/probe-{uuid.uuid4().hex}"
        self.objects.create(name, b"first")
        twice = self.objects.create(name, b"second")
        self.objects.delete(name)
        if twice:
            raise StorageFault(
                f"storage {self.uri}: the server ignores If-None-Match, so two runs at once would each take what the "
                "other has; use one with conditional writes (AWS S3, Google Cloud Storage, a recent MinIO), or a folder"
            )

    def reached(self) -> None:
        """See within seconds that object storage can be used. Raises RaymcError."""
        if self.mirror is not None:
            self.objects.reached(min(_REACHED_SECONDS, wait_seconds()))

    def folder(self, kind: str, key: str) -> Path:
        """Where a folder's files are to be read, on this machine; see `Store.where` for a name that holds elsewhere.

        Raises CorruptArtefact where object storage has other content than was written.
        """
        if self.mirror is None:
            return self.root / kind / key
        with self._writing():
            return self.mirror.folder(kind, key)

    def read_file(self, path: Path) -> bytes:
        """What `write_file` wrote, as the storage has it now. Raises OSError, FileNotFoundError where there is none."""
        if self.mirror is None:
            return path.read_bytes()
        content = self.objects.get(self._name(path))
        if content is None:
            raise FileNotFoundError(path)
        return content

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a file atomically (temporary name, sync, rename). Raises RaymcError where it can't be written.

        In object storage it is one object; the mirror has it afterwards, as whatever is in a mirror was in the storage.
        """
        if self.mirror is not None:
            self.objects.put(self._name(path), content)
            self.mirror.wrote(self._name(path))
        temporary = self._temporary(path.name)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def has_group_file(self, kind: str, group: str, name: str) -> bool:
        """Whether there is a file KIND/GROUP/NAME; a whole group is looked through at the price of one look."""
        if self.mirror is None:
            return (self.root / kind / group / name).is_file()
        return self.mirror.has_file(kind, group, name)

    def read_group_file(self, kind: str, group: str, name: str, sha256: str) -> bytes:
        """A file's content; a mirror that lacks it, or has another than the one of this SHA-256, fetches it.

        Raises OSError, FileNotFoundError where there is none.
        """
        path = self.root / kind / group / name
        if self.mirror is not None and not same_content(path, sha256):
            with self._writing():
                self.mirror.fetch(kind, group, name)
        return path.read_bytes()

    def discard(self, kind: str, key: str) -> None:
        """Remove a folder and all below it, for good; another process may have been faster."""
        if self.mirror is not None:
            self.mirror.discard(kind, key)
        shutil.rmtree(self.root / kind / key, ignore_errors=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Around the writing of results: its time is added to `seconds`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFault(f"storage {self.root} can't be written: {error.strerror or error}") from error

    def scratch(self, name: str) -> Path:
        """A name for a temporary folder of a process; whoever makes it removes it.

        Beside a mirror it is one that any machine can make for itself: what Ray and tokens keep there is needed by one
        machine alone, and what has to outlive it is in the storage.
        """
        if self.mirror is not None:
            return Path(tempfile.gettempdir()) / f"raymc-{self._temporary(name).name}"
        return self._temporary(name)

    def _temporary(self, name: str) -> Path:
        return self.root / layout.TEMPORARY / f"{name.replace('/', '-')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _stale(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _STALE_SECONDS


def same_content(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
