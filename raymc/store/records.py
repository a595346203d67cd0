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

_DIFFERS = "it is not what was written (SHA-256 differs)"


class Records(Files):
    """The records of a storage. Of several of a name the last counts; one in a batch comes after one in a file."""

    def __init__(self, uri: str | Path):
        super().__init__(uri)
        self._indexes: dict[tuple[str, str], batches.Index] = {}

    def put(self, kind: str, group: str, name: str, body: dict[str, Any]) -> None:
        """Write one JSON record with its hash, atomically. It takes the place of an earlier one of that name."""
        if self._index(kind, group).find(name) is not None:
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
        return self._index(kind, group).find(name)

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

    def mend(self, kind: str) -> list[CorruptArtefact]:
        """Of the groups of a kind that were looked at, what is wrong with whole batches: their lists of records.

        Such a file is set aside, its whole records are kept in another; what else it had is no longer there.
        """
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
        target = self.root / layout.SET_ASIDE / f"{kind}-{key.replace('/', '-')}-{time.strftime('%Y%m%dT%H%M%S')}"
        target = target.with_name(f"{target.name}-{uuid.uuid4().hex[:6]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        path, group, name = self.folder(kind, key), str(Path(key).parent), Path(key).name
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
