"""Pairs of finished minima of a sweep as they are measured: in a temporary store, by evaluators made for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.pairs import Connections
from raymc.connectivity.records import keep
from raymc.connectivity.token_sets import token_sets
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.errors import RaymcError
from raymc.specs.exactness import Adaptive, AdaptivePoints, Computed
from raymc.specs.results import Evaluation, Profile
from raymc.specs.sweep import Point, SweepSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.sweep.bench.source import linked
from raymc.sweep.check import whole_minima
from raymc.tasks.minima import Made, Minima
from raymc.tasks.rows import labels_of
from raymc.tasks.tokens import Tokens

_LOOKED_AT = 2000  # pairs, of which those that are measured are evenly chosen

Ends = dict[str, tuple[Evaluation | None, Evaluation | None]]


class Place:
    """`store`: that of the sweep, which is only read. `home`: where the temporary one comes to lie.

    Raises RaymcError where the sweep has no pair of finished minima that can be joined.
    """

    def __init__(
        self, spec: SweepSpec, points: Mapping[str, Point], store: Store, home: Path, pairs: int, device: str, name: str
    ):
        self.spec, self.points, self.device = spec, points, device
        whole = whole_minima(store, set(points))
        if len(whole) < 2:
            raise RaymcError(
                f"sweep {spec.name} has {len(whole)} finished {'minimum' if len(whole) == 1 else 'minima'} in "
                f"{store.root}, and a pair takes two; `raymc run {name}` makes them"
            )
        self.known = Connections(spec, store, points, labels_of)
        some = list(itertools.islice(self.known.pairs(whole), _LOOKED_AT))
        self.curve = next((c for c in spec.connectivity.curve_names if self._joined(c, some)), "")
        joined = self._joined(self.curve, some) if self.curve else []
        if not joined:
            raise RaymcError(
                f"sweep {spec.name} has no selected pair of finished minima in {store.root} with a path between them; "
                f"`raymc run {name}` makes them"
            )
        count = min(pairs, len(joined))
        self.pairs = [joined[i * len(joined) // count] for i in range(count)]
        self.whole = sorted(whole)
        self.keys = sorted({key for pair in self.pairs for key in pair})
        self.real, self.store = store, linked(store, home, self.keys)
        self.adapted = self.known.adapted(self.keys)
        self.sets = token_sets(spec, self.store.uri, self.keys, self.adapted)
        self._found: dict[Computed, dict[tuple[str, str], Evaluation]] = {}
        self._minima = Minima(self.store, self.adapted)

    def _joined(self, curve: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those that there is a path of this curve between."""
        fits = ((pair, self.known.fit_key(*pair, curve)) for pair in pairs)
        return [pair for pair, fit in fits if not fit or self.known.store.has(layout.CURVES, fit)]

    # What is scored -------------------------------------------------------------------------------------------------

    def connections(self, points: int, tolerance: float | None, precision: Computed) -> Connections:
        """The sweep's in the temporary store, if its profiles were taken so."""
        asked = AdaptivePoints(adaptive=Adaptive(tolerance=tolerance, points=points)) if tolerance else points
        changed = {"points": asked, "precision": precision, "planes": ()}
        connectivity = self.spec.connectivity.model_copy(update=changed)
        spec = self.spec.model_copy(update={"connectivity": connectivity})
        return Connections(spec, self.store, self.points, labels_of)

    def tasks(self, points: int, tolerance: float | None, precision: Computed) -> list[PairTask]:
        """One for each pair."""
        found, how = self.connections(points, tolerance, precision), self.spec.connectivity.curve(self.curve)
        return [found.pair_task(a, b, how, found.heads(a, b)) for a, b in self.pairs]

    def ends(self, evaluator: Evaluator, task: PairTask) -> Ends:
        """The evaluations of a path's ends, as a run has them before its pairs; taken where they aren't known yet."""
        found = self._found.setdefault(task.precision, {})
        connections = self.connections(3, None, task.precision)
        for key in (task.a, task.b):
            space, splits = connections.space(key), connections.endpoint_splits(key)
            if not any(key == known for known, _ in found):
                records = tuple(connections.evaluation_key(split, space) for split in splits)
                of_end = EndpointTask(key, space, splits, records, True, task.precision)
                evaluations = evaluator.endpoint(of_end)
                keep(self.store, [(of_end, evaluations)])
                found |= {(key, one.split): one for one in evaluations}
        usable = [connections.space(key) in (task.space, "weights") for key in (task.a, task.b)]
        known = {
            split: tuple(
                found.get((key, split)) if fit else None for key, fit in zip((task.a, task.b), usable, strict=True)
            )
            for split in task.splits
        }
        return {split: (first, last) for split, (first, last) in known.items()}

    def evaluations(self, precision: Computed) -> Mapping[tuple[str, str], Evaluation]:
        """Those of ends that were scored, by key and row set."""
        return self._found.get(precision, {})

    def score(self, evaluator: Evaluator, task: PairTask, ends: Ends) -> list[Profile]:
        """A path from its ends to its records in the store, as an actor does it."""
        found = evaluator.pair(task, ends)
        keep(self.store, [(task, found)])
        return found

    def evaluator(self) -> Evaluator:
        """With nothing in its cache."""
        resources = self.spec.resources.evaluator
        return Evaluator(
            self.store,
            self.sets,
            device=self.device,
            cache_bytes=resources.cache,
            token_budget=resources.token_budget,
            compile=resources.compile,
        )

    # What it is ---------------------------------------------------------------------------------------------------

    def made(self, key: str) -> Made:
        return self._minima.made(key)

    def tokens(self, key: str, split: str) -> Tokens:
        """A row set as a minimum's tokenizer reads it."""
        return self.sets.tokens[self.made(key).tokenizer][split]

    @cached_property
    def kind(self) -> str:
        return self.spec.points[0].trial.model.kind

    def about(self, task: PairTask) -> dict[str, Any]:
        """The work, for the head of a report."""
        evaluator = self.evaluator()
        lender = lender_of(task, task.splits[0])
        _, model = evaluator.opened(lender or task.a, task.space, evaluator.labels(task.splits[0]))
        backbone = self.points[task.a].trial.model.backbone
        return {
            "sweep": self.spec.name,
            "model": backbone if isinstance(backbone, str) else "a backbone that raymc pre-trains",
            "kind": self.kind,
            "weights": sum(tensor.numel() for tensor in model.model.parameters()),
            "interpolated": sum(torch.Size(shape).numel() for shape in model.shapes),
            "endpoint_bytes": model.nbytes,
            "minima": len(self.whole),
            "pairs_measured": len(self.pairs),
            "curve": self.curve,
            "space": task.space,
            "row_sets": {
                split: {"rows": len(self.tokens(task.a, split)), "tokens": evaluator.scorer(task.a, split).tokens}
                for split in task.splits
            },
            "token_budget": evaluator.token_budget,
        }


def lender_of(task: PairTask, split: str) -> str:
    """The key of the end whose head a row set is scored with all along a path; empty: the path's own."""
    return {"path": "", "a": task.a, "b": task.b}[task.heads[task.splits.index(split)]]


def hold(evaluator: Evaluator, task: PairTask) -> None:
    """Have both endpoints in the cache, and a model of the task's precision."""
    for split in task.splits:
        evaluator.path(task, lender_of(task, split), evaluator.labels(split))
