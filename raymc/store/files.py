"""Files of a storage folder, each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from raymc.specs.errors import RaymcError, StorageFault
from raymc.store import layout
from raymc.store.objects import Objects

_STALE_SECONDS = 7 * 24 * 3600


class Files:
    """A storage folder. Any number of readers and writers, in any number of processes."""

    def __init__(self, uri: str | Path):
        """Raises RaymcError for a scheme that isn't supported or a place that can't be written."""
        text = str(uri).removeprefix("file://")
        if "://" in text:
            raise RaymcError(f"storage {uri}: only a local or shared folder can be used, not {text.split('://')[0]}://")
        self.root = Path(text).expanduser().resolve()
        self.seconds = 0.0  # that results took to write, through this object
        self.objects = Objects(self.root)

    @property
    def uri(self) -> str:
        return str(self.root)

    def prepare(self) -> None:
        """Make the folder and see that it can be written. Raises RaymcError."""
        with self._writing():
            (self.root / layout.TEMPORARY).mkdir(parents=True, exist_ok=True)
            probe = self.root / layout.TEMPORARY / f"probe-{uuid.uuid4().hex}"
            probe.write_text("")
            probe.unlink()
            for left in (self.root / layout.TEMPORARY).iterdir():  # of processes that were killed
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a file atomically (temporary name, sync, rename). Raises RaymcError where it can't be written."""
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
        """A name for a temporary folder of a process; whoever makes it removes it."""
        return self._temporary(name)

    def _temporary(self, name: str) -> Path:
        return self.root / layout.TEMPORARY / f"{name.replace('/', '-')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
