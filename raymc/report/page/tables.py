"""A page's tables as its template writes them: columns with their titles, cells as text and as what to sort by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raymc.report.sections import OF_MINIMA, Shown, bounds_of, cell

LINES = 100  # of a table of an analysis


@dataclass(frozen=True)
class Cell:
    """`sort`: what orders lines by this cell, where that isn't its text; `title`: the whole of what is cut."""

    text: str
    sort: str = ""
    title: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    number: bool = False
    key: bool = False


@dataclass(frozen=True)
class Table:
    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]
    more: int = 0  # lines that aren't shown


@dataclass(frozen=True)
class Part:
    """A section of an analysis, ready to be written."""

    name: str
    title: str
    curve: str
    split: str
    space: str
    definition: Sequence[str]
    notes: Sequence[str]
    figures: Sequence[tuple[str, str]]
    table: Table | None


def part_of(section: Shown, name: str, names: Mapping[str, str]) -> Part:
    """`names`: of minima, by key; those in single-number figures are left out, as tables have them."""
    return Part(
        name,
        section.title,
        section.curve,
        section.split,
        section.space,
        [line for line in section.definition.split("\n") if line],
        [note for note in section.notes if note],
        [
            (name.replace("_", " "), cell(value))
            for name, value in section.figures.items()
            if not isinstance(value, dict)
        ],
        None if section.table is None or not len(section.table) else _of_frame(section.table, names, section.shown),
    )


def _of_frame(frame: pd.DataFrame, names: Mapping[str, str], shown: Sequence[str]) -> Table:
    columns = [str(name) for name in frame.columns]
    bounds = {name: both for name in columns if (both := bounds_of(name, columns)) is not None}
    inside = {bound for both in bounds.values() for bound in both}
    kept = [name for name in shown or columns if name in columns and name not in inside]
    titles = []
    for name in kept:
        number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        titles.append(Column(name.replace("_", " "), number))
    lines = []
    for row in frame.head(LINES).to_dict("records"):
        line = []
        for name in kept:
            value = row[name]
            text = names.get(str(value), str(value)) if name in OF_MINIMA else cell(value)
            if name in bounds:
                text += f" [{', '.join(cell(row[bound]) for bound in bounds[name])}]"
            line.append(Cell(text, _sort(value), str(value) if name in OF_MINIMA and text != value else ""))
        lines.append(line)
    return Table(titles, lines, max(0, len(frame) - LINES))


def minima_table(
    minima: pd.DataFrame, splits: Sequence[str], metrics: Sequence[str], clusters: Mapping[str, int]
) -> Table:
    """Number, name, cluster, loss and metrics on each row set, key. `clusters`: of the first curve and row set."""
    scores = [(split, name) for split in splits for name in ("loss", *metrics) if f"{split}_{name}" in minima]
    columns = [Column("#", True), Column("minimum")]
    columns += [Column("cluster", True)] if clusters else []
    for split, name in scores:
        where = f"{split} " if len(splits) > 1 else ""
        columns.append(Column(f"{where}{name.replace('_', ' ')}" + (" (nats)" if name == "loss" else ""), True))
    columns.append(Column("key", key=True))
    lines = []
    for number, row in enumerate(minima.to_dict("records"), start=1):
        weak = " ★" if row["below_floor"] else ""
        line = [Cell(str(number), str(number)), Cell(f"{row['name']}{weak}")]
        line += [Cell(cell(clusters.get(row["key"])), str(clusters.get(row["key"], "")))] if clusters else []
        line += [Cell(cell(row[f"{split}_{name}"]), _sort(row[f"{split}_{name}"])) for split, name in scores]
        line.append(Cell(str(row["key"])[:8], str(row["key"]), str(row["key"])))
        lines.append(line)
    return Table(columns, lines)


def _sort(value: Any) -> str:
    return repr(float(value)) if isinstance(value, (int, float)) and value == value else ""
