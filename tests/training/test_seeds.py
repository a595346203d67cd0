"""Random streams are independent: a seed changes its own draws, and of all others not one bit, on every worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raymc.tasks.subset import window

ROWS, STEPS, BATCH = 40, 3, 4
SUBSET = {"rows": 16, "overlap": 0.5}
TASK = {"subset": SUBSET, "label_noise": 0.5}
CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "order": {"seeds": {"order": 1}},
    "masks": {"seeds": {"dropout": 1}},
    "head": {"seeds": {"head": 1}},
    "init": {"seeds": {"init": 1}},
    "backbone": {"model": {"perturbation": {"scale": 0.01, "seed": 1}}},
    "texts": {"task": {**TASK, "subset": {**SUBSET, "seed": 1}}},
    "labels": {"task": {**TASK, "noise_seed": 1}},
}
"""By the stream that a change is to reach, and no other."""
ALSO = {"order": {"texts", "labels"}, "texts": {"labels"}}
"""What follows: another order brings other rows, and other rows their labels."""
STREAMS = tuple(name for name in CHANGES if name != "base")
Draws = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(trial, two_run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draws]:
    """The draws of every trial: `alone`, and of two workers `first` and `second`."""
    folder = tmp_path_factory.mktemp("streams")
    words = ("good", "bad"), ("cat", "dog", "bird"), ("is", "was"), ("the", "a")
    rows = []
    for i in range(ROWS):  # all of one length, so that masks are of one shape; all of them different
        text = (
            f"{words[3][i % 2]} {words[1][i % 3]} {words[2][i // 2 % 2]} {words[0][i // 4 % 2]} {words[1][i // 8 % 3]}"
        )
        rows.append({"text": text, "label": ("pos", "neg")[i // 4 % 2]})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trials = {}
    for name, change in CHANGES.items():
        sections = {
            "tuning": {"method": "lora", "rank": 2, "dropout": 0.3},
            "train": {"steps": STEPS, "batch_size": BATCH, "dropout": 0.3},
            "model": {"perturbation": {"scale": 0.01}},
            "task": TASK,
            **change,
        }
        sections["task"] = {"dataset": {"path": str(folder)}, **sections["task"]}
        trials[name] = trial("mlm", **sections).model_dump(mode="json")
    (folder / "trials.json").write_text(json.dumps(trials))
    two_run("streams.py", folder)
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    return {"alone": first["alone"], "first": first["together"], "second": second["together"]}


@pytest.mark.parametrize("worker", ["alone", "first", "second"])
@pytest.mark.parametrize("changed", STREAMS)
def test_a_seed_changes_its_own_stream_and_no_other(found, worker: str, changed: str):
    base, other = found[worker]["base"], found[worker][changed]
    reached = {changed} | ALSO.get(changed, set())
    assert {stream for stream in STREAMS if other[stream] != base[stream]} == reached


@pytest.mark.parametrize("worker", ["alone", "first", "second"])
def test_a_changed_stream_is_another_one_in_every_part(found, worker: str):
    """Not in one step or one tensor alone; biases begin at zero whatever the seed."""
    for stream in ("head", "init", "backbone"):
        base, other = found[worker]["base"][stream], found[worker][stream][stream]
        assert base.keys() == other.keys()
        alike = {name for name in base if base[name] == other[name]}
        assert all(name.endswith("bias") or "lora_B" in name for name in alike), alike
        assert len(alike) < len(base)
    for stream in ("order", "masks", "texts"):
        base, other = found[worker]["base"][stream], found[worker][stream][stream]
        assert len(base) == STEPS
        assert not any(one == two for one, two in zip(base, other, strict=True))
    for name in CHANGES:
        masks = found[worker][name]["masks"]
        assert all(len(step) == len(masks[0]) >= 8 for step in masks)  # of embeddings, layers, LoRA and the head
        drawn = [mask for step in masks for mask in step]
        assert len(set(drawn)) == len(drawn)


def test_workers_share_a_batch_and_no_mask(found):
    for name in CHANGES:
        alone, first, second = (found[worker][name] for worker in ("alone", "first", "second"))
        for whole, one, two in zip(alone["order"], first["order"], second["order"], strict=True):
            assert (one, two) == (whole[0::2], whole[1::2])
        masks = [{mask for step in draws["masks"] for mask in step} for draws in (first, second)]
        assert not masks[0] & masks[1]
        for stream in ("head", "init", "backbone"):
            assert alone[stream] == first[stream] == second[stream]


def test_the_rows_are_those_of_the_subset_with_its_noise(found):
    """As many wrong labels as said, on the rows that the window names; all of it seen by the order of one epoch."""
    from raymc.specs.task import Subset

    draws = found["alone"]["base"]
    order = [row for step in draws["order"] for row in step]
    assert len(set(order)) == STEPS * BATCH
    assert set(order) <= set(range(SUBSET["rows"]))
    indices = window(ROWS, Subset.model_validate(SUBSET))
    right = {row: 1 - int(indices[row]) // 4 % 2 for row in order}  # neg, pos
    labels = dict(zip(order, (label for step in draws["labels"] for label in step), strict=True))
    wrong = {row for row in order if labels[row] != right[row]}
    assert len(wrong) <= 8  # half of 16, of which the order has seen 12
    assert len(wrong) >= 4
