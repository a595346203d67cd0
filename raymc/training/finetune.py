"""Fine-tune one minimum and put it into the store as a Hugging Face or PEFT folder with its provenance."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones, tuning
from raymc.tasks.rows import label_names, read_rows
from raymc.tasks.tokens import tokenize
from raymc.training.checkpoint import Checkpoints
from raymc.training.loop import Recipe, Report, train
from raymc.training.objectives import Classification
from raymc.training.parallel import Group
from raymc.training.schedule import steps_of


def finetune(
    trial: TrialSpec, store: Store, group: Group, *, checkpoint_every: int, log_every: int, report: Report
) -> None:
    """Train one minimum to the end and store it under its key. All workers of the trial call it.

    `report` gets points of the training curve, with `steps` added. Raises RaymcError for faults of the input and
    TrainingFault for those of the training; nothing is visible in the store until the folder is whole.
    """
    backbones.quiet()
    started = time.perf_counter()
    if trial.train.batch_size < group.size:
        raise RaymcError(f"train.batch_size: {trial.train.batch_size} rows can't be split over {group.size} workers")
    rows = read_rows(trial.task, trial.task.train_split)
    labels = label_names(trial.task, rows)
    place, commit = backbones.source(trial.model, store)
    tokenizer = backbones.load_tokenizer(place, commit, trial.model.trust_remote_code)
    tokens = tokenize(tokenizer, rows, labels, trial.task.max_length)
    model = backbones.load_classifier(trial, labels, store)
    known, highest = model.get_input_embeddings().num_embeddings, int(tokens.ids.max())
    if highest >= known:
        raise RaymcError(f"model.backbone: {place} has {known} embeddings, and its tokenizer makes token {highest}")
    model = tuning.apply(model, trial.tuning, trial.seeds.init)
    settings = trial.train
    recipe = Recipe(
        steps=steps_of(trial, len(rows)),
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        clip_norm=settings.clip_norm,
        precision=settings.precision,
        dropout_seed=trial.seeds.dropout,
        log_every=log_every,
    )
    checkpoints = Checkpoints(store, trial.key, checkpoint_every)
    loaded = time.perf_counter()
    objective = Classification(tokens, settings.batch_size, trial.seeds.order)
    wrapped, curve = train(
        model, objective, recipe, group, checkpoints, lambda point: report({**point, "steps": recipe.steps})
    )
    trained = time.perf_counter()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(wrapped, options=options)
    if group.rank == 0:
        seconds = {"load": loaded - started, "train": trained - loaded}
        provenance = {
            "key": trial.key,
            "content": trial.content,
            "trial": trial.model_dump(mode="json"),
            "labels": list(labels),
            "rows": len(rows),
            "steps": recipe.steps,
            "tokens": int(tokens.offsets[-1]),
            "seconds": seconds,
            "device": group.device,
            "workers": group.size,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "commit": commit_of_raymc(),
        }
        with store.create(layout.MINIMA, trial.key) as folder:
            model.save_pretrained(folder, state_dict=state)
            tokenizer.save_pretrained(folder)
            (folder / layout.TRAINING_CURVE).write_text("".join(json.dumps(point) + "\n" for point in curve))
            seconds["total"] = time.perf_counter() - started
            (folder / layout.PROVENANCE).write_text(json.dumps(provenance, indent=1))
        checkpoints.clear()
    group.wait()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from importlib.metadata import version

    names = ("raymc", "torch", "transformers", "peft", "tokenizers", "ray", "numpy")
    return {name: version(name) for name in names}


def commit_of_raymc() -> str | None:
    """The commit that raymc runs from, with `-dirty` where files differ; None where it isn't a git checkout."""
    home = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None
