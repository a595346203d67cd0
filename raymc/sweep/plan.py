"""What a sweep would compute, what the store has of it, and about what it costs. Runs nothing."""

from __future__ import annotations

import functools
import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import Planes
from raymc.connectivity.records import fit_task
from raymc.specs.content import backbone_folder, backbone_trajectory
from raymc.specs.curves import AutoNebCurve
from raymc.specs.errors import CorruptArtefact
from raymc.specs.model import GrammarBackbone, Pretrained
from raymc.specs.precision import Decision
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.task import HubDataset, TaskSpec, training_row_count
from raymc.specs.text import TextBackbone
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import Locate, backbones_of, check, open_store, trials_by_key, unlocated, whole_minima

_FLOPS_PER_CORE = 5e10  # of fp32 matrix products on one server core; said in the estimate's basis
_GRAMMAR_TOKENS = 12  # a line of the built-in grammar, on the mean
_SIZES = (  # how configs call width, depth and the feed-forward's width
    ("hidden_size", "d_model", "n_embd", "dim"),
    ("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    ("intermediate_size", "d_ff", "n_inner", "hidden_dim"),
)
_TOKENS_PER_WORD = 1.35  # of a WordPiece vocabulary on English text


@dataclass(frozen=True)
class Plan:
    """Counts of a sweep. `forward_passes`: passes of a model over one whole split that are still to do."""

    spec: SweepSpec
    storage: str
    points: dict[str, Point]
    minima_done: int
    backbones_total: int
    backbones_done: int
    curves_total: int
    curves_done: int
    pairs_total: int
    pairs_done: int
    forward_passes: int
    forward_passes_total: int
    estimate: dict[str, Any]
    precision: Decision

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "storage": self.storage,
            "minima": {"total": len(self.points), "done": self.minima_done},
            "backbones": {"total": self.backbones_total, "done": self.backbones_done},
            "curves": {"total": self.curves_total, "done": self.curves_done},
            "pairs": {"total": self.pairs_total, "done": self.pairs_done},
            "forward_passes": self.forward_passes,
            "forward_passes_total": self.forward_passes_total,
            "precision": self.precision.model_dump(mode="json") | {"told": self.precision.told},
            "estimate": self.estimate,
            "trials": [{"key": key, "axes": point.values} for key, point in self.points.items()],
            "spec": self.spec.model_dump(mode="json"),
        }


def plan(spec: SweepSpec, *, storage: str | None = None, checked: bool = False, locate: Locate = unlocated) -> Plan:
    """Raises SpecError for faults in the spec's files and data; `checked` skips looking at them again."""
    if not checked:
        check(spec)
    store = open_store(spec, storage, write=False)
    points = trials_by_key(spec, locate)
    there = whole_minima(store, set(points))
    backbones = backbones_of(points, set(points))
    from raymc.tasks.rows import labels_of

    connections = Connections(spec, store, points, labels_of)
    passes, passes_total = connections.forward_passes(there)
    of_planes = Planes(connections).forward_passes(there)
    passes, passes_total = passes + of_planes[0], passes_total + of_planes[1]
    fits = list(connections.fits())
    fitted = store.keys(layout.CURVES) if fits else set()
    fits_todo = [one for one in fits if connections.fit_key(*one) not in fitted]
    return Plan(
        spec=spec,
        storage=store.uri,
        points=points,
        minima_done=len(there),
        backbones_total=len(backbones),
        backbones_done=sum(store.has(layout.BACKBONES, key) for key in backbones),
        curves_total=len(fits),
        curves_done=len(fits) - len(fits_todo),
        pairs_total=connections.total_pairs(),
        pairs_done=connections.done_pairs(there),
        forward_passes=passes,
        forward_passes_total=passes_total,
        precision=connections.decisions.decision,
        estimate=_estimate(spec, store, points, there, passes, _tokens_fitted(spec, fits_todo)),
    )


def _tokens_fitted(spec: SweepSpec, fits: list[tuple[str, str, str]]) -> float:
    """Training tokens of the fits that are still to do; an update of autoneb takes each pivot and each cycle."""
    total = 0.0
    for curve, count in Counter(curve for _, _, curve in fits).items():
        how = spec.connectivity.curve(curve)
        counted, fit = _rows_and_tokens(fit_task(spec, how), fit_task(spec, how).train_split), how.fitted
        if counted is not None and fit is not None:
            pivots = how.pivots + how.insert * (how.cycles - 1) / 2 if isinstance(how, AutoNebCurve) else 1.0
            updates = fit.steps * (how.cycles * pivots if isinstance(how, AutoNebCurve) else fit.draws)
            total += count * updates * fit.batch_size * counted[1]
    return total


