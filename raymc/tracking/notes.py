"""Descriptions in Markdown that a tracker shows on the page of a sweep and of a minimum.

MLflow's page folds a description, fading from its second line on, and lists metrics and params itself: links come
first, then the headline, and nothing is said twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raymc.tracking.table import TRAINING_MODE
from raymc.tracking.tracker import MatrixView, MinimumView, SweepView

TABLE_LIMIT = 12  # minima; a larger matrix is a picture
VALUES_LIMIT = 8
HERE = "#/experiments/EXPERIMENT/runs/RUN"  # in links of a description: where its run's page is
TABLE = "TABLE-OF-MINIMA"  # likewise: the key of its view
LENGTH_LIMIT = 7500  # characters; MLflow takes 8000 in a tag


def sweep_note(view: SweepView) -> str:
    """Where to look on and what was found, what the sweep asks, its first matrix where small, how to make it again."""
    parts = [
        "  \n".join(filter(None, (_links(view), _headline(view)))),  # two lines: what MLflow shows of a folded text
        _failure(view.status, view.reason),
        view.description.strip(),
        "\n".join(f"- {name}: {_values(values)}" for name, values in view.axes.items()),
    ]
    if view.matrices:
        matrix = view.matrices[0]
        definition = f": {matrix.definition}" if matrix.definition else ""
        parts += [
            f"**{matrix.title}**, in {matrix.unit}{definition}",
            _matrix_table(matrix, view.minima),
            "A cell is one pair of minima, numbered as in the rows: how high the path between them rises. 0 means "
            "connected; compare heights with the minima's own losses, in the runs below this one.",
        ]
    if view.commands:
        parts.append("\n".join(f"- {what}: `{command}`" for what, command in view.commands.items()))
    if view.uri:
        parts.append(f"Stored in `{view.uri}`. This page is a view of the store and can be made again from it.")
    return _fit(parts)


def _links(view: SweepView) -> str:
    """To the files that people look at, and to the table of runs."""
    pictures = [name for name in view.figures if name.startswith(("matrix", "profiles"))]
    named = [(name, "Report" if name == "report.html" else name) for name in view.pages]
    named += [(name, name.split(".")[0].capitalize()) for name in pictures[:2]]
    links = [f"[{title}]({HERE}/artifacts/{name}{TRAINING_MODE})" for name, title in named]
    if view.columns:
        table = f"{HERE.replace('/RUN', '')}{TRAINING_MODE}&viewStateShareKey={TABLE}"
        links.insert(bool(view.pages), f"[Minima as a table]({table})")
    return " · ".join(links)


def minimum_note(view: MinimumView, sweep: str) -> str:
    """What sets one minimum apart, and where its weights lie."""
    where = f"Weights in `{view.uri}`, key `{view.key}`." if view.uri else f"Key `{view.key}`."
    backbone = view.kind == "backbone"
    parts = [
        f"{'A backbone' if backbone else 'One minimum'} of sweep **{sweep}**{_axes(view.axes)}.",
        _failure(view.status, view.reason),
        f"{'Pre-trained' if backbone else 'Fine-tuned'} in {duration(view.seconds)}. {where}"
        if view.status == "finished"
        else f"Key `{view.key}`.",
    ]
    if "barrier_mean" in view.metrics:
        cluster = f"; cluster {view.tags['cluster']}" if "cluster" in view.tags else ""
        parts.insert(2, f"Mean barrier to the other minima: {number(view.metrics['barrier_mean'])} nats{cluster}.")
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
    """Three significant digits; a dash for no value."""
    return "–" if not math.isfinite(value) else f"{value:.3g}"


def _headline(view: SweepView) -> str:
    count = len(view.minima)
    failed = sum(minimum.status == "failed" for minimum in view.minima)
    minima = f"{count} {'minimum' if count == 1 else 'minima'}" + (f" ({failed} failed)" if failed else "")
    if not view.matrices:
        return f"**{minima}.**"
    cells = _cells(view.matrices[0])
    weak = [str(key) in view.weak for key in view.matrices[0].values.index]
    there = [(i, j) for i in range(len(cells)) for j in range(i) if math.isfinite(cells[i][j])]
    values = [cells[i][j] for i, j in there if not weak[i] and not weak[j]]
    below = f" ({len(there) - len(values)} with an end below the floor)" if len(values) < len(there) else ""
    pairs = f"{minima}, {len(there)} {'pair' if len(there) == 1 else 'pairs'}{below}"
    if not values:
        return f"**{pairs}.**"
    if view.finding:
        return f"**{view.finding}** {pairs}."
    mean = math.fsum(values) / len(values)
    return (
        f"**{pairs}.** {view.matrices[0].title}: mean {number(mean)}, "
        f"from {number(min(values))} to {number(max(values))} {view.matrices[0].unit}."
    )


def _failure(status: str, reason: str) -> str:
    return "" if status == "finished" else f"**Failed.** {_cell(reason)}".strip()


def _axes(axes: Mapping[str, Any]) -> str:
    said = ", ".join(f"{name} = {_short(value)}" for name, value in axes.items())
    return f": {said}" if said else ""


def _cells(matrix: MatrixView) -> list[list[float]]:
    return matrix.values.to_numpy(dtype=float, na_value=math.nan).tolist()


def _matrix_table(matrix: MatrixView, minima: Sequence[MinimumView]) -> str:
    """Cells are padded with hard spaces: MLflow's page gives them no room of its own."""
    keys = list(matrix.values.index)
    if len(keys) > TABLE_LIMIT:
        return ""
    names = {minimum.key: minimum.name for minimum in minima}
    head = ["", *(str(i + 1) for i in range(len(keys)))]
    rows = [
        [f"{i + 1}: {_cell(str(names.get(key, key)))}", *("·" if i == j else number(x) for j, x in enumerate(row))]
        for i, (key, row) in enumerate(zip(keys, _cells(matrix), strict=True))
    ]
    lines = [head, ["---", *["---:"] * len(keys)], *rows]
    return "\n".join(
        "| " + " | ".join(cell + ("" if "---" in cell else "\u00a0\u00a0") for cell in line) + " |" for line in lines
    )


def _values(values: Sequence[Any]) -> str:
    shown = [_short(value) for value in values[:VALUES_LIMIT]]
    return ", ".join(shown) + (f", … ({len(values)} values)" if len(values) > VALUES_LIMIT else "")


def _short(value: Any) -> str:
    text = _cell(str(value))
    return text if len(text) <= 80 else text[:79] + "…"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _fit(parts: Sequence[str]) -> str:
    """As many whole parts as the length allows, in order."""
    kept: list[str] = []
    for part in filter(None, parts):
        if sum(len(other) + 2 for other in kept) + len(part) <= LENGTH_LIMIT:
            kept.append(part)
    return "\n\n".join(kept)
