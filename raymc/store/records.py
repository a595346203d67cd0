"""JSON records of a storage by kind, group and name: one a file, or many in a batch, read alike."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymc.specs.errors import CorruptArtefact
from raymc.specs.keys import canonical
from raymc.store import batches, layout
from raymc.store.files import Files

FILES = (".json", ".jsonl", ".parquet")  # what is set aside as a file, not as a folder
_DIFFERS = "it is not what was written (SHA-256 differs)"


class Records(Files):
    """The records of a storage. Of several of a name the last counts; one in a batch comes after one in a file."""

    def __init__(self, uri: str | Path):
        super().__init__(uri)
        self._indexes: dict[tuple[str, str], batches.Index] = {}

    def put(self, kind: str, group: str, name: str, body: dict[str, Any]) -> None:
        """Write one JSON record with its hash, atomically. It takes the place of an earlier one of that name."""
        if self._place(kind, group, name) is not None:
            self.put_many(kind, group, {name: body})  # a file of its own would come before
            return
        path = self.root / kind / group / f"{name}.json"
        with self.timed():
            text = json.dumps({"sha256": hashlib.sha256(canonical(body).encode()).hexdigest(), "body": body}, indent=1)
            self.write_file(path, text.encode())

    def put_many(self, kind: str, group: str, bodies: Mapping[str, dict[str, Any]]) -> None:
        """Write records into one file, atomically. They take the places of earlier ones of their names.

        Raises RaymcError where it can't be written, ValueError on NaN.
        """
        if bodies:
            with self.timed():
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
        place = self._place(kind, group, name)
        try:
            return self._get(kind, group, name, place)
        except CorruptArtefact:
            file = place[0] if place is not None else f"{name}.json"
            if self.mirror is None or not self.mirror.fetch(kind, group, file):
                raise
            return self._get(kind, group, name, place)  # the mirror's copy was damaged, or the storage's is too

    def _get(self, kind: str, group: str, name: str, place: batches.Place | None) -> dict[str, Any]:
        try:
            if place is None:
                return self._get_single(kind, group, name)
            if place[-1]:
                return batches.read_record(self._indexes[kind, group].line(place), name)
        except FileNotFoundError:  # nowhere; or another process took the file away after its index was made
            if place is not None:
                self._indexes[kind, group].forget()
                return self.get(kind, group, name)
        except (OSError, ValueError) as error:
            reason = "it can't be read" if isinstance(error, OSError) else _DIFFERS
            raise CorruptArtefact(kind, f"{group}/{name}.json", reason) from error
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

    def place(self, kind: str, group: str, name: str) -> batches.Place | None:
        """Where in a batch a record lies now; what lies there never changes. None where it is in none."""
        return self._place(kind, group, name)

    def records(self, kind: str, group: str) -> set[str]:
        """Names of the records of a group; they are checked when they are read."""
        if self.mirror is not None:
            self._mirrored(kind, group)
        home, index = self.root / kind / group, self._index(kind, group)
        if not home.is_dir():
            return set()
        single = {entry.name[:-5] for entry in os.scandir(home) if entry.name.endswith(".json")}
        return index.names() | (single - index.known())

    def again(self) -> None:
        """Look anew at what object storage has, where other machines may have written since."""
        if self.mirror is not None:
            self.mirror.again()

    def _place(self, kind: str, group: str, name: str) -> batches.Place | None:
        """As place; a record that a mirror lacks is looked for in the storage, at most every few seconds."""
        found = self._index(kind, group).find(name)
        if self.mirror is not None:
            lacking = found is None and not (self.root / kind / group / f"{name}.json").exists()
            if self.mirror.outdated(kind, group, lacking):
                self._mirrored(kind, group)
                found = self._index(kind, group).find(name)
        return found

    def _mirrored(self, kind: str, group: str) -> None:
        assert self.mirror is not None
        with self._writing():
            self.mirror.records(kind, group)

    def _index(self, kind: str, group: str) -> batches.Index:
        """Where the records lie that are in batches, as of now."""
        known = self._indexes.setdefault((kind, group), batches.Index(self.root / kind / group))
        return known.refresh()

    def mend(self, kind: str) -> list[CorruptArtefact]:
        """Of the groups of a kind that were looked at, what is wrong with whole batches: their lists of records.

        Such a file is set aside, its whole records are kept in another; what else it had is no longer there.
        """
        for (one, group), index in self._indexes.items():
            if one == kind and self.mirror is not None and (damaged := index.refresh().damaged):
                for file in damaged:  # perhaps the mirror's copy alone
                    self.mirror.fetch(kind, group, file)
                index.forget()
        faults = [
            CorruptArtefact(kind, f"{group}/{file}", "the list of its records can't be read")
            for (one, group), index in self._indexes.items()
            if one == kind
            for file in index.refresh().damaged
        ]
        for fault in faults:
            self.set_aside(kind, fault.key)
        return faults

    # Set aside --------------------------------------------------------------------------------------------------

    def set_aside(self, kind: str, key: str) -> Path | None:
        """Move a folder or record out of the way; its new place, or None where it is gone already.

        `key`: of a record, GROUP/NAME.json, whichever file it is in; its neighbours stay. A batch whose list of records
        is damaged is GROUP/FILE.jsonl: its whole records stay.
        """
        target = self._aside(kind, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        path, group, name = self.root / kind / key, str(Path(key).parent), Path(key).name
        if self.mirror is not None and path.suffix in FILES:
            self.mirror.fetch(kind, group, name)  # what is set aside is the storage's, not an older copy
        with contextlib.suppress(FileNotFoundError):
            if path.suffix == batches.SUFFIX:
                self.write_file(*self._mended(path))
            elif path.suffix == ".json":
                self._take_out(kind, group, name.removesuffix(".json"), target)
            if self.mirror is not None and path.suffix in FILES:
                self.objects.move(self._name(path), self._name(target))
            path.unlink() if target.exists() else path.rename(target)
        return target if target.exists() else None

    def _file_is_damaged(self, kind: str, key: str) -> bool:
        """Whether set_aside has something to do: a record, or a file with its hash in its name, may be whole by now."""
        group, _, name = key.rpartition("/")
        with contextlib.suppress(CorruptArtefact, KeyError):
            if name.endswith(".json"):
                self.again()
                self.get(kind, group, name.removesuffix(".json"))
                return False
        with contextlib.suppress(OSError):
            content = self.read_file(self.root / kind / key)
            return not layout.is_named_by(name, hashlib.sha256(content).hexdigest())
        return True

    def _aside(self, kind: str, key: str) -> Path:
        name = f"{kind}-{key.replace('/', '-')}-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        return self.root / layout.SET_ASIDE / name

    def _mended(self, path: Path) -> tuple[Path, bytes]:
        name, content = batches.mended(path.read_bytes(), path.name)
        return path.with_name(name), content

    def _take_out(self, kind: str, group: str, name: str, target: Path) -> None:
        """Copy a record that is in a batch, and have it no longer found there."""
        place = self._place(kind, group, name)
        index = self._index(kind, group)
        if place is not None and place[-1]:
            self.write_file(target, index.line(place))
            self._put_lines(kind, group, {name: b""})
