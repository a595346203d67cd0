"""Scores endpoints and paths of one storage: endpoints cached within a bound, points written in place."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from raymc.connectivity.adaptive import every, fill, some
from raymc.connectivity.endpoints import Endpoints, Wanted
from raymc.connectivity.passes import Passes
from raymc.connectivity.paths import Path, path_of
from raymc.connectivity.token_sets import TokenSets
from raymc.connectivity.traces import Seen, Trace, seen, seen_before, table_of
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.adaptive import some_rows
from raymc.landscape.curves import lengths
from raymc.landscape.distances import l2_and_cosine
from raymc.landscape.grid import even_points
from raymc.specs.errors import RaymcError
from raymc.specs.exactness import Computed
from raymc.specs.keys import canonical
from raymc.specs.results import Evaluation, Profile
from raymc.store.layout import MINIMA
from raymc.store.rows import RowTable, read_rows, write_rows
from raymc.store.store import Store
from raymc.tasks.folders import is_whole
from raymc.tasks.likeness import architecture_of
from raymc.tasks.minima import Made, Minima
from raymc.tasks.points import PointModel
from raymc.tasks.running import RowScorer, Running, Switch
from raymc.tasks.scoring import Score, make_scorer

if TYPE_CHECKING:
    from raymc.connectivity.planes import LineTask, TraceTask

    Task = EndpointTask | PairTask | LineTask | TraceTask

_ON_CPU, _ON_GPU = 2048, 16384  # padded tokens a batch: what a core's share of the cache holds; what fills a GPU
_ROW_TABLES = 8  # of endpoints, kept at once
_MODELS = 2  # kept at once: pairs across tasks go to and fro between two heads

Ends = Mapping[str, tuple[Evaluation | None, Evaluation | None]]


class Evaluator:
    """One worker's evaluator. Keeps few models, and endpoints as flat vectors within bounds: see Endpoints.

    `token_budget`: padded tokens a batch. `compile`: see Running, whose `chosen` says in `running` how passes are made.
    """

    def __init__(
        self,
        store: Store,
        sets: TokenSets,
        *,
        device: str = "cpu",
        cache_bytes: int = 2 << 30,
        near_bytes: int | None = None,
        token_budget: int | None = None,
        compile: Switch = "auto",
    ):
        self._store, self._sets, self._device = store, sets, device
        self.token_budget = token_budget or (_ON_CPU if torch.device(device).type == "cpu" else _ON_GPU)
        self.running = Running(device, compile)
        self._scorers: dict[tuple[str, str], RowScorer] = {}
        self._models: OrderedDict[tuple[str, Computed], PointModel] = OrderedDict()
        self._rows: OrderedDict[tuple[str, str, str], RowTable] = OrderedDict()
        self._expected: deque[Task] = deque()
        self.endpoints = Endpoints(store, Minima(store, sets.trials), device, cache_bytes, near_bytes)

    @property
    def loads(self) -> int:
        """How many endpoints were read from the storage."""
        return self.endpoints.loads

    def fits(self, model: PointModel) -> int:
        """How many endpoints of a model's layout are held at once, within the bounds in bytes."""
        return self.endpoints.fits(model)

    def begin(self) -> None:
        """A new task is in hand: what it reads is checked by its hashes again, unless it is in the cache."""
        self.endpoints.begin()

    def expect(self, tasks: Sequence[Task]) -> None:
        """What will be asked for next, in this order, after the task in hand or the one that comes first.

        What of it isn't held is read from the storage while another is computed, as far as the cache has room; what is
        needed again stays. Nothing else depends on it.
        """
        self._expected = deque(tasks)

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
            self._look_ahead(task, kind, model)
            started = time.perf_counter()
            scorer = self.scorer(task.key, split)
            found = seen(scorer.collect(self.running.launch(model, scorer)))
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
        self._look_ahead(task, self._layout(lender or task.a, task.space, labels), model)
        t = even_points(task.points)
        first, last = path.curve.anchors[0], path.curve.anchors[-1]
        distance, cosine = l2_and_cosine(first, last)
        scorers = self._scorers_along(task, owner, [task.splits[n] for n in numbers])
        passes = Passes(model, path.curve, scorers, self.running)
        both: dict[str, tuple[Seen, Seen]] = {}
        for n in numbers:
            split = task.splits[n]
            first_known, last_known = (self._known(task, n, end, ends, (a_weights, b_weights)) for end in (0, 1))
            both[split] = (
                first_known or passes.at(0.0, (split,))[split],
                last_known or passes.at(1.0, (split,))[split],
            )
        filled = fill(passes, both, t, task.tolerance) if task.tolerance else every(passes, both, t)
        length = tuple(lengths(path.curve, t, chords=32))
        found: dict[int, Profile] = {}
        for n in numbers:
            split = task.splits[n]
            scorer, of_split = passes.scorers[split], filled[split]
            trace = Trace(t, self._sets.labels[split], of_split.points)
            doubt = trace.uncertainty(of_split.bound)
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
                evaluated=of_split.evaluated,
                passes=of_split.passes,
                bound=of_split.bound,
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
                seconds=sum(passes.seconds.get(name, 0.0) for name in (split, some(split))),
                device=self._device,
            )
        return found

    def _scorers_along(self, task: PairTask, owner: str, splits: Sequence[str]) -> dict[str, RowScorer]:
        """Of each row set, and where the profile is adaptive of some of its rows."""
        found = {split: self.scorer(owner, split) for split in splits}
        if task.tolerance:
            for split in splits:
                known = (self._made(owner).tokenizer, some(split))
                if known not in self._scorers:
                    rows = some_rows(found[split].rows)
                    self._scorers[known] = self.scorer(owner, split, rows)
                found[some(split)] = self._scorers[known]
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
        scorer = make_scorer(self._sets.kind, tokens, self.token_budget, self._device, rows)
        if rows is None:
            self._scorers[known] = scorer
        return scorer

    def opened(
        self, key: str, space: str, labels: tuple[str, ...], precision: Computed = "fp32"
    ) -> tuple[str, PointModel]:
        """A model of this minimum's kind, and what tells the kind: one in hand where it fits."""
        layout, made = self._layout(key, space, labels), self._made(key)
        known = (layout, precision)
        if known in self._models:
            self._models.move_to_end(known)
        else:
            while len(self._models) >= _MODELS:
                (gone, _), _ = self._models.popitem(last=False)
                if not any(other == gone for other, _ in self._models):
                    self.endpoints.forget(gone)
            self.endpoints.whole(key)
            folder = self._store.folder(MINIMA, key)
            self._models[known] = PointModel(folder, made.trial, made.labels, space, self._store)
            self._models[known].to(self._device, precision)
        return layout, self._models[known]

    def vector(
        self, kind: str, model: PointModel, key: str, labels: tuple[str, ...], lender: str = ""
    ) -> tuple[torch.Tensor, str]:
        """A minimum's flat vector in a model's layout, and the digest of its weights.

        With the head of the minimum `lender`, if one is named. From the cache, or read with its hashes checked.
        """
        found = self.endpoints.take(model, Wanted(kind, key, labels, lender))
        return found.vector, found.weights

    def _layout(self, key: str, space: str, labels: tuple[str, ...]) -> str:
        """What tells the layout of a minimum's vectors: those of one layout are joined through one model."""
        made, folder = self._made(key), self._store.folder(MINIMA, key)
        if is_whole(folder):
            return canonical([space, architecture_of(folder), labels])
        body = made.trial.model_dump(mode="json")
        return canonical([space, [body["model"], body["tuning"]], labels])

    def _look_ahead(self, task: Task, layout: str, model: PointModel) -> None:
        """Have what comes next read, while a task is computed; of other layouts, once their own model is in hand."""
        if task in self._expected:
            while self._expected.popleft() != task:
                pass
        near = itertools.islice(self._expected, 2 * self.fits(model) + 8)  # a batch may be of thousands
        wanted = [Wanted(layout, key, labels) for one in near for key, labels in self._needs(one)]
        self.endpoints.ahead(model, wanted)

    def _needs(self, task: Task) -> Iterator[tuple[str, tuple[str, ...]]]:
        splits = getattr(task, "splits", None) or (getattr(task, "split", ""),)
        for labels in dict.fromkeys(self.labels(split) for split in splits):
            if isinstance(task, EndpointTask):
                yield task.key, labels
            else:
                for key in (task.a, task.b) if isinstance(task, PairTask) else task.through:
                    yield key, labels

    def _made(self, key: str) -> Made:
        return self.endpoints.made(key)
