"""The end of a run's scratch folders: on which machines."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raymc.runtime import scratch
from raymc.store.store import Store


@pytest.fixture
def cancelled() -> list[str]:
    """Nodes that didn't answer in time."""
    return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, cancelled: list[str]) -> list[tuple[str, str]]:
    """(node, folder) of what was run elsewhere, in a cluster of four nodes of which `bb` is this one, `cc` silent."""
    found: list[tuple[str, str]] = []

    def options(num_cpus: float, max_retries: int, scheduling_strategy: Any) -> Any:
        assert (num_cpus, scheduling_strategy.soft) == (0, False)

        def remote(folder: str) -> str:
            found.append((scheduling_strategy.node_id, folder))
            return scheduling_strategy.node_id

        return SimpleNamespace(remote=remote)

    nodes = [{"NodeID": one * 28, "Alive": one != "dd"} for one in ("aa", "bb", "cc", "dd")]
    ray = SimpleNamespace(
        is_initialized=lambda: True,
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "bb" * 28),
        nodes=lambda: nodes,
        remote=lambda function: SimpleNamespace(options=options),
        wait=lambda calls, num_returns, timeout: (
            [call for call in calls if call != "cc" * 28],
            [call for call in calls if call == "cc" * 28],
        ),
        cancel=cancelled.append,
    )
    monkeypatch.setattr(scratch, "ray", ray)
    return found


def test_a_scratch_folder_ends_on_all_machines_that_made_their_own(tmp_path, asked, cancelled, monkeypatch):
    monkeypatch.setenv("RAYMC_CACHE", str(tmp_path))
    store = Store("s3://bucket/prefix")
    folder = store.scratch("tokens")
    folder.mkdir()
    try:
        scratch.clear(str(folder), store, elsewhere=False)
        assert not folder.exists()
        assert asked == []
        folder.mkdir()
        scratch.clear(str(folder), store)
        assert not folder.exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert asked == [("aa" * 28, str(folder)), ("cc" * 28, str(folder))]
    assert cancelled == ["cc" * 28]


def test_in_a_shared_folder_it_ends_once(tmp_path: Path, asked):
    store = Store(tmp_path)
    folder = store.scratch("tokens")
    folder.mkdir(parents=True)
    scratch.clear(str(folder), store)
    assert not folder.exists()
    assert asked == []
