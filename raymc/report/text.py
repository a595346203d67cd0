"""Tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raymc.report.frames import ALONG
from raymc.report.values import VALUES
from raymc.specs.results import METRICS

# dark to bright over the range of the matrix, readable on dark and light terminals and without colour
_SHADES = ("grey62", "cyan", "yellow", "bold red")

WEAK = "*"  # marks a minimum below the floor
# of a summary's column where it is the same in all rows
_PLACE = {"curve": "{} path", "space": "space of {}", "split": "{} split"}


def print_matrix(
    frame: pd.DataFrame, names: Mapping[str, str], title: str, file: object = None, weak: Collection[str] = ()
) -> None:
    """A symmetric matrix with short names for its rows and numbers for its columns.

    Cells without a value are dots, and a line says so; minima of `weak` (by key) are marked.
    """
    console = Console(file=file or sys.stdout, width=None if sys.stdout.isatty() else 200)  # type: ignore[arg-type]
    console.print(title, markup=False, highlight=False)
    table = Table()
    table.add_column("", justify="right", no_wrap=True, min_width=2)
    table.add_column("minimum", no_wrap=True)
    for number in range(1, len(frame) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    low, high = frame.min().min(), frame.max().max()
    for number, (key, row) in enumerate(frame.iterrows(), 1):
        cells = [_cell(value, low, high) for value in row]
        table.add_row(str(number), _marked(names.get(str(key), str(key)), key in weak), *cells)
    console.print(table)
    missing = frame.isna().to_numpy()
    if missing.sum() > len(frame):  # more than the diagonal
        count = (int(missing.sum()) - len(frame)) // 2
        console.print(
            f"· no value: {count} of {len(frame) * (len(frame) - 1) // 2} pairs are not selected or not there"
        )


def _cell(value: float, low: float, high: float) -> str:
    if value != value:
        return "·"
    share = (value - low) / (high - low) if high > low else 0.0
    shade = _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]
    return f"[{shade}]{value:.4f}[/]" if abs(value) < 1000 else f"[{shade}]{value:.4g}[/]"


def print_minima(
    frame: pd.DataFrame, names: Mapping[str, str], splits: Sequence[str], weak: Collection[str] = (), floor: str = ""
) -> None:
    """Every minimum with its quality, numbered as in the matrix; those of `weak` are marked, as below `floor`."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    console.print(
        "Minima by themselves (no path): mean cross-entropy (loss, nats) and metrics (fractions) on every row of the "
        "split that the column names",
        markup=False,
        highlight=False,
    )
    table = Table()
    table.add_column("", justify="right", no_wrap=True, min_width=2)
    table.add_column("minimum", no_wrap=True)
    scores = dict.fromkeys(("loss", *(name for some in METRICS.values() for name in some)))
    columns = {
        f"{split} {score.replace('_', ' ')}": f"{split}_{score}"
        for split in splits
        for score in scores
        if f"{split}_{score}" in frame.columns
    }
    for name in columns:  # a long heading is broken at its words
        table.add_column(name, justify="right", min_width=6)
    table.add_column("key", no_wrap=True, min_width=20)
    for number, (_, row) in enumerate(frame.iterrows(), 1):
        cells = ["·" if row[name] != row[name] else f"{row[name]:.4f}" for name in columns.values()]
        table.add_row(str(number), _marked(names[row["key"]], row["key"] in weak), *cells, row["key"])
    console.print(table)
    if weak:
        console.print(f"{WEAK} below the floor ({floor}): shown, but in no conclusion", highlight=False)


def print_summary(frame: pd.DataFrame, by: Sequence[str] = (), metric: str = "accuracy") -> None:
    """The conclusions: a row per curve, row set, space and difference (and value of the axes `by`)."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    along = [name for name in ALONG if name in frame.columns]
    told = [_PLACE[name].format(frame[name].iloc[0]) for name in _PLACE if frame[name].nunique() == 1]
    said = [
        f"mean, median, max: of the Entezari barrier (nats), {VALUES['barrier_entezari'][2]}",
        "significant: pairs whose Entezari barrier is above 0, at 5 % over all pairs of a curve and split (Holm)",
        f"frankle mean: of the Frankle barrier (error rate), {VALUES['barrier_frankle'][2]}",
        f"distance mean: of the L2 distance (parameters), {VALUES['distance_l2'][2]}",
        *([f"ends, middle, lowest: {metric} (fraction) at both ends, half-way, at its lowest; means"] if along else []),
    ]
    heading = "Barriers by difference" + (f": {', '.join(told)}" if told else "")
    console.print("\n  ".join([heading, *said]), markup=False, highlight=False)
    table = Table()
    some = [*by, *(name for name in _PLACE if frame[name].nunique() > 1)]
    for name in (*some, "differs"):
        table.add_column(name, no_wrap=name not in ("differs", *by))
    left_out = bool(frame["left_out"].any())
    numbers = ["barrier_mean", "barrier_median", "barrier_max", "frankle_mean", "distance_mean", *along]
    for name in ("pairs", *(["left_out"] if left_out else []), *numbers[:3], "significant", *numbers[3:]):
        table.add_column(name.removeprefix("barrier_").replace("_", " "), justify="right", no_wrap=True)
    for _, row in frame.iterrows():
        cells = ["·" if row[name] != row[name] else f"{row[name]:.4g}" for name in numbers]
        differs = (row["differs"] or "-") + (" (one run)" if row["same_trajectory"] else "")
        counts = [str(row["pairs"]), *([str(row["left_out"])] if left_out else [])]
        cells.insert(3, str(row["significant"]))
        table.add_row(*(escape(str(row[name])) for name in some), escape(differs), *counts, *cells)
    console.print(table)


def _marked(name: str, weak: bool) -> str:
    return escape(name) + (f" {WEAK}" if weak else "")
