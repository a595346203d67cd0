"""A storage folder: artefact folders and records, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raymc.specs.errors import CorruptArtefact
from raymc.specs.keys import canonical
from raymc.store import layout
from raymc.store.records import Records


class Store(Records):
    """One storage. Any number of readers and writers; an artefact is immutable once it is visible."""

    def __init__(self, uri: str | Path):
        """Raises RaymcError for a scheme that isn't supported or a place that can't be written."""
        super().__init__(uri)
        self._digests: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}

    # Folders ----------------------------------------------------------------------------------------------------

    def has(self, kind: str, key: str) -> bool:
        return (self.folder(kind, key) / layout.MANIFEST).is_file()

    def keys(self, kind: str) -> set[str]:
        """Keys of all whole folders of a kind."""
        home = self.root / kind
        return {path.name for path in home.iterdir() if self.has(kind, path.name)} if home.is_dir() else set()

    @contextlib.contextmanager
    def create(self, kind: str, key: str) -> Iterator[Path]:
        """A temporary folder to fill; it becomes visible under its key, with its hashes, when the block ends well.

        Where the key is there already, that stays and this is dropped. Raises RaymcError where it can't be written.
        """
        temporary = self._temporary(key)
        try:
            with self._writing():
                temporary.mkdir(parents=True)
            yield temporary
            with self._writing():
                self._finish(kind, key, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _finish(self, kind: str, key: str, temporary: Path) -> None:
        files = {
            str(path.relative_to(temporary)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        manifest = {"files": files, "digest": hashlib.sha256(canonical(files).encode()).hexdigest()}
        for name in files:
            _sync(temporary / name)
        _write(temporary / layout.MANIFEST, json.dumps(manifest, indent=1))
        final = self.folder(kind, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists() and not self.has(kind, key):
            self.set_aside(kind, key)  # a folder without its manifest is nobody's finished work
        try:
            temporary.rename(final)
        except OSError:
            if not self.has(kind, key):  # else another process finished the same content first
                raise

    def verify(self, kind: str, key: str, deep: bool = False, but: str = "") -> str:
        """The digest of a folder's content. Raises CorruptArtefact where a file is missing or differs.

        A file is hashed unless it last changed before the folder was finished, by its time of change; with `deep`,
        always. `but`: the ending of files that aren't hashed here, since who reads them hashes what is read.
        """
        folder = self.folder(kind, key)
        manifest = self._manifest(kind, key)
        finished = (folder / layout.MANIFEST).stat().st_mtime_ns
        for name, entry in manifest["files"].items():
            try:
                stat = (folder / name).stat()
            except OSError as error:
                raise CorruptArtefact(kind, key, f"{name} is missing") from error
            if stat.st_size != entry["bytes"]:
                raise CorruptArtefact(kind, key, f"{name} has {stat.st_size} bytes, not {entry['bytes']}")
            changed = max(stat.st_mtime_ns, stat.st_ctime_ns) >= finished  # the clock of files is coarse
            left = bool(but) and name.endswith(but)
            if not left and (deep or changed) and _sha256(folder / name) != entry["sha256"]:
                raise CorruptArtefact(kind, key, f"{name} is not what was written (SHA-256 differs)")
        return manifest["digest"]

    def weights_digest(self, kind: str, key: str) -> str:
        """A digest of a folder's weights (its *.safetensors), from the manifest. Raises CorruptArtefact.

        It is kept for as long as the manifest stays the same file: each record of a minimum is held against it.
        """
        try:
            stat = (self.folder(kind, key) / layout.MANIFEST).stat()
        except OSError as error:
            raise CorruptArtefact(kind, key, f"{layout.MANIFEST} can't be read") from error
        as_now = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        known = self._digests.get((kind, key))
        if known is None or known[0] != as_now:
            files = self._manifest(kind, key)["files"]
            weights = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
            known = as_now, hashlib.sha256(canonical(weights).encode()).hexdigest()[:20]
            self._digests[kind, key] = known
        return known[1]

    def file_digest(self, kind: str, key: str, name: str) -> str | None:
        """SHA-256 of one file of a folder, from the manifest; None where there is none. Raises CorruptArtefact."""
        entry = self._manifest(kind, key)["files"].get(name)
        return entry["sha256"] if entry else None

    def read_json(self, kind: str, key: str, name: str) -> dict[str, Any]:
        """A JSON file of a folder, checked against its hash. Raises CorruptArtefact where it isn't what was written."""
        entry = self._manifest(kind, key)["files"].get(name)
        try:
            content = (self.folder(kind, key) / name).read_bytes()
            if entry is None or hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise CorruptArtefact(kind, key, f"{name} is not what was written (SHA-256 differs)")
            return json.loads(content)
        except (OSError, ValueError) as error:
            raise CorruptArtefact(kind, key, f"{name} can't be read") from error

    def _manifest(self, kind: str, key: str) -> dict[str, Any]:
        path = self.folder(kind, key) / layout.MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            whole = manifest["digest"] == hashlib.sha256(canonical(manifest["files"]).encode()).hexdigest()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptArtefact(kind, key, f"{layout.MANIFEST} can't be read") from error
        if not whole:
            raise CorruptArtefact(kind, key, f"{layout.MANIFEST} is not what was written")
        return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    _sync(path)
