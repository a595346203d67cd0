"""Sections of an analysis, and what was exported, for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

OF_MINIMA = ("a", "b", "key", "source", "target", "head_source", "head_target")  # columns with keys, shown as names
_SEMI = 4  # decimals


class Shown(Protocol):
    """What is printed: see raymc.sweep.section.Section."""

    @property
    def title(self) -> str: ...
    @property
    def definition(self) -> str: ...
    @property
    def curve(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def space(self) -> str: ...
    @property
    def table(self) -> pd.DataFrame | None: ...
    @property
    def figures(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def shown(self) -> Sequence[str]: ...


def print_section(section: Shown, names: Mapping[str, str], rows: int) -> None:
    """A section with its definition, row set, curve and space; of a long table the first `rows` lines."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 220)
    console.print(
        f"[bold]{escape(section.title)}[/]: {escape(section.curve)} path, space of {escape(section.space)}, "
        f"{escape(section.split)} split",
        highlight=False,
    )
    for line in (*section.definition.split("\n"), *section.notes):
        if line:
            console.print(f"  {line}", markup=False, highlight=False)
    figures = [f"{name} {cell(value)}" for name, value in section.figures.items() if not isinstance(value, dict)]
    if figures:
        console.print("  " + "; ".join(figures), markup=False, highlight=False)
    if section.table is not None:
        console.print(_table(section.table.head(rows), names, section.shown))
        if len(section.table) > rows:
            said = f"  the first {rows} of {len(section.table)} lines; --rows {len(section.table)} or --json has all"
            console.print(said, markup=False, highlight=False)
    console.print()


def print_export(table: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """An export's scores beside those of what it is made of."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 220)
    console.print(
        f"{provenance.get('what')}: {provenance.get('recipe')}; space of {provenance.get('space')}. loss: mean "
        "cross-entropy (nats), metrics: fractions, each on every row of the split",
        markup=False,
        highlight=False,
    )
    console.print(_table(table.drop(columns="key", errors="ignore"), {}))
    for note in provenance.get("notes", ()):
        console.print(f"  {note}", markup=False, highlight=False)


def _table(frame: pd.DataFrame, names: Mapping[str, str], shown: Sequence[str] = ()) -> Table:
    """The columns `shown` (all, if none are named); those with bounds as `value [low, high]`."""
    columns = [str(name) for name in frame.columns]
    bounds = {name: found for name in columns if (found := bounds_of(name, columns)) is not None}
    inside = {bound for both in bounds.values() for bound in both}
    kept = [name for name in shown or columns if name in columns and name not in inside]
    table = Table()
    for name in kept:
        number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(name.replace("_", " "), justify="right" if number else "left", min_width=5, no_wrap=not number)
    for _, row in frame.iterrows():
        cells = []
        for name in kept:
            text = names.get(row[name], str(row[name])) if name in OF_MINIMA else cell(row[name])
            if name in bounds:
                text += f" [{', '.join(cell(row[bound]) for bound in bounds[name])}]"
            cells.append(escape(text))
        table.add_row(*cells)
    return table


def bounds_of(name: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns with a value's interval: NAME_low and NAME_high, or low and high (with a suffix) of an effect."""
    for base in ("effect", "difference"):
        if name.startswith(base):
            low, high = (side + name.removeprefix(base) for side in ("low", "high"))
            return (low, high) if low in columns and high in columns else None
    low, high = f"{name}_low", f"{name}_high"
    return (low, high) if low in columns and high in columns else None


def cell(value: Any) -> str:
    """A value in few characters: numbers to four decimals, of very small and large ones three digits; none is a dot."""
    if value is None or (isinstance(value, float) and value != value):
        return "·"
    if isinstance(value, float):
        return f"{value + 0.0:.{_SEMI}f}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"  # no -0
    return str(value)
