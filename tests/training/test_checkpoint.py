"""A run that is stopped anywhere and begun again ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from raymc.specs.errors import CorruptArtefact
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.optimizers import make_optimizer
from raymc.training.checkpoint import Checkpoints
from raymc.training.finetune import finetune
from raymc.training.objectives import Classification
from raymc.training.parallel import Group

STEPS = 5
METHODS = {"full": {"method": "full"}, "lora": {"method": "lora", "rank": 2, "dropout": 0.2}}


class Stopped(Exception):
    pass


Outcome = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def run(spec: TrialSpec, store: Store, stop: int | None = None, every: int = 1, log_every: int = 1) -> list[int]:
    """Train, or be stopped in the report of step `stop`; the steps that were reported."""
    seen: list[int] = []

    def report(point: dict[str, float]) -> None:
        seen.append(int(point["step"]))
        if point["step"] == stop:
            raise Stopped

    options: dict[str, Any] = {"checkpoint_every": every, "log_every": log_every, "report": report}
    if stop is None:
        finetune([spec], store, Group(), **options)
    else:
        with pytest.raises(Stopped):
            finetune([spec], store, Group(), **options)
    return seen


def outcome(spec: TrialSpec, store: Store) -> Outcome:
    folder = store.folder(layout.MINIMA, spec.key)
    (weights,) = folder.glob("*.safetensors")
    return load_file(weights), [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in found[0].items())


def checkpoints(spec: TrialSpec, store: Store) -> list[int]:
    home = store.folder(layout.CHECKPOINTS, spec.key)
    return sorted(int(path.name.removeprefix("step-")) for path in home.glob("step-*"))


def place(spec: TrialSpec, store: Store, step: int) -> Path:
    return store.folder(layout.CHECKPOINTS, f"{spec.key}/step-{step:09d}")


@pytest.fixture(scope="module")
def spec(trial) -> Callable[[str], TrialSpec]:
    """spec("full") or ("lora"), with dropout on; LoRA from a backbone without a pooler."""
    return lambda method: trial("mlm" if method == "lora" else "bert", tuning=METHODS[method], train={"dropout": 0.2})


@pytest.fixture(scope="module")
def undisturbed(spec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    results = {}
    for method in METHODS:
        store = Store(tmp_path_factory.mktemp(method))
        run(spec(method), store, every=0)
        results[method] = outcome(spec(method), store)
    return results


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_stopped_after_any_step_it_ends_the_same(spec, undisturbed, store, method: str, stop: int):
    trial = spec(method)
    assert run(trial, store, stop) == list(range(1, stop + 1))
    assert store.has(layout.MINIMA, trial.key) == (stop == STEPS)  # it is kept before its step is reported
    assert checkpoints(trial, store) == ([stop - 1] if stop > 1 else [])
    again = list(range(stop, STEPS + 1)) if stop < STEPS else []
    assert run(trial, store) == again  # nothing that was kept is done again
    assert_same(outcome(trial, store), undisturbed[method])
    assert checkpoints(trial, store) == []
    assert not store.folder(layout.CHECKPOINTS, trial.key).exists()


def test_stopped_again_and_again(spec, undisturbed, store):
    trial = spec("full")
    for stop in (2, 3, 3, 4, 5):
        run(trial, store, stop)
    run(trial, store)
    assert_same(outcome(trial, store), undisturbed["full"])


@pytest.mark.parametrize(
    ("every", "log_every", "stop", "kept"),
    [
        (2, 1, 4, [2]),
        (2, 1, 5, [4]),
        (1, 2, 4, [2]),  # a checkpoint falls on a point of the curve
        (3, 2, 5, [4]),
        (100, 1, 5, []),
        (0, 1, 4, []),
    ],
)
def test_checkpoints_fall_where_they_are_due(spec, store, tmp_path: Path, every: int, log_every: int, stop, kept):
    trial = spec("full")
    whole = Store(tmp_path / "whole")
    run(trial, whole, every=0, log_every=log_every)
    run(trial, store, stop, every, log_every)
    assert checkpoints(trial, store) == kept
    run(trial, store, None, every, log_every)
    assert_same(outcome(trial, store), outcome(trial, whole))


def test_the_state_matters(spec, undisturbed, store, monkeypatch):
    """Were the optimizer's moments left out, the run would end elsewhere: the comparison above can fail."""
    trial = spec("full")
    run(trial, store, 4)
    monkeypatch.setattr("raymc.training.checkpoint.set_optimizer_state_dict", lambda *a, **b: None)
    run(trial, store)
    found, expected = outcome(trial, store)[0], undisturbed["full"][0]
    assert not all(torch.equal(found[name], expected[name]) for name in found)


