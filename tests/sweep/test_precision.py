"""What a run decides on its precision: by how much is left, what was decided before, and what a sample says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from raymc.runtime.cluster import Shape
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.precision import Decision
from raymc.specs.progress import Silent
from raymc.specs.sweep import SweepSpec
from raymc.sweep import precision
from raymc.sweep.precision import decide, spread, stay, work
from raymc.sweep.state import State

SHAPE = Shape(1.0, 0.0)
ORDERS = [0, 1, 2, 3]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def start(state_of: Callable[..., State]):
    """start(orders, **connectivity): a run of a sweep whose minima are there, as far as their manifests tell."""

    def make(orders: list[int] = ORDERS, name: str = "some", hidden: int = 64, **connectivity: Any) -> State:
        body = {
            "name": name,
            "model": {"backbone": {"builtin": "grammar-bert", "hidden_size": hidden}},
            "task": {"dataset": {"builtin": "grammar", "validation_rows": 100, "test_rows": 50}, "max_length": 16},
            "train": {"steps": 10},
            "axes": {"seeds.order": orders},
            "connectivity": {"points": 12, **connectivity},
        }
        spec = SweepSpec.model_validate(body)
        return state_of(spec, Said())

    return make


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked to be measured; every part is found to be good in bf16."""
    asked: list[Any] = []

    def found(state: State, shape: Shape, parts: list[Any]) -> dict[str, Decision]:
        asked.append((state.connections.decisions.begun, parts))
        good = {"precision": "bf16", "reason": "good", "tolerance": 1e-3, "drift": 1e-4, "bound": 2e-4}
        return {part.key: Decision.model_validate(good) for part in parts}

    monkeypatch.setattr(precision, "_measured", found)
    return asked


def test_small_work_is_fp32_without_a_look(start, probes):
    state = start()
    assert not decide(state, SHAPE)
    decision = state.connections.decisions.decision
    assert decision.precision == "fp32"
    assert decision.reason.startswith("small work: ")
    assert decision.reason.endswith("floating-point operations, less than 1e+13")
    assert probes == []
    assert not decide(start(), SHAPE, small_work=0.0)  # gone on with: it is decided
    assert not decide(start([*ORDERS, 4, 5]), SHAPE, small_work=0.0)  # grown
    assert probes == []
    assert start([*ORDERS, 4, 5]).connections.decisions.decision == decision


def test_the_work_is_two_operations_a_weight_and_token(start):
    state = start()
    weights = 2 * (4 * 64**2 + 2 * 64 * 128)  # grammar-bert's two layers
    lines = [" ".join(row.split()) for row in _lines(state)]
    tokens = sum(min(16, 2 + 1.35 * len(line.split())) for line in lines)
    assert work(state, 7.0) == pytest.approx(2 * weights * tokens * 7)
    passes, total = state.connections.forward_passes(set(state.points))
    assert passes == total == 4 + 6 * 10


def _lines(state: State) -> list[str]:
    from raymc.tasks.rows import read_rows

    return list(read_rows(state.spec.task, "validation").text)


def test_large_work_is_measured_once_and_by_every_sweep_gone_on_with(start, probes):
    state = start()
    assert not decide(state, SHAPE, small_work=0.0)
    assert state.connections.precision == "bf16"
    ((begun, (part,)),) = probes
    assert not begun
    assert part.split == "validation"
    assert len(part.points) == 3
    assert len({(task.a, task.b) for task, _ in part.points}) == 3
    assert {t for _, t in part.points} == {0.0, 0.25, 0.5}
    assert state.seconds["precision"] > 0
    for again in (start(), start([*ORDERS, 4]), start(name="other")):
        assert not decide(again, SHAPE, small_work=0.0)
        assert again.connections.precision == "bf16"
    assert len(probes) == 1


