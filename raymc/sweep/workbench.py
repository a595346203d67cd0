"""Where the points of a sweep are scored outside a run: an evaluator of this process, and what is known of minima."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raymc.specs.errors import RaymcError
from raymc.specs.results import METRICS
from raymc.sweep.results import Sweep

if TYPE_CHECKING:
    from raymc.tasks.points import PointModel
    from raymc.tasks.scoring import Score

    Scoring = Callable[[str], Score]
    Pointing = Callable[[tuple[str, ...]], PointModel]


class Workbench:
    """Scores in fp32, whatever the sweep's precision: as the weights are that are written.

    `choose`: the row set that things are chosen on, None: the first that fits. Raises RaymcError where the sweep has no
    minimum, or its rows can't be read.
    """

    def __init__(self, sweep: Sweep, choose: str | None):
        import torch

        from raymc.connectivity.evaluator import Evaluator
        from raymc.connectivity.token_sets import token_sets
        from raymc.tasks.minima import Minima

        self.sweep, self.spec, self.store, self.choose = sweep, sweep.spec, sweep.store, choose
        self.names, self.minima = sweep.names(), sweep.minima()
        if not self.names:
            raise RaymcError(f"sweep {sweep.name} has no finished minimum")
        self.connections = sweep.connections
        self.points = self.connections.points
        if gone := [name for key, name in self.names.items() if key not in self.points]:
            raise RaymcError(
                f"{gone[0]}: its data or backbone have changed since it was made; `raymc run` makes it anew"
            )
        self.trials = {key: self.points[key].trial for key in self.names}
        adapted = self.connections.adapted(self.names)
        self.metric = METRICS[self.spec.points[0].trial.model.kind][0]
        self.made = functools.cache(Minima(self.store, adapted).made)
        resources = self.spec.resources.evaluator
        self.evaluator = Evaluator(
            self.store,
            token_sets(self.spec, self.store.uri, list(self.names), adapted),
            device="cuda" if torch.cuda.is_available() else "cpu",
            cache_bytes=resources.cache,
            token_budget=resources.token_budget,
        )

    def splits(self, key: str) -> list[str]:
        """The row sets that a minimum can be scored on. Raises RaymcError where there are none."""
        found = list(self.connections.endpoint_splits(key))
        if not found:
            raise RaymcError(f"{self.names[key]} has the labels of no row set")
        return found

    def scores(self, key: str, splits: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
        """A minimum's loss and metrics by row set: as the sweep has them in fp32, else taken here.

        NaN on a row set of other labels than its own.
        """
        table, nan = self.minima.set_index("key"), dict.fromkeys(("loss", *metrics), math.nan)
        columns = {split: {name: f"{split}_{name}" for name in nan} for split in splits}
        known = all(name in table.columns for of_split in columns.values() for name in of_split.values())
        if known and self.connections.precision == "fp32":
            found = {s: {name: float(table[one][key]) for name, one in columns[s].items()} for s in splits}
        else:
            found = dict.fromkeys(splits, nan)
        own = [split for split in self.connections.endpoint_splits(key) if split in found]  # those of its labels
        score, _ = self.mixture([key], self.connections.space(key))
        for split in (split for split in own if math.isnan(found[split]["loss"])):
            fresh = score(split)
            found[split] = {"loss": fresh.loss, **fresh.metrics}
        return found

    def mixture(self, keys: Sequence[str], space: str) -> tuple[Scoring, Pointing]:
        from raymc.connectivity.mixtures import Ingredient, Mixtures

        mixtures, mixture = Mixtures(self.evaluator, space), [Ingredient(key) for key in keys]
        return lambda split: mixtures.score(mixture, split), lambda labels: mixtures.point(mixture, labels)

    @property
    def classifies(self) -> bool:
        return self.spec.points[0].trial.model.kind == "classifier"