# Damage --------------------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    """As a disk does it: no time of change tells, so that nothing but the hash can."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    manifest, later = path.with_name("MANIFEST.json"), time.time() + 1000
    os.utime(manifest, (later, later))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda folder: _flip(folder / "state.safetensors"),
    "a lost file": lambda folder: (folder / "curve.json").unlink(),
    "a cut file": lambda folder: (folder / "state.safetensors").write_bytes(b""),
    "no manifest": lambda folder: (folder / "MANIFEST.json").unlink(),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_older_used(
    spec, undisturbed, store, tmp_path: Path, method: str, damage: str
):
    trial = spec(method)
    run(trial, store, 3)
    older = Path(shutil.copytree(place(trial, store, 2), tmp_path / "older"))
    run(trial, store, 4)
    shutil.copytree(older, place(trial, store, 2))  # as if killed before it was removed
    assert checkpoints(trial, store) == [2, 3]
    DAMAGE[damage](place(trial, store, 3))
    assert run(trial, store) == [3, 4, 5]
    assert_same(outcome(trial, store), undisturbed[method])
    (aside,) = (store.root / layout.SET_ASIDE).iterdir()
    assert aside.name.startswith(f"checkpoints-{trial.key}-step-000000003-")
    assert not store.folder(layout.CHECKPOINTS, trial.key).exists()


def test_with_no_whole_checkpoint_it_begins_at_the_start(spec, undisturbed, store):
    trial = spec("full")
    run(trial, store, 4)
    DAMAGE["a flipped bit"](place(trial, store, 3))
    assert run(trial, store) == [1, 2, 3, 4, 5]
    assert_same(outcome(trial, store), undisturbed["full"])
    assert len(list((store.root / layout.SET_ASIDE).iterdir())) == 1


def test_a_half_written_checkpoint_is_not_seen(spec, undisturbed, store, monkeypatch):
    """Killed while it was being written: what lies under .tmp is no checkpoint."""
    trial = spec("full")
    written = 0

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal written
        written += 1
        path.write_bytes(b"half")
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("raymc.training.checkpoint.save_file", save)
        with pytest.raises(Stopped):
            finetune([trial], store, Group(), checkpoint_every=1, log_every=1, report=lambda _: None)
    assert written == 1
    assert checkpoints(trial, store) == []
    assert run(trial, store) == [1, 2, 3, 4, 5]
    assert_same(outcome(trial, store), undisturbed["full"])


# The files -----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_safetensors_and_json_of_what_trains(spec, store):
    for method in METHODS:
        trial = spec(method)
        run(trial, store, 4)
        folder = place(trial, store, 3)
        assert {path.name for path in folder.iterdir()} == {"state.safetensors", "curve.json", "MANIFEST.json"}
        store.verify(layout.CHECKPOINTS, f"{trial.key}/step-000000003", deep=True)
        assert [point["step"] for point in json.loads((folder / "curve.json").read_text())] == [1, 2, 3]
        parts: dict[str, set[str]] = {}
        for label in load_file(folder / "state.safetensors"):
            part, _, name = label.partition(":")
            parts.setdefault(part, set()).add(name)
        assert set(parts) == {"model", "exp_avg", "exp_avg_sq", "step"}
        assert parts["exp_avg"] == parts["exp_avg_sq"] == parts["step"] == parts["model"]
        assert any("layer.1" in name for name in parts["model"])
        if method == "lora":
            assert all("lora_" in n or "classifier" in n or "pooler" in n for n in parts["model"])
            assert len(parts["model"]) == 12


def test_another_trials_checkpoints_are_let_alone(spec, trial, store):
    first, second = spec("full"), trial(seeds={"order": 1})
    run(first, store, 4)
    run(second, store, 3)
    run(second, store)
    assert checkpoints(first, store) == [3]
    assert checkpoints(second, store) == []


def test_clearing_what_is_not_there(store):
    Checkpoints(store, "none", 1).clear()
    assert not store.root.exists()


def test_restore_reports_where_it_stands(store):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    kept = Checkpoints(store, "toy", 1)
    assert kept.restore(model, optimizer, Group(), 8) == (0, [])
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    curve = [{"step": 7.0, "loss": 0.1}]
    kept.save(model, optimizer, 7, curve, Group())
    again = torch.nn.Linear(2, 2)
    other = torch.optim.AdamW(again.parameters())
    assert kept.restore(again, other, Group(), 8) == (7, curve)
    assert torch.equal(again.weight, model.weight)
    for mine, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(CorruptArtefact):
        store.verify(layout.CHECKPOINTS, "toy/step-000000008")


