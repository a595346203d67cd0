"""Take a minimum that exists already into the store: nothing trains."""

from __future__ import annotations

import json
import time

from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones, existing, tuning
from raymc.training.provenance import of_minimum


def take(trial: TrialSpec, store: Store) -> None:
    """Copy an existing Hugging Face or PEFT checkpoint into the store, in fp32, under its trial's key.

    Raises RaymcError where it can't be read, or its labels have no names that the task's could be matched by.
    """
    backbones.quiet()
    started = time.perf_counter()
    labels = existing.existing_labels(trial) if trial.model.kind == "classifier" else ()
    model, tokenizer = existing.open_existing(trial, labels, store)
    seconds = {"load": time.perf_counter() - started, "train": 0.0}
    provenance = of_minimum(trial, labels, rows=0, steps=0, tokens=0, seconds=seconds, device="cpu", workers=1)
    with store.create(layout.MINIMA, trial.key) as folder:
        tuning.save(model, trial, folder, model.state_dict())
        tokenizer.save_pretrained(folder)
        (folder / layout.TRAINING_CURVE).write_text("")
        seconds["total"] = time.perf_counter() - started
        (folder / layout.PROVENANCE).write_text(json.dumps(provenance, indent=1))
