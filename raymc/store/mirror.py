"""What a machine holds of a storage that is beyond its disk: a folder that looks like a storage folder.

In object storage, below the storage's prefix, things lie as raymc.store.layout says, but for artefact folders:

KIND/KEY/ATTEMPT/...       a folder's files; writers of the same key don't meet, as each attempt has its own name
manifests/KIND/KEY.json    its manifest, made last and once: the folder is whole, and lies at that attempt
set-aside/...              what failed its hash

Objects without a manifest are of attempts that were killed; who finishes the same key removes those of a day ago.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from raymc.specs.errors import CorruptArtefact
from raymc.store import layout
from raymc.store.objects import Entry, Objects

_TOGETHER = 16  # transfers at once
_LISTED_SECONDS = 5.0  # how long a listing is believed about what it lacks; what it has stays
_COARSE_SECONDS = 2.0  # a storage's times are whole seconds: a copy as young as that may be of an earlier version
_LEFT = timedelta(days=1)  # age from which on objects without a manifest are of a killed process


class Mirror:
    """The mirror of a storage in a folder of this machine; any number of processes use it at once."""

    def __init__(self, root: Path, objects: Objects):
        self.root, self.objects = root, objects
        self._known: set[tuple[str, str]] = set()  # artefacts whose manifest was looked at and is in the mirror
        self._here: set[tuple[str, str]] = set()  # artefacts whose files are in the mirror too
        self._listed: dict[tuple[str, str], tuple[float, dict[str, Entry]]] = {}  # by kind and group

    # Artefact folders -------------------------------------------------------------------------------------------

    def manifest(self, kind: str, key: str) -> Path | None:
        """The manifest of a whole folder, None where there is none."""
        path = self.root / _manifest(kind, key)
        if (kind, key) not in self._known:
            content = self.objects.get(_manifest(kind, key))
            if content is None:
                return None
            _replace(path, content)
            self._known.add((kind, key))
        return path

    def keys(self, kind: str) -> set[str]:
        """Keys of all whole folders of a kind, as of now; their manifests are fetched, as far as they are new."""
        prefix = f"{layout.MANIFESTS}/{kind}"
        entries = self.objects.entries(prefix)
        new = [entry for entry in entries if not _same(self.root / entry.name, entry)]
        self._fetch(new)
        keys = {entry.name[len(prefix) + 1 : -5] for entry in entries}
        changed = {(kind, entry.name[len(prefix) + 1 : -5]) for entry in new}
        self._here = {one for one in self._here if one[0] != kind or (one[1] in keys and one not in changed)}
        self._known = {one for one in self._known if one[0] != kind} | {(kind, key) for key in keys}
        return keys

    def below(self, kind: str, key: str) -> list[str]:
        """Names of the whole folders right below KIND/KEY."""
        prefix = f"{layout.MANIFESTS}/{kind}/{key}"
        rest = (name[len(prefix) + 1 : -5] for name in self.objects.list(prefix))
        return sorted({name.split("/")[0] for name in rest})

    def folder(self, kind: str, key: str) -> Path:
        """The folder of an artefact, fetched where this machine doesn't have it; it isn't there where there is none.

        Raises CorruptArtefact where what the storage has isn't what was written.
        """
        place = self.root / kind / key
        if (kind, key) not in self._here:
            manifest = self.manifest(kind, key)
            if manifest is None:
                if (place / layout.MANIFEST).exists():  # another machine has set it aside
                    shutil.rmtree(place, ignore_errors=True)
                return place
            content = manifest.read_bytes()
            with self._lock(kind, key):
                if _content(place / layout.MANIFEST) != content:
                    self._download(kind, key, content, place)
            self._here.add((kind, key))
        return place

    def renew(self, kind: str, key: str) -> Path:
        """As folder, fetched from the storage whatever this machine has: the old copy stays until the new is whole."""
        while True:
            self.forget(kind, key)
            manifest = self.manifest(kind, key)
            if manifest is None:
                return self.folder(kind, key)
            content, place = manifest.read_bytes(), self.root / kind / key
            try:
                with self._lock(kind, key):
                    self._download(kind, key, content, place)
            except CorruptArtefact:
                if self.objects.get(_manifest(kind, key)) == content:  # else it was made anew meanwhile
                    raise
            else:
                self._here.add((kind, key))
                return place

    def file(self, kind: str, key: str, name: str) -> bytes | None:
        """One file of a folder as the storage has it, None where it is missing. Not checked."""
        manifest = self.manifest(kind, key)
        if manifest is None:
            return None
        return self.objects.get(f"{kind}/{key}/{_parsed(kind, key, manifest.read_bytes())['at']}/{name}")

    def publish(self, kind: str, key: str, made: Path, manifest: dict[str, Any]) -> None:
        """Upload a folder that was made under another name, and give it its place here; the manifest goes last.

        Where another process has finished the same key, that stays.
        """
        at = uuid.uuid4().hex[:12]
        home = f"{kind}/{key}/{at}"
        with ThreadPoolExecutor(_TOGETHER) as several:
            list(several.map(lambda name: self.objects.upload(f"{home}/{name}", made / name), manifest["files"]))
        content = json.dumps({**manifest, "at": at}, indent=1).encode()
        first = self.objects.create(_manifest(kind, key), content)
        self._sweep(f"{kind}/{key}", home, first)
        self.forget(kind, key)
        if not first:
            return
        (made / layout.MANIFEST).write_bytes(content)
        _replace(self.root / _manifest(kind, key), content)
        with self._lock(kind, key):
            place = self.root / kind / key
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            made.rename(place)
        self._known.add((kind, key))
        self._here.add((kind, key))

    def _sweep(self, prefix: str, home: str, whole: bool) -> None:
        """Remove an attempt's objects unless it is the whole one, else those of others that were killed long ago."""
        entries = self.objects.entries(prefix)
        now = max((entry.changed for entry in entries), default=datetime.min)  # by the storage's clock
        for entry in entries:
            mine = entry.name.startswith(f"{home}/")
            if mine != whole and (mine or now - entry.changed > _LEFT):
                self.objects.delete(entry.name)

    def discard(self, kind: str, key: str) -> None:
        """Remove a folder and all below it; its manifest goes first."""
        self.objects.delete(_manifest(kind, key))
        for prefix in (f"{layout.MANIFESTS}/{kind}/{key}", f"{kind}/{key}"):
            self._each(self.objects.delete, self.objects.list(prefix))
        self.forget(kind, key)

    def put_aside(self, kind: str, key: str, target: str) -> None:
        """Move an artefact in the storage out of the way; its manifest goes first."""
        manifest = self.objects.get(_manifest(kind, key))
        if manifest is not None:
            self.objects.put(f"{target}/{layout.MANIFEST}", manifest)
            self.objects.delete(_manifest(kind, key))
            home = f"{kind}/{key}"
            with contextlib.suppress(CorruptArtefact):  # else all that is there, as nobody knows which attempt it was
                home += f"/{_parsed(kind, key, manifest)['at']}"  # another attempt may be on its way up
            moved, start = self.objects.list(home), len(f"{kind}/{key}")
            self._each(lambda name: self.objects.move(name, target + name[start:]), moved)
        self.forget(kind, key)

    def forget(self, kind: str, key: str) -> None:
        """The storage is asked about this artefact, and those below it, when it is needed again."""
        for known in (self._known, self._here):
            known -= {one for one in known if one[0] == kind and (one[1] + "/").startswith(key + "/")}

    def _download(self, kind: str, key: str, content: bytes, place: Path) -> None:
        manifest = _parsed(kind, key, content)
        temporary = self.root / layout.TEMPORARY / f"{key.replace('/', '-')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

        def fetch(name: str) -> str:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            return self.objects.download(f"{kind}/{key}/{manifest['at']}/{name}", temporary / name)

        try:
            temporary.mkdir(parents=True)
            with ThreadPoolExecutor(_TOGETHER) as several:
                found = dict(zip(manifest["files"], several.map(fetch, manifest["files"]), strict=True))
            for name, entry in manifest["files"].items():
                if found[name] != entry["sha256"]:
                    reason = "is not what was written (SHA-256 differs)" if found[name] else "is missing"
                    raise CorruptArtefact(kind, key, f"{name} {reason}")
            (temporary / layout.MANIFEST).write_bytes(content)
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self, kind: str, key: str) -> Iterator[None]:
        """One process of this machine at a time fetches an artefact."""
        from filelock import FileLock

        path = self.root / layout.LOCKS / f"{kind}-{key.replace('/', '-')}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    # Files of groups ----------------------------------------------------------------------------------------------

    def again(self) -> None:
        """Listings so far are no longer believed."""
        self._listed = {one: (0.0, names) for one, (_, names) in self._listed.items()}

    def outdated(self, kind: str, group: str, lacking: bool) -> bool:
        """Whether a group is to be listed anew; one that something is lacking in, every few seconds."""
        at = self._listed.get((kind, group), (0.0, {}))[0]
        return at == 0.0 or (lacking and time.monotonic() - at > _LISTED_SECONDS)

    def has_file(self, kind: str, group: str, name: str) -> bool:
        known = self._listed.get((kind, group), (0.0, {}))[1]
        if self.outdated(kind, group, name not in known):
            known = self._list(kind, group)
        return name in known

    def records(self, kind: str, group: str) -> None:
        """Fetch the files of records that the mirror lacks, and drop those that the storage no longer has."""
        home = self.root / kind / group
        held = _files(home)  # before the listing: each of them was in the storage by now
        names = self._list(kind, group)
        self._fetch(entry for name, entry in names.items() if name not in held or not _same(home / name, entry))
        for name in held - names.keys():
            (home / name).unlink(missing_ok=True)

    def _list(self, kind: str, group: str) -> dict[str, Entry]:
        now, prefix = time.monotonic(), f"{kind}/{group}"
        found = {entry.name[len(prefix) + 1 :]: entry for entry in self.objects.entries(prefix)}
        names = {name: entry for name, entry in found.items() if "/" not in name}
        self._listed[kind, group] = now, names
        return names

    def fetch(self, kind: str, group: str, name: str) -> bool:
        """Fetch one file of a group anew; whether the storage has it."""
        content = self.objects.get(f"{kind}/{group}/{name}")
        if content is None:
            return False
        _replace(self.root / kind / group / name, content)
        return True

    def wrote(self, name: str) -> None:
        """A file was put into the storage by this process: listings know of it."""
        kind, _, rest = name.partition("/")
        group, _, file = rest.rpartition("/")
        if (kind, group) in self._listed:
            self._listed[kind, group][1][file] = Entry(name, -1, datetime.min, None)

    def _fetch(self, entries: Iterable[Entry]) -> None:
        def fetch(entry: Entry) -> None:
            content = self.objects.get(entry.name)
            if content is not None:  # else it was taken away meanwhile
                _replace(self.root / entry.name, content, entry.changed.timestamp())

        self._each(fetch, list(entries))

    def _each(self, call: Any, items: list[Any]) -> None:
        if len(items) < 2:
            for item in items:
                call(item)
            return
        with ThreadPoolExecutor(_TOGETHER) as several:
            list(several.map(call, items))


