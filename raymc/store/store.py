"""A storage folder: artefact folders and records, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from raymc.specs.errors import CorruptArtefact
from raymc.specs.keys import canonical
from raymc.store import layout
from raymc.store.records import FILES, Records

_LOG = logging.getLogger("raymc.store")


class Store(Records):
    """One storage. Any number of readers and writers; an artefact is immutable once it is visible."""

    def __init__(self, uri: str | Path):
        """Raises RaymcError for a scheme that isn't supported or a place that can't be written."""
        super().__init__(uri)
        self._digests: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}

    # Folders ----------------------------------------------------------------------------------------------------

    def has(self, kind: str, key: str) -> bool:
        if self.mirror is None:
            return (self.root / kind / key / layout.MANIFEST).is_file()
        if kind == layout.SWEEPS:  # its files change
            return self.objects.has(f"{kind}/{key}/{layout.MANIFEST}")
        with self._writing():
            return self.mirror.manifest(kind, key) is not None

    def keys(self, kind: str) -> set[str]:
        """Keys of all whole folders of a kind, as of now."""
        if self.mirror is not None:
            if kind == layout.SWEEPS:
                return {name for name in self.objects.folders(kind) if self.has(kind, name)}
            with self._writing():
                return self.mirror.keys(kind)
        home = self.root / kind
        return {path.name for path in home.iterdir() if self.has(kind, path.name)} if home.is_dir() else set()

    def whole(self, kind: str, keys: Iterable[str]) -> set[str]:
        """Which of some keys have a whole folder, as of now; of object storage one look tells it of all."""
        if self.mirror is not None:
            return self.keys(kind) & {*keys}
        return {key for key in keys if self.has(kind, key)} if (self.root / kind).is_dir() else set()

    def below(self, kind: str, key: str) -> list[str]:
        """Names of the folders right below KIND/KEY, sorted; of object storage the whole ones."""
        if self.mirror is not None:
            return self.mirror.below(kind, key)
        home = self.root / kind / key
        return sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []

    def is_here(self, kind: str, key: str) -> bool:
        """Whether this machine has a folder of that name, whole or not, without a look at object storage."""
        return (self.root / kind / key).exists()

    def where(self, kind: str, key: str) -> str:
        """Where a folder's files lie for people and other programs: a path, or a URI of object storage."""
        if self.mirror is None:
            return str(self.root / kind / key)
        at = f"/{self._manifest(kind, key)['at']}" if kind != layout.SWEEPS and self.has(kind, key) else ""
        return f"{self.uri}/{kind}/{key}{at}"

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
        if self.mirror is not None:
            self.mirror.publish(kind, key, temporary, manifest)
            return
        for name in files:
            _sync(temporary / name)
        _write(temporary / layout.MANIFEST, json.dumps(manifest, indent=1))
        final = self.root / kind / key
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists() and not self.has(kind, key):
            self.set_aside(kind, key)  # a folder without its manifest is nobody's finished work
        try:
            temporary.rename(final)
        except OSError:
            if not self.has(kind, key):  # else another process finished the same content first
                raise

    def set_aside(self, kind: str, key: str) -> Path | None:
        """As Records.set_aside, whole or not: see `is_damaged`."""
        place = super().set_aside(kind, key)
        if self.mirror is not None and Path(key).suffix not in FILES:
            place = place or self._aside(kind, key)
            self.mirror.put_aside(kind, key, self._name(place))
        return place

    def is_damaged(self, fault: CorruptArtefact) -> bool:
        """Whether what someone found damaged is so, by a fresh look at all of it in the storage.

        Else it is whole by now, as another run has made it anew, or one machine's own copy alone was damaged.
        """
        kind, key = fault.kind, fault.key
        try:
            if Path(key).suffix in FILES:
                return self._file_is_damaged(kind, key)
            self._check(kind, key, self.root / kind / key if self.mirror is None else self._renewed(kind, key), True)
        except CorruptArtefact:
            return True
        return False

    def verify(self, kind: str, key: str, deep: bool = False, but: str = "") -> str:
        """The digest of a folder's content. Raises CorruptArtefact where a file is missing or differs.

        A file is hashed unless it last changed before the folder was finished, by its time of change; with `deep`,
        always. `but`: the ending of files that aren't hashed here, since who reads them hashes what is read. A mirror's
        copy that is damaged is fetched anew.
        """
        try:
            return self._check(kind, key, self.folder(kind, key), deep, but)
        except CorruptArtefact as fault:
            return self.mend_copy(fault)

    def check_copy(self, kind: str, key: str) -> None:
        """As verify, deep, of what this machine has: a mirror's copy is left as it is. Raises CorruptArtefact."""
        self._check(kind, key, self.folder(kind, key), deep=True)

    def mend_copy(self, fault: CorruptArtefact) -> str:
        """A folder was found damaged: as verify, deep, of a mirror's new copy. Raises CorruptArtefact."""
        if self.mirror is None:
            raise fault
        digest = self._check(fault.kind, fault.key, self._renewed(fault.kind, fault.key), deep=True)
        _LOG.warning("%s: this machine's copy alone was damaged and is fetched anew (%s)", fault, self.root)
        return digest

    def _renewed(self, kind: str, key: str) -> Path:
        assert self.mirror is not None
        with self._writing():
            return self.mirror.renew(kind, key)

    def _check(self, kind: str, key: str, folder: Path, deep: bool, but: str = "") -> str:
        manifest = _manifest(kind, key, folder / layout.MANIFEST)
        try:
            finished = (folder / layout.MANIFEST).stat().st_mtime_ns
        except OSError as error:
            raise CorruptArtefact(kind, key, f"{layout.MANIFEST} can't be read") from error
        for name, entry in manifest["files"].items():
            try:
                stat = (folder / name).stat()
            except OSError as error:
                raise CorruptArtefact(kind, key, f"{name} is missing") from error
            if stat.st_size != entry["bytes"]:
                raise CorruptArtefact(kind, key, f"{name} has {stat.st_size} bytes, not {entry['bytes']}")
            changed = max(stat.st_mtime_ns, stat.st_ctime_ns) >= finished  # the clock of files is coarse
            left = bool(but) and name.endswith(but)
            try:
                differs = not left and (deep or changed) and _sha256(folder / name) != entry["sha256"]
            except OSError as error:  # a bad disk, or another run has set the folder aside meanwhile
                raise CorruptArtefact(kind, key, f"{name} can't be read") from error
            if differs:
                raise CorruptArtefact(kind, key, f"{name} is not what was written (SHA-256 differs)")
        return manifest["digest"]

    def weights_digest(self, kind: str, key: str) -> str:
        """A digest of a folder's weights (its *.safetensors), from the manifest. Raises CorruptArtefact.

        It is kept for as long as the manifest stays the same file: each record of a minimum is held against it.
        """
        try:
            stat = self._manifest_path(kind, key).stat()
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
        try:
            return json.loads(self.read(kind, key, name))
        except ValueError as error:
            raise CorruptArtefact(kind, key, f"{name} can't be read") from error

    def read(self, kind: str, key: str, name: str) -> bytes:
        """A file of a folder, checked against its hash; of object storage it alone is fetched. Raises CorruptArtefact.

        A mirror's copy that is damaged isn't used.
        """
        entry = self._manifest(kind, key)["files"].get(name)
        content = None
        with contextlib.suppress(OSError):
            content = (self.root / kind / key / name).read_bytes()
        if self.mirror is not None and (content is None or not _is(content, entry)):
            content = self.mirror.file(kind, key, name)
        if content is None:
            raise CorruptArtefact(kind, key, f"{name} can't be read")
        if not _is(content, entry):
            raise CorruptArtefact(kind, key, f"{name} is not what was written (SHA-256 differs)")
        return content

    def sizes(self, kind: str, key: str) -> dict[str, int]:
        """Bytes of each file of a folder. Raises CorruptArtefact."""
        return {name: entry["bytes"] for name, entry in self._manifest(kind, key)["files"].items()}

    def _manifest(self, kind: str, key: str) -> dict[str, Any]:
        try:
            return _manifest(kind, key, self._manifest_path(kind, key))
        except CorruptArtefact:
            if self.mirror is None:
                raise
            self.mirror.forget(kind, key)  # perhaps the mirror's copy alone is damaged
            return _manifest(kind, key, self._manifest_path(kind, key))

    def _manifest_path(self, kind: str, key: str) -> Path:
        if self.mirror is not None:
            with self._writing():
                found = self.mirror.manifest(kind, key)
            if found is not None:
                return found
        return self.root / kind / key / layout.MANIFEST


def _manifest(kind: str, key: str, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        whole = manifest["digest"] == hashlib.sha256(canonical(manifest["files"]).encode()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptArtefact(kind, key, f"{layout.MANIFEST} can't be read") from error
    if not whole:
        raise CorruptArtefact(kind, key, f"{layout.MANIFEST} is not what was written")
    return manifest


def _is(content: bytes, entry: dict[str, Any] | None) -> bool:
    return entry is not None and hashlib.sha256(content).hexdigest() == entry["sha256"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    _sync(path)
