"""Fine-tune the minima of one trajectory and put them into the store as Hugging Face or PEFT folders."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import backbones, tuning
from raymc.training.checkpoint import Checkpoints
from raymc.training.data import TrainingData, tokenizer_of_model, training_data
from raymc.training.loop import Keep, Recipe, Report, train
from raymc.training.memory import MicroBatch, Setting
from raymc.training.objectives import objective_of
from raymc.training.parallel import Group
from raymc.training.provenance import of_minimum
from raymc.training.schedule import steps_of


def finetune(
    trials: Sequence[TrialSpec],
    store: Store,
    group: Group,
    *,
    checkpoint_every: int,
    log_every: int,
    report: Report,
    micro_batch: Setting = None,
    tokens: Path | None = None,
) -> None:
    """Train one run and store each of `trials`, snapshots of it, under its key. All workers of the run call it.

    Those that the store has already are left as they are. `report` gets points of the training curve, with `steps`
    added. `micro_batch`: as in the spec's resources.trial. `tokens`: a folder in which processes share the rows'
    token ids. Raises RaymcError for faults of the input and TrainingFault for those of the training; nothing is visible
    in the store until its folder is whole.
    """
    backbones.quiet()
    started = time.perf_counter()
    trial = trials[0]
    if trial.train.batch_size < group.size:
        raise RaymcError(f"train.batch_size: {trial.train.batch_size} rows can't be split over {group.size} workers")
    data = group.together(lambda: data_of(trial, store, tokens))
    steps = steps_of(trial, data.rows)
    due: dict[int, list[TrialSpec]] = {}  # counted in epochs, the end may be asked for as a snapshot too
    there = group.agreed([store.has(layout.MINIMA, one.key) for one in trials])
    for one, done in zip(trials, there, strict=True):
        if not done:
            due.setdefault(one.train.snapshot or steps, []).append(one)
    if max(due, default=0) > steps:
        raise RaymcError(f"train.snapshot: {max(due)} is past the end of the run, {steps} steps")
    checkpoints = Checkpoints(store, trial.trajectory, checkpoint_every)
    if not due:
        if group.rank == 0:  # stopped when all were stored, and before this
            checkpoints.clear()
        return
    model = group.together(lambda: prepared(trial, data, store))
    micro = MicroBatch(micro_batch, _memory(trial), checkpoints)
    recipe = recipe_of(trial, steps, log_every)
    loaded = time.perf_counter()

    def keeper(some: list[TrialSpec], step: int) -> Keep:
        def keep(wrapped: Any, curve: list[dict[str, float]]) -> None:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            state = get_model_state_dict(wrapped, options=options)
            group.first(lambda: put(some, step, state, curve))

        return keep

    def put(some: list[TrialSpec], step: int, state: Any, curve: list[dict[str, float]]) -> None:
        for one in some:
            seconds = {"load": loaded - started, "train": time.perf_counter() - loaded}
            provenance = _provenance(one, data, step, seconds, group, micro)
            with store.create(layout.MINIMA, one.key) as folder:
                tuning.save(model, one, folder, state)
                data.tokenizer.save_pretrained(folder)
                lines = (json.dumps(point) + "\n" for point in curve)
                (folder / layout.TRAINING_CURVE).write_text("".join(lines))
                seconds["total"] = time.perf_counter() - started
                (folder / layout.PROVENANCE).write_text(json.dumps(provenance, indent=1))

    train(
        model,
        objective_of(trial.model.kind, data.tokens, trial.train.batch_size, trial.seeds.order),
        recipe,
        group,
        checkpoints,
        lambda point: report({**point, "steps": max(due)}),
        {step: keeper(some, step) for step, some in due.items()},
        micro=micro,
    )
    if group.rank == 0:
        checkpoints.clear()
    group.wait()


def data_of(trial: TrialSpec, store: Store, tokens: Path | None) -> TrainingData:
    """The rows that a trial trains on, read by its backbone's tokenizer."""

    def opened() -> Any:
        place, commit = backbones.source(trial.model, store)
        return backbones.load_tokenizer(place, commit, trial.model.trust_remote_code)

    return training_data(trial.task, trial.model.kind, tokenizer_of_model(trial.model), opened, tokens)


def prepared(trial: TrialSpec, data: TrainingData, store: Store) -> Any:
    """The model as it starts to train."""
    model = backbones.load_model(trial, data.labels, store)
    known, highest = model.get_input_embeddings().num_embeddings, data.tokens.highest
    if highest >= known:
        raise RaymcError(f"model.backbone: it has {known} embeddings, and its tokenizer makes token {highest}")
    return tuning.apply(model, trial)


def _memory(trial: TrialSpec) -> list[Any]:
    """What decides how much memory a row takes."""
    parts = (trial.model, trial.tuning)
    return [*(part.model_dump(mode="json") for part in parts), trial.task.max_length, trial.train.precision]


def recipe_of(trial: TrialSpec, steps: int, log_every: int) -> Recipe:
    """The loop's settings of a trial."""
    settings = trial.train
    return Recipe(
        steps=steps,
        learning_rate=settings.learning_rate,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        momentum=settings.momentum,
        clip_norm=settings.clip_norm,
        precision=settings.precision,
        dropout_seed=trial.seeds.dropout,
        log_every=log_every,
    )


def _provenance(
    trial: TrialSpec, data: TrainingData, step: int, seconds: dict[str, float], group: Group, micro: MicroBatch
) -> dict[str, Any]:
    return of_minimum(
        trial,
        data.labels,
        rows=data.rows,
        rows_digest=data.digest,
        steps=step,
        tokens=int(data.tokens.offsets[-1]),
        seconds=seconds,
        device=group.device,
        workers=group.size,
        micro_batch=micro.rows,
        threads=torch.get_num_threads(),
    )
