"""Whose classification head is used where a minimum or a path is scored on a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from raymc.specs.factors import numbers_of
from raymc.specs.sweep import Point, RowSet, SweepSpec
from raymc.specs.taken import existing_labels
from raymc.specs.task import TaskSpec

LabelsOf = Callable[[TaskSpec], tuple[str, ...] | None]
Choice = Literal["path", "a", "b"]


def named_labels(task: TaskSpec) -> tuple[str, ...] | None:
    """The labels that a task names itself."""
    return task.labels


class Heads:
    """Which row sets a minimum can be scored on, and with whose head a path is. Minima go by their index.

    A classifier is scored on the tasks of its own label set, in whatever order. `labels_of` gives a task's labels; None
    where only the hub knows them, which counts as a match. An existing minimum has the labels that its folder names.
    Models without a head are scored on every task.
    """

    def __init__(self, spec: SweepSpec, points: Sequence[Point], labels_of: LabelsOf = named_labels):
        self._tasks, self._kinds = spec.connectivity.tasks, [point.trial.model.kind for point in points]
        texts: dict[int, str] = {}  # points of a sweep share what they have alike
        labels: dict[str, tuple[str, ...] | None] = {}
        self._labels: list[tuple[str, ...] | None] = []
        for point in points:
            task = point.trial.task
            text = texts.setdefault(id(task), "") or task.model_dump_json()
            texts[id(task)] = text
            if text not in labels:
                labels[text] = labels_of(task)
            self._labels.append(existing_labels(point.trial.model) if point.existing else labels[text])
        self._datasets = [None if point.existing else point.trial.task.dataset for point in points]
        self._known: dict[str, tuple[list[bool], list[bool]]] = {}
        self._labels_of = labels_of

    def labels(self, i: int) -> tuple[str, ...] | None:
        """The labels that a minimum is tuned on."""
        return self._labels[i]

    def scores(self, i: int, rows: RowSet) -> bool:
        """Whether a minimum can be scored on a row set by itself."""
        return self._has(rows)[0][i]

    def choose(self, i: int, j: int, rows: RowSet) -> Choice | None:
        """Whose head scores the path from i (a) to j (b): the path's own, or that of one end all along; None: none.

        Asked for its own head where both ends have the labels, that of the end tuned on the very dataset, else a's.
        """
        if self._kinds[i] != "classifier" and self._kinds[j] != "classifier":
            return "path"
        asked = self._tasks[rows.task_name].head if rows.task_name else "auto"
        has, tuned = self._has(rows)
        if has[i] and has[j]:
            return "path" if asked != "own" else "b" if tuned[j] and not tuned[i] else "a"
        if asked == "path" or not (has[i] or has[j]):
            return None
        return "a" if has[i] else "b"

    def classes(self, row_sets: Iterable[RowSet]) -> list[int]:
        """A number for all that decides `scores` and `choose` of a minimum on some row sets."""
        known = [self._has(rows) for rows in row_sets]
        return numbers_of(
            (kind == "classifier", *((has[i], tuned[i]) for has, tuned in known)) for i, kind in enumerate(self._kinds)
        )

    def _has(self, rows: RowSet) -> tuple[list[bool], list[bool]]:
        """By minimum: whether it has the row set's labels, and whether it is tuned on that dataset."""
        if rows.name not in self._known:
            wanted = self._labels_of(rows.task)
            match = [
                kind != "classifier" or wanted is None or labels is None or set(labels) == set(wanted)
                for kind, labels in zip(self._kinds, self._labels, strict=True)
            ]
            self._known[rows.name] = match, [dataset == rows.task.dataset for dataset in self._datasets]
        return self._known[rows.name]