def stepped(model: torch.nn.Module, name: str, **options: Any) -> Any:
    optimizer = make_optimizer(model, name, 0.01, weight_decay=0.1, **options)
    for step in range(2):
        for i, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 * (i + step + 1))
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return optimizer


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("adamw", {}, {"exp_avg": "tensor", "exp_avg_sq": "tensor", "step": "tensor"}),
        ("adafactor", {}, {"exp_avg_sq_row": "tensor", "exp_avg_sq_col": "tensor", "RMS": "tensor", "step": "int"}),
        ("sgd", {}, {"momentum_buffer": "tensor"}),
        ("sgd", {"momentum": 0.0}, {}),
    ],
)
def test_the_state_comes_back_as_it_was_in_kind_and_value(store, name: str, options: dict[str, Any], parts):
    """Numbers that are no tensors too: Adafactor's plain integer step, were it a tensor, would round otherwise."""
    model = torch.nn.Linear(2, 3)
    optimizer = stepped(model, name, **options)
    kept = Checkpoints(store, "toy", 1)
    kept.save(model, optimizer, 2, [], Group())
    again = torch.nn.Linear(2, 3)
    other = make_optimizer(again, name, 0.01, weight_decay=0.1, **options)
    assert kept.restore(again, other, Group(), 3) == (2, [])
    assert torch.equal(again.weight, model.weight)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        before, after = optimizer.state.get(mine, {}), other.state.get(theirs, {})
        kinds = [{part: type(value).__name__.lower() for part, value in state.items()} for state in (before, after)]
        assert kinds[0] == kinds[1]
        assert all(torch.equal(torch.as_tensor(before[part]), torch.as_tensor(after[part])) for part in before)
        if mine.ndim > 1:
            assert kinds[1] == parts
    files = {path.name for path in store.folder(layout.CHECKPOINTS, "toy/step-000000002").iterdir()}
    assert files == {"state.safetensors", "curve.json", "MANIFEST.json"}


def test_a_checkpoint_of_before_can_be_gone_on_from(store):
    """Its safetensors has no metadata: all of AdamW's state is tensors."""
    model = torch.nn.Linear(2, 3)
    optimizer = stepped(model, "adamw")
    kept = Checkpoints(store, "toy", 1)
    kept.save(model, optimizer, 2, [], Group())
    tensors = load_file(store.folder(layout.CHECKPOINTS, "toy/step-000000002") / "state.safetensors")
    with store.create(layout.CHECKPOINTS, "old/step-000000002") as folder:
        save_file(tensors, folder / "state.safetensors")
        (folder / "curve.json").write_text("[]")
    again = torch.nn.Linear(2, 3)
    other = make_optimizer(again, "adamw", 0.01, weight_decay=0.1)
    assert Checkpoints(store, "old", 1).restore(again, other, Group(), 3) == (2, [])
    assert all(
        torch.equal(optimizer.state[one][name], other.state[two][name])
        for one, two in zip(model.parameters(), again.parameters(), strict=True)
        for name in optimizer.state[one]
    )


class Tied(torch.nn.Module):
    """A table of embeddings that is the output layer too, as in T5 and GPT-2."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = torch.nn.Embedding(6, 4)
        self.inner = torch.nn.Linear(4, 4)
        self.out = torch.nn.Linear(4, 6, bias=False)
        self.out.weight = self.table.weight


@pytest.mark.parametrize("name", ["adamw", "adafactor", "sgd"])
def test_tied_weights_come_back_tied(store, name: str):
    model, again = Tied(0), Tied(1)
    optimizer = stepped(model, name)
    kept = Checkpoints(store, "tied", 1)
    kept.save(model, optimizer, 2, [], Group())
    other = make_optimizer(again, name, 0.01, weight_decay=0.1)
    kept.restore(again, other, Group(), 3)
    assert again.out.weight is again.table.weight
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
        assert optimizer.state[one].keys() == other.state[two].keys() != set()
        for part, value in optimizer.state[one].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state[two][part]))


def test_restore_looks_below_a_step_alone(store):
    model = torch.nn.Linear(2, 2)
    optimizer = stepped(model, "sgd")
    kept = Checkpoints(store, "toy", 1)
    curve = [{"step": 5.0}]
    kept.save(model, optimizer, 5, curve, Group())
    found = [kept.restore(torch.nn.Linear(2, 2), stepped(model, "sgd"), Group(), before) for before in (4, 5)]
    assert found == [(0, []), (0, [])]
    again = torch.nn.Linear(2, 2)
    assert kept.restore(again, make_optimizer(again, "sgd", 0.01, weight_decay=0.1), Group(), 6) == (5, curve)


def test_the_objective_is_asked_for_no_step_twice(spec, store, monkeypatch):
    """A resumed run neither repeats nor skips a batch."""
    asked: list[int] = []
    plain = Classification.batch

    def batch(self, step: int, group: Group):
        asked.append(step)
        return plain(self, step, group)

    monkeypatch.setattr(Classification, "batch", batch)
    trial = spec("full")
    run(trial, store, 3)
    assert asked == [0, 1, 2]
    asked.clear()
    run(trial, store)
    assert asked == [2, 3, 4]  # step 3's report never returned, so its checkpoint was never written


def test_another_process_may_remove_what_is_older_first(tmp_path: Path):
    class Late(Checkpoints):
        def _steps(self) -> list[int]:
            return [1, *super()._steps()]

    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, "sgd", 0.01, weight_decay=0.1)
    kept = Late(Store(tmp_path), "shared", 1)
    kept.save(model, optimizer, 2, [], Group())
    assert (tmp_path / layout.CHECKPOINTS / "shared" / "step-000000002" / layout.MANIFEST).is_file()
