"""AutoNEB: a pass of known height, pivots where they are needed, and a kill anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raymc.landscape.curves import arc_parameters
from raymc.specs.errors import TrainingFault
from raymc.specs.fitting import Fitting
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.bends import build_curve
from raymc.training.autoneb import autoneb
from raymc.training.checkpoint import Checkpoints
from raymc.training.curve_fit import fit_curve
from raymc.training.curve_steps import Fitted
from raymc.training.parallel import Group

ALONE = Group()


def relaxed(landscapes: Any, store: Store, settings: dict[str, Any], loss: Any = None, **fields: Any) -> Fitted:
    ground = landscapes.ground(
        {"x": 1, "y": 1}, [-1.0, 0.0], [1.0, 0.0], loss or landscapes.two_wells, chosen="select" in settings
    )
    how = landscapes.kinds("autoneb", settings, **fields)
    return autoneb(how, ground, ALONE, Checkpoints(store, "chain", 0), 10, lambda _: None)


def test_it_finds_the_pass(landscapes, store):
    """A pivot comes to lie on the saddle (0, 1), and the chain's highest point is about as high."""
    settings = {"steps": 40, "learning_rate": 0.15, "schedule": "cosine"}
    found = relaxed(landscapes, store, settings, cycles=4, insert=2, threshold=0.02)
    chain = [torch.tensor([-1.0, 0.0]), *found.bends, torch.tensor([1.0, 0.0])]
    nearest = min((pivot - torch.tensor([0.0, 1.0])).norm().item() for pivot in found.bends)
    assert nearest < 0.02
    assert found.at == tuple(arc_parameters(chain)[1:-1])
    ground = landscapes.ground({"x": 1, "y": 1}, [-1.0, 0.0], [1.0, 0.0], landscapes.two_wells)
    curve = build_curve(landscapes.kinds("autoneb", {}), ground.a, ground.b, list(found.bends), found.at)
    assert landscapes.highest(curve, landscapes.two_wells) == pytest.approx(landscapes.PASS, abs=1e-2)
    assert [len(one) for one in found.notes["inserted"]] == [2, 2, 2]  # none after the last cycle
    assert len(found.bends) == 7
    assert [point["step"] for point in found.training] == list(range(10, 161, 10))
    rates = [point["learning_rate"] for point in found.training if point["step"] % 40 == 10]
    assert np.diff(np.log2(rates)) == pytest.approx([-1, -1, -1])


def test_a_chain_that_is_low_gets_no_pivots(landscapes, store):
    found = relaxed(landscapes, store, {"steps": 3}, loss=lambda x: 0 * x[0], cycles=3)
    assert found.bends.tolist() == [[0.0, 0.0]]
    assert found.notes["inserted"] == [[], []]


def test_without_pressure_pivots_stay_on_their_shares_of_the_chain(landscapes, store):
    """A slope along the chain pulls no pivot: what is left of the gradient is perpendicular, and that is 0."""
    settings = {"steps": 5, "learning_rate": 0.1, "optimizer": "sgd"}
    found = relaxed(landscapes, store, settings, loss=lambda x: x[0], pivots=3, cycles=1)
    assert found.bends.flatten().tolist() == pytest.approx([-0.5, 0, 0, 0, 0.5, 0], abs=1e-6)


def test_a_step_is_that_of_the_pivots_own_gradient(landscapes, store):
    """SGD: each pivot moves by the rate times its gradient across the chain, whatever the number of pivots."""
    settings = {"steps": 1, "learning_rate": 0.01, "optimizer": "sgd", "clip_norm": None}
    found = relaxed(landscapes, store, settings, loss=lambda x: 3.0 * x[1] + x[0], pivots=4, cycles=1)
    assert found.bends[:, 1].tolist() == pytest.approx([-0.03] * 4, rel=0.06)  # then they slide along the chain


