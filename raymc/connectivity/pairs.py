"""Which endpoints and pairs a sweep needs, and which of them the store has already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

from raymc.connectivity.counts import Counts
from raymc.connectivity.decisions import Decisions
from raymc.connectivity.heads import Choice, Heads, LabelsOf, named_labels
from raymc.connectivity.pairset import PairSet
from raymc.connectivity.records import Groups, Names, Records, fit_task, put
from raymc.connectivity.selection import Selection
from raymc.connectivity.shapes import Joints
from raymc.connectivity.todo import MissingPairs
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.grid import even_points
from raymc.specs.curves import NamedCurve, Space
from raymc.specs.errors import CorruptArtefact
from raymc.specs.exactness import Computed
from raymc.specs.fitting import Fitting, fit_key
from raymc.specs.methods import peft_type
from raymc.specs.results import Evaluation, Profile
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.fitted import ends_fitted, ends_now
from raymc.store.store import Store


class Connections:
    """The endpoints and pairs of a sweep, against what a store holds. Reads no weights and needs no torch.

    `points`: the sweep's, by key. `labels_of`: a task's labels, None where only the hub knows them.
    """

    def __init__(self, spec: SweepSpec, store: Store, points: Mapping[str, Point], labels_of: LabelsOf = named_labels):
        self.spec, self.store = spec, store
        self.t = even_points(spec.connectivity.point_count)
        self.row_sets = {rows.name: rows for rows in spec.row_sets}
        self.order = sorted(points)
        self._place = {key: i for i, key in enumerate(self.order)}
        ordered = [points[key] for key in self.order]
        self.selection = Selection(spec, ordered)
        self._heads = Heads(spec, ordered, labels_of)
        self.points = points
        asked: dict[str, Space] = {one.title: one.space or spec.connectivity.space for one in spec.connectivity.curves}
        self._curves = {one.title: one for one in spec.connectivity.curves}
        spaces: set[Space] = {*asked.values(), spec.connectivity.space}
        self._joints = {space: Joints(ordered, space) for space in spaces}
        self._spaces = asked
        self._groups, self._records = Groups(spec), Records(store, spec)
        self._fits: dict[tuple[str, str, str], str] = {}
        self.decisions = Decisions(spec, store, points)

    # What is asked for ------------------------------------------------------------------------------------------

    def pairs(self, keys: set[str] | None = None) -> Iterator[tuple[str, str]]:
        """The selected pairs a < b (of these minima) that some row set scores, in order: neighbours share minima."""
        chosen = self.selected
        if keys is not None:
            chosen = chosen.among(np.array([key in keys for key in self.order]))
        yield from ((self.order[i], self.order[j]) for i, j in chosen)

    @cached_property
    def selected(self) -> PairSet:
        """As `pairs`: of minima by their place in `order`."""
        _, first = np.unique(self.kinds, return_index=True)
        scored = [[any(self._choices(i, j)) for j in first.tolist()] for i in first.tolist()]
        return self.selection.pairs().where(self.kinds, np.array(scored, dtype=bool))

    @cached_property
    def kinds(self) -> np.ndarray:
        """(N,): a number for all that decides on which row sets, and with whose head, a minimum's paths are scored."""
        return np.array(self._heads.classes(self.row_sets.values()))

    def joint_kinds(self, curve: str) -> np.ndarray:
        """(N,): a number for all that decides in which space a minimum is joined to others by a curve."""
        return np.array(self._joints[self._spaces[curve]].kinds)

    def total_pairs(self) -> int:
        """How many pairs there are, each counted once a curve."""
        return self.counts.pairs()

    @property
    def counts(self) -> Counts:
        """As the store is now: names are listed once."""
        return Counts(self)

    def endpoint_splits(self, key: str) -> tuple[str, ...]:
        """Names of the row sets that a minimum is scored on by itself: those whose labels it has."""
        return tuple(n for n, rows in self.row_sets.items() if self._heads.scores(self._place[key], rows))

    def heads(self, a: str, b: str) -> dict[str, Choice]:
        """Name of each row set that the path is scored on: whose head is used."""
        choices = self._choices(self._place[a], self._place[b])
        return {name: choice for name, choice in zip(self.row_sets, choices, strict=True) if choice is not None}

    def _choices(self, i: int, j: int) -> list[Choice | None]:
        return [self._heads.choose(i, j, rows) for rows in self.row_sets.values()]

    def space(self, *keys: str, curve: str | None = None) -> str:
        """The space in which two minima are joined (by a curve), or one is scored. Raises RaymcError for none."""
        asked: Space = self.spec.connectivity.space if curve is None else self._spaces[curve]
        return self._joints[asked].space(*(self._place[key] for key in keys))

    def fitting(self, a: str, b: str, curve: str) -> Fitting:
        """The fit of a fitted curve between two minima."""
        how = self._curves[curve]
        return Fitting(
            a=a,
            b=b,
            space=self.space(a, b, curve=curve),
            curve=how,
            task=fit_task(self.spec, how),
            kind=self.spec.model.kind,
            trials=self.adapted((a, b)),
        )

    def adapted(self, keys: Iterable[str]) -> dict[str, TrialSpec]:
        """The trials, as this sweep has them, of those minima that stand on a backbone outside their folder."""
        trials = {key: self.points[key].trial for key in keys}
        return {key: trial for key, trial in trials.items() if peft_type(trial) is not None}

    def fit_key(self, a: str, b: str, curve: str) -> str:
        """Key of the fitted curve between two minima; empty for a curve that its ends alone decide."""
        if self._curves[curve].fitted is None:
            return ""
        if (a, b, curve) not in self._fits:
            self._fits[a, b, curve] = fit_key(a, b, self.space(a, b, curve=curve), self._groups.content(curve))
        return self._fits[a, b, curve]

    def differs(self, a: str, b: str) -> str:
        """In what two minima differ: factors or axes by name."""
        return self.selection.differs(self._place[a], self._place[b])

    def same_trajectory(self, a: str, b: str) -> bool:
        """Whether two minima are snapshots of one run."""
        return self.selection.same_trajectory(self._place[a], self._place[b])

    @property
    def precision(self) -> Computed:
        """What passes compute in: as asked for, or as decided for this sweep (fp32 until then)."""
        return self.decisions.precision

    # Where its records lie --------------------------------------------------------------------------------------

    def evaluation_key(self, split: str, space: str) -> str:
        return self._groups.evaluation(split, space, self.precision)

    def profile_key(self, split: str, space: str, curve: str, head: str = "path") -> str:
        return self._groups.profile(split, space, self.precision, curve, head)

    # What there is ----------------------------------------------------------------------------------------------

    def evaluation(self, key: str, split: str) -> Evaluation | None:
        """The stored evaluation of an endpoint's present weights. Raises CorruptArtefact."""
        return self._records.evaluation(self.evaluation_key(split, self.space(key)), key, split)

    def profile(self, a: str, b: str, curve: str, split: str) -> Profile | None:
        """The stored profile between two minima's present weights. Raises CorruptArtefact."""
        head = self.heads(a, b).get(split)
        if head is None:
            return None
        group = self.profile_key(split, self.space(a, b, curve=curve), curve, head)
        return self._records.profile(group, a, b, self._curves[curve], split, head, self.fit_key(a, b, curve))

    def put(self, *results: Evaluation | Profile) -> None:
        """Keep results; their `split` is the row set's name in this sweep."""
        put(
            self.store,
            (
                self.evaluation_key(found.split, self.space(found.minimum))
                if isinstance(found, Evaluation)
                else self.profile_key(found.split, found.space, found.curve, found.head)
                for found in results
            ),
            results,
        )

    # What is missing --------------------------------------------------------------------------------------------

    def done_pairs(self, keys: set[str]) -> int:
        """How many pairs (of curves) among these minima have a record on every split; by a look at names alone."""
        return self.counts.done_pairs(keys)

    def done_endpoints(self, keys: set[str]) -> int:
        """How many (minimum, row set) evaluations there are; by a look at names alone."""
        names = Names(self.store, layout.EVALUATIONS)
        return sum(
            key in names.of(self.evaluation_key(split, self.space(key)))
            for key in keys & self._place.keys()
            for split in self.endpoint_splits(key)
        )

    def forward_passes(self, keys: set[str]) -> tuple[int, int]:
        """(passes over one row set that are still to do, all of them), given the minima that are there; as above."""
        return self.counts.forward_passes(keys)

    def fits(self, keys: set[str] | None = None) -> Iterator[tuple[str, str, str]]:
        """(a, b, curve) of every fitted curve between selected pairs (of these minima)."""
        for curve, how in self._curves.items():
            if how.fitted is not None:
                yield from ((a, b, curve) for a, b in self.pairs(keys))

    def missing_fits(self, keys: set[str]) -> list[tuple[str, str, str]]:
        """Fitted curves that the store lacks, or has between other weights than the minima's present ones (set aside).

        Raises CorruptArtefact where a minimum can't be read.
        """
        missing = []
        seen: set[str] = set()
        fits = [(self.fit_key(*one), one) for one in self.fits(keys)]
        fitted = self.store.whole(layout.CURVES, (key for key, _ in fits)) if fits else set()
        for key, (a, b, curve) in fits:
            if key in seen:  # two names of one curve, in spaces that are the same for this pair
                continue
            seen.add(key)
            if key in fitted:
                try:
                    if ends_fitted(self.store, key) == ends_now(self.store, a, b):
                        continue
                except CorruptArtefact as error:
                    if error.kind == layout.MINIMA:
                        raise
                self.store.set_aside(layout.CURVES, key)
            missing.append((a, b, curve))
        return missing

    def missing_endpoints(self, keys: set[str]) -> tuple[list[EndpointTask], list[CorruptArtefact]]:
        """What to evaluate among minima that are there, and the records that were corrupt (set aside)."""
        tasks: list[EndpointTask] = []
        corrupt: list[CorruptArtefact] = []
        for key in sorted(keys):
            splits = tuple(split for split in self.endpoint_splits(key) if not self.has_whole(corrupt, key, split))
            if splits:
                space = self.space(key)
                records = tuple(self.evaluation_key(split, space) for split in splits)
                tasks.append(EndpointTask(key, space, splits, records, True, self.precision))
        return tasks, corrupt + self.store.mend(layout.EVALUATIONS)

    def missing(self, keys: set[str]) -> MissingPairs:
        """As missing_endpoints, for pairs: none of them is listed."""
        return MissingPairs(self, keys)

    def missing_pairs(self, keys: set[str]) -> tuple[list[PairTask], list[CorruptArtefact]]:
        """As `missing`, all tasks listed, by curve; neighbours share minima. Of a few thousand pairs at most."""
        found = self.missing(keys)
        places = {title: place for place, title in enumerate(self._curves)}
        tasks = [task for pair in found for task in found.tasks(*pair)]
        return sorted(tasks, key=lambda task: places[task.curve]), found.corrupt

    def pair_task(self, a: str, b: str, how: NamedCurve, heads: Mapping[str, Choice]) -> PairTask:
        """To score a path on row sets, with whose head each."""
        curve, space = how.title, self.space(a, b, curve=how.title)
        return PairTask(
            a,
            b,
            space,
            curve,
            tuple(heads),
            tuple(heads.values()),
            how,
            self.fit_key(a, b, curve),
            tuple(self.profile_key(s, space, curve, head) for s, head in heads.items()),
            self.spec.connectivity.rows,
            tuple((self.evaluation_key(s, self.space(a)), self.evaluation_key(s, self.space(b))) for s in heads),
            len(self.t),
            self.spec.connectivity.tolerance,
            self.precision,
        )

    def has_whole(self, corrupt: list[CorruptArtefact], a: str, split: str, b: str = "", curve: str = "") -> bool:
        """Whether the store's record still holds; one that isn't what was written is set aside, and told in `corrupt`.

        Raises CorruptArtefact where a minimum can't be read.
        """
        try:
            found = self.profile(a, b, curve, split) if b else self.evaluation(a, split)
        except CorruptArtefact as error:
            if error.kind == layout.MINIMA:
                raise
            self.store.set_aside(error.kind, error.key)
            corrupt.append(error)
            return False
        return found is not None
