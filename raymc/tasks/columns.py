"""Columns of a split as they are stored: in local files, on the hub (through datasets), or made by the grammar."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymc.specs.content import dataset_files, hub_commit
from raymc.specs.errors import RaymcError, first_line
from raymc.specs.task import GrammarDataset, HubDataset, LocalDataset, TaskSpec

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Rows:
    """One split in file order, or rows of it; `text_pair` is None for single sentences."""

    text: list[str]
    text_pair: list[str] | None
    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_columns(task: TaskSpec, split: str) -> tuple[str, Columns]:
    """Where a split lies, and its columns by name, whole and not yet checked; those that nothing reads may be empty.

    Raises RaymcError, in one line, where the split isn't there or can't be read.
    """
    if isinstance(task.dataset, LocalDataset):
        files = dataset_files(task.dataset)
        if split not in files:
            raise RaymcError(f"no split {split!r} in {task.dataset.path} (it has {', '.join(files)})")
        return str(files[split]), _read_file(files[split], task)
    if isinstance(task.dataset, HubDataset):
        return f"{task.dataset.hub} split {split}", _read_hub(task.dataset, split)
    return f"grammar split {split}", _grammar(task.dataset, split, task)


def _grammar(dataset: GrammarDataset, split: str, task: TaskSpec) -> Columns:
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
    return {task.text: [row["text"] for row in rows], task.label: [row["label"] for row in rows]}


def _read_file(path: Path, task: TaskSpec) -> Columns:
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
        raise RaymcError(f"{path}: can't be read: {first_line(error)}") from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise RaymcError(f"{path}: two columns are called {twice[0]!r}")
    present = [name for name in table.column_names if table.num_rows == 0 or table[name].null_count < table.num_rows]
    wanted = {name for name in (*texts, task.label) if name in present}
    return {name: table[name].to_pylist() if name in wanted else [] for name in present}


def _read_jsonl(path: Path) -> Columns:
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


def _read_hub(dataset: HubDataset, split: str) -> Columns:
    import datasets

    commit = hub_commit(dataset.hub, dataset.revision, "dataset")
    try:
        loaded = datasets.load_dataset(dataset.hub, dataset.subset, split=split, revision=commit)
    except (ValueError, OSError, KeyError) as error:
        reason = first_line(error)
        raise RaymcError(f"dataset {dataset.hub}, split {split}: {reason}") from error
    columns: Columns = {name: list(loaded[name]) for name in loaded.column_names}
    for name, feature in loaded.features.items():
        if isinstance(feature, datasets.ClassLabel):
            columns[name] = [None if value < 0 else feature.int2str(value) for value in columns[name]]
    return columns
