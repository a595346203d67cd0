"""Scores endpoints and paths of one storage: endpoints cached within a bound, points written in place."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from raymc.connectivity.pairs import EndpointTask, PairTask
from raymc.landscape.curves import Curve, Linear
from raymc.landscape.distances import l2_and_cosine
from raymc.landscape.grid import even_points
from raymc.specs.errors import RaymcError
from raymc.specs.keys import canonical
from raymc.specs.results import Evaluation, Profile
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.minima import Made, Minima
from raymc.tasks.points import PointModel, architecture_of, is_whole
from raymc.tasks.scoring import Score, make_scorer
from raymc.tasks.tokens import Tokens

CURVES = {"linear": Linear}
_MODELS = 2  # kept at once: pairs across tasks go to and fro between two heads

Ends = Mapping[str, tuple[Evaluation | None, Evaluation | None]]


@dataclass(frozen=True)
class TokenSets:
    """The row sets of a sweep as token ids, once per tokenizer.

    `tokens`: by the tokenizer's digest and the row set's name. `labels`: by the row set's name, in the order of the
    logits (of the choices). `trials`: of minima that stand on a backbone outside their folder, by key, as this sweep
    has them: the backbone may have moved since they were trained.
    """

    kind: str
    tokens: Mapping[str, Mapping[str, Tokens]]
    labels: Mapping[str, tuple[str, ...]]
    trials: Mapping[str, TrialSpec] = field(default_factory=dict)


class Evaluator:
    """One worker's evaluator. Keeps few models, and endpoints as flat vectors up to `cache_bytes` (two at least)."""

    def __init__(
        self,
        store: Store,
        sets: TokenSets,
        *,
        points: int,
        precision: str = "fp32",
        device: str = "cpu",
        cache_bytes: int = 2 << 30,
        token_budget: int = 4096,
    ):
        self._store, self._sets, self._token_budget = store, sets, token_budget
        self._t, self._precision, self._device, self._cache_bytes = even_points(points), precision, device, cache_bytes
        self._scorers: dict[tuple[str, str], Any] = {}
        self._models: OrderedDict[str, PointModel] = OrderedDict()
        self._endpoints: OrderedDict[tuple[str, ...], tuple[torch.Tensor, str]] = OrderedDict()
        self._fresh: set[str] = set()  # whose hashes were checked for the task in hand
        self._minima = Minima(store, sets.trials)
        self.loads = 0

    def endpoint(self, task: EndpointTask) -> list[Evaluation]:
        """One evaluation a row set. Raises RaymcError where it doesn't fit, CorruptArtefact where it is damaged."""
        self._fresh.clear()
        made = self._made(task.key)
        results = []
        for split in task.splits:
            labels = self.labels(split)
            kind, model = self.opened(task.key, task.space, labels)
            vector, weights = self.vector(kind, model, task.key, labels)
            model.flat.copy_(vector)
            model.refresh()
            started = time.perf_counter()
            scorer = self._scorer(made, split)
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

    def pair(self, task: PairTask, ends: Ends) -> list[Profile]:
        """One profile a row set; `ends` are the endpoints' evaluations by row set. Raises as `endpoint` does.

        Where an end's own head is fixed along the path (`task.heads`), the other end is evaluated with that head here.
        """
        self._fresh.clear()
        groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for split, head in zip(task.splits, task.heads, strict=True):
            groups.setdefault((head, self.labels(split)), []).append(split)
        found = {
            profile.split: profile
            for (head, labels), splits in groups.items()
            for profile in self._along(task, head, labels, splits, ends)
        }
        return [found[split] for split in task.splits]

    def _along(
        self, task: PairTask, head: str, labels: tuple[str, ...], splits: list[str], ends: Ends
    ) -> list[Profile]:
        """Row sets of one label order and one choice of the head: all scored at each point of the one path."""
        owner = task.b if head == "b" else task.a
        made = self._made(owner)
        if made.tokenizer != self._made(task.b if owner == task.a else task.a).tokenizer:
            raise RaymcError("the ends have different tokenizers, so no text is the same input to both")
        kind, model = self.opened(owner, task.space, labels)
        lender = "" if head == "path" else owner
        a, a_weights = self.vector(kind, model, task.a, labels, "" if task.a == owner else lender)
        b, b_weights = self.vector(kind, model, task.b, labels, "" if task.b == owner else lender)
        known = {split: self._known(split, head, ends, a_weights, b_weights) for split in splits}
        curve: Curve = CURVES[task.curve](a, b)
        distance, cosine = l2_and_cosine(a, b)
        scores: dict[str, list[Score]] = {split: [] for split in splits}
        seconds = dict.fromkeys(splits, 0.0)
        for index, t in enumerate(self._t):
            place = {0: 0, len(self._t) - 1: 1}.get(index)
            missing = [split for split in splits if place is None or known[split][place] is None]
            if missing:
                curve.point(t, model.flat)
                model.refresh()
            for split in splits:
                if split not in missing:
                    assert place is not None
                    evaluation = known[split][place]
                    assert evaluation is not None
                    scores[split].append(Score(evaluation.loss, evaluation.metrics))
                    continue
                started = time.perf_counter()
                try:
                    scores[split].append(self._scorer(made, split)(model.model))
                except RaymcError as error:
                    raise RaymcError(f"split {split}, t = {t:g}: {error}") from error
                seconds[split] += time.perf_counter() - started
        return [
            Profile(
                a=task.a,
                b=task.b,
                a_weights=a_weights,
                b_weights=b_weights,
                curve=task.curve,
                space=task.space,
                split=split,
                head=lender or "path",
                rows=self._scorer(made, split).rows,
                tokens=self._scorer(made, split).tokens,
                t=tuple(self._t),
                loss=tuple(score.loss for score in scores[split]),
                metrics={name: tuple(s.metrics[name] for s in scores[split]) for name in scores[split][0].metrics},
                distance_l2=distance,
                cosine=cosine,
                seconds=seconds[split],
                device=self._device,
            )
            for split in splits
        ]

    def _known(
        self, split: str, head: str, ends: Ends, a_weights: str, b_weights: str
    ) -> tuple[Evaluation | None, Evaluation | None]:
        """What needs no forward pass: an end's evaluation, unless it is scored with the other's head."""
        first, last = ends.get(split, (None, None))
        for evaluation, weights in ((first, a_weights), (last, b_weights)):
            if evaluation is not None and evaluation.weights != weights:
                raise RaymcError(f"split {split}: an endpoint was evaluated with other weights")
        return (None if head == "b" else first, None if head == "a" else last)

    def labels(self, split: str) -> tuple[str, ...]:
        """The order of the logits that a row set is scored in; () for models that score any labels' texts."""
        return self._sets.labels[split] if self._sets.kind == "classifier" else ()

    def _scorer(self, made: Made, split: str) -> Any:
        known = (made.tokenizer, split)
        if known not in self._scorers:
            if made.tokenizer not in self._sets.tokens:
                raise RaymcError(f"{made.trial.key} has a tokenizer that split {split} was not read with")
            tokens = self._sets.tokens[made.tokenizer][split]
            self._scorers[known] = make_scorer(self._sets.kind, tokens, self._token_budget, self._device)
        return self._scorers[known]

    def opened(self, key: str, space: str, labels: tuple[str, ...]) -> tuple[str, PointModel]:
        """A model of this minimum's kind, and what tells the kind: one in hand where it fits."""
        made = self._made(key)
        body = made.trial.model_dump(mode="json")
        folder = self._store.folder(layout.MINIMA, key)
        shape = architecture_of(folder) if is_whole(folder) else [body["model"], body["tuning"]]
        kind = canonical([space, shape, labels])
        if kind in self._models:
            self._models.move_to_end(kind)
        else:
            while len(self._models) >= _MODELS:
                gone, _ = self._models.popitem(last=False)
                for known in [known for known in self._endpoints if known[0] == gone]:
                    del self._endpoints[known]
            self._models[kind] = PointModel(folder, made.trial, made.labels, space, self._store)
            self._models[kind].to(self._device, self._precision)
        return kind, self._models[kind]

    def vector(
        self, kind: str, model: PointModel, key: str, labels: tuple[str, ...], lender: str = ""
    ) -> tuple[torch.Tensor, str]:
        """A minimum's flat vector in a model's layout, and the digest of its weights.

        With the head of the minimum `lender`, if one is named, which is in the cache. From the cache, or read with its
        hashes checked.
        """
        weights, known = self._store.weights_digest(layout.MINIMA, key), (kind, key, lender)
        if known in self._endpoints and self._endpoints[known][1] == weights:
            self._endpoints.move_to_end(known)
            return self._endpoints[known]
        self._endpoints.pop(known, None)  # of a minimum that was damaged and trained again
        made = self._made(key)
        order = None if lender else labels or None
        if order and set(made.labels) != set(order):
            raise RaymcError(f"{key} has labels {', '.join(made.labels)}, the task {', '.join(labels)}")
        folder = self._store.folder(layout.MINIMA, key)
        head = self.vector(kind, model, lender, labels)[0].cpu() if lender else None
        vector = model.read(folder, made.trial, made.labels, head_from=head, order=order).to(self._device)
        self.loads += 1
        while len(self._endpoints) > 1 and self._cached_bytes() + model.nbytes > self._cache_bytes:
            self._endpoints.popitem(last=False)
        self._endpoints[known] = (vector, weights)
        return vector, weights

    def _cached_bytes(self) -> int:
        return sum(vector.nbytes for vector, _ in self._endpoints.values())

    def _made(self, key: str) -> Made:
        """What made a minimum. Unless it is cached, its hashes are checked."""
        if key not in self._fresh and not any(key == known[1] for known in self._endpoints):
            self._store.verify(layout.MINIMA, key, deep=True)
        self._fresh.add(key)
        return self._minima.made(key)