def mirror_root(uri: str) -> Path:
    """The folder of a storage's mirror: below RAYMC_CACHE, else ~/.cache/raymc."""
    home = os.environ.get("RAYMC_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "raymc"
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    digest = hashlib.sha256(f"{uri}\n{server if uri.startswith('s3:') else ''}".encode()).hexdigest()[:16]
    return (Path(home).expanduser() / "stores" / digest).resolve()


def _manifest(kind: str, key: str) -> str:
    return f"{layout.MANIFESTS}/{kind}/{key}.json"


def _parsed(kind: str, key: str, content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
        _ = manifest["at"], manifest["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefact(kind, key, f"{layout.MANIFEST} can't be read") from error
    return manifest


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _files(home: Path) -> set[str]:
    try:
        with os.scandir(home) as entries:
            return {entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _same(path: Path, entry: Entry) -> bool:
    """Whether a file of the mirror is what the storage has: fetched from this state of it, or of its MD5."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    changed = entry.changed.timestamp()
    if stat.st_size != entry.size:
        return False
    if abs(stat.st_mtime - changed) < 1e-3 and stat.st_ctime - changed > _COARSE_SECONDS:
        return True
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if entry.tag is None or entry.tag.strip('"') != digest:
        return False  # or its tag is no MD5: fetched again, as its time may be that of two versions
    os.utime(path, (changed, changed))
    return True


def _replace(path: Path, content: bytes, changed: float | None = None) -> None:
    """Write a file of the mirror whole or not at all; no sync, as it can be fetched again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        if changed is not None:
            os.utime(temporary, (changed, changed))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
