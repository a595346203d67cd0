"""Simulated runs: the figures asked of 10,000 minima on 1,000 workers, on a tenth of it; and the verb."""

from __future__ import annotations

import json

import pytest

from raymc.cli import main
from raymc.connectivity.missing import AllPairs
from raymc.specs.load import load_spec
from raymc.store.store import Store
from raymc.sweep.calibration import Calibration, write
from raymc.sweep.simulate import Costs, simulate
from raymc.sweep.sizes import rows_and_tokens


@pytest.fixture(scope="module")
def large():
    return simulate(AllPairs(700), 70, Costs(pair=1.0, load=0.5, cache=16), fail=0.05, target=60.0)


def test_loads_idle_time_and_the_schedulers_own_cost_are_small(large):
    assert (large.pairs, large.workers, large.failed_workers) == (244_650, 70, 4)
    assert large.loads <= 1.2 * large.fewest_loads
    assert 0.0 <= large.idle_share < 0.05
    assert large.scheduler_ms_mean < 1.0
    assert large.peak_memory < 2 << 30


def test_time_adds_up(large):
    """Workers are busy with pairs and loads alone, at their speeds (the mean of which is about 1)."""
    busy = large.workers * large.makespan * (1 - large.idle_share)
    assert busy == pytest.approx(large.pairs * 1.0 + large.loads * 0.5, rel=0.03)
    assert large.makespan == pytest.approx(large.ideal, rel=0.06)


def test_one_worker_takes_exactly_its_pairs_and_loads():
    found = simulate(AllPairs(12), 1, Costs(pair=2.0, load=3.0, cache=12), spread=0.0, fail=0.0)
    assert (found.loads, found.fewest_loads, found.stolen) == (12, 12, 0)
    assert found.makespan == pytest.approx(66 * 2.0 + 12 * 3.0)
    assert found.idle_share == pytest.approx(0.0, abs=1e-9)


def test_all_workers_may_die_once():
    found = simulate(AllPairs(40), 5, Costs(pair=10.0, load=1.0, cache=8, restart=60.0), spread=0.0, fail=1.0)
    assert found.failed_workers == 5
    assert found.lost_share > 0
    assert found.makespan > found.ideal


def test_the_same_seed_gives_the_same_run():
    first, again, other = (simulate(AllPairs(60), 7, Costs(cache=9), seed=seed) for seed in (1, 1, 2))
    assert (first.makespan, first.loads, first.batches) == (again.makespan, again.loads, again.batches)
    assert first.makespan != other.makespan


def test_the_verb(capsys, tmp_path):
    assert main(["simulate", "--minima", "30", "--workers", "3", "--cache", "6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["workers"], found["costs"]["cache"]) == (435, 3, 6)
    assert found["costs"]["basis"].startswith("given: cache; else assumed")
    assert main(["simulate", "--minima", "30", "--workers", "3"]) == 0
    assert "of the bound" in capsys.readouterr().out
    assert main(["simulate", "--workers", "3"]) == 2
    assert "--minima" in capsys.readouterr().err
    assert main(["simulate", "--minima", "9", "--workers", "3", "--cache", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err


def test_the_pairs_and_costs_of_a_spec(capsys, tmp_path, make_dataset):
    spec = tmp_path / "tiny.yaml"
    spec.write_text(
        f"""\
name: tiny
model:
  backbone: {{builtin: grammar-bert, steps: 1, batch_size: 2, rows: 9, hidden_size: 16, heads: 2,
             intermediate_size: 16}}
task:
  dataset: {{path: {make_dataset()}}}
train: {{steps: 1, batch_size: 2, learning_rate: 1e-3}}
axes: {{seeds.order: [1, 2, 3], seeds.head: [1, 2]}}
connectivity: {{pairs: {{within: [seeds.head]}}}}
"""
    )
    assert main(["simulate", str(spec), "--workers", "2", "--storage", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 2 * 3
    store, loaded = Store(tmp_path / "store"), load_spec(spec)
    write(store, loaded, Calibration("a CPU", "tiny", "classifier", "fp32", 1000.0, 0.25, 2**28, 6.0, 0.5, 1))
    assert main(["simulate", str(spec), "--workers", "2", "--storage", str(tmp_path / "store"), "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    tokens = sum(rows * length for rows, length in (rows_and_tokens(one.task, one.split) for one in loaded.row_sets))
    assert costs["pair"] == pytest.approx(0.5 + 6.0 * tokens / 1000.0)
    assert (costs["load"], costs["cache"]) == (0.25, 8)
    assert "measured on a CPU" in costs["basis"]