def _estimate(
    spec: SweepSpec, store: Store, points: dict[str, Point], there: set[str], passes: int, fitted: float
) -> dict[str, Any]:
    """Floating-point operations still to do (2 a weight and token forward, 6 in training) and rough seconds."""
    from raymc.training.schedule import steps_of

    todo = {key: point.trial for key, point in points.items() if key not in there and point.existing is None}
    models = [point.trial.model for key, point in points.items() if key in todo] or [
        point.trial.model for point in points.values()
    ]
    weights = {_weights(model.backbone, backbone_folder(model)) for model in models}
    sets = {rows_of.name: _rows_and_tokens(rows_of.task, rows_of.split) for rows_of in spec.row_sets}
    trained = {key: _rows_and_tokens(trial.task, trial.task.train_split) for key, trial in todo.items()}
    if None in weights or None in sets.values() or None in trained.values():
        return {"train_flops": None, "evaluate_flops": None, "seconds": None, "basis": "unknown: on the hub"}
    size = max(weight for weight in weights if weight is not None)
    per_pass = sum(rows * tokens for rows, tokens in filter(None, sets.values())) / len(sets)
    tokens_trained, ends = 0.0, dict.fromkeys((trial.trajectory for trial in todo.values()), 0.0)
    for key, trial in todo.items():
        rows, tokens = trained[key] or (0, 0.0)
        steps = trial.train.snapshot or steps_of(trial, training_row_count(trial.task, rows))
        ends[trial.trajectory] = max(ends[trial.trajectory], steps * trial.train.batch_size * tokens)
    tokens_trained = sum(ends.values()) + fitted
    train = 6.0 * size * tokens_trained + sum(
        _pretraining(backbone) for key, backbone in _runs(points).items() if not store.has(layout.BACKBONES, key)
    )
    evaluate = 2.0 * size * per_pass * passes
    measured = _measured_rate(store, points, there)
    cores = os.cpu_count() or 1
    if measured:
        rate, count = measured
        seconds = (per_pass * passes + 3 * tokens_trained) / rate / cores
        basis = f"{count} minima of this sweep trained in this storage, {rate:.0f} tokens/s a worker; {cores} workers"
    else:
        seconds = (train + evaluate) / (_FLOPS_PER_CORE * cores)
        basis = f"{size:.3g} weights in matrix products, about {per_pass:.0f} tokens a pass, {cores} cores at an "
        basis += "assumed 50 GFLOP/s each, start-up (about half a minute) and the overhead of small models not counted"
    if spec.model.kind != "classifier":
        basis += "; a pass over labels as text costs more than is counted"
    return {"train_flops": train, "evaluate_flops": evaluate, "seconds": seconds, "basis": basis}


def _runs(points: dict[str, Point]) -> dict[str, Pretrained]:
    """Of each pre-training run the backbone that lies furthest, by its key."""
    furthest: dict[str, tuple[int, str, Pretrained]] = {}
    for key, backbone in backbones_of(points, set(points)).items():
        run, steps = backbone_trajectory(backbone), _updates(backbone)
        if run not in furthest or steps > furthest[run][0]:
            furthest[run] = (steps, key, backbone)
    return {key: backbone for _, key, backbone in furthest.values()}


def _updates(backbone: Pretrained) -> int:
    snapshot = getattr(backbone, "snapshot", None)
    return backbone.steps if snapshot is None else snapshot


def _pretraining(backbone: Pretrained) -> float:
    """Floating-point operations of one pre-training run; 0 where its network isn't known here."""
    tokens = backbone.max_length if isinstance(backbone, TextBackbone) else _GRAMMAR_TOKENS
    return 6.0 * (_weights(backbone, None) or 0.0) * tokens * _updates(backbone) * backbone.batch_size


def _measured_rate(store: Store, points: dict[str, Point], there: set[str]) -> tuple[float, int] | None:
    """Forward tokens a second and worker (a training token counts as three) over this sweep's finished minima."""
    tokens = seconds = 0.0
    trained = sorted(key for key in there if points[key].existing is None)
    for key in trained[:20]:
        try:
            body = store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        except CorruptArtefact:
            continue
        share = body["tokens"] / body["rows"]
        tokens += 3 * share * body["steps"] * points[key].trial.train.batch_size
        seconds += body["seconds"]["train"] * body["workers"]
    return (tokens / seconds, len(trained)) if seconds else None


def _rows_and_tokens(task: TaskSpec, split: str) -> tuple[int, float] | None:
    """(rows, mean tokens a row) of a split, from the words of its first thousand rows; None where it's on the hub."""
    return _counted(task.model_dump_json(), split)


@functools.cache
def _counted(task_json: str, split: str) -> tuple[int, float] | None:
    from raymc.tasks.rows import read_rows

    task = TaskSpec.model_validate_json(task_json)
    if isinstance(task.dataset, HubDataset):
        return None
    rows = read_rows(task, split)
    pairs = rows.text_pair[:1000] if rows.text_pair else [""] * 1000
    words = [len(f"{a} {b}".split()) for a, b in zip(rows.text[:1000], pairs, strict=False)]
    return len(rows), sum(min(task.max_length, 2 + _TOKENS_PER_WORD * count) for count in words) / len(words)


def _weights(backbone: str | Pretrained, folder: Path | None) -> float | None:
    """Weights that take part in matrix products: all but embeddings; from the file's header, no tensor is read."""
    if isinstance(backbone, TextBackbone):
        fields = backbone.architecture
        width, depth, inner = (
            next((fields[name] for name in names if isinstance(fields.get(name), int)), None) for names in _SIZES
        )
        if width is None or depth is None:
            return None
        blocks = 2 if backbone.pretrain == "span" else 1  # an encoder and a decoder
        return float(blocks * depth * (4 * width**2 + 2 * width * (inner or 4 * width)))
    if isinstance(backbone, GrammarBackbone):
        hidden = backbone.hidden_size
        return backbone.layers * (4.0 * hidden**2 + 2 * hidden * backbone.intermediate_size)
    if folder is None:
        return None
    total = 0.0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__" and not any(word in name for word in ("embed", "wte", "wpe", "shared")):
                total += math.prod(entry["shape"])
    return total
