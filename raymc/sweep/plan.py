"""What a sweep would compute, what the store has of it, and about what it costs. Runs nothing."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymc.connectivity.pairs import Connections
from raymc.specs.content import backbone_folder
from raymc.specs.errors import CorruptArtefact
from raymc.specs.model import GrammarBackbone
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.task import HubDataset
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.check import backbones_of, check, open_store, trials_by_key, whole_minima

_FLOPS_PER_CORE = 5e10  # of fp32 matrix products on one server core; said in the estimate's basis
_GRAMMAR_TOKENS = 12  # a line of the built-in grammar, on the mean
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
    pairs_total: int
    pairs_done: int
    forward_passes: int
    forward_passes_total: int
    estimate: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "storage": self.storage,
            "minima": {"total": len(self.points), "done": self.minima_done},
            "backbones": {"total": self.backbones_total, "done": self.backbones_done},
            "pairs": {"total": self.pairs_total, "done": self.pairs_done},
            "forward_passes": self.forward_passes,
            "forward_passes_total": self.forward_passes_total,
            "estimate": self.estimate,
            "trials": [{"key": key, "axes": point.values} for key, point in self.points.items()],
            "spec": self.spec.model_dump(mode="json"),
        }


def plan(spec: SweepSpec, *, storage: str | None = None, checked: bool = False) -> Plan:
    """Raises SpecError for faults in the spec's files and data; `checked` skips looking at them again."""
    if not checked:
        check(spec)
    store = open_store(spec, storage, write=False)
    points = trials_by_key(spec)
    there = whole_minima(store, set(points))
    backbones = backbones_of(points, set(points))
    connections = Connections(spec, store, {key: point.trial for key, point in points.items()})
    pairs = math.comb(len(points), 2) * len(spec.connectivity.curves)
    pairs_done = connections.done_pairs(there)
    splits, interior = len(spec.connectivity.splits), spec.connectivity.points - 2
    passes_total = splits * (len(points) + pairs * interior)
    passes = passes_total - connections.done_endpoints(there) - splits * pairs_done * interior
    return Plan(
        spec=spec,
        storage=store.uri,
        points=points,
        minima_done=len(there),
        backbones_total=len(backbones),
        backbones_done=sum(store.has(layout.BACKBONES, key) for key in backbones),
        pairs_total=pairs,
        pairs_done=pairs_done,
        forward_passes=passes,
        forward_passes_total=passes_total,
        estimate=_estimate(spec, store, points, there, passes),
    )


def _estimate(spec: SweepSpec, store: Store, points: dict[str, Point], there: set[str], passes: int) -> dict[str, Any]:
    """Floating-point operations still to do (2 a weight and token forward, 6 in training) and rough seconds."""
    from raymc.training.schedule import steps_of

    todo = [point.trial for key, point in points.items() if key not in there]
    weights = {_weights(trial.model.backbone, backbone_folder(trial.model)) for trial in todo} or {
        _weights(point.trial.model.backbone, backbone_folder(point.trial.model)) for point in points.values()
    }
    lengths = _tokens_a_row(spec)
    if None in weights or lengths is None:
        return {"train_flops": None, "evaluate_flops": None, "seconds": None, "basis": "unknown: on the hub"}
    size = max(weight for weight in weights if weight is not None)
    train_rows, train_tokens = lengths[spec.task.train_split]
    per_pass = sum(tokens * rows for rows, tokens in (lengths[s] for s in spec.connectivity.splits)) / len(
        spec.connectivity.splits
    )
    rows_trained = sum(steps_of(trial, train_rows) * trial.train.batch_size for trial in todo)
    train = 6.0 * size * train_tokens * rows_trained
    train += sum(
        6.0 * (_weights(one, None) or 0.0) * _GRAMMAR_TOKENS * one.steps * one.batch_size
        for key, one in backbones_of(points, set(points)).items()
        if not store.has(layout.BACKBONES, key)
    )
    evaluate = 2.0 * size * per_pass * passes
    measured = _measured_rate(store, points, there)
    cores = os.cpu_count() or 1
    tokens = f"about {train_tokens:.0f} tokens a training row"
    if measured:
        rate, count = measured
        seconds = (per_pass * passes + 3 * train_tokens * rows_trained) / rate / cores
        basis = f"{count} minima of this sweep trained in this storage, {rate:.0f} tokens/s a worker; {cores} workers"
    else:
        seconds = (train + evaluate) / (_FLOPS_PER_CORE * cores)
        basis = f"{size:.3g} weights in matrix products, {tokens}, {cores} cores at an assumed 50 GFLOP/s each, "
        basis += "start-up (about half a minute) and the overhead of small models not counted"
    return {"train_flops": train, "evaluate_flops": evaluate, "seconds": seconds, "basis": basis}


def _measured_rate(store: Store, points: dict[str, Point], there: set[str]) -> tuple[float, int] | None:
    """Forward tokens a second and worker (a training token counts as three) over this sweep's finished minima."""
    tokens = seconds = 0.0
    for key in sorted(there)[:20]:
        try:
            body = store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        except CorruptArtefact:
            continue
        share = body["tokens"] / body["rows"]
        tokens += 3 * share * body["steps"] * points[key].trial.train.batch_size
        seconds += body["seconds"]["train"] * body["workers"]
    return (tokens / seconds, len(there)) if seconds else None


def _tokens_a_row(spec: SweepSpec) -> dict[str, tuple[int, float]] | None:
    """(rows, mean tokens a row) of every split in use, from the words of its first thousand rows."""
    from raymc.tasks.rows import read_rows

    if isinstance(spec.task.dataset, HubDataset):
        return None
    result = {}
    for split in {spec.task.train_split, *spec.connectivity.splits}:
        rows = read_rows(spec.task, split)
        pairs = rows.text_pair[:1000] if rows.text_pair else [""] * 1000
        words = [len(f"{a} {b}".split()) for a, b in zip(rows.text[:1000], pairs, strict=False)]
        mean = sum(min(spec.task.max_length, 2 + _TOKENS_PER_WORD * count) for count in words) / len(words)
        result[split] = (len(rows), mean)
    return result


def _weights(backbone: str | GrammarBackbone, folder: Path | None) -> float | None:
    """Weights that take part in matrix products: all but embeddings; from the file's header, no tensor is read."""
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
