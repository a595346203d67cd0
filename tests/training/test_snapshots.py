"""Snapshots of one run: the state at a step is the same whatever else is kept, and wherever the run was stopped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.training.checkpoint import Checkpoints
from raymc.training.finetune import finetune
from raymc.training.loop import Recipe, Report, train
from raymc.training.parallel import Group

STEPS = 9
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw"},
    "adafactor": {"optimizer": "adafactor"},
    "sgd": {"optimizer": "sgd"},
    "sgd without momentum": {"optimizer": "sgd", "momentum": 0.0},
}
Kept = dict[int, tuple[dict[str, torch.Tensor], list[dict[str, float]]]]


class Stopped(Exception):
    pass


class Noisy:
    """Squares of a linear model whose inputs are dropped at random."""

    def __init__(self) -> None:
        stream = np.random.default_rng(0)
        self.x = torch.from_numpy(stream.standard_normal((STEPS, 4, 3)).astype(np.float32))

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        return {"x": self.x[step], "attention_mask": torch.ones(4, 1)}, 4

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (model(torch.nn.functional.dropout(batch["x"])) - 1).square().sum()


def run(
    steps: Iterable[int],
    checkpoints: Checkpoints | None = None,
    stop: int | None = None,
    log_every: int = 1,
    report: Report = lambda _: None,
    **fields: Any,
) -> Kept:
    """What was kept at `steps`, up to the report of `stop`."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2))
    kept: Kept = {}

    def keep(step: int):
        def keep(wrapped: Any, curve: list[dict[str, float]]) -> None:
            kept[step] = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}, list(curve)
            wrapped.eval()  # what is done to a model to store it
            torch.rand(7)
            wrapped.train()

        return keep

    def stopping(point: dict[str, float]) -> None:
        report(point)
        if point["step"] == stop:
            raise Stopped

    recipe = Recipe(steps=STEPS, learning_rate=0.05, log_every=log_every, **fields)
    try:
        train(model, Noisy(), recipe, Group(), checkpoints, stopping, {step: keep(step) for step in steps})
    except Stopped:
        assert stop is not None
    return kept


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def every() -> Kept:
    """All states of a run."""
    return run(range(STEPS + 1))


def test_a_snapshot_is_the_state_after_so_many_updates(every):
    """Of a run of which nothing else was kept; and all differ, so that the comparison says something."""
    for step in range(STEPS + 1):
        ((state, curve),) = run([step]).values()
        assert same(state, every[step][0])
        assert [point["step"] for point in curve] == list(range(1, step + 1))
    assert not any(same(every[step][0], every[step + 1][0]) for step in range(STEPS))


@given(st.sets(st.integers(0, STEPS), min_size=1), st.integers(1, STEPS + 3))
def test_any_snapshots_at_any_points_of_the_curve(every, steps: set[int], log_every: int):
    reported: list[dict[str, float]] = []
    kept = run(steps, log_every=log_every, report=reported.append)
    last = max(steps)
    points = [step for step in range(1, last + 1) if step % log_every == 0 or step == STEPS]
    assert [point["step"] for point in reported] == points
    assert kept.keys() == steps
    losses = [point["loss"] for point in every[STEPS][1]]
    for step, (state, curve) in kept.items():
        assert same(state, every[step][0])
        before = [point for point in points if point < step]
        assert [point["step"] for point in curve] == [*before, step][: None if step else 0]
        for start, point in zip([0, *before], curve, strict=False):
            assert point["loss"] == pytest.approx(np.mean(losses[start : int(point["step"])]), rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stop", [2, 3, 5, 8])
@pytest.mark.parametrize("due", [0, 1])
def test_stopped_anywhere_the_snapshots_that_are_left_are_the_same(store, name: str, stop: int, due: int):
    """Snapshots at 3, 5 and 8, stopped; then those from the `due`-th on that weren't kept, or were lost again."""
    whole = run([3, 5, 8], **OPTIMIZERS[name])
    checkpoints = Checkpoints(store, "run", 1)
    first = run([3, 5, 8], checkpoints, stop, **OPTIMIZERS[name])
    assert first.keys() == {step for step in (3, 5, 8) if step <= stop}
    left = [step for step in (3, 5, 8) if step not in first or step == (3, 5)[due]]
    seen: list[dict[str, float]] = []
    rest = run(left, checkpoints, report=seen.append, **OPTIMIZERS[name])
    assert rest.keys() == set(left)
    for step, (state, curve) in (first | rest).items():
        assert same(state, whole[step][0])
        assert curve == whole[step][1]
    before = stop - 1 if stop - 1 < min(left, default=0) else 0  # the newest checkpoint, if it is not too late
    assert [point["step"] for point in seen] == list(range(before + 1, max(left, default=0) + 1))


def test_a_checkpoint_past_a_lost_snapshot_is_used_for_the_next(store):
    """One of step 6 says nothing of step 3, which is trained again from the start; step 8 goes on from it."""
    whole = run([3, 8])
    checkpoints = Checkpoints(store, "run", 1)
    run([3, 8], checkpoints, stop=7)
    assert [path.name for path in store.folder(layout.CHECKPOINTS, "run").iterdir()] == ["step-000000006"]
    seen: list[dict[str, float]] = []
    assert same(run([3], checkpoints, report=seen.append)[3][0], whole[3][0])
    assert [point["step"] for point in seen] == [1, 2, 3]
    seen.clear()
    assert same(run([8], checkpoints, report=seen.append)[8][0], whole[8][0])
    assert [point["step"] for point in seen] == [7, 8]


def weights(store: Store, spec: TrialSpec) -> dict[str, torch.Tensor]:
    return load_file(store.folder(layout.MINIMA, spec.key) / "model.safetensors")


def test_minima_of_one_trajectory_are_those_of_runs_of_their_own(trial, store, tmp_path):
    """The schedule is that of the whole run, and only what the store lacks is made."""
    specs = [trial(train={"steps": 5, "dropout": 0.2, "snapshot": step}) for step in (2, 4, None)]
    assert len({spec.trajectory for spec in specs}) == 1
    options: dict[str, Any] = {"checkpoint_every": 1, "log_every": 3}
    seen: list[int] = []

    def report(point: dict[str, float]) -> None:
        seen.append(int(point["step"]))

    finetune(specs[1:2], store, Group(), **options, report=report)
    assert seen == [3]  # it ends at 4
    finetune(specs, store, Group(), **options, report=report)
    for i, spec in enumerate(specs):
        alone = Store(tmp_path / str(i))
        finetune([spec], alone, Group(), **options, report=report)
        assert same(weights(alone, spec), weights(store, spec))
        body = store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE)
        assert (body["steps"], body["key"]) == ((2, 4, 5)[i], spec.key)
    assert not store.folder(layout.CHECKPOINTS, specs[0].trajectory).exists()
    shorter = trial(train={"steps": 4, "dropout": 0.2})
    finetune([shorter], store, Group(), **options, report=report)
    assert not same(weights(store, shorter), weights(store, specs[1]))  # for its rate falls faster
