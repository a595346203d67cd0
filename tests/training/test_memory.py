"""Batches that are cut to fit the memory: the same gradients, and an end where nothing fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from raymc.specs.errors import TrainingFault
from raymc.specs.fitting import Fitting
from raymc.store import layout
from raymc.store.store import Store
from raymc.training import memory
from raymc.training.checkpoint import Checkpoints
from raymc.training.curve_fit import fit_curve
from raymc.training.finetune import finetune
from raymc.training.loop import Recipe, train
from raymc.training.memory import MicroBatch, is_exhaustion
from raymc.training.microbatch import chunks, parts_of, rows_of
from raymc.training.parallel import Group

ALONE = Group()


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch) -> None:
    monkeypatch.setattr(memory, "_found", {})


class Narrow:
    """Squares of a linear model on 20 rows a step, on a machine whose memory does for `fits` of them at a time."""

    def __init__(self, fits: int):
        stream = np.random.default_rng(0)
        self.x = torch.from_numpy(stream.standard_normal((8, 20, 3)).astype(np.float32))
        self.fits, self.tried, self.masks = fits, [], []

    def batch(self, step: int, group: Group) -> tuple[dict[str, torch.Tensor], int]:
        return {"x": self.x[step], "attention_mask": torch.ones(20, 1)}, 20

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.tried.append(len(batch["x"]))
        self.masks.append(torch.rand(4).tolist())
        loss = model(batch["x"]).square().sum()
        if len(batch["x"]) > self.fits:
            torch.empty(2**58)  # of floats: an exbibyte, which torch says that it can't allocate
        return loss


def run(objective: Narrow, micro: MicroBatch | None, checkpoints: Checkpoints | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    recipe = Recipe(steps=3, learning_rate=0.05, log_every=1)
    return train(model, objective, recipe, ALONE, checkpoints, lambda _: None, {3: lambda *_: None}, micro=micro)


def alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, atol=1e-6, rtol=0) for a, b in pairs)


def test_a_step_that_runs_out_of_memory_is_repeated_with_half_the_rows():
    whole, narrow = Narrow(20), Narrow(6)
    micro = MicroBatch("auto", "this")
    assert alike(run(narrow, micro), run(whole, None))
    assert narrow.tried == [20, 10, *[5] * 12]
    assert whole.tried == [20] * 3
    assert narrow.masks[0] == narrow.masks[1] == narrow.masks[2] == whole.masks[0]  # a step's random state is its own
    assert micro.rows == 5


def test_memory_that_runs_out_after_some_parts_leaves_nothing_of_them():
    class Late(Narrow):
        def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            self.fits = 20 if len(self.tried) != 5 else 1  # the second part of the second step
            return super().loss(model, batch)

    late = Late(20)
    assert alike(run(late, micro_of(5, "late")), run(Narrow(20), None))
    assert late.tried == [*[5] * 6, *[2] * 20]


def micro_of(rows: int, what: str) -> MicroBatch:
    """One that has found so many already."""
    memory._found[memory.key_of(what)] = rows
    return MicroBatch("auto", what)


def test_what_was_found_is_remembered_of_runs_that_are_alike(tmp_path):
    checkpoints = Checkpoints(Store(tmp_path), "run", 0)
    run(Narrow(6), MicroBatch("auto", {"hidden": 16}, checkpoints), checkpoints)
    again = Narrow(6)
    run(again, MicroBatch("auto", {"hidden": 16}))
    assert again.tried == [5] * 12
    assert [MicroBatch("auto", {"hidden": 8}).rows, MicroBatch(None, {"hidden": 16}).rows] == [None, None]
    memory._found.clear()  # another process, which goes on from the checkpoints
    assert MicroBatch("auto", {"hidden": 16}, checkpoints).rows == 5
    checkpoints.clear()
    assert MicroBatch("auto", {"hidden": 16}, checkpoints).rows is None


@pytest.mark.parametrize(
    ("setting", "fits", "tried", "says"),
    [
        (
            "auto",
            0,
            [20, 10, 5, 2, 1],
            r"^a pass over 1 row doesn't fit the memory \(tried to allocate \d+ bytes\), and none",
        ),
        (7, 3, [7], r"^a pass over 7 rows .*; resources\.trial\.micro_batch: auto takes fewer rows at a time$"),
        (None, 3, [20], r"^a pass over 20 rows .*; resources\.trial\.micro_batch: auto takes fewer rows at a time$"),
    ],
)
def test_what_does_not_fit_is_said_and_not_tried_for_ever(setting: Any, fits: int, tried: list[int], says: str):
    objective = Narrow(fits)
    with pytest.raises(TrainingFault, match=says):
        run(objective, MicroBatch(setting, "this"))
    assert objective.tried[: len(tried)] == tried


def test_with_other_workers_the_fault_is_raised_and_what_was_found_is_kept(tmp_path):
    """The group is torn down and begins again; the others would else wait for this one."""
    checkpoints = Checkpoints(Store(tmp_path), "run", 0)
    micro = MicroBatch("auto", "this", checkpoints)

    def attempt(most: int | None) -> int:
        raise memory.Exhausted(8, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))

    with pytest.raises(torch.OutOfMemoryError):
        micro.fitted(attempt, lambda: None, alone=False)
    memory._found.clear()
    assert MicroBatch("auto", "this", checkpoints).rows == 4


def test_the_optimizer_may_not_fit(monkeypatch):
    def step(self: Any) -> None:
        torch.empty(2**58)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingFault, match="optimizer's state"):
        run(Narrow(20), MicroBatch("auto", "this"))


def test_what_memory_that_runs_out_looks_like():
    assert is_exhaustion(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_exhaustion(MemoryError())
    assert is_exhaustion(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert not is_exhaustion(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40), most=st.integers(1, 12), least=st.integers(1, 5))
def test_chunks_are_the_rows_in_parts_that_are_small_and_even(lengths: list[int], most: int, least: int):
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    batch = {
        "input_ids": torch.arange(mask.numel()).reshape(mask.shape),
        "attention_mask": mask,
        "decoder_labels": torch.arange(len(lengths))[:, None].expand(-1, 2),
        "t": torch.tensor(0.5),
    }
    parts = chunks(batch, most, least)
    sizes = [rows_of(part) for part in parts]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == min(len(lengths), max(least, -(-len(lengths) // most)))
    assert sorted(row for part in parts for row in part["decoder_labels"][:, 0].tolist()) == [*range(len(lengths))]
    for part in parts:
        assert part["t"] == 0.5
        shown = part["attention_mask"] == 1
        rows = part["decoder_labels"][:, 0]
        assert torch.equal(part["input_ids"][shown], batch["input_ids"][rows][mask[rows] == 1])
        assert len(parts) == 1 or shown.any(0).all()  # as narrow as it can be


def test_parts_by_length_are_cut_further():
    mask = torch.ones(20, 8, dtype=torch.long)
    mask[:10, 2:] = 0
    parts = parts_of({"input_ids": mask, "attention_mask": mask}, 4)
    assert [tuple(part["input_ids"].shape) for part in parts] == [(4, 2), (3, 2), (3, 2), (4, 8), (3, 8), (3, 8)]
    assert len(parts_of({"input_ids": mask, "attention_mask": mask}, None)) == 2


@pytest.mark.parametrize("tuning", [{"method": "full"}, {"method": "lora", "rank": 2}])
def test_a_minimum_of_small_passes_is_that_of_whole_batches(trial, tmp_path, tuning):
    spec = trial("mlm", tuning=tuning, train={"batch_size": 20, "dropout": 0.0, "learning_rate": 1e-4})
    found, said = [], []
    for name, micro_batch in (("whole", None), ("small", 3)):
        store = Store(tmp_path / name)
        finetune(
            [spec],
            store,
            ALONE,
            checkpoint_every=0,
            log_every=5,
            report=lambda _: None,
            micro_batch=micro_batch,
        )
        (weights,) = store.folder(layout.MINIMA, spec.key).glob("*.safetensors")
        found.append(load_file(weights))
        said.append(store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE)["micro_batch"])
    assert said == [None, 3]
    for name, tensor in found[0].items():
        if not name.endswith("key.bias"):  # softmax ignores it: its gradient is rounding alone
            assert torch.allclose(found[1][name], tensor, atol=2e-5, rtol=0), name


@pytest.mark.parametrize("kind", ["bezier", "autoneb"])
def test_a_curve_of_small_passes_is_that_of_whole_batches(minima, tmp_path, kind: str):
    store, (one, other) = minima("full")
    fit = {"steps": 3, "batch_size": 20, "dropout": False, "learning_rate": 1e-3}
    curve = {"curve": kind, "fit": fit, **({"cycles": 1} if kind == "autoneb" else {})}
    losses = []
    for micro_batch in (None, 3):
        spec = Fitting.model_validate(
            {
                "a": one.key,
                "b": other.key,
                "space": "weights",
                "curve": curve,
                "task": one.task.model_dump(),
                "kind": "classifier",
            }
        )
        points: list[dict[str, float]] = []
        fit_curve(spec, store, ALONE, checkpoint_every=0, log_every=1, report=points.append, micro_batch=micro_batch)
        folder = store.folder(layout.CURVES, spec.key)
        folder.rename(tmp_path / f"{kind}-{micro_batch}")
        losses.append([point["loss"] for point in points])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
