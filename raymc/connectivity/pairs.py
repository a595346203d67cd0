"""Which endpoints and pairs a sweep needs, and which of them the store has already."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from raymc.landscape.grid import even_points
from raymc.specs.errors import CorruptArtefact
from raymc.specs.results import Evaluation, EvaluationSpec, Profile, space_of
from raymc.specs.sweep import SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store


@dataclass(frozen=True)
class EndpointTask:
    """Score one minimum on splits."""

    key: str
    space: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class PairTask:
    """Score the interior points of one path on splits. a < b."""

    a: str
    b: str
    space: str
    curve: str
    splits: tuple[str, ...]


class Connections:
    """The endpoints and pairs of a sweep, against what a store holds. Reads no weights and needs no torch."""

    def __init__(self, spec: SweepSpec, store: Store, trials: dict[str, TrialSpec]):
        self.spec, self.store, self.trials = spec, store, trials
        self.t = even_points(spec.connectivity.points)
        self._keys: dict[tuple[str, ...], str] = {}

    def space(self, *keys: str) -> str:
        """The space in which minima are joined; `factors` only between minima of one method."""
        spaces = {space_of(self.trials[key].tuning.method, self.spec.connectivity) for key in keys}
        if spaces == {"weights", "factors"}:
            return "mixed"
        return spaces.pop() if len(spaces) == 1 else "delta_w"

    def evaluation_key(self, split: str, space: str) -> str:
        return self._key("evaluation", split, space)

    def profile_key(self, split: str, space: str, curve: str) -> str:
        return self._key("profile", split, space, curve)

    def _key(self, kind: str, split: str, space: str, curve: str = "") -> str:
        known = (kind, split, space, curve)
        if known not in self._keys:
            how = EvaluationSpec(
                task=self.spec.task, split=split, space=space, precision=self.spec.connectivity.precision
            )
            points = self.spec.connectivity.points
            self._keys[known] = how.key() if kind == "evaluation" else how.profile_key(curve, points)
        return self._keys[known]

    # What there is ----------------------------------------------------------------------------------------------

    def evaluation(self, key: str, split: str) -> Evaluation | None:
        """The stored evaluation of an endpoint's present weights. Raises CorruptArtefact."""
        try:
            body = self.store.get(layout.EVALUATIONS, self.evaluation_key(split, self.space(key)), key)
        except KeyError:
            return None
        found = Evaluation.model_validate(body)
        return found if found.weights == self.store.weights_digest(layout.MINIMA, key) else None

    def profile(self, a: str, b: str, curve: str, split: str) -> Profile | None:
        """The stored profile between two minima's present weights. Raises CorruptArtefact."""
        try:
            body = self.store.get(layout.PROFILES, self.profile_key(split, self.space(a, b), curve), f"{a}-{b}")
        except KeyError:
            return None
        found = Profile.model_validate(body)
        present = (self.store.weights_digest(layout.MINIMA, a), self.store.weights_digest(layout.MINIMA, b))
        return found if (found.a_weights, found.b_weights) == present else None

    def put(self, result: Evaluation | Profile) -> None:
        body = result.model_dump(mode="json")
        if isinstance(result, Evaluation):
            group = self.evaluation_key(result.split, self.space(result.minimum))
            self.store.put(layout.EVALUATIONS, group, result.minimum, body)
        else:
            group = self.profile_key(result.split, result.space, result.curve)
            self.store.put(layout.PROFILES, group, f"{result.a}-{result.b}", body)

    # What is missing --------------------------------------------------------------------------------------------

    def pairs(self, keys: set[str] | None = None) -> Iterator[tuple[str, str]]:
        return itertools.combinations(sorted(self.trials if keys is None else keys), 2)

    def done_pairs(self, keys: set[str]) -> int:
        """How many pairs (of curves) among these minima have a record on every split; by a look at names alone."""
        done = 0
        names: dict[str, set[str]] = {}
        for curve in self.spec.connectivity.curves:
            for a, b in self.pairs(keys):
                groups = [self.profile_key(s, self.space(a, b), curve) for s in self.spec.connectivity.splits]
                for group in groups:
                    if group not in names:
                        names[group] = self.store.records(layout.PROFILES, group)
                done += all(f"{a}-{b}" in names[group] for group in groups)
        return done

    def done_endpoints(self, keys: set[str]) -> int:
        """How many (minimum, split) evaluations there are; by a look at names alone."""
        names: dict[str, set[str]] = {}
        done = 0
        for key in keys:
            for split in self.spec.connectivity.splits:
                group = self.evaluation_key(split, self.space(key))
                if group not in names:
                    names[group] = self.store.records(layout.EVALUATIONS, group)
                done += key in names[group]
        return done

    def missing_endpoints(self, keys: set[str]) -> tuple[list[EndpointTask], list[CorruptArtefact]]:
        """What to evaluate among minima that are there, and the records that were corrupt (set aside)."""
        tasks: list[EndpointTask] = []
        corrupt: list[CorruptArtefact] = []
        for key in sorted(keys):
            splits = tuple(s for s in self.spec.connectivity.splits if not self._whole(corrupt, key, s))
            if splits:
                tasks.append(EndpointTask(key, self.space(key), splits))
        return tasks, corrupt

    def missing_pairs(self, keys: set[str]) -> tuple[list[PairTask], list[CorruptArtefact]]:
        """As missing_endpoints, for pairs; neighbours in the list share minima."""
        tasks: list[PairTask] = []
        corrupt: list[CorruptArtefact] = []
        for curve in self.spec.connectivity.curves:
            for a, b in self.pairs(keys):
                splits = tuple(s for s in self.spec.connectivity.splits if not self._whole(corrupt, a, s, b, curve))
                if splits:
                    tasks.append(PairTask(a, b, self.space(a, b), curve, splits))
        return tasks, corrupt

    def _whole(self, corrupt: list[CorruptArtefact], a: str, split: str, b: str = "", curve: str = "") -> bool:
        try:
            found = self.profile(a, b, curve, split) if b else self.evaluation(a, split)
        except CorruptArtefact as error:
            if error.kind == layout.MINIMA:
                raise
            self.store.set_aside(error.kind, error.key)
            corrupt.append(error)
            return False
        return found is not None
