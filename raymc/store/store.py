"""A storage folder: artefact folders and records, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.keys import canonical
from raymc.store import batches, layout

_STALE_SECONDS = 7 * 24 * 3600
_DIFFERS = "it is not what was written (SHA-256 differs)"


class Store:
    """One storage. Any number of readers and writers; an artefact is immutable once it is visible."""

    def __init__(self, uri: str | Path):
        """Raises RaymcError for a scheme that isn't supported or a place that can't be written."""
        text = str(uri).removeprefix("file://")
        if "://" in text:
            raise RaymcError(f"storage {uri}: only a local or shared folder can be used, not {text.split('://')[0]}://")
        self.root = Path(text).expanduser().resolve()
        self._indexes: dict[tuple[str, str], batches.Index] = {}

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

    # Folders ----------------------------------------------------------------------------------------------------

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key

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

    def verify(self, kind: str, key: str, deep: bool = False) -> str:
        """The digest of a folder's content. Raises CorruptArtefact where a file is missing or differs.

        A file is hashed unless it last changed before the folder was finished, by its time of change; with `deep`,
        always.
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
            if (deep or changed) and _sha256(folder / name) != entry["sha256"]:
                raise CorruptArtefact(kind, key, f"{name} is not what was written (SHA-256 differs)")
        return manifest["digest"]

    def weights_digest(self, kind: str, key: str) -> str:
        """A digest of a folder's weights (its *.safetensors), from the manifest. Raises CorruptArtefact."""
        files = self._manifest(kind, key)["files"]
        weights = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
        return hashlib.sha256(canonical(weights).encode()).hexdigest()[:20]

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

    # Records ----------------------------------------------------------------------------------------------------

    def put(self, kind: str, group: str, name: str, body: dict[str, Any]) -> None:
        """Write one JSON record with its hash, atomically. It takes the place of an earlier one of that name."""
        if self._index(kind, group).find(name) is not None:
            self.put_many(kind, group, {name: body})  # a file of its own would come before
            return
        path = self.root / kind / group / f"{name}.json"
        text = json.dumps({"sha256": hashlib.sha256(canonical(body).encode()).hexdigest(), "body": body}, indent=1)
        self.write_file(path, text.encode())

    def put_many(self, kind: str, group: str, bodies: Mapping[str, dict[str, Any]]) -> None:
        """Write records into one file, atomically. They take the places of earlier ones of their names.

        Raises RaymcError where it can't be written, ValueError on NaN.
        """
        if bodies:
            lines = {name: batches.record_line(name, body) for name, body in bodies.items()}
            self._put_lines(kind, group, lines)

    def _put_lines(self, kind: str, group: str, lines: Mapping[str, bytes]) -> None:
        home = self.root / kind / group
        content, places = batches.batch(lines)
        with self._writing():
            file = batches.new_name(home)
        self.write_file(home / file, content)
        if (kind, group) in self._indexes:
            self._indexes[kind, group].add(file, places)

    def get(self, kind: str, group: str, name: str) -> dict[str, Any]:
        """Read one record. Raises CorruptArtefact where it isn't what was written, KeyError where there is none."""
        index = self._index(kind, group)
        try:
            place = index.find(name)
            if place is None:
                return self._get_single(kind, group, name)
            if place[-1]:
                return batches.read_record(index.line(place), name)
        except FileNotFoundError:  # nowhere; or another process took the file away after its index was made
            if place is not None:
                index.forget()
                return self.get(kind, group, name)
        except (OSError, ValueError) as error:
            reason = "it can't be read" if isinstance(error, OSError) else _DIFFERS
            raise CorruptArtefact(kind, f"{group}/{name}.json", reason) from error
        if index.damaged:  # it may have been there
            raise CorruptArtefact(kind, f"{group}/{index.damaged[0]}", "the list of its records can't be read")
        raise KeyError(f"{kind}/{group}/{name}")

    def _get_single(self, kind: str, group: str, name: str) -> dict[str, Any]:
        """As get, of a record in a file of its own. Raises FileNotFoundError where there is none."""
        try:
            record = json.loads((self.root / kind / group / f"{name}.json").read_bytes())
            body, digest = record["body"], record["sha256"]
            whole = hashlib.sha256(canonical(body).encode()).hexdigest() == digest
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptArtefact(kind, f"{group}/{name}.json", "it can't be read") from error
        if not whole:
            raise CorruptArtefact(kind, f"{group}/{name}.json", _DIFFERS)
        return body

    def records(self, kind: str, group: str) -> set[str]:
        """Names of the records of a group; they are checked when they are read."""
        home, index = self.root / kind / group, self._index(kind, group)
        if not home.is_dir():
            return set()
        single = {entry.name[:-5] for entry in os.scandir(home) if entry.name.endswith(".json")}
        return index.names() | (single - index.known())

    def _index(self, kind: str, group: str) -> batches.Index:
        """Where the records lie that are in batches, as of now."""
        known = self._indexes.setdefault((kind, group), batches.Index(self.root / kind / group))
        return known.refresh()

    # Both -------------------------------------------------------------------------------------------------------

    def set_aside(self, kind: str, key: str) -> Path | None:
        """Move a folder or record out of the way; its new place, or None where it is gone already.

        `key`: of a record, GROUP/NAME.json, whichever file it is in; its neighbours stay. A batch whose list of records
        is damaged is GROUP/FILE.jsonl: its whole records stay.
        """
        target = self.root / layout.SET_ASIDE / f"{kind}-{key.replace('/', '-')}-{time.strftime('%Y%m%dT%H%M%S')}"
        target = target.with_name(f"{target.name}-{uuid.uuid4().hex[:6]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        path = self.folder(kind, key)
        group, name = str(Path(key).parent), Path(key).name
        with contextlib.suppress(FileNotFoundError):
            if path.suffix == batches.SUFFIX:
                self.write_file(*self._mended(path))
            elif path.suffix == ".json":
                self._take_out(kind, group, name.removesuffix(".json"), target)
            path.unlink() if target.exists() else path.rename(target)
        return target if target.exists() else None

    def _mended(self, path: Path) -> tuple[Path, bytes]:
        name, content = batches.mended(path.read_bytes(), path.name)
        return path.with_name(name), content

    def _take_out(self, kind: str, group: str, name: str, target: Path) -> None:
        """Copy a record that is in a batch, and have it no longer found there."""
        index = self._index(kind, group)
        place = index.find(name)
        if place is not None and place[-1]:
            self.write_file(target, index.line(place))
            self._put_lines(kind, group, {name: b""})

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
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RaymcError(f"storage {self.root} can't be written: {error.strerror or error}") from error

    def scratch(self, name: str) -> Path:
        """A name for a temporary folder of a process; whoever makes it removes it."""
        return self._temporary(name)

    def _temporary(self, name: str) -> Path:
        return self.root / layout.TEMPORARY / f"{name.replace('/', '-')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    _sync(path)
