"""One benchmark of tiny minima: what it finds is of the right size, and nothing of the sweep is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raymc.cli import main
from raymc.runtime.together import Together
from raymc.specs.sweep import SweepSpec
from raymc.store.store import Store
from raymc.sweep.bench import writing
from raymc.sweep.bench.bare import bare_pass, plain_model
from raymc.sweep.bench.clock import Clock, Seconds, Stages, ratio
from raymc.sweep.bench.figures import Asked, Report
from raymc.sweep.bench.measure import _shorter, bench
from raymc.sweep.bench.scaling import Scaled, counts_of
from raymc.sweep.bench.source import train_builtin
from raymc.sweep.calibration import read
from raymc.tasks.backbones import load_tokenizer
from raymc.tasks.minima import Minima
from raymc.tasks.rows import read_rows
from raymc.tasks.tokens import budget_batches, tokenize
from raymc.tracking.memory import MemoryTracker

BODY = {
    "name": "tiny",
    "model": {"backbone": {"builtin": "grammar-bert", "hidden_size": 32, "intermediate_size": 64, "steps": 4}},
    "task": {"dataset": {"builtin": "grammar", "train_rows": 64, "validation_rows": 128}, "max_length": 32},
    "train": {"steps": 6, "batch_size": 32, "learning_rate": 3e-3},
    "axes": {"seeds.order": [1, 2, 3]},
    "connectivity": {"points": {"adaptive": {"tolerance": 1e-3, "points": 11}}},
    "resources": {"evaluator": {"token_budget": 512}},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, on_one_thread: None) -> tuple[SweepSpec, Store]:
    """A sweep and a store that has its minima, and nothing else of it."""
    spec, store = SweepSpec.model_validate(BODY), Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    train_builtin(spec, store)
    return spec, store


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def measured(swept: tuple[SweepSpec, Store]) -> tuple[Report, set[str], set[str]]:
    spec, store = swept
    before = files(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "make_tracker", lambda *_: MemoryTracker())  # MLflow takes longer than all the rest
        report = bench(spec, Asked(pairs=2, actors=1), storage=store.uri)
    return report, before, files(store)


def test_figures_are_of_the_right_size(measured):
    report, _, _ = measured
    assert 0.05 < report.value("efficiency") < 1.5
    assert 0.05 < report.value("efficiency, processor") < 1.5
    assert 0.4 < report.value("stages of a pair") < 1.6
    assert report.value("bare pass") > 0
    assert 2 <= report.value("adaptive passes") <= 9
    assert report.value("adaptive within bound") == 1.0
    assert report.value("adaptive difference") <= 1e-3 + 1e-6
    assert 0 < report.value("bf16 drift") < 0.1
    assert 0 < report.value("share of rate") < 1.2
    assert 50 < report.value("peak memory") < 50_000
    names = [figure.name for figure in report.figures]
    assert [name for name in names if name.startswith("stage ")] == [
        f"stage {name}" for name in ("load", "interpolate", "forward", "reduce", "write", "log")
    ]
    assert len(names) == len(set(names))


def test_raw_figures_are_json_and_say_what_was_done(measured):
    report, _, _ = measured
    body = json.loads(json.dumps(report.as_dict()))
    about, raw = body["about"], body["raw"]
    assert about["machine"]["torch"] == torch.__version__
    assert about["row_sets"]["validation"]["rows"] == 128
    assert (about["minima"], about["pairs_measured"], about["space"]) == (3, 2, "weights")
    assert raw["exhaustive"]["passes"] == 9
    assert len(raw["exhaustive"]["bare"]) == len(raw["exhaustive"]["evaluator"]) == 3
    assert raw["adaptive"]["shared_points"] == 11
    assert len(raw["adaptive"]["off"]) == 2
    assert raw["stages"]["written"]["pairs"] == 3
    assert raw["stages"]["loads_per_pair"] == 1.0


def test_the_operations_of_a_bare_pass_are_those_of_its_matrix_products(measured):
    """Counted by hand of two layers 32 wide: projections, feed-forward, pooler and head; attention adds some."""
    report, _, _ = measured
    found = report.raw["exhaustive"]["operations_per_point"]
    tokens = report.about["row_sets"]["validation"]["tokens"]
    dense = 2 * tokens * 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert dense < found < 1.5 * dense


def test_nothing_but_a_calibration_is_written(measured, swept):
    _, before, after = measured
    added = {name for name in after - before if not name.startswith(".tmp")}
    assert len(added) == 1
    assert added.pop().startswith("calibrations/")
    spec, store = swept
    found = read(store, spec)
    assert found is not None
    assert (found.kind, found.threads) == ("classifier", 1)
    assert 2 <= found.passes_per_path <= 9
    assert found.tokens_per_second > 0


def test_a_bare_pass_does_the_batches_of_the_yardstick(swept):
    """Sorted by length, cut where rows x longest would pass the budget: each row goes through once."""
    spec, store = swept
    key = next(iter(spec.points)).trial.key
    made = Minima(store, {}).made(key)
    model = plain_model(store, key, made, "weights", "cpu", "fp32")
    rows = read_rows(spec.task, "validation")
    tokens = tokenize(
        load_tokenizer(str(store.folder("minima", key)), None, False), rows, made.labels, spec.task, "classifier"
    )
    seen: list[Any] = []
    model.register_forward_pre_hook(lambda _, __, options: seen.append(options), with_kwargs=True)
    bare_pass(model, "classifier", tokens, 512, "cpu")()
    lengths = [batch["attention_mask"].sum(1).tolist() for batch in seen]
    assert [one for batch in lengths for one in batch] == sorted(tokens.lengths.tolist())
    assert [len(batch) for batch in lengths] == [len(batch) for batch in budget_batches(tokens, 512)]
    assert all(batch["input_ids"].numel() <= 512 for batch in seen)
    assert sum(int(batch["input_ids"].sum()) for batch in seen) == int(tokens.ids.sum()) + tokens.pad_id * sum(
        int((1 - batch["attention_mask"]).sum()) for batch in seen
    )


def test_without_two_minima_there_is_nothing_to_measure(swept, tmp_path: Path, capsys):
    spec, _ = swept
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(spec.model_dump(mode="json", exclude_defaults=True)))
    assert main(["bench", str(path), "--storage", str(tmp_path / "empty")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"sweep tiny has 0 finished minima in {tmp_path}/empty, and a pair takes two; `raymc run {path}` makes them"
    )
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--points", "2"], "raymc bench: --points is at least 3, as a path has two ends"),
        (["--set", "train.steps=3"], "raymc bench: --set overrides a field of a SPEC, and there is none"),
    ],
)
def test_bad_options_are_one_line(options: list[str], message: str, capsys):
    assert main(["bench", *options]) == 2
    assert capsys.readouterr().err.splitlines() == [message]


def test_ratios_are_medians_of_rounds():
    over = [Seconds(1.0, 2.0), Seconds(8.0, 2.0), Seconds(3.0, 2.0)]
    under = [Seconds(2.0, 1.0), Seconds(1.0, 4.0), Seconds(3.0, 2.0)]
    assert ratio(over, under) == 1.0
    assert ratio(over, under, "cpu") == 1.0


def test_stages_add_up():
    stages = Stages(Clock("cpu"))
    for _ in range(2):
        with stages.stage("one"):
            sum(range(1000))
    assert stages["one"].wall > 0
    assert stages["other"] == Seconds(0.0, 0.0)


def test_scaling_is_passes_a_second_of_all_over_those_of_one():
    assert counts_of(1) == [1]
    assert counts_of(3) == [1, 2, 3]
    assert counts_of(4) == [1, 2, 4]
    scaled = Scaled(Together({1: [1.0, 2.0, 1.0], 2: [1.0, 2.0, 2.0]}, [5, 6]), 3)
    assert scaled.over_one(2) == 2.0


def test_a_shorter_profile_has_points_of_the_longer_one():
    assert [_shorter(points) for points in (26, 9, 11, 12, 3)] == [6, 5, 6, 12, 3]
