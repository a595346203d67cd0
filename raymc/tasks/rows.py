"""Rows of a split as text and label names, those that a task trains on, and what is wrong with a task's data."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raymc.specs.content import dataset_files, dataset_splits
from raymc.specs.errors import RaymcError
from raymc.specs.keys import canonical, file_digest
from raymc.specs.task import HubDataset, LocalDataset, TaskSpec
from raymc.tasks import subset as choice
from raymc.tasks.columns import Rows, read_columns
from raymc.tasks.prompts import prompt_fault, target_fault


def read_rows(task: TaskSpec, split: str) -> Rows:
    """All rows of a split, their labels renamed as the task says; no subset, no noise.

    Raises RaymcError, in one line, where the split, a column, a text or a label is missing, or it has no rows.
    """
    rows = _as_written(task, split)
    return replace(rows, labels=[task.rename.get(label, label) for label in rows.labels]) if task.rename else rows


def training_rows(task: TaskSpec) -> tuple[Rows, np.ndarray]:
    """The rows that the task trains on, and the index of each in its training split (int64).

    The subset's rows, in the order of `subset.window`, with the label noise of the task. Raises RaymcError as
    `read_rows` and `label_names` do, and where the split is too small for the subset.
    """
    rows = read_rows(task, task.train_split)
    names = label_names(task, rows)
    indices = np.arange(len(rows), dtype=np.int64)
    if task.subset is not None:
        for field, message in _subset_faults(task, len(rows)):
            raise RaymcError(f"task.{field}: {message}")
        indices = choice.window(len(rows), task.subset)
        pairs = rows.text_pair
        rows = Rows(
            [rows.text[i] for i in indices],
            None if pairs is None else [pairs[i] for i in indices],
            [rows.labels[i] for i in indices],
        )
    if task.label_noise:
        noisy = choice.mislabelled(rows.labels, indices, task.label_noise, task.noise_seed, names)
        rows = replace(rows, labels=noisy)
    return rows, indices


def fingerprint(rows: Rows, indices: np.ndarray) -> str:
    """SHA-256 of the training rows' indices and labels in order: what a minimum was really trained on."""
    return hashlib.sha256(canonical([indices.tolist(), rows.labels]).encode()).hexdigest()


def label_names(task: TaskSpec, train: Rows) -> tuple[str, ...]:
    """Label names in the order of the logits: as the spec says, else the training rows', sorted (numbers by value).

    `train` is the whole training split: neither a subset nor noise changes the names. Raises RaymcError where it has
    fewer than two labels or one that the spec doesn't name.
    """
    return _names(task, train.labels)


def labels_of(task: TaskSpec) -> tuple[str, ...] | None:
    """The task's label names as `label_names` gives them, kept for as long as its files stay as they are.

    None for a hub dataset without `labels`: it is not fetched. Raises RaymcError as `read_rows` and `label_names` do.
    """
    if isinstance(task.dataset, HubDataset):
        return task.labels
    column = _labels(task, task.train_split)
    known = task.labels is None or set(column.names) <= set(task.labels)
    return _names(task, column.names if known else column.labels)  # the latter to tell which row is at fault


def row_count(task: TaskSpec, split: str) -> int:
    """How many rows a split has; of a hub dataset it is fetched. Raises RaymcError as `read_rows` does."""
    return len(_labels(task, split).codes)


def check_labels(rows: Rows, labels: tuple[str, ...], what: str) -> None:
    """Raises RaymcError where a row has a label that isn't among `labels`."""
    _check(rows.labels, labels, what)


