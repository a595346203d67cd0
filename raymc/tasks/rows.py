"""Rows of a split as text and label names: from local files, the hub (through datasets), or built in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymc.specs.content import dataset_files, dataset_splits, hub_commit
from raymc.specs.errors import RaymcError
from raymc.specs.task import GrammarDataset, HubDataset, LocalDataset, TaskSpec


@dataclass(frozen=True)
class Rows:
    """One split in file order; `text_pair` is None for single sentences."""

    text: list[str]
    text_pair: list[str] | None
    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_rows(task: TaskSpec, split: str) -> Rows:
    """Raises RaymcError, in one line, where the split, a column, a text or a label is missing, or it has no rows."""
    if isinstance(task.dataset, GrammarDataset):
        return _grammar(task.dataset, split)
    if isinstance(task.dataset, LocalDataset):
        files = dataset_files(task.dataset)
        if split not in files:
            raise RaymcError(f"no split {split!r} in {task.dataset.path} (it has {', '.join(files)})")
        place, columns = str(files[split]), _read_file(files[split], task)
    else:
        place, columns = f"{task.dataset.hub} split {split}", _read_hub(task.dataset, split)
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


def label_names(task: TaskSpec, train: Rows) -> tuple[str, ...]:
    """Label names in the order of the logits: as the spec says, else the training rows', sorted (numbers by value).

    Raises RaymcError where the training rows have fewer than two labels or one that the spec doesn't name.
    """
    found = Counter(train.labels)
    if len(found) < 2:
        raise RaymcError(f"the training rows have one label only: {next(iter(found))!r}")
    if task.labels is not None:
        check_labels(train, task.labels, "training")
        return task.labels
    numbers = all(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", name) for name in found)
    return tuple(sorted(found, key=lambda name: (float(name), name)) if numbers else sorted(found))


def check_labels(rows: Rows, labels: tuple[str, ...], what: str) -> None:
    """Raises RaymcError where a row has a label that isn't among `labels`."""
    known = set(labels)
    for number, label in enumerate(rows.labels, 1):
        if label not in known:
            raise RaymcError(f"{what} row {number} has label {label!r}, which is not among {', '.join(labels)}")


def task_faults(task: TaskSpec, splits: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(dotted field of the task, what is wrong) as far as the data tell; `splits` maps split to the field naming it.

    Hub datasets are not fetched: their faults show when the sweep runs.
    """
    if isinstance(task.dataset, HubDataset):
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
    labels: tuple[str, ...] | None = None
    for split in sorted((split for split in splits if split not in absent), key=lambda s: s != task.train_split):
        try:
            rows = read_rows(task, split)
            if split == task.train_split:
                labels = label_names(task, rows)
            elif labels is not None:
                check_labels(rows, labels, split)
        except RaymcError as error:
            message = str(error)
            column = next(
                (name for name in ("text", "text_pair", "label") if f"no column {getattr(task, name)!r}" in message),
                None,
            )
            yield column or ("labels" if "not among" in message and task.labels else "dataset"), message


def _grammar(dataset: GrammarDataset, split: str) -> Rows:
    from raymc.tasks import grammar

    if split not in grammar.SPLITS:
        raise RaymcError(f"no split {split!r} in the grammar (it has {', '.join(grammar.SPLITS)})")
    train = split == "train"
    try:
        rows = grammar.classification(
            split,
            getattr(dataset, f"{split}_rows"),
            seed=dataset.seed,
            domain=dataset.domain,
            label_noise=dataset.label_noise if train else 0.0,
            start=dataset.train_start if train else 0,
        )
    except ValueError as error:
        raise RaymcError(str(error)) from error
    return Rows([row["text"] for row in rows], None, [row["label"] for row in rows])


def _read_file(path: Path, task: TaskSpec) -> dict[str, list[Any]]:
    import pyarrow as pa

    texts = [task.text, *([task.text_pair] if task.text_pair else [])]
    if path.stat().st_size == 0:
        raise RaymcError(f"{path}: empty")
    try:
        if path.suffix == ".jsonl":
            return _read_jsonl(path)
        if path.suffix == ".parquet":
            from pyarrow import parquet

            table = parquet.read_table(path)
        else:
            from pyarrow import csv as reader

            tabs = path.suffix == ".tsv"  # tab-separated sets carry bare quotes in their text
            parse = reader.ParseOptions(
                delimiter="\t" if tabs else ",", quote_char=False if tabs else '"', newlines_in_values=not tabs
            )
            types = {name: pa.string() for name in (*texts, task.label)}
            convert = reader.ConvertOptions(column_types=types, strings_can_be_null=False)
            table = reader.read_csv(path, reader.ReadOptions(block_size=1 << 26), parse, convert)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RaymcError(f"{path}: can't be read: {str(error).strip().splitlines()[0]}") from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise RaymcError(f"{path}: two columns are called {twice[0]!r}")
    present = [name for name in table.column_names if table.num_rows == 0 or table[name].null_count < table.num_rows]
    wanted = {name for name in (*texts, task.label) if name in present}
    return {name: table[name].to_pylist() if name in wanted else [] for name in present}


def _read_jsonl(path: Path) -> dict[str, list[Any]]:
    """Columns that some row has a value for. Values keep their own types: no column is guessed to be of dates."""
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
                if "\\ud" in line.lower():
                    json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
            except ValueError as error:
                raise RaymcError(f"{path}: line {number} is no JSON: {getattr(error, 'msg', error)}") from error
            if not isinstance(row, dict):
                raise RaymcError(f"{path}: line {number} is no JSON object")
            rows.append(row)
    if not rows:
        raise RaymcError(f"{path}: no rows")
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_hub(dataset: HubDataset, split: str) -> dict[str, list[Any]]:
    import datasets

    commit = hub_commit(dataset.hub, dataset.revision, "dataset")
    try:
        loaded = datasets.load_dataset(dataset.hub, dataset.subset, split=split, revision=commit)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RaymcError(f"dataset {dataset.hub}, split {split}: {reason}") from error
    columns: dict[str, list[Any]] = {name: list(loaded[name]) for name in loaded.column_names}
    for name, feature in loaded.features.items():
        if isinstance(feature, datasets.ClassLabel):
            columns[name] = [None if value < 0 else feature.int2str(value) for value in columns[name]]
    return columns
