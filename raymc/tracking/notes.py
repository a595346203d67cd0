"""Descriptions in Markdown that a tracker shows on the page of a sweep and of a minimum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raymc.tracking.tracker import MatrixView, MinimumView, SweepView

TABLE_LIMIT = 12  # minima; a larger matrix is a picture
METRIC_LIMIT = 24
VALUES_LIMIT = 8
LENGTH_LIMIT = 7500  # characters; MLflow takes 8000 in a tag


def sweep_note(view: SweepView) -> str:
    """What the sweep is, its figures, its headline matrix where that is small, and how to read it."""
    matrix = view.matrices[0] if view.matrices else None
    parts = [
        view.description.strip(),
        _failure(view.status, view.reason),
        _extent(view),
        _table(("axis", "values"), [(f"`{name}`", _values(values)) for name, values in view.axes.items()]),
        _metrics(view.metrics),
    ]
    if matrix is not None:
        parts += [_matrix_head(matrix), _matrix_table(matrix, view.minima), _how_to_read(view, matrix)]
    if view.uri:
        parts.append(f"Stored in `{view.uri}`; this page is a view of it and can be rebuilt from it.")
    return _fit(parts)


def minimum_note(view: MinimumView, sweep: str) -> str:
    """What sets one minimum apart, how good it is, and where its weights lie."""
    what = f"One minimum of sweep **{sweep}**, fine-tuned in {duration(view.seconds)}."
    parts = [
        what if view.status == "finished" else f"One minimum of sweep **{sweep}**.",
        _failure(view.status, view.reason),
        _table(("axis", "value"), [(f"`{name}`", _short(value)) for name, value in view.axes.items()]),
        _metrics(view.metrics),
        f"Weights in `{view.uri}`, under key `{view.key}`." if view.status == "finished" and view.uri else "",
    ]
    return _fit(parts)


def running_note() -> str:
    """Of a sweep whose view isn't complete yet."""
    return "This sweep is running. Minima appear below it as they finish; barriers and matrices come at its end."


def duration(seconds: float) -> str:
    """Such as 42 s, 3 min 5 s, 2 h 4 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(value: float) -> str:
    """Four significant digits, no needless zeros."""
    return "–" if not math.isfinite(value) else f"{value:.4g}"


def _extent(view: SweepView) -> str:
    count = len(view.minima)
    failed = sum(minimum.status == "failed" for minimum in view.minima)
    pairs = (count - failed) * (count - failed - 1) // 2
    said = f"{count} {'minimum' if count == 1 else 'minima'}"
    if failed:
        said += f", {failed} of them failed"
    return f"**{said}, {pairs} {'pair' if pairs == 1 else 'pairs'}**"


def _failure(status: str, reason: str) -> str:
    return "" if status == "finished" else f"**Failed.** {_cell(reason)}".strip()


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = sorted((name, value) for name, value in metrics.items() if math.isfinite(value))
    table = _table(("metric", "value"), [(f"`{name}`", number(value)) for name, value in shown[:METRIC_LIMIT]])
    more = len(shown) - METRIC_LIMIT
    return table + (f"\n\nand {more} more" if more > 0 else "")


def _matrix_head(matrix: MatrixView) -> str:
    definition = f": {matrix.definition}" if matrix.definition else ""
    return f"#### {matrix.title}\n\nIn {matrix.unit}{definition}"


def _matrix_table(matrix: MatrixView, minima: Sequence[MinimumView]) -> str:
    keys = list(matrix.values.index)
    if len(keys) > TABLE_LIMIT:
        return ""
    names = {minimum.key: minimum.name for minimum in minima}
    cells = matrix.values.to_numpy(dtype=float, na_value=math.nan)
    rows = [
        (
            str(i + 1),
            _cell(str(names.get(key, key))),
            *("·" if i == j else number(cells[i, j]) for j in range(len(keys))),
        )
        for i, key in enumerate(keys)
    ]
    return _table(("", "minimum", *(str(i + 1) for i in range(len(keys)))), rows)


def _how_to_read(view: SweepView, matrix: MatrixView) -> str:
    said = (
        "A cell is one pair of minima: how high the path between them rises. 0 means that the two are connected; "
        "compare heights with the minima's own loss."
    )
    files = [f"`{name}`" for name in view.figures] + [f"`matrices/{matrix.name}.csv`"]
    return f"{said} Artifacts hold {', '.join(files[:6])}{' and more' if len(files) > 6 else ''}."


def _values(values: Sequence[Any]) -> str:
    shown = [_short(value) for value in values[:VALUES_LIMIT]]
    return ", ".join(shown) + (f", … ({len(values)} values)" if len(values) > VALUES_LIMIT else "")


def _short(value: Any) -> str:
    text = _cell(str(value))
    return text if len(text) <= 80 else text[:79] + "…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _fit(parts: Sequence[str]) -> str:
    """As many whole parts as the length allows, in order."""
    kept: list[str] = []
    for part in filter(None, parts):
        if sum(len(other) + 2 for other in kept) + len(part) <= LENGTH_LIMIT:
            kept.append(part)
    return "\n\n".join(kept)
