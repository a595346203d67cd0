"""What a run does with what is found damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.progress import Progress, Silent
from raymc.specs.sweep import SweepSpec
from raymc.sweep.state import State

KIND, KEY = "minima", "0123456789abcdef0123"
FAULT = CorruptArtefact(KIND, KEY, "w.safetensors is not what was written")


def make(state: State) -> Path:
    with state.store.create(KIND, KEY) as folder:
        (folder / "w.safetensors").write_text("weights")
    return state.store.root / KIND / KEY / "w.safetensors"


@pytest.fixture
def states(state_of: Callable[[SweepSpec, Progress], State]) -> tuple[State, State]:
    """Two runs on one storage."""
    body = {
        "name": "tiny",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": {"dataset": {"builtin": "grammar"}},
    }
    one, other = (state_of(SweepSpec.model_validate(body), Silent()) for _ in range(2))
    assert one.store.root == other.store.root
    return one, other


def test_what_another_run_has_made_anew_stays(states: tuple[State, State]):
    one, late = states
    make(one).write_text("weighty")
    one.set_aside(FAULT)
    assert not one.store.has(KIND, KEY)
    path = make(one)
    late.set_aside(FAULT)
    assert path.read_text() == "weights"
    assert len(list((one.store.root / "set-aside").iterdir())) == 1


def test_what_is_whole_and_yet_found_damaged_each_time_ends_the_run(states: tuple[State, State]):
    state, _ = states
    make(state)
    state.set_aside(FAULT)
    state.set_aside(FAULT)
    with pytest.raises(RaymcError, match=r"minima/0123456789abcdef0123: .*3 times.*look at the disk and memory"):
        state.set_aside(FAULT)
    assert state.store.verify(KIND, KEY, deep=True)