def test_the_best_of_all_cycles_is_kept(landscapes, store):
    settings = {"steps": 4, "learning_rate": 0.5, "select": "x", "select_every": 2, "select_at": [0.5]}
    found = relaxed(landscapes, store, settings, cycles=3)
    assert [step for step, _ in found.looks] == [0, 2, 4, 6, 8, 10, 12]
    best = min(found.looks, key=lambda look: look[1][0])
    assert found.step == best[0]
    ground = landscapes.ground({"x": 1, "y": 1}, [-1.0, 0.0], [1.0, 0.0], landscapes.two_wells)
    curve = build_curve(landscapes.kinds("autoneb", {}), ground.a, ground.b, list(found.bends), found.at)
    out = torch.zeros(2)
    curve.point(0.5, out)
    assert landscapes.two_wells(out).item() == pytest.approx(best[1][0], rel=1e-6)


def test_a_loss_that_is_not_finite_is_a_fault(landscapes, store):
    with pytest.raises(TrainingFault, match="not finite"):
        relaxed(landscapes, store, {"steps": 2}, loss=lambda x: x[0] / 0.0)


# Tiny transformers ---------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


@pytest.fixture
def fitting(minima, tmp_path: Path) -> Callable[..., tuple[Store, Fitting]]:
    """fitting(store's name, **fit): a copy of the store, and what to fit."""

    def make(name: str, **settings: Any) -> tuple[Store, Fitting]:
        master, trials = minima("full")
        shutil.copytree(master.root, tmp_path / name)
        how = {"curve": "autoneb", "cycles": 3, "insert": 1, "threshold": 1e-6}
        settings = {"steps": 3, "batch_size": 8, "learning_rate": 1e-2, **settings}
        body = {"a": trials[0].key, "b": trials[1].key, "space": "weights", "task": trials[0].task}
        spec = {**body, "kind": "classifier", "curve": {**how, "fit": settings}}
        return Store(tmp_path / name), Fitting.model_validate(spec)

    return make


def run(fitting: Fitting, store: Store, stop: int | None = None) -> list[int]:
    seen: list[int] = []

    def report(point: dict[str, float]) -> None:
        assert point["steps"] == 9
        seen.append(int(point["step"]))
        if point["step"] == stop:
            raise Stopped

    options: dict[str, Any] = {"checkpoint_every": 1, "log_every": 1, "report": report}
    if stop is None:
        fit_curve(fitting, store, ALONE, **options)
    else:
        with pytest.raises(Stopped):
            fit_curve(fitting, store, ALONE, **options)
    return seen


def outcome(fitting: Fitting, store: Store) -> tuple[dict[str, torch.Tensor], list[Any], str]:
    folder = store.folder(layout.CURVES, fitting.key)
    body = json.loads((folder / layout.CURVE).read_text())
    told = [body[name] for name in ("at", "looks", "chosen_step", "inserted", "bends", "steps")]
    return load_file(folder / "curve.safetensors"), told, (folder / "training.jsonl").read_text()


def test_stopped_in_any_cycle_it_ends_the_same(fitting):
    settings = {"select": "validation", "select_every": 2}
    whole, spec = fitting("whole", **settings)
    assert run(spec, whole) == list(range(1, 10))
    expected = outcome(spec, whole)
    assert expected[1][-2] >= 2  # a pivot was added
    store, _ = fitting("stopped", **settings)
    assert run(spec, store, 2) == [1, 2]
    assert run(spec, store, 4) == [2, 3, 4]  # the second cycle has begun
    assert run(spec, store, 6) == [4, 5, 6]  # its last update isn't kept before it is told
    damaged = store.folder(layout.CHECKPOINTS, spec.key)
    assert [path.name for path in sorted(damaged.glob("*/*"))] == ["cycle-001", "start-001"]
    assert run(spec, store) == [6, 7, 8, 9]
    found = outcome(spec, store)
    assert found[1:] == expected[1:]
    assert found[0].keys() == expected[0].keys()
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in found[0].items())
    assert not damaged.exists()


def test_a_damaged_stage_is_done_again(fitting):
    store, spec = fitting("damaged")
    run(spec, store, 5)
    (chain,) = store.folder(layout.CHECKPOINTS, spec.key).glob("*/start-001/chain.safetensors")
    chain.write_bytes(b"0" * chain.stat().st_size)
    assert run(spec, store) == list(range(1, 10))
    assert list(store.folder(layout.SET_ASIDE, "").glob("checkpoints-*"))
