"""What tests of a run's parts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raymc.connectivity.pairs import Connections
from raymc.specs.progress import Progress
from raymc.specs.sweep import SweepSpec
from raymc.store.store import Store
from raymc.sweep.state import State


@pytest.fixture
def state_of(tmp_path: Path) -> Callable[[SweepSpec, Progress], State]:
    """state_of(spec, progress): a run whose minima are there, as far as their manifests tell; all in one storage."""

    def make(spec: SweepSpec, progress: Progress) -> State:
        points = {point.trial.key: point for point in spec.points}
        store = Store(tmp_path / "store")
        store.prepare()
        for key in points:
            if not store.has("minima", key):
                with store.create("minima", key) as folder:
                    (folder / "model.safetensors").write_bytes(key.encode())
        return State(spec, points, store, Connections(spec, store, points), progress, None, False)

    return make
