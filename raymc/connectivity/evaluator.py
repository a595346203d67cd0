"""Scores endpoints and paths of one storage: endpoints cached within a bound, points written in place."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch

from raymc.connectivity.passes import Passes, RowScorer
from raymc.connectivity.paths import Path, path_of
from raymc.connectivity.token_sets import TokenSets
from raymc.connectivity.traces import Seen, Trace, seen, seen_before, table_of
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.curves import lengths
from raymc.landscape.distances import l2_and_cosine
from raymc.landscape.grid import even_points
from raymc.specs.errors import RaymcError
from raymc.specs.exactness import Computed
from raymc.specs.keys import canonical
from raymc.specs.results import Evaluation, Profile
from raymc.store import layout
from raymc.store.rows import RowTable, read_rows, write_rows
from raymc.store.store import Store
from raymc.tasks.minima import Made, Minima
from raymc.tasks.points import PointModel, architecture_of, is_whole
from raymc.tasks.scoring import Score, make_scorer

_ROW_TABLES = 8  # of endpoints, kept at once
_MODELS = 2  # kept at once: pairs across tasks go to and fro between two heads

Ends = Mapping[str, tuple[Evaluation | None, Evaluation | None]]


class Evaluator:
    """One worker's evaluator. Keeps few models, and endpoints as flat vectors up to `cache_bytes` (two at least)."""

    def __init__(
        self,
        store: Store,
        sets: TokenSets,
        *,
        device: str = "cpu",
        cache_bytes: int = 2 << 30,
        token_budget: int = 4096,
    ):
        self._store, self._sets, self._token_budget = store, sets, token_budget
        self._device, self._cache_bytes = device, cache_bytes
        self._scorers: dict[tuple[str, str], RowScorer] = {}
        self._models: OrderedDict[str, PointModel] = OrderedDict()
        self._endpoints: OrderedDict[tuple[str, ...], tuple[torch.Tensor, str]] = OrderedDict()
        self._rows: OrderedDict[tuple[str, str, str], RowTable] = OrderedDict()
        self._fresh: set[str] = set()  # whose hashes were checked for the task in hand
        self._minima = Minima(store, sets.trials)
        self.loads = 0

    def begin(self) -> None:
        """A new task is in hand: what it reads is checked by its hashes again, unless it is in the cache."""
        self._fresh.clear()

    def endpoint(self, task: EndpointTask) -> list[Evaluation]:
        """One evaluation a row set, its rows kept. Raises RaymcError where it doesn't fit, CorruptArtefact: damaged."""
        self.begin()
        results = []
        for split, group in zip(task.splits, task.groups or ("",) * len(task.splits), strict=True):
            labels = self.labels(split)
            kind, model = self.opened(task.key, task.space, labels, task.precision)
            vector, weights = self.vector(kind, model, task.key, labels)
            model.flat.copy_(vector)
            model.refresh()
            started = time.perf_counter()
            scorer = self.scorer(task.key, split)
            found = seen(scorer.by_row(model.model))
            seconds = time.perf_counter() - started
            table = table_of([found], (0.0,), self._sets.labels[split], probabilities=True)
            results.append(
                Evaluation(
                    minimum=task.key,
                    weights=weights,
                    split=split,
                    rows=scorer.rows,
                    tokens=scorer.tokens,
                    loss=found.score.loss,
                    metrics=found.score.metrics,
                    seconds=seconds,
                    device=self._device,
                    precision=task.precision,
                    row_file=write_rows(self._store, group, task.key, table) if group else "",
                )
            )
        return results

    def pair(self, task: PairTask, ends: Ends) -> list[Profile]:
        """One profile a row set; `ends` are the endpoints' evaluations by row set. Raises as `endpoint` does.

        An end of the path that is no minimum as it is (`task.known`) is evaluated here.
        """
        self.begin()
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for number, (split, head) in enumerate(zip(task.splits, task.heads, strict=True)):
            groups.setdefault((head, self.labels(split)), []).append(number)
        found: dict[int, Profile] = {}
        for (head, labels), numbers in groups.items():
            found |= self._along(task, head, labels, numbers, ends)
        return [found[number] for number in range(len(task.splits))]

    def _along(
        self, task: PairTask, head: str, labels: tuple[str, ...], numbers: list[int], ends: Ends
    ) -> dict[int, Profile]:
        """Row sets (by number) of one label order and one choice of the head: scored at each point of the one path."""
        owner = task.b if head == "b" else task.a
        if self._made(owner).tokenizer != self._made(task.b if owner == task.a else task.a).tokenizer:
            raise RaymcError("the ends have different tokenizers, so no text is the same input to both")
        lender = "" if head == "path" else owner
        model, path, (a_weights, b_weights) = self.path(task, lender, labels)
        t = even_points(task.points)
        first, last = path.curve.anchors[0], path.curve.anchors[-1]
        distance, cosine = l2_and_cosine(first, last)
        passes = Passes(model, path.curve, {task.splits[n]: self.scorer(owner, task.splits[n]) for n in numbers})
        traces = {task.splits[n]: Trace(t, self._sets.labels[task.splits[n]]) for n in numbers}
        for index in (0, len(t) - 1):
            for n in numbers:
                known = self._known(task, n, 1 if index else 0, ends, (a_weights, b_weights))
                split = task.splits[n]
                traces[split].add(index, known or passes.at(t[index], (split,))[split])
        for index in range(1, len(t) - 1):
            for split, point in passes.at(t[index]).items():
                traces[split].add(index, point)
        length = tuple(lengths(path.curve, t, chords=32))
        found: dict[int, Profile] = {}
        for n in numbers:
            split = task.splits[n]
            scorer, trace = passes.scorers[split], traces[split]
            doubt = trace.uncertainty()
            name = f"{task.a}-{task.b}"
            found[n] = Profile(
                a=task.a,
                b=task.b,
                a_weights=a_weights,
                b_weights=b_weights,
                curve=task.curve,
                space=task.space,
                split=split,
                head=lender or "path",
                rows=scorer.rows,
                tokens=scorer.tokens,
                precision=task.precision,
                passes=passes.count[split],
                t=tuple(t),
                loss=trace.loss(),
                metrics=trace.metrics(),
                length=length,
                fit=path.fit,
                chosen_on=path.chosen_on,
                intervals=doubt.intervals,
                p_value=doubt.p_value,
                row_file=write_rows(self._store, task.groups[n], name, trace.table()) if task.groups else "",
                distance_l2=distance,
                cosine=cosine,
                seconds=passes.seconds[split],
                device=self._device,
            )
        return found

    def _known(self, task: PairTask, number: int, end: int, ends: Ends, weights: tuple[str, str]) -> Seen | None:
        """What needs no forward pass: an end that is the minimum as it is, from its evaluation."""
        split = task.splits[number]
        evaluation = ends.get(split, (None, None))[end]
        if evaluation is not None and evaluation.weights != weights[end]:
            raise RaymcError(f"split {split}: an endpoint was evaluated with other weights")
        if evaluation is None or not task.known[number][end] or not task.end_groups:
            return None
        group, key = task.end_groups[number][end], (task.a, task.b)[end]
        kept = (group, key, evaluation.row_file)
        if kept not in self._rows:
            while len(self._rows) >= _ROW_TABLES:
                self._rows.popitem(last=False)
            self._rows[kept] = read_rows(self._store, group, key, evaluation.row_file)
        self._rows.move_to_end(kept)
        return seen_before(Score(evaluation.loss, evaluation.metrics), self._rows[kept])

    def path(self, task: PairTask, lender: str, labels: tuple[str, ...]) -> tuple[PointModel, Path, tuple[str, str]]:
        """(a model of the ends' shape, the path between them, the digests of both ends' weights).

        `lender`: the key of the end whose head is fixed all along, empty where the head is the path's own. `labels`:
        the order of the heads' rows. Raises RaymcError where it doesn't fit, CorruptArtefact: something is damaged.
        """
        kind, model = self.opened(lender or task.a, task.space, labels, task.precision)
        (a, a_weights), (b, b_weights) = (
            self.vector(kind, model, key, labels, "" if key == lender else lender) for key in (task.a, task.b)
        )
        weights = (a_weights, b_weights)
        return model, path_of(task, model, a, b, weights, self._store, labels), weights

    def labels(self, split: str) -> tuple[str, ...]:
        """The order of the logits that a row set is scored in; () for models that score any labels' texts."""
        return self._sets.labels[split] if self._sets.kind == "classifier" else ()

    def scorer(self, key: str, split: str, rows: np.ndarray | None = None) -> RowScorer:
        """What scores a model on a row set, as the tokenizer of a minimum reads it: see tasks.scoring.make_scorer.

        `rows`: the numbers of some of its rows; made anew at each call, where the whole set is made ready once.
        """
        made = self._made(key)
        known = (made.tokenizer, split)
        if rows is None and known in self._scorers:
            return self._scorers[known]
        if made.tokenizer not in self._sets.tokens:
            raise RaymcError(f"{made.trial.key} has a tokenizer that split {split} was not read with")
        tokens = self._sets.tokens[made.tokenizer][split]
        scorer = make_scorer(self._sets.kind, tokens, self._token_budget, self._device, rows)
        if rows is None:
            self._scorers[known] = scorer
        return scorer

    def opened(
        self, key: str, space: str, labels: tuple[str, ...], precision: Computed = "fp32"
    ) -> tuple[str, PointModel]:
        """A model of this minimum's kind, and what tells the kind: one in hand where it fits."""
        made = self._made(key)
        body = made.trial.model_dump(mode="json")
        folder = self._store.folder(layout.MINIMA, key)
        shape = architecture_of(folder) if is_whole(folder) else [body["model"], body["tuning"]]
        kind = canonical([space, shape, labels, precision])
        if kind in self._models:
            self._models.move_to_end(kind)
        else:
            while len(self._models) >= _MODELS:
                gone, _ = self._models.popitem(last=False)
                for known in [known for known in self._endpoints if known[0] == gone]:
                    del self._endpoints[known]
            self._models[kind] = PointModel(folder, made.trial, made.labels, space, self._store)
            self._models[kind].to(self._device, precision)
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
