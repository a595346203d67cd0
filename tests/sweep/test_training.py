"""What is left behind by the half of a run that trains: where its scratch folders are looked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raymc.runtime.cluster import Shape
from raymc.specs.errors import StorageFault
from raymc.specs.progress import Silent
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.sweep.state import State
from raymc.sweep.training import train

SPEC = {
    "name": "some",
    "model": {"backbone": {"builtin": "grammar-bert"}},
    "task": {"dataset": {"builtin": "grammar", "validation_rows": 100}, "max_length": 16},
    "train": {"steps": 10},
    "axes": {"seeds.order": [0, 1]},
    "tracking": {"enabled": False},
}


@pytest.mark.parametrize(
    ("lacks", "ends", "elsewhere"),
    [(False, None, False), (True, None, True), (True, "a stop", False), (True, "a fault", True)],
)
def test_other_machines_are_asked_only_where_something_was_trained_and_the_run_goes_on(
    state_of: Callable[..., State], monkeypatch: pytest.MonkeyPatch, lacks: bool, ends: str | None, elsewhere: bool
):
    state, asked, trained = state_of(SweepSpec.model_validate(SPEC), Silent()), [], []
    if lacks:
        state.store.discard(layout.MINIMA, next(iter(state.points)))

    def run_trials(trials: Any, *given: Any) -> dict[str, str]:
        trained.extend(trial.kind for trial in trials)
        if trials[0].kind == layout.MINIMA and ends == "a stop":
            state.stop.set()
        if trials[0].kind == layout.MINIMA and ends == "a fault":
            raise StorageFault("no room")
        return {}

    monkeypatch.setattr("raymc.runtime.search.run_trials", run_trials)
    monkeypatch.setattr("raymc.runtime.scratch.clear", lambda folder, store, elsewhere: asked.append(elsewhere))
    if ends == "a fault":
        with pytest.raises(StorageFault):
            train(state, Shape(1, 0), 1)
    else:
        train(state, Shape(1, 0), 1)
    assert (layout.MINIMA in trained) == lacks
    assert asked == [elsewhere]