def task_faults(task: TaskSpec, splits: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(dotted field of the task, what is wrong) as far as the data tell; `splits` maps split to the field naming it.

    Hub datasets are not fetched: their faults show when the sweep runs.
    """
    if isinstance(task.dataset, HubDataset):
        yield from _text_faults(task, task.labels)
        return
    field = "path" if isinstance(task.dataset, LocalDataset) else "builtin"
    try:
        present = dataset_splits(task.dataset) or []
    except RaymcError as error:
        yield f"dataset.{field}", str(error)
        return
    absent = {split: where for split, where in splits.items() if split not in present}
    for split, where in absent.items():
        yield where, f"no split {split!r} in the dataset (it has {', '.join(present)})"
    names = task.labels
    columns: list[_Labels] = []
    told: set[str] = set()
    for split in sorted((split for split in splits if split not in absent), key=lambda s: s != task.train_split):
        try:
            column = _labels(task, split)
            columns.append(column)
            if split == task.train_split:
                names = _names(task, column.labels)
                yield from _subset_faults(task, len(column.codes), column)
            elif names is not None:
                _check(column.labels, names, split)
        except RaymcError as error:
            message = str(error)
            absent_column = next(
                (name for name in ("text", "text_pair", "label") if f"no column {getattr(task, name)!r}" in message),
                None,
            )
            names_at_fault = "labels" if "not among" in message and task.labels else None
            renamed = "rename" if "one label only" in message and task.rename else None
            at_fault = absent_column or names_at_fault or renamed or "dataset"
            if at_fault == "dataset" or at_fault not in told:  # a field's fault is often that of all splits
                told.add(at_fault)
                yield at_fault, message
    if columns and len(columns) == len(splits):  # a label may be in one split alone
        for label in task.rename:
            if all(label in column.unused for column in columns):
                yield "rename", f"no row has the label {label!r} (there are {', '.join(_found(columns))})"
    yield from _text_faults(task, names)


def _subset_faults(task: TaskSpec, rows: int, column: _Labels | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with a task's subset of so many rows; with their labels, whether it has more than one."""
    subset = task.subset
    if subset is None:
        return
    if subset.rows > rows:
        yield "subset.rows", f"{subset.rows} are more than the {rows} rows of split {task.train_split!r}"
    elif (needed := choice.window_start(subset) + subset.rows) > rows:
        yield (
            "subset.overlap",
            f"two windows of {subset.rows} rows with an overlap of {subset.overlap:g} need {needed} rows, and split "
            f"{task.train_split!r} has {rows}: enough for at most {choice.most_rows(subset.overlap, rows)} rows each",
        )
    elif column is not None and len(left := set(column.codes[choice.window(rows, subset)].tolist())) < 2:
        yield "subset", f"its rows have one label only: {column.names[left.pop()]!r}"


def _text_faults(task: TaskSpec, names: tuple[str, ...] | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the prompt and the labels' texts; `names` is None where the labels aren't known."""
    for field, fault in (("prompt", prompt_fault(task)), ("targets", target_fault(task, names))):
        if fault:
            yield field, fault


@dataclass(frozen=True)
class _Labels:
    """The labels of a split alone: row i has `names[codes[i]]`; `unused`: renamed labels that no row has."""

    names: tuple[str, ...]
    codes: np.ndarray
    written: tuple[str, ...]
    unused: frozenset[str]

    @property
    def labels(self) -> list[str]:
        return [self.names[code] for code in self.codes.tolist()]


def _labels(task: TaskSpec, split: str) -> _Labels:
    """The labels of a split, read once for as long as its file stays as it is. Raises RaymcError as `read_rows`."""
    digest = None
    if isinstance(task.dataset, LocalDataset):
        path = dataset_files(task.dataset).get(split)
        digest = file_digest(path) if path is not None else None
    fields = {"dataset", "text", "text_pair", "label", "rename"}
    return _labels_of_file(task.model_dump_json(include=fields), split, digest)


@functools.lru_cache(maxsize=64)
def _labels_of_file(text: str, split: str, digest: str | None) -> _Labels:
    task = TaskSpec.model_validate_json(text)
    written = _as_written(task, split).labels
    present = dict.fromkeys(written)
    names = tuple(dict.fromkeys(task.rename.get(label, label) for label in present))
    code = {label: names.index(task.rename.get(label, label)) for label in present}
    codes = np.array([code[label] for label in written], dtype=np.int32)
    return _Labels(names, codes, tuple(present), frozenset(task.rename) - present.keys())


def _found(columns: list[_Labels]) -> list[str]:
    return sorted({label for column in columns for label in column.written})


def _names(task: TaskSpec, labels: Sequence[str]) -> tuple[str, ...]:
    found = dict.fromkeys(labels)
    if len(found) < 2:
        raise RaymcError(f"the training rows have one label only: {next(iter(found))!r}")
    if task.labels is not None:
        _check(labels, task.labels, "training")
        return task.labels
    numbers = all(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", name) for name in found)
    return tuple(sorted(found, key=lambda name: (float(name), name)) if numbers else sorted(found))


def _check(labels: Sequence[str], names: tuple[str, ...], what: str) -> None:
    known = set(names)
    for number, label in enumerate(labels, 1):
        if label not in known:
            raise RaymcError(f"{what} row {number} has label {label!r}, which is not among {', '.join(names)}")


def _as_written(task: TaskSpec, split: str) -> Rows:
    """A split with the labels that the data have. Raises RaymcError as `read_rows` does."""
    place, columns = read_columns(task, split)
    wanted = [task.text, *([task.text_pair] if task.text_pair else []), task.label]
    for name in wanted:
        if name not in columns:
            raise RaymcError(f"{place}: no column {name!r} (it has {', '.join(columns) or 'none'})")
    if not columns[task.label]:
        raise RaymcError(f"{place}: no rows")
    for name in wanted:
        for number, value in enumerate(columns[name], 1):
            if value is None or (value == "" and name == task.label):
                raise RaymcError(f"{place}: row {number} has no {name!r}")
            if isinstance(value, (list, dict)):
                raise RaymcError(f"{place}: row {number} has a {type(value).__name__} as {name!r}")
    pair = [str(value) for value in columns[task.text_pair]] if task.text_pair else None
    return Rows([str(v) for v in columns[task.text]], pair, [str(v) for v in columns[task.label]])
