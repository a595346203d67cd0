"""Which storage this is: a name of its own, made once, that holds wherever it is mounted or moved to."""

from __future__ import annotations

import json
import re
import uuid

from raymc.specs.errors import StorageFault
from raymc.store.objects import Objects

FILE = "storage.json"


def identity(objects: Objects) -> str:
    """12 hex digits, the same for all who use the storage. Raises StorageFault."""
    for _ in range(2):
        content = objects.get(FILE)
        if content is not None:
            own = _id(content)
            if own is None:
                raise StorageFault(f"storage {objects.uri}: {FILE} can't be read; move it away")
            return own
        objects.create(FILE, json.dumps({"id": uuid.uuid4().hex[:12]}).encode())
    raise StorageFault(f"storage {objects.uri}: {FILE} was made and isn't there")


def _id(content: bytes) -> str | None:
    try:
        own = str(json.loads(content)["id"])
    except (ValueError, KeyError, TypeError):
        return None
    return own if re.fullmatch("[0-9a-f]{12}", own) else None
