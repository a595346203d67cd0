"""The loop against one written out by hand, its schedules, its seeds, and two workers against one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from raymc.specs.errors import TrainingFault
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks.backbones import load_tokenizer
from raymc.tasks.rows import read_rows
from raymc.tasks.tokens import Tokens, tokenize
from raymc.training import microbatch
from raymc.training.finetune import finetune
from raymc.training.loop import Recipe, Report, train
from raymc.training.microbatch import by_length
from raymc.training.objectives import Classification
from raymc.training.parallel import Group
from raymc.training.schedule import steps_of

Point = dict[str, float]
ALONE = Group()


class Regression:
    """Squares of a linear model with a gain, on rows that the step decides; keeps what it saw."""

    def __init__(self, rows: int = 4):
        stream = np.random.default_rng(0)
        self.x = torch.from_numpy(stream.standard_normal((64, rows, 3)).astype(np.float32))
        self.y = torch.from_numpy(stream.standard_normal((64, rows, 2)).astype(np.float32))
        self.steps: list[int] = []
        self.masks: list[list[bool]] = []
        self.dtypes: set[torch.dtype] = set()

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        self.steps.append(step)
        rows = self.x.shape[1]
        return {"x": self.x[step], "y": self.y[step], "attention_mask": torch.ones(rows, 1)}, rows

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert model.training
        self.masks.append((torch.rand(8) < 0.5).tolist())  # what a dropout layer would draw
        out = model(batch["x"])
        self.dtypes.add(out.dtype)
        return (out.float() - batch["y"]).square().sum()


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2))


def fit(model: Any, objective: Any, recipe: Recipe, group: Group = ALONE, report: Report = lambda _: None):
    """The trained model and its curve."""
    curves: list[list[Point]] = []
    trained = train(
        model, objective, recipe, group, None, report, {recipe.steps: lambda _, curve: curves.append(curve)}
    )
    return trained, curves[0]


def run(objective: Any = None, **fields: Any) -> tuple[Any, list[Point], Any]:
    objective = objective or Regression()
    recipe = Recipe(**{"steps": 8, "learning_rate": 0.05, "log_every": 1, **fields})
    model, curve = fit(network(), objective, recipe)
    return model, curve, objective


# The recipe ----------------------------------------------------------------------------------------------------------


def by_hand(steps: int, rate: Callable[[int], float], decay: float, betas: tuple[float, float], clip: float | None):
    """AdamW with decoupled decay on matrices alone, in float64 from the formulas (Loshchilov and Hutter 2019)."""
    model, data = network().double(), Regression()
    names = [name for name, _ in model.named_parameters()]
    moments = {name: (torch.zeros(()), torch.zeros(())) for name in names}
    curve = []
    for step in range(steps):
        loss = (model(data.x[step].double()) - data.y[step].double()).square().sum() / data.x.shape[1]
        gradients = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        scale = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
        lr = rate(step)
        curve.append({"step": step + 1, "loss": loss.item(), "learning_rate": lr, "grad_norm": norm})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                g = gradients[name] * scale
                m = betas[0] * moments[name][0] + (1 - betas[0]) * g
                v = betas[1] * moments[name][1] + (1 - betas[1]) * g.square()
                moments[name] = (m, v)
                if parameter.ndim > 1:
                    parameter.mul_(1 - lr * decay)
                corrected = v / (1 - betas[1] ** (step + 1))
                parameter.sub_(lr * (m / (1 - betas[0] ** (step + 1))) / (corrected.sqrt() + 1e-8))
    return model, curve


@pytest.mark.parametrize(
    ("decay", "betas", "clip"),
    [(0.0, (0.9, 0.999), None), (0.3, (0.9, 0.999), None), (0.1, (0.8, 0.95), 1.0), (0.01, (0.9, 0.999), 0.05)],
)
def test_a_run_is_adamw_written_out(decay: float, betas: tuple[float, float], clip: float | None):
    model, curve, _ = run(weight_decay=decay, betas=betas, clip_norm=clip, schedule="linear", warmup=0.25)
    expected, points = by_hand(
        8, lambda step: 0.05 * ((step + 1) / 2 if step < 2 else (8 - step) / 6), decay, betas, clip
    )
    for name, parameter in expected.named_parameters():
        assert torch.allclose(model.get_parameter(name).double(), parameter, rtol=0, atol=2e-6), name
    for found, point in zip(curve, points, strict=True):
        assert found == pytest.approx(point, rel=1e-5)


def test_the_norm_of_the_curve_is_the_one_before_clipping():
    free, clipped = (run(clip_norm=clip)[1] for clip in (None, 0.01))
    assert clipped[0]["grad_norm"] == free[0]["grad_norm"] > 0.1


def test_what_does_not_train_stays():
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, Regression(), Recipe(steps=3, learning_rate=0.1, weight_decay=0.5))
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None


def test_bfloat16_computes_narrow_and_trains_wide():
    model, curve, objective = run(precision="bf16")
    assert objective.dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    wide = run()[1]
    assert curve[0]["loss"] == pytest.approx(wide[0]["loss"], rel=0.02)
    assert curve[0]["loss"] != wide[0]["loss"]
    assert run()[2].dtypes == {torch.float32}


@pytest.mark.parametrize("log_every", [1, 3, 5, 8, 20])
def test_the_curve_has_means_since_the_point_before(log_every: int):
    every = run(log_every=1)[1]
    reported: list[Point] = []
    recipe = Recipe(steps=8, learning_rate=0.05, log_every=log_every)
    _, curve = fit(network(), Regression(), recipe, report=reported.append)
    ends = [*range(log_every, 8, log_every), 8]
    assert [point["step"] for point in curve] == ends
    assert reported == curve
    for start, end, point in zip([0, *ends], ends, curve, strict=False):
        assert point["loss"] == pytest.approx(np.mean([p["loss"] for p in every[start:end]]), rel=1e-6)
        assert point["learning_rate"] == every[end - 1]["learning_rate"]
        assert point["grad_norm"] == pytest.approx(every[end - 1]["grad_norm"], rel=1e-6)


# Schedules -----------------------------------------------------------------------------------------------------------


def rates(**fields: Any) -> list[float]:
    recipe = Recipe(**{"learning_rate": 2.0, **fields})
    return [recipe.rate(step) for step in range(recipe.steps)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "constant"}, [2.0] * 8),
        ({"schedule": "constant", "warmup": 0.5}, [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]),
        ({"schedule": "linear"}, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "warmup": 0.5}, [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5]),
        ({"schedule": "linear", "warmup": 0.3}, [2 / 3, 4 / 3, 2.0, 2.0, 1.6, 1.2, 0.8, 0.4]),  # 2.4 steps: 3
        ({"schedule": "linear", "warmup": 1.0}, [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]),
        ({"schedule": "cosine"}, [1 + math.cos(math.pi * k / 8) for k in range(8)]),
        ({"schedule": "cosine", "warmup": 0.5}, [0.5, 1, 1.5, 2, 2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5]),
    ],
)
def test_schedules_by_hand(fields: dict[str, Any], expected: list[float]):
    assert rates(steps=8, **fields) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("warmup", "steps", "rise"), [(0.07, 100, 7), (0.06, 50, 3), (0.29, 100, 29), (0.001, 10, 1)])
def test_the_warm_up_is_the_share_that_was_written(warmup: float, steps: int, rise: int):
    """0.07 * 100 in floating point is more than 7."""
    found = rates(steps=steps, warmup=warmup, schedule="constant")
    assert found.index(2.0) == rise - 1


@given(st.integers(1, 60), st.floats(0, 1), st.sampled_from(["linear", "cosine", "constant"]), st.floats(1e-6, 10.0))
def test_every_schedule_rises_then_falls_within_its_bounds(steps: int, warmup: float, schedule: str, peak: float):
    found = rates(steps=steps, warmup=warmup, schedule=schedule, learning_rate=peak)
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


@pytest.mark.parametrize(
    ("train", "rows", "steps"),
    [
        ({"steps": 7}, 1000, 7),
        ({"epochs": 3.0, "batch_size": 32}, 320, 30),
        ({"epochs": 3.0, "batch_size": 32}, 321, 31),
        ({"epochs": 1.1, "batch_size": 10}, 100, 11),  # 1.1 * 100 in floating point is more than 110
        ({"epochs": 0.5, "batch_size": 10}, 3, 1),
        ({"epochs": 0.001, "batch_size": 32}, 2, 1),
    ],
)
def test_steps_of_a_trial(trial, train: dict[str, Any], rows: int, steps: int):
    assert steps_of(trial(train={"steps": None, **train}), rows) == steps


# Faults --------------------------------------------------------------------------------------------------------------


class Broken(Regression):
    def __init__(self, at: int, how: str):
        super().__init__()
        self.at, self.how = at, how

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = super().loss(model, batch)
        if len(self.steps) != self.at:
            return loss
        if self.how == "gradient":  # the loss is what it was, its gradient is not a number
            return loss + (loss.detach() - loss).abs().sqrt() * 0
        return loss * (math.nan if self.how == "nan" else math.inf)


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
@pytest.mark.parametrize(("at", "log_every", "seen"), [(1, 1, 1), (3, 1, 3), (3, 5, 5), (7, 3, 8), (8, 3, 8)])
def test_what_is_not_finite_ends_the_run(how: str, at: int, log_every: int, seen: int):
    reported: list[Point] = []
    recipe = Recipe(steps=8, learning_rate=0.05, log_every=log_every)
    with pytest.raises(TrainingFault, match=f"not finite .* by step {seen};"):
        fit(network(), Broken(at, how), recipe, report=reported.append)
    assert all(point["step"] < seen for point in reported)


# Seeds ---------------------------------------------------------------------------------------------------------------


def order(seed: int, rows: int = 10, size: int = 4) -> Classification:
    offsets = np.arange(rows + 1, dtype=np.int64)
    tokens = Tokens(np.arange(rows, dtype=np.int32), None, offsets, np.zeros(rows, np.int64), pad_id=0)
    return Classification(tokens, size, seed)


def test_the_order_is_one_permutation_after_another():
    stream = np.concatenate([order(3).rows(step) for step in range(15)])
    epochs = stream.reshape(6, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6


def test_the_order_depends_on_its_seed_and_the_step_alone():
    objective = order(3)
    forwards = [objective.rows(step).tolist() for step in range(15)]
    torch.manual_seed(9)
    np.random.seed(9)
    assert [objective.rows(step).tolist() for step in reversed(range(15))] == forwards[::-1]
    assert [order(3).rows(step).tolist() for step in range(15)] == forwards
    assert [order(4).rows(step).tolist() for step in range(15)] != forwards


def test_the_order_does_not_depend_on_the_batch_size():
    by_four = np.concatenate([order(3, size=4).rows(step) for step in range(10)])
    by_five = np.concatenate([order(3, size=5).rows(step) for step in range(8)])
    assert by_four.tolist() == by_five.tolist()


def test_the_order_never_changes_under_one_version():
    """A failure here means that minima no longer fit their keys: bump MINIMUM_VERSION, then this."""
    found = np.concatenate([order(0).rows(step) for step in range(3)]).tolist()
    assert found == [3, 8, 6, 5, 2, 9, 4, 0, 7, 1, 9, 7]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [4, 5, 7])
def test_workers_share_out_a_batch(size: int, batch_size: int):
    objective = order(1, size=batch_size)
    for step in range(4):
        parts = [objective.batch(step, Group(rank, size)) for rank in range(size)]
        assert {weight for _, weight in parts} == {batch_size}
        rows = [row for part, _ in parts for row in part["input_ids"].flatten().tolist()]
        assert sorted(rows) == sorted(objective.rows(step).tolist())
        assert all(len(part["labels"]) >= batch_size // size for part, _ in parts)


def test_dropout_draws_by_seed_and_step_whatever_came_before():
    masks = run(dropout_seed=1)[2].masks
    torch.manual_seed(77)
    assert run(dropout_seed=1)[2].masks == masks
    assert run(dropout_seed=2)[2].masks != masks
    assert len({tuple(mask) for mask in masks}) == len(masks)
    assert run(dropout_seed=1, steps=3)[2].masks == masks[:3]


def test_every_worker_draws_its_own_dropout():
    """Else the parts of a batch would share their masks."""
    masks = []
    for rank in (0, 1, 0):
        objective = Regression()
        fit(network(), objective, Recipe(steps=3, learning_rate=0.05), Group(rank))
        masks.append(objective.masks)
    assert masks[0] == masks[2]
    assert not any(mask in masks[1] for mask in masks[0])


# Parts by length -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.booleans())
def test_parts_are_the_batch_with_less_padding(lengths: list[int], types: bool):
    rows, width = len(lengths), max(lengths)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    ids = mask * torch.arange(1, rows * width + 1).view(rows, width)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(rows)}
    if types:
        batch["token_type_ids"] = mask * 2
    parts = by_length(batch)
    assert len(parts) == 1 or rows >= 16
    seen = {}
    for part in parts:
        assert part.keys() == batch.keys()
        assert part["attention_mask"].sum(1).max() == part["attention_mask"].shape[1]
        for name, tensor in part.items():
            assert tensor.shape == part["attention_mask"].shape or (name == "labels" and tensor.ndim == 1)
        for i, row in enumerate(part["labels"].tolist()):
            assert row not in seen
            seen[row] = part["input_ids"][i][part["attention_mask"][i] == 1].tolist()
    assert seen == {row: ids[row, :length].tolist() for row, length in enumerate(lengths)}
    padded = sum(part["attention_mask"].numel() for part in parts)
    assert len(parts) == 1 or padded <= 0.9 * rows * width


def test_a_run_in_parts_is_the_run_in_whole_batches(trial, tmp_path: Path, monkeypatch):
    spec = trial(train={"batch_size": 20, "dropout": 0.0, "learning_rate": 1e-4})
    stores, cut = [Store(tmp_path / name) for name in ("parts", "whole")], []
    for store, cutter in zip(stores, (by_length, lambda batch: [batch]), strict=True):
        monkeypatch.setattr(
            microbatch, "by_length", lambda batch, cutter=cutter: cut.append(len(cutter(batch))) or cutter(batch)
        )
        finetune([spec], store, ALONE, checkpoint_every=0, log_every=1, report=lambda _: None)
    assert cut == [2] * 5 + [1] * 5
    assert_alike(*(weights(store, spec.key) for store in stores))


# Two workers ---------------------------------------------------------------------------------------------------------

JOBS: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "ddp in parts by length": {"strategy": "ddp", "batch_size": 41},
    "ddp uneven, resumed": {"strategy": "ddp", "batch_size": 5, "stop": 3},
    "ddp lora uneven": {"strategy": "ddp", "batch_size": 5, "lora": True},
    "ddp in small passes": {"strategy": "ddp", "batch_size": 41, "micro_batch": 4},
    "fsdp uneven": {"strategy": "fsdp", "batch_size": 5},
    "fsdp uneven in small passes": {"strategy": "fsdp", "batch_size": 5, "micro_batch": 1},
    "fsdp lora, resumed": {"strategy": "fsdp", "lora": True, "stop": 3},
    "ddp adafactor": {"strategy": "ddp", "optimizer": "adafactor"},
    "ddp adafactor, resumed": {"strategy": "ddp", "optimizer": "adafactor", "stop": 3},
    "fsdp sgd": {"strategy": "fsdp", "optimizer": "sgd", "batch_size": 5},
    "fsdp sgd, resumed": {"strategy": "fsdp", "optimizer": "sgd", "batch_size": 5, "stop": 3},
}
DROPOUT: dict[str, dict[str, Any]] = {
    "undisturbed": {"strategy": "ddp", "dropout": 0.3},
    "resumed": {"strategy": "ddp", "dropout": 0.3, "stop": 4},
    "sharded": {"strategy": "fsdp", "dropout": 0.3},
}


def spec_of(trial: Callable[..., TrialSpec], job: dict[str, Any]) -> TrialSpec:
    method = {"method": "lora", "rank": 2} if job.get("lora") else {"method": "full"}
    settings = {
        "batch_size": job.get("batch_size", 4),
        "dropout": job.get("dropout", 0.0),
        "learning_rate": 1e-4,
        "optimizer": job.get("optimizer", "adamw"),
    }
    return trial("mlm" if job.get("lora") else "bert", tuning=method, train=settings)


def weights(store: Store, key: str) -> dict[str, torch.Tensor]:
    (path,) = store.folder("minima", key).glob("*.safetensors")
    return load_file(path)


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-6, but for the few weights whose gradient is rounding alone: Adam blows it up to any other's size.

    Those of key.bias all are, for softmax ignores it.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith("key.bias"):
            error = (found[name] - value).abs()
            assert (error > 1e-6).sum() <= error.numel() / 100, name
            assert error.max() < 2e-5, name


@pytest.fixture(scope="module")
def two_workers(trial, two_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All jobs, run by two processes over gloo; a folder with a store for each."""
    folder = tmp_path_factory.mktemp("workers")
    jobs = [
        {
            "trial": spec_of(trial, job).model_dump(mode="json"),
            "strategy": job["strategy"],
            "store": str(folder / name),
            "stop": job.get("stop"),
            "micro_batch": job.get("micro_batch"),
        }
        for name, job in {**JOBS, **DROPOUT}.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    two_run("workers.py", "2", folder)
    return folder


@pytest.mark.parametrize("name", JOBS)
def test_two_workers_reach_the_weights_of_one(two_workers: Path, trial, tmp_path: Path, name: str):
    spec, alone, together = spec_of(trial, JOBS[name]), Store(tmp_path), Store(two_workers / name)
    finetune([spec], alone, ALONE, checkpoint_every=0, log_every=1, report=lambda _: None)
    expected, found = weights(alone, spec.key), weights(together, spec.key)
    assert_alike(found, expected)
    curves = [
        [json.loads(line) for line in (s.folder("minima", spec.key) / "training.jsonl").read_text().splitlines()]
        for s in (alone, together)
    ]
    assert len(curves[0]) == 5
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    assert together.read_json("minima", spec.key, "minimum.json")["workers"] == 2
    assert not list((together.root / "checkpoints").rglob("*.safetensors"))


def test_two_workers_with_dropout_repeat_themselves_after_a_stop(two_workers: Path, trial):
    spec = spec_of(trial, DROPOUT["undisturbed"])
    first, resumed, sharded = (weights(Store(two_workers / name), spec.key) for name in DROPOUT)
    assert all(torch.equal(first[name], resumed[name]) for name in first)
    assert_alike(sharded, first)


@pytest.mark.parametrize("name", ["ddp adafactor", "fsdp sgd"])
def test_two_workers_resume_any_optimizer_to_the_last_bit(two_workers: Path, trial, name: str):
    spec = spec_of(trial, JOBS[name])
    whole, resumed = (weights(Store(two_workers / job), spec.key) for job in (name, f"{name}, resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[part], resumed[part]) for part in whole)


def test_an_optimizer_that_can_not_be_sharded_is_refused_before_anything_is_done():
    objective = Regression()
    group = Group(0, 2, "cpu", "fsdp")
    with pytest.raises(TrainingFault, match=r"^train\.optimizer: adafactor .* use strategy: ddp$"):
        fit(network(), objective, Recipe(steps=3, learning_rate=0.05, optimizer="adafactor"), group)
    assert objective.steps == []


def test_both_workers_cut_their_part_of_the_batch(trial):
    """Else the job "in parts by length" compared nothing new."""
    spec = spec_of(trial, JOBS["ddp in parts by length"])
    rows = read_rows(spec.task, "train")
    tokens = tokenize(load_tokenizer(spec.model.backbone), rows, ("neg", "pos"), spec.task, "classifier")
    objective = Classification(tokens, spec.train.batch_size, 0)
    for rank in range(2):
        parts = [len(by_length(objective.batch(step, Group(rank, 2))[0])) for step in range(5)]
        assert 2 in parts


def test_fsdp_shards(two_workers: Path):
    """Half of every matrix on each worker; else the runs above compared DDP with itself."""
    for rank in range(2):
        shards = json.loads((two_workers / f"shards-{rank}.json").read_text())
        assert shards == {"ddp": [[8, 4], "Parameter"], "fsdp": [[4, 4], "DTensor"]}
