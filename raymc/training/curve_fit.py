"""Fit one curve between two minima of a store, and put it there."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raymc.specs.curves import AutoNebCurve, GatesCurve
from raymc.specs.errors import RaymcError
from raymc.specs.fitting import Fitting
from raymc.store import layout
from raymc.store.fitted import ends_fitted, ends_now
from raymc.store.store import Store
from raymc.tasks import backbones
from raymc.tasks.bends import save_bends
from raymc.tasks.groups import group_of
from raymc.tasks.minima import Minima
from raymc.tasks.points import PointModel
from raymc.tasks.rows import check_labels, read_rows
from raymc.tasks.scoring import make_scorer
from raymc.tasks.tokens import Tokens, tokenize
from raymc.training.autoneb import autoneb
from raymc.training.checkpoint import Checkpoints
from raymc.training.curve_choice import mean
from raymc.training.curve_steps import Fitted, Ground, Measure, fit
from raymc.training.data import TrainingData, tokenizer_of_folder, training_data
from raymc.training.loop import Report
from raymc.training.memory import MicroBatch, Setting
from raymc.training.objectives import objective_of
from raymc.training.parallel import Group
from raymc.training.provenance import commit_of_raymc, versions

_Ends = tuple[torch.Tensor, torch.Tensor]
_SAMPLE = 256  # training rows by which AutoNEB inserts pivots
_TOKEN_BUDGET = 4096  # a batch where nothing trains


def fit_curve(
    fitting: Fitting,
    store: Store,
    group: Group,
    *,
    checkpoint_every: int,
    log_every: int,
    report: Report,
    micro_batch: Setting = None,
    tokens: Path | None = None,
) -> None:
    """Fit a curve and store it under its key, unless it is there between the weights that its ends have now.

    All workers of the fit call it. `micro_batch`: as in the spec's resources.trial. `tokens`: a folder in which
    processes share the rows' token ids. The curve's folder holds the bends by tensor (raymc.tasks.bends),
    training.jsonl and curve.json. `report` gets points of the training curve, with `steps` added. Raises RaymcError for
    faults of the input (CorruptArtefact where a minimum isn't what was written) and TrainingFault for those of the fit;
    nothing is visible in the store until its folder is whole.
    """
    backbones.quiet()
    started = time.perf_counter()
    how, key = fitting.curve, fitting.key
    settings = fitting.fit
    if settings.batch_size < group.size:
        raise RaymcError(f"fit.batch_size: {settings.batch_size} rows can't be split over {group.size} workers")
    weights = ends_now(store, fitting.a, fitting.b)
    whole = Checkpoints(store, key, checkpoint_every)
    group.first(lambda: _set_aside_stale(store, key, weights))
    if group.agreed(store.has(layout.CURVES, key)):
        if group.rank == 0:  # stopped when it was stored, and before this
            whole.clear()
        return
    point, (a, b), data, select = group.together(lambda: _opened(fitting, store, group, tokens))
    names = [group_of(name, how.groups) for name in point.names] if isinstance(how, GatesCurve) else []
    gates = list(dict.fromkeys(names))
    ground = Ground(
        point,
        a,
        b,
        objective_of(fitting.kind, data.tokens, settings.batch_size, settings.seed),
        None if select is None else _measure(fitting.kind, select, group),
        _measure(fitting.kind, _sample(data.tokens, settings.seed), group) if isinstance(how, AutoNebCurve) else None,
        [gates.index(name) for name in names],
    )
    steps = settings.steps * (how.cycles if isinstance(how, AutoNebCurve) else 1)
    # a fit between other weights, of a minimum that was damaged and trained again, is another
    ends = hashlib.sha256("-".join(weights).encode()).hexdigest()[:12]
    checkpoints = Checkpoints(store, f"{key}/{ends}", checkpoint_every)
    loaded = time.perf_counter()
    alike = [fitting.kind, fitting.space, how.curve, fitting.task.max_length, [*map(list, point.shapes)]]
    micro = MicroBatch(micro_batch, alike, checkpoints)

    def told(point: dict[str, float]) -> None:
        report({**point, "steps": steps})

    if isinstance(how, AutoNebCurve):
        fitted = autoneb(how, ground, group, checkpoints, log_every, told, micro)
    else:
        fitted = fit(how, ground, group, checkpoints, log_every, told, micro)
    seconds = {"load": loaded - started, "fit": time.perf_counter() - loaded}
    provenance = {
        "key": key,
        "a": fitting.a,
        "b": fitting.b,
        "a_weights": weights[0],
        "b_weights": weights[1],
        "space": fitting.space,
        "kind": fitting.kind,
        "curve": how.model_dump(mode="json"),
        "task": fitting.task.model_dump(mode="json"),
        "rows": data.rows,
        "rows_digest": data.digest,
        "labels": list(data.labels),
        "bends": len(fitted.bends),
        "at": fitted.at,
        "gates": _shares(gates, fitted),
        "steps": steps,
        "chosen_step": fitted.step,
        "looks": [{"step": step, "loss": losses, "mean": mean(losses)} for step, losses in fitted.looks],
        **fitted.notes,
        "seconds": seconds,
        "device": group.device,
        "micro_batch": micro.rows,
        "workers": group.size,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit_of_raymc(),
    }

    def put() -> None:
        with store.create(layout.CURVES, key) as folder:
            save_bends(point, list(fitted.bends), folder, fitted.gates)
            lines = (json.dumps(one) + "\n" for one in fitted.training)
            (folder / layout.TRAINING_CURVE).write_text("".join(lines))
            seconds["total"] = time.perf_counter() - started
            (folder / layout.CURVE).write_text(json.dumps(provenance, indent=1))
        whole.clear()

    group.first(put)


def _set_aside_stale(store: Store, key: str, weights: tuple[str, str]) -> None:
    if store.has(layout.CURVES, key) and ends_fitted(store, key) != weights:
        store.set_aside(layout.CURVES, key)


def _opened(
    fitting: Fitting, store: Store, group: Group, shared: Path | None
) -> tuple[PointModel, tuple[torch.Tensor, torch.Tensor], TrainingData, Tokens | None]:
    """A model of the ends' shape, both ends as vectors, the training rows, and those of fit.select."""
    minima, keys = Minima(store, fitting.trials), (fitting.a, fitting.b)
    for key in keys:
        store.verify(layout.MINIMA, key, deep=True)
    one, other = (minima.made(key) for key in keys)
    if one.tokenizer != other.tokenizer:
        raise RaymcError("the ends have different tokenizers, so no text is the same input to both")
    data, select = _read(fitting, store, one.trial.model.trust_remote_code, shared)
    order = data.labels if fitting.kind == "classifier" else None
    for key, made in zip(keys, (one, other), strict=True):
        if order and set(made.labels) != set(order):
            raise RaymcError(f"fit.task: {key} has labels {', '.join(made.labels)}, the task {', '.join(order)}")
    folders = [store.folder(layout.MINIMA, key) for key in keys]
    point = PointModel(folders[0], one.trial, one.labels, fitting.space, store)
    point.to(group.device, "fp32")
    a, b = (
        point.read(folder, made.trial, made.labels, order=order).to(group.device)
        for folder, made in zip(folders, (one, other), strict=True)
    )
    known = point.model.get_input_embeddings().num_embeddings
    if data.tokens.highest >= known:
        raise RaymcError(f"{fitting.a} has {known} embeddings, and its tokenizer makes token {data.tokens.highest}")
    return point, (a, b), data, select


def _read(
    fitting: Fitting, store: Store, trust_remote_code: bool, shared: Path | None
) -> tuple[TrainingData, Tokens | None]:
    """The training rows, and those of the split of fit.select."""
    task, select = fitting.task, fitting.fit.select
    folder = store.folder(layout.MINIMA, fitting.a)

    def opened() -> Any:
        return backbones.load_tokenizer(str(folder), None, trust_remote_code)

    what = tokenizer_of_folder(folder, trust_remote_code)
    data, held = training_data(task, fitting.kind, what, opened, shared), None
    if select is not None:
        held_rows = read_rows(task, select)
        check_labels(held_rows, data.labels, select)
        held = tokenize(data.tokenizer, held_rows, data.labels, task, fitting.kind)
    return data, held


def _measure(kind: str, tokens: Tokens, group: Group) -> Measure:
    scorer = make_scorer(kind, tokens, _TOKEN_BUDGET, group.device)
    return lambda model: scorer(model).loss


def _sample(tokens: Tokens, seed: int) -> Tokens:
    """At most so many rows, drawn without replacement."""
    stream = np.random.Generator(np.random.PCG64(backbones.derived_seed("sample", seed)))
    rows = np.sort(stream.permutation(len(tokens))[:_SAMPLE])
    parts = [slice(*tokens.offsets[row : row + 2]) for row in rows]
    offsets = np.concatenate([[0], np.cumsum(tokens.lengths[rows])]).astype(np.int64)
    return Tokens(
        ids=np.concatenate([tokens.ids[part] for part in parts]),
        types=None if tokens.types is None else np.concatenate([tokens.types[part] for part in parts]),
        offsets=offsets,
        labels=tokens.labels[rows],
        pad_id=tokens.pad_id,
        choices=tokens.choices,
    )


def _shares(groups: list[str], fitted: Fitted) -> dict[str, float] | None:
    """What each group takes of b at t = 1/2, by its name."""
    if fitted.gates is None:
        return None
    return dict(zip(groups, torch.sigmoid(fitted.gates.double()).tolist(), strict=True))
