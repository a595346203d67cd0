"""Tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

# dark to bright over the range of the matrix, readable on dark and light terminals and without colour
_SHADES = ("grey62", "cyan", "yellow", "bold red")


def print_matrix(frame: pd.DataFrame, names: Mapping[str, str], title: str, file: object = None) -> None:
    """A symmetric matrix with short names for its rows and numbers for its columns."""
    console = Console(file=file or sys.stdout, width=None if sys.stdout.isatty() else 200)  # type: ignore[arg-type]
    console.print(title, markup=False, highlight=False)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("minimum", no_wrap=True)
    for number in range(1, len(frame) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    low, high = frame.min().min(), frame.max().max()
    for number, (key, row) in enumerate(frame.iterrows(), 1):
        cells = [_cell(value, low, high) for value in row]
        table.add_row(str(number), names.get(str(key), str(key)), *cells)
    console.print(table)


def _cell(value: float, low: float, high: float) -> str:
    if value != value:
        return "·"
    share = (value - low) / (high - low) if high > low else 0.0
    shade = _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]
    return f"[{shade}]{value:.4f}[/]" if abs(value) < 1000 else f"[{shade}]{value:.4g}[/]"


def print_minima(frame: pd.DataFrame, names: Mapping[str, str], splits: Sequence[str]) -> None:
    """Every minimum with its quality, numbered as in the matrix."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("minimum", no_wrap=True)
    columns = [name for split in splits for name in frame.columns if name.startswith(f"{split}_")]
    for name in (*columns, "key"):
        table.add_column(name.replace("_", " ", 1), justify="left" if name == "key" else "right", no_wrap=True)
    for number, (_, row) in enumerate(frame.iterrows(), 1):
        cells = ["·" if row[name] != row[name] else f"{row[name]:.4f}" for name in columns]
        table.add_row(str(number), names[row["key"]], *cells, row["key"])
    console.print(table)
