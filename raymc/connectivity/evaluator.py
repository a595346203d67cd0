"""Scores endpoints and paths of one storage: endpoints cached within a bound, points written in place."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from raymc.connectivity.pairs import EndpointTask, PairTask
from raymc.landscape.curves import Linear
from raymc.landscape.distances import l2_and_cosine
from raymc.landscape.grid import even_points
from raymc.specs.errors import RaymcError
from raymc.specs.keys import canonical
from raymc.specs.results import METRICS, Evaluation, Profile
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.backbones import tokenizer_digest
from raymc.tasks.points import PointModel, architecture_of
from raymc.tasks.scoring import Scorer
from raymc.tasks.tokens import Tokens

CURVES = {"linear": Linear}


class Evaluator:
    """One worker's evaluator. Keeps one model, and endpoints as flat vectors up to `cache_bytes` (two at least)."""

    def __init__(
        self,
        store: Store,
        tokens: Mapping[str, Tokens],
        labels: tuple[str, ...],
        tokenizer: str,
        *,
        points: int,
        precision: str = "fp32",
        device: str = "cpu",
        cache_bytes: int = 2 << 30,
        token_budget: int = 4096,
    ):
        """`tokens`: by split, made with the tokenizer of digest `tokenizer`; `labels`: in the order of the logits."""
        self._store, self._labels, self._tokenizer = store, labels, tokenizer
        self._t, self._precision, self._device, self._cache_bytes = even_points(points), precision, device, cache_bytes
        self._scorers = {split: Scorer(part, token_budget, device) for split, part in tokens.items()}
        self._model: PointModel | None = None
        self._model_kind = ""
        self._endpoints: OrderedDict[str, tuple[torch.Tensor, str]] = OrderedDict()
        self.loads = 0

    def endpoint(self, task: EndpointTask) -> list[Evaluation]:
        """One evaluation a split. Raises RaymcError where it doesn't fit, CorruptArtefact where it is damaged."""
        model = self._model_of(task.key, task.space)
        vector, weights = self._endpoint(model, task.key)
        model.flat.copy_(vector)
        model.refresh()
        results = []
        for split in task.splits:
            started = time.perf_counter()
            scorer = self._scorers[split]
            score = scorer(model.model)
            results.append(
                Evaluation(
                    minimum=task.key,
                    weights=weights,
                    split=split,
                    rows=scorer.rows,
                    tokens=scorer.tokens,
                    loss=score.loss,
                    metrics=score.metrics,
                    seconds=time.perf_counter() - started,
                    device=self._device,
                )
            )
        return results

    def pair(self, task: PairTask, ends: Mapping[str, tuple[Evaluation, Evaluation]]) -> list[Profile]:
        """One profile a split; `ends` are the two endpoints' evaluations by split. Raises as `endpoint` does."""
        if task.space == "mixed":
            raise RaymcError("a full minimum has no factors; use connectivity.space: delta_w")
        model = self._model_of(task.a, task.space)
        a, a_weights = self._endpoint(model, task.a)
        b, b_weights = self._endpoint(model, task.b)
        for split, (first, last) in ends.items():
            if (first.weights, last.weights) != (a_weights, b_weights):
                raise RaymcError(f"split {split}: an endpoint was evaluated with other weights")
        curve = CURVES[task.curve](a, b)
        distance, cosine = l2_and_cosine(a, b)
        scores: dict[str, list[Any]] = {split: [] for split in task.splits}
        seconds = dict.fromkeys(task.splits, 0.0)
        for t in self._t[1:-1]:
            curve.point(t, model.flat)
            model.refresh()
            for split in task.splits:
                started = time.perf_counter()
                try:
                    scores[split].append(self._scorers[split](model.model))
                except RaymcError as error:
                    raise RaymcError(f"split {split}, t = {t:g}: {error}") from error
                seconds[split] += time.perf_counter() - started
        results = []
        for split in task.splits:
            first, last = ends[split]
            results.append(
                Profile(
                    a=task.a,
                    b=task.b,
                    a_weights=a_weights,
                    b_weights=b_weights,
                    curve=task.curve,
                    space=task.space,
                    split=split,
                    rows=self._scorers[split].rows,
                    tokens=self._scorers[split].tokens,
                    t=tuple(self._t),
                    loss=(first.loss, *(score.loss for score in scores[split]), last.loss),
                    metrics={
                        name: (first.metrics[name], *(s.metrics[name] for s in scores[split]), last.metrics[name])
                        for name in METRICS
                    },
                    distance_l2=distance,
                    cosine=cosine,
                    seconds=seconds[split],
                    device=self._device,
                )
            )
        return results

    def _model_of(self, key: str, space: str) -> PointModel:
        """A model of this minimum's kind: the one in hand where it fits."""
        trial = self._trial(key)[0]
        body = trial.model_dump(mode="json")
        full = trial.tuning.method == "full"
        folder = self._store.folder(layout.MINIMA, key)
        shape = architecture_of(folder) if full else [body["model"], body["tuning"] if space == "factors" else ""]
        kind = canonical([space, shape])
        if self._model is None or self._model_kind != kind:
            self._model, self._model_kind = PointModel(folder, trial, self._labels, space, self._store), kind
            self._model.to(self._device, self._precision)
            self._endpoints.clear()
        return self._model

    def _endpoint(self, model: PointModel, key: str) -> tuple[torch.Tensor, str]:
        """A minimum's flat vector and the digest of its weights; from the cache, or read with its hashes checked."""
        weights = self._store.weights_digest(layout.MINIMA, key)
        if key in self._endpoints and self._endpoints[key][1] == weights:
            self._endpoints.move_to_end(key)
            return self._endpoints[key]
        self._endpoints.pop(key, None)  # of a minimum that was damaged and trained again
        trial, labels, tokenizer = self._trial(key)
        if labels != self._labels:
            raise RaymcError(f"{key} has labels {', '.join(labels)}, the task {', '.join(self._labels)}")
        if tokenizer != self._tokenizer:
            raise RaymcError(f"{key} has another tokenizer than the sweep's first minimum")
        vector = model.read(self._store.folder(layout.MINIMA, key), trial, labels).to(self._device)
        self.loads += 1
        while len(self._endpoints) > 1 and (len(self._endpoints) + 1) * model.nbytes > self._cache_bytes:
            self._endpoints.popitem(last=False)
        self._endpoints[key] = (vector, weights)
        return vector, weights

    def _trial(self, key: str) -> tuple[TrialSpec, tuple[str, ...], str]:
        """What made a minimum, its labels and its tokenizer's digest. Unless it is cached, its hashes are checked."""
        if key not in self._endpoints:
            self._store.verify(layout.MINIMA, key, deep=True)
        body = self._store.read_json(layout.MINIMA, key, layout.PROVENANCE)
        tokenizer = tokenizer_digest(self._store.folder(layout.MINIMA, key))
        return TrialSpec.model_validate(body["trial"]), tuple(body["labels"]), tokenizer
