"""Plans of sweeps that are partly done."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raymc.cli import main
from raymc.cli.printing import amount
from raymc.connectivity.pairs import Connections
from raymc.specs.sweep import SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.calibration import Calibration, read, write
from raymc.sweep.check import trials_by_key
from raymc.sweep.estimate import Hardware
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


def sweep(count: int = 3, **sections) -> SweepSpec:
    """`count` x `count` minima of 10 updates of 4 rows; a validation split of 20 rows."""
    body = {
        "name": "some",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": {"dataset": {"builtin": "grammar", "train_rows": 10, "validation_rows": 20}, "max_length": 16},
        "train": {"steps": 10, "batch_size": 4},
        "axes": {"seeds.head": list(range(count)), "seeds.order": list(range(count))},
        "resources": {"evaluator": {"cache": "20MB", "gpus": 0.5}},
    }
    return SweepSpec.model_validate(body | sections)


MEASURED = Calibration(
    device="NVIDIA H100",
    model="small",
    kind="classifier",
    precision="bf16",
    tokens_per_second=1e5,
    seconds_per_load=0.25,
    bytes_per_endpoint=4_000_000,
    passes_per_path=4.5,
    seconds_per_pair_overhead=0.125,
    threads=8,
)


def test_a_measured_run_calibrates_plans(tmp_path: Path):
    spec, store = sweep(), Store(tmp_path)
    before = plan(spec, storage=str(tmp_path), checked=True)
    assert (before.estimate["passes_per_path"], before.forward_passes) == (6.0, 9 + 36 * 6)
    assert read(store, spec) is None
    write(store, spec, MEASURED)
    after = plan(spec, storage=str(tmp_path), checked=True, hardware=Hardware(workers=4))
    found = after.estimate
    assert after.forward_passes == 9 + 36 * 4.5
    assert (found["passes_per_path"], found["endpoint_bytes"]) == (4.5, 4_000_000)
    # 9 pairs a worker with room for 5: a first 5 give 10, so 5 loads each; 4 of them have 10 pairs at most.
    assert (found["loads"], found["bytes_loaded"]) == (20, 80_000_000)
    weights = 2 * (4 * 64**2 + 2 * 64 * 128)
    tokens = found["evaluate_flops"] / 2 / weights + found["train_flops"] / 2 / weights
    total = tokens / 1e5 + 20 * 0.25 + 36 * 0.125
    assert found["seconds"] == pytest.approx(total / 4)
    assert (found["hours"], found["hours_of"]) == (pytest.approx(total / 3600 / 2), "GPU")  # half a GPU a worker
    assert "measured on NVIDIA H100 in bf16, 8 threads: 100000 tokens/s a worker; 4 workers" in found["basis"]


def test_the_newest_measured_run_of_the_network_and_precision_counts(tmp_path: Path):
    spec, store = sweep(), Store(tmp_path)
    slower = replace(MEASURED, tokens_per_second=5e4)
    write(store, spec, MEASURED)
    write(store, spec, slower)
    assert read(store, spec) == slower
    other = replace(MEASURED, device="cpu", precision="fp32")
    write(store, spec, other)
    assert read(store, spec) == other
    assert read(store, sweep(connectivity={"precision": "bf16"})) == slower
    assert read(store, sweep(model={"backbone": {"builtin": "grammar-bert", "seed": 5}})) == other  # as large
    assert read(store, sweep(model={"backbone": {"builtin": "grammar-bert", "layers": 3}})) is None
    assert read(store, sweep(tuning={"method": "lora"})) is None
    for path in (tmp_path / layout.CALIBRATIONS).rglob("*.json*"):
        path.write_text("damaged")
    assert read(Store(tmp_path), spec) is None


def test_stated_hardware_is_taken_at_its_word(tmp_path: Path):
    spec = sweep()
    found = plan(spec, storage=str(tmp_path), checked=True, hardware=Hardware(workers=2, tflops=0.001)).estimate
    reading = found["bytes_loaded"] / 1e9
    total = (found["train_flops"] + found["evaluate_flops"]) / 1e9 + reading
    assert found["seconds"] == pytest.approx(total / 2)
    assert (found["workers"], found["hours_of"]) == (2, "GPU")
    assert "2 workers at the stated 0.001 TFLOP/s each" in found["basis"]
    on_cpus = sweep(resources={"evaluator": {"gpus": 0, "cpus": 4}})
    found = plan(on_cpus, storage=str(tmp_path), checked=True, hardware=Hardware(workers=2, tflops=0.001)).estimate
    assert (found["hours"], found["hours_of"]) == (pytest.approx(found["seconds"] * 2 * 4 / 3600), "CPU")


def test_passes_are_those_of_finished_profiles_where_there_are_any(tmp_path: Path):
    spec, store = sweep(count=2), Store(tmp_path)
    points = trials_by_key(spec)
    found = Connections(spec, store, points)
    group = found.profile_key("validation", "weights", "linear")
    for key in points:
        with store.create(layout.MINIMA, key) as folder:
            (folder / "model.safetensors").write_bytes(b"0" * 1000)
            body = {"tokens": 80, "rows": 10, "steps": 10, "seconds": {"train": 1.0}, "workers": 1}
            (folder / layout.PROVENANCE).write_text(json.dumps(body))
    for (a, b), passes in zip(found.pairs(), (4.0, 5.0), strict=False):
        store.put(layout.PROFILES, group, f"{a}-{b}", {"passes": passes})
    write(store, spec, MEASURED)
    after = plan(spec, storage=str(tmp_path), checked=True)
    assert (after.pairs_total, after.pairs_done) == (6, 2)
    assert after.estimate["passes_per_path"] == 4.5
    assert after.estimate["passes_basis"] == "adaptive, the mean of 2 profiles of this sweep"
    assert after.forward_passes == 4 + 4 * 4.5
    assert after.estimate["endpoint_bytes"] == 1000


def test_the_command_says_what_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    body = sweep().model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "some.yaml").write_text(json.dumps(body))  # which is YAML too
    asked = ["plan", str(tmp_path / "some.yaml"), "--storage", str(tmp_path / "store"), "--workers", "4"]
    assert main([*asked, "--tflops", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["forward_passes"], found["estimate"]["workers"]) == (9 + 36 * 6, 4)
    assert main([*asked, "--tflops", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "pairs        36   0 in the store" in lines
    assert "passes      225   of 225 over a split, still to do" in lines
    assert "              6   a path between its ends: adaptive, as many as are expected of smooth profiles" in lines
    loads = next(line for line in lines if line.startswith("loads"))
    assert loads.startswith(f"loads    {found['estimate']['loads']:6d}   endpoints, {amount(20 * 4 * 65536)} (")
    assert "4 workers at the stated 0.5 TFLOP/s each" in next(line for line in lines if line.startswith("cost"))
    hours = f"hours    {found['estimate']['hours']:6.3g}   GPU-hours; "
    assert next(line for line in lines if line.startswith("hours")).startswith(hours)
    with pytest.raises(SystemExit):
        main([*asked, "--tflops", "0"])


def test_millions_of_pairs_are_planned_at_once(tmp_path: Path):
    spec = sweep(count=45)
    began = time.process_time()
    found = plan(spec, storage=str(tmp_path), checked=False)
    assert time.process_time() - began < 5.0
    assert found.pairs_total == 2025 * 2024 // 2
    assert found.forward_passes == 2025 + 6 * found.pairs_total
