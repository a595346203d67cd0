"""An S3 server on loopback, and machines that share a storage on it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymc.store.store import Store

SERVICES = Path(__file__).parents[1] / "services"


@pytest.fixture(scope="session")
def _server() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("s3_server", SERVICES / "s3.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.S3().start()
    server.make_bucket("bucket")
    yield server
    server.stop()


@pytest.fixture
def s3(_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, with its credentials in the environment; it has an empty bucket "bucket" to each test's prefix."""
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    return _server


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
