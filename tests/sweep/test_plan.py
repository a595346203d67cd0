"""Plans of sweeps that are partly done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raymc.connectivity.pairs import Connections
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import trials_by_key
from raymc.sweep.plan import plan


def test_the_rate_is_that_of_minima_that_were_trained(tmp_path: Path):
    """A minimum that existed already took no time to train, and has no rows."""
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "config.json").write_text("{}")
    (ready / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    spec = SweepSpec.model_validate(
        {
            "name": "some",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"builtin": "grammar", "train_rows": 10}, "max_length": 16},
            "train": {"steps": 10, "batch_size": 4},
            "axes": {"seeds.order": [1, 2]},
            "minima": [{"name": "ready", "uri": str(ready)}],
        }
    )
    store = Store(tmp_path / "store")
    store.prepare()
    points = list(trials_by_key(spec).items())
    for key, point in (points[0], points[2]):
        tokens, rows, steps, seconds = (0, 0, 0, 0.0) if point.existing else (80, 10, 10, 2.0)
        body = {"tokens": tokens, "rows": rows, "steps": steps, "seconds": {"train": seconds}, "workers": 1}
        with store.create(layout.MINIMA, key) as folder:
            (folder / layout.PROVENANCE).write_text(json.dumps(body))
    found = plan(spec, storage=str(store.root), checked=True)
    assert found.minima_done == 2
    rate = 3 * 8 * 10 * 4 / 2.0  # forward tokens a second: 8 tokens a row, 10 updates of 4 rows in 2 s
    assert found.estimate["basis"].startswith(f"1 minima of this sweep trained in this storage, {rate:.0f} tokens/s")


def test_fits_that_are_there_are_not_to_do(tmp_path: Path):
    fit = {"steps": 10, "batch_size": 4, "draws": 2}
    spec = SweepSpec.model_validate(
        {
            "name": "some",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"builtin": "grammar", "train_rows": 10}, "max_length": 16},
            "train": {"steps": 10, "batch_size": 4},
            "axes": {"seeds.order": [1, 2, 3]},
            "connectivity": {"curves": ["linear", {"curve": "bezier", "fit": fit}]},
        }
    )
    store = Store(tmp_path / "store")
    store.prepare()
    before = plan(spec, storage=str(store.root), checked=True)
    connections = Connections(spec, store, trials_by_key(spec))
    with store.create(layout.CURVES, connections.fit_key(*next(connections.fits()))) as folder:
        (folder / layout.CURVE).write_text("{}")
    after = plan(spec, storage=str(store.root), checked=True)
    assert [(one.curves_total, one.curves_done, one.pairs_total) for one in (before, after)] == [(3, 0, 6), (3, 1, 6)]
    straight = spec.connectivity.model_copy(update={"curves": spec.connectivity.curves[:1]})
    trained = plan(spec.model_copy(update={"connectivity": straight}), storage=str(store.root), checked=True)
    alone, some, all_ = (one.estimate["train_flops"] for one in (trained, after, before))
    assert all_ - alone == pytest.approx((some - alone) / 2 * 3)
    assert some > alone
