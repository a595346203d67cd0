"""An S3 server on loopback, and machines that share a storage on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymc.store.store import Store


@pytest.fixture
def uri(s3: Any, request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{abs(hash(request.node.nodeid)):x}"


@pytest.fixture
def machine(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
    """machine("a"): the storage as a new process on that machine sees it."""

    def go(name: str) -> Store:
        monkeypatch.setenv("RAYMC_CACHE", str(tmp_path / name))
        return Store(uri)

    return go