def test_of_two_runs_at_once_the_first_measures_for_both(start, monkeypatch):
    one, other = start(), start(name="other")
    assert other.connections.decisions.undecided()
    waits = threading.Event()
    other.claims.say = lambda line: waits.set()
    second = threading.Thread(target=decide, args=(other, SHAPE, 0.0))
    good = Decision(precision="bf16", reason="good", tolerance=1e-3, drift=1e-4, bound=2e-4)

    def found(state: State, shape: Shape, parts: list[Any]) -> dict[str, Decision]:
        assert state is one
        second.start()
        assert waits.wait(10)
        return {part.key: good for part in parts}

    monkeypatch.setattr(precision, "_measured", found)
    decide(one, SHAPE, small_work=0.0)
    second.join(10)
    assert one.connections.decisions.decision == other.connections.decisions.decision == good


def test_a_matrix_in_bf16_that_grows_by_rows_has_their_drift_measured(start, probes):
    decide(start(), SHAPE, small_work=0.0)
    grown = start(splits=["validation", "test"])
    assert not decide(grown, SHAPE)  # however little is left
    begun, parts = probes[-1]
    assert begun
    assert [part.split for part in parts] == ["test"]
    assert grown.connections.precision == "bf16"
    assert grown.connections.decisions.undecided() == []


def test_a_matrix_in_fp32_that_grows_by_rows_stays_so(start, probes):
    decide(start(), SHAPE)
    grown = start(splits=["validation", "test"])
    assert not decide(grown, SHAPE, small_work=0.0)
    assert grown.connections.precision == "fp32"
    assert probes == []


def test_what_a_spec_names_is_not_decided(start, probes):
    assert not decide(start(precision="bf16"), SHAPE, small_work=0.0)
    assert probes == []


def test_most_of_it_done_in_fp32_is_gone_on_with(start, probes, monkeypatch):
    state = start()
    monkeypatch.setattr(state.connections, "forward_passes", lambda keys: (30, 64))
    decide(state, SHAPE, small_work=0.0)
    assert state.connections.decisions.decision.reason == "34 of 64 passes were there in fp32 already"
    assert probes == []


def test_what_was_there_in_fp32_stays_so_whatever_others_find(start, probes):
    stay(start().connections)
    decide(start(name="other"), SHAPE, small_work=0.0)
    assert start(name="other").connections.precision == "bf16"
    assert start().connections.decisions.decision.told == "fp32 (all of it was there in fp32 already)"
    stay(start(name="other").connections)
    assert start(name="other").connections.precision == "bf16"


def test_without_paths_nothing_is_decided(start, probes):
    state = start([0])
    assert not decide(state, SHAPE, small_work=0.0)
    assert probes == []
    assert not state.connections.decisions.begun


def test_a_stopped_run_decides_nothing(start, probes):
    state = start()
    state.stop.set()
    assert not decide(state, SHAPE, small_work=0.0)
    assert not state.connections.decisions.begun


def test_what_is_damaged_is_set_aside_and_what_fails_is_fp32(start, monkeypatch):
    from raymc.runtime import probe

    state = start()
    key = min(state.points)
    (state.store.folder("minima", key) / "model.safetensors").write_bytes(b"other")

    def damaged(*arguments: Any) -> Any:
        raise CorruptArtefact("minima", key, "gone")

    monkeypatch.setattr(probe, "probe", damaged)
    assert decide(state, SHAPE, small_work=0.0)
    assert key not in state.whole()

    def failed(*arguments: Any) -> Any:
        raise RaymcError("its worker died")

    monkeypatch.setattr(probe, "probe", failed)
    assert not decide(state, SHAPE, small_work=0.0)
    assert state.connections.decisions.decision.told == "fp32 (its worker died)"


def test_points_are_spread_over_the_paths_and_never_twice():
    tasks: Any = ["a", "b", "c", "d", "e", "f", "g"]
    assert spread(tasks, 3) == (("a", 0.5), ("c", 0.0), ("e", 0.25))
    assert spread(tasks[:1], 9) == (("a", 0.5), ("a", 0.0), ("a", 0.25))
    assert all(len(set(spread(tasks[:n], 9))) == min(9, 3 * n) for n in range(1, 8))
