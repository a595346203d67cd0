"""Points of parameter space that are no minima: weighted means of minima (soups), and single points of paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.pairs import Connections
from raymc.connectivity.paths import Path
from raymc.connectivity.work import PairTask
from raymc.specs.errors import RaymcError
from raymc.specs.spaces import spaces_of
from raymc.specs.trial import TrialSpec
from raymc.tasks.minima import Made
from raymc.tasks.points import PointModel
from raymc.tasks.scoring import Score

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Ingredient:
    """A minimum in a mixture. `weight`: its coefficient, above 0; those of a mixture are scaled to add up to 1."""

    key: str
    weight: float = 1.0


class Mixtures:
    """Scores means of minima in one space, with the heads interpolated like the rest.

    A mean is taken as a running one, m_k = m_(k-1) + (w_k / sum_(i<=k) w_i) (theta_k - m_(k-1)), in fp32: exact
    wherever all agree, and for two minima the bits of the linear path. That of a mixture's first ingredients is kept,
    so that each step of a greedy soup reads one minimum.
    """

    def __init__(self, evaluator: Evaluator, space: str):
        self._evaluator, self.space = evaluator, space
        self._kept: tuple[str, tuple[Ingredient, ...], torch.Tensor] | None = None

    def score(self, mixture: Sequence[Ingredient], split: str) -> Score:
        """Of a mean on one row set. Raises RaymcError where the minima don't fit each other or the row set."""
        model = self.point(mixture, self._evaluator.labels(split))
        return self._evaluator.scorer(mixture[0].key, split)(model.model)

    def point(self, mixture: Sequence[Ingredient], labels: Labels) -> PointModel:
        """A model at a mean, its head in the order of `labels` (() where it has none). Raises as `score` does."""
        if not mixture or any(not one.weight > 0 for one in mixture):
            raise ValueError("a mixture needs ingredients, all of a weight above 0")
        kind, model = self._evaluator.opened(mixture[0].key, self.space, labels)
        start = self._mean(kind, model, tuple(mixture[:-1]), labels)
        last, _ = self._evaluator.vector(kind, model, mixture[-1].key, labels)
        if start is None:
            model.flat.copy_(last)
        else:
            torch.lerp(start, last, _share(mixture), out=model.flat)
        model.refresh()
        return model

    def _mean(
        self, kind: str, model: PointModel, mixture: tuple[Ingredient, ...], labels: Labels
    ) -> torch.Tensor | None:
        """A vector that is ours alone; the one kept is gone on with where it is of the first of these."""
        if not mixture:
            return None
        known, done, mean = self._kept or ("", (), None)
        if mean is None or known != kind or mixture[: len(done)] != done:
            mean, done = torch.empty_like(model.flat), ()
        for count in range(len(done) + 1, len(mixture) + 1):
            theta, _ = self._evaluator.vector(kind, model, mixture[count - 1].key, labels)
            if count == 1:
                mean.copy_(theta)
            else:
                mean.lerp_(theta, _share(mixture[:count]))
        self._kept = (kind, mixture, mean)
        return mean


class PathPoint:
    """One point of the path between two minima, scored with one head.

    `task`: the path; its row sets and heads don't matter. `owner`: the key of the end whose head is fixed all along,
    empty where the head is interpolated like the rest.
    """

    def __init__(self, evaluator: Evaluator, task: PairTask, t: float, owner: str = ""):
        self._evaluator, self._task, self._t, self._owner = evaluator, task, t, owner
        self.space = task.space
        self._known: tuple[Labels, PointModel, Path] | None = None  # a path may take a while to find

    def score(self, split: str) -> Score:
        """On one row set. Raises RaymcError where the ends don't fit each other or the row set."""
        return self._evaluator.scorer(self._first, split)(self.point(self._evaluator.labels(split)).model)

    def point(self, labels: Labels) -> PointModel:
        """A model there, its head in the order of `labels` (() where it has none). Raises as `score` does."""
        model, path = self._opened(labels)
        path.curve.point(self._t, model.flat)
        model.refresh()
        return model

    def told(self, labels: Labels) -> tuple[tuple[float, float], str, str]:
        """(what a and b weigh in the point, digest of the fitted curve, split that its state was chosen on)."""
        _, path = self._opened(labels)
        weights = path.curve.weights(self._t)
        return (weights[0], weights[-1]), path.fit, path.chosen_on

    @property
    def _first(self) -> str:
        return self._owner or self._task.a

    def _opened(self, labels: Labels) -> tuple[PointModel, Path]:
        if self._known is not None and self._known[0] == labels:
            return self._known[1:]
        model, path, _ = self._evaluator.path(self._task, self._owner, labels)
        self._known = (labels, model, path)
        return model, path


def common_space(connections: Connections, trials: Mapping[str, TrialSpec]) -> str:
    """The space in which several minima (by key) can be mixed: that of all their pairs, delta_w for a mix of methods.

    Raises RaymcError, naming two, where they have none.
    """
    keys = list(trials)
    if len(keys) == 1:
        return connections.space(keys[0])
    found: dict[str, tuple[str, str]] = {}
    for a, b in combinations(keys, 2):
        try:
            found.setdefault(connections.space(a, b), (a, b))
        except RaymcError as error:
            raise RaymcError(f"{a} and {b} have no common space: {error}") from error
    if "factors" in found and len(found) > 1:
        if all("delta_w" in spaces or "weights" in spaces for spaces in map(spaces_of, trials.values())):
            return "delta_w"
        (a, b), other = found["factors"], next(space for space in found if space != "factors")
        raise RaymcError(
            f"no space holds them all: {a} and {b} are joined in factors, {' and '.join(found[other])} in {other}; "
            "take minima of one method"
        )
    return "delta_w" if "delta_w" in found else next(iter(found))


def shared_labels(made: Mapping[str, Made]) -> Labels:
    """The labels of all minima, in the first one's order; () for models without a head.

    `made`: what made each, by key. Raises RaymcError where two have other labels or another tokenizer.
    """
    (first, known), *others = made.items()
    for key, one in others:
        if set(one.labels) != set(known.labels) and known.trial.model.kind == "classifier":
            raise RaymcError(
                f"{first} has labels {', '.join(known.labels)}, and {key} {', '.join(one.labels)}; "
                "a mean needs minima of the same labels"
            )
        if one.tokenizer != known.tokenizer:
            raise RaymcError(f"{first} and {key} have different tokenizers, so no text is the same input to both")
    return known.labels if known.trial.model.kind == "classifier" else ()


def _share(mixture: Sequence[Ingredient]) -> float:
    return mixture[-1].weight / sum(one.weight for one in mixture)
