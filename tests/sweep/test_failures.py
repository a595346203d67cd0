"""What a run didn't bring about is told, with or without a reason."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from raymc.cli import main
from raymc.runtime import cluster
from raymc.specs.progress import Silent
from raymc.specs.sweep import SweepSpec
from raymc.sweep.failures import failures
from raymc.sweep.results import open_sweep
from raymc.sweep.state import State

SPEC = {
    "name": "some",
    "model": {"backbone": {"builtin": "grammar-bert"}},
    "task": {"dataset": {"builtin": "grammar", "validation_rows": 100}, "max_length": 16},
    "train": {"steps": 10},
    "axes": {"seeds.order": [0, 1, 2]},
    "tracking": {"enabled": False},
    "connectivity": {
        "points": 5,
        "splits": ["validation"],
        "planes": [{"name": "p", "through": ["order=0", "order=1", "order=2"], "points": 5}],
    },
}


def test_all_that_is_missing_is_told_once(state_of: Callable[..., State]):
    state = state_of(SweepSpec.model_validate(SPEC), Silent())
    a, b, c = state.points
    there, lacking = [a, b, c], [(a, b, "linear"), (a, c, "linear"), (b, c, "linear")]
    state.failed_minima[b] = "it can't be evaluated: why"
    state.failed_pairs[a, c, "linear"] = "no room"
    told = [(one["kind"], one["key"]) for one in failures(state, there, lacking)]
    assert told == [("minimum", b), ("pair", f"{a}-{c}"), ("plane", "p")]  # pairs of a failed end need no reason
    state.failed_minima.clear()
    told = failures(state, there, lacking)
    assert {one["key"] for one in told if one["kind"] == "pair"} == {f"{a}-{c}", f"{a}-{b}", f"{b}-{c}"}
    assert "run the sweep again" in next(one["reason"] for one in told if one["key"] == f"{a}-{b}")
    gone = failures(state, [a, c], [])
    assert [(one["kind"], one["name"]) for one in gone[:1]] == [("minimum", "order=1")]


@pytest.fixture
def vain(tmp_path, monkeypatch) -> tuple[list[str], Any]:
    """(arguments of a run that computes nothing, the module of runs)."""
    run = importlib.import_module("raymc.sweep.run")
    monkeypatch.setattr(cluster, "connect", lambda *_: contextlib.nullcontext(cluster.Cluster(((4.0, 0.0),))))
    monkeypatch.setattr(run, "train", lambda *_: False)
    monkeypatch.setattr(run, "decide", lambda *_: False)
    monkeypatch.setattr(run, "evaluate", lambda *_: True)
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(SPEC))
    return ["run", str(spec), "--storage", str(tmp_path / "store"), "--json"], run


def test_a_run_that_ends_without_what_it_should_have_made_does_not_end_well(vain, capsys):
    """As where weights turn out damaged in each round: nothing failed, and nothing is there."""
    assert main(vain[0]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["minima"]["failed"] == len(told["failures"]) == 3


def test_a_stop_waits_until_the_tables_are_written(vain, monkeypatch, tmp_path):
    arguments, run = vain
    write, before = run.write_sweep, signal.getsignal(signal.SIGTERM)

    def stopped(*what: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return write(*what)

    monkeypatch.setattr(run, "write_sweep", stopped)
    monkeypatch.setattr(run._Run, "_track", lambda *_: pytest.fail("a tracker may be waited for"))
    assert main(arguments) == 3
    assert len(open_sweep("some", storage=tmp_path / "store").minima()) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_stop_is_at_once(vain, monkeypatch):
    arguments, run = vain

    def stopped(*_: Any) -> None:
        for _twice in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run, "write_sweep", stopped)
    assert main(arguments) == 130
