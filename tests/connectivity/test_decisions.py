"""The precision of a sweep by its store: as asked for, decided, gone on with, grown."""

from __future__ import annotations

from typing import Any

import pytest

from raymc.connectivity.pairs import Connections
from raymc.specs.precision import Decision
from raymc.specs.sweep import Point
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store

SMALL = Decision(precision="fp32", reason="small work", tolerance=1e-3)
SLOW = SMALL.model_copy(update={"reason": "slow", "drift": 1e-4, "bound": 2e-4})
GOOD = SLOW.model_copy(update={"precision": "bf16", "reason": "good"})
BAD = SMALL.model_copy(update={"reason": "bad", "drift": 2e-3, "bound": 3e-3})


@pytest.fixture
def full(keys, trials) -> dict[str, TrialSpec]:
    return {key: trials[key] for key in keys["full"]}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def named(sweep):
    def make(store: Store, trials: dict[str, TrialSpec], name: str = "tiny", **connectivity: Any) -> Connections:
        points = {key: Point({}, trial) for key, trial in trials.items()}
        return Connections(sweep(name=name, connectivity=connectivity), store, points)

    return make


def group(connections: Connections, split: str = "validation") -> tuple[str, str]:
    return connections.evaluation_key(split, "weights"), connections.profile_key(split, "weights", "linear")


def decide(connections: Connections, decision: Decision) -> None:
    for part in connections.decisions.undecided():
        connections.decisions.put(part, decision)


def test_what_a_spec_names_is_computed_in(store, full, named):
    for precision in ("fp32", "bf16"):
        found = named(store, full, precision=precision)
        assert found.precision == precision
        assert found.decisions.undecided() == []
        assert found.decisions.begun
        assert found.decisions.decision.told == f"{precision} (as the spec says)"


def test_until_it_is_decided_it_is_fp32(store, full, named):
    found, plain = named(store, full), named(store, full, precision="fp32")
    assert not found.decisions.begun
    assert len(found.decisions.undecided()) == 1
    assert found.precision == "fp32"
    assert group(found) == group(plain)


@pytest.mark.parametrize(("decision", "precision"), [(GOOD, "bf16"), (BAD, "fp32"), (SLOW, "fp32"), (SMALL, "fp32")])
def test_a_decision_is_seen_at_once_and_its_results_are_those_of_an_explicit_one(
    store, full, named, decision, precision
):
    found = named(store, full)
    assert found.precision == "fp32"  # read before it is made
    decide(found, decision)
    for one in (found, named(store, full)):
        assert one.precision == precision
        assert one.decisions.decision == decision
        assert one.decisions.undecided() == []
        assert group(one) == group(named(store, full, precision=precision))
        assert {task.precision for task in one.missing_pairs(set())[0]} <= {precision}


def test_a_sweep_that_grows_goes_on(store, full, trials, named):
    first = dict(list(full.items())[:2])
    decide(named(store, first), GOOD)
    assert named(store, full).precision == "bf16"
    assert named(store, full).decisions.undecided() == []


@pytest.mark.parametrize(("decision", "others"), [(GOOD, "bf16"), (BAD, "fp32"), (SLOW, None), (SMALL, None)])
def test_what_was_measured_is_shared_and_what_is_of_one_sweep_is_not(store, full, named, decision, others):
    decide(named(store, full), decision)
    other = named(store, full, name="other")
    assert other.decisions.begun == (others is not None)
    assert other.precision == (others or "fp32")


def test_a_small_sweep_stays_in_fp32_whatever_others_find(store, full, named):
    decide(named(store, full), SMALL)
    decide(named(store, full, name="large"), GOOD)
    assert named(store, full).precision == "fp32"
    assert named(store, full, name="large").precision == named(store, full, name="third").precision == "bf16"


def test_new_rows_are_undecided_and_one_part_in_fp32_brings_all_there(store, full, named):
    decide(named(store, full), GOOD)
    both = named(store, full, splits=["validation", "test"])
    assert len(both.decisions.undecided()) == 1
    assert both.precision == "bf16"
    decide(both, BAD)
    assert both.precision == "fp32"
    assert both.decisions.decision.reason == "bad"
    assert named(store, full).precision == "bf16"  # whose rows are others


def test_parts_are_networks_row_sets_and_spaces(store, trials, named):
    found = named(
        store, trials, splits=["validation", "test"], curves=["linear", {"curve": "spherical", "space": "delta_w"}]
    )
    assert len(found.decisions.parts) == 2 * 2 * 2
    assert len(set(found.decisions.networks.values())) == 2


def test_another_tolerance_is_decided_anew(store, full, named):
    decide(named(store, full), GOOD)
    assert not named(store, full, precision={"auto": {"tolerance": 1e-4}}).decisions.begun


def test_a_record_that_cannot_be_read_is_as_if_it_were_not_there(store, full, named):
    decide(named(store, full), GOOD)
    (path,) = store.root.glob("precisions/*/*.json")
    path.write_text(path.read_text().replace("bf16", "fp16"))
    found = named(store, full)
    assert found.precision == "fp32"
    assert [error.kind for error in found.decisions.corrupt] == ["precisions"]
    decide(found, BAD)
    assert named(store, full).decisions.decision == BAD


def test_the_first_decision_stays(store, full, named):
    one, other = named(store, full), named(store, full)
    assert one.decisions.undecided() == other.decisions.undecided() != []
    parts = other.decisions.undecided()
    decide(one, GOOD)
    for part in parts:
        other.decisions.put(part, BAD.model_copy(update={"drift": 2e-3}))
    assert other.decisions.decision == named(store, full).decisions.decision == GOOD
