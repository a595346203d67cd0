"""Fitted curves on a real Ray: killed in mid-fit and resumed to the same bits, analysed, and a soup exported."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raymc.specs.load import load_spec
from raymc.store import layout
from raymc.sweep import open_sweep
from raymc.tasks.rows import read_rows

CURVES = (
    "connectivity.curves=[linear, {curve: bezier, fit: {steps: 120, batch_size: 8, select: test, select_every: 20}}, "
    "{curve: autoneb, cycles: 2, fit: {steps: 4, batch_size: 8}}]"
)
ARGUMENTS = ("--json", "--set", CURVES, "--set", "connectivity.splits=[validation]", "--set", "tracking.enabled=false")


@pytest.fixture(scope="module")
def undisturbed(raymc, tiny, tmp_path_factory) -> Path:
    storage = tmp_path_factory.mktemp("curves")
    done = raymc("run", tiny, "--storage", storage, *ARGUMENTS)
    assert done.code == 0, done.err
    counts = done.json
    assert counts["curves"] == {"total": 12, "computed": 12, "reused": 0, "failed": 0}
    assert counts["pairs"]["computed"] == 18
    return storage


@pytest.fixture
def storage(undisturbed, copied, tmp_path) -> Path:
    """A storage with backbones and minima alone: what is killed here comes after them."""
    return copied(undisturbed, tmp_path / "store", layout.BACKBONES, layout.MINIMA)


def test_a_run_killed_in_mid_fit_goes_on_to_the_same_bits(start, raymc, spec, storage, undisturbed, wait_for, end):
    process = start("run", spec, "--storage", storage, *ARGUMENTS, all_cpus=False)

    def curves() -> list[Path]:
        return list((storage / "curves").glob("*/MANIFEST.json"))

    def fitting() -> bool:  # a fit under way, past its first checkpoint, and one that is done
        return bool(curves()) and any((storage / "checkpoints").rglob("step-*/MANIFEST.json"))

    wait_for(process, fitting)
    end(process)
    kept = {path: path.stat().st_mtime_ns for path in curves()}
    assert 0 < len(kept) < 12
    done = raymc("run", spec, "--storage", storage, *ARGUMENTS)
    assert done.code == 0, done.err
    assert done.json["curves"] == {"total": 12, "computed": 12 - len(kept), "reused": len(kept), "failed": 0}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for table in ("profiles", "barriers"):
        ours, theirs = ((home / "sweeps/tiny" / f"{table}.parquet").read_bytes() for home in (storage, undisturbed))
        assert ours == theirs
    assert not list((storage / "checkpoints").rglob("MANIFEST.json"))
    again = raymc("run", spec, "--storage", storage, *ARGUMENTS)
    assert again.json["curves"]["computed"] == again.json["pairs"]["computed"] == 0


def test_every_section_says_what_its_numbers_are(raymc, undisturbed):
    done = raymc("analyze", "tiny", "--storage", undisturbed, "--json")
    assert done.code == 0, done.err
    sections = json.loads(done.out)["sections"]
    assert {one["curve"] for one in sections} >= {"linear", "bezier", "autoneb", "linear, bezier"}
    for one in sections:
        assert one["definition"]
        assert one["split"] == "validation"
        assert one["space"] == "weights"
    barriers = pd.read_parquet(undisturbed / "sweeps/tiny/barriers.parquet")
    assert (barriers["barrier_entezari_low"] <= barriers["barrier_entezari"]).all()
    assert (barriers["barrier_entezari"] <= barriers["barrier_entezari_high"]).all()
    assert set(barriers.loc[barriers["curve"] == "bezier", "chosen_on"]) == {"test"}


def test_intervals_are_made_of_the_rows_that_are_kept(undisturbed):
    sweep = open_sweep("tiny", storage=str(undisturbed))
    table = sweep.barriers()
    table = table[table["curve"] == "bezier"].reset_index(drop=True)
    again, narrow = sweep.intervals(0.95, "bezier"), sweep.intervals(0.5, "bezier")
    for name in ("barrier_entezari", "barrier_ainsworth", "barrier_frankle", "convexity_gap"):
        for side in ("low", "high"):
            assert again[f"{name}_{side}"].tolist() == pytest.approx(table[f"{name}_{side}"].tolist(), abs=1e-6)
        assert (narrow[f"{name}_high"] - narrow[f"{name}_low"] <= again[f"{name}_high"] - again[f"{name}_low"]).all()


def test_an_exported_soup_scores_in_plain_transformers_as_raymc_said(raymc, tiny, undisturbed, tmp_path):
    folder = tmp_path / "soup"
    done = raymc("export", "tiny", "--storage", undisturbed, "--soup", "uniform", "-o", folder, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)["scores"][0]
    task = load_spec(tiny).task
    rows = read_rows(task, "validation")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    number = model.config.label2id
    losses, right = [], []
    with torch.inference_mode():
        for text, label in zip(rows.text, rows.labels, strict=True):
            inputs = tokenizer(text, truncation=True, max_length=task.max_length, return_tensors="pt")
            logits = model(**inputs).logits.double()
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([number[label]])).item())
            right.append(logits.argmax().item() == number[label])
    assert sum(losses) / len(losses) == pytest.approx(told["validation_loss"], abs=1e-6)
    assert sum(right) / len(right) == told["validation_accuracy"]
