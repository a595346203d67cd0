"""What the page of a sweep says first: pairs that are there, and heights of those that count."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from raymc.tracking.notes import sweep_note
from raymc.tracking.tracker import MatrixView, MinimumView, SweepView

NAN = math.nan


def minimum(key: str) -> MinimumView:
    return MinimumView(key=key, name=key, params={}, axes={}, metrics={}, curve=[], uri="", seconds=1.0)


def headline(cells: list[list[float]], **fields: Any) -> str:
    keys = list("abc")
    matrix = MatrixView("m", pd.DataFrame(cells, index=keys, columns=keys), "Barrier", "nats")
    return sweep_note(SweepView("s", [minimum(key) for key in keys], matrices=[matrix], **fields)).splitlines()[0]


def test_pairs_that_are_not_selected_are_no_pairs():
    cells = [[NAN, 0.1, 0.5], [0.1, NAN, NAN], [0.5, NAN, NAN]]
    assert headline(cells) == "**3 minima, 2 pairs.** Barrier: mean 0.3, from 0.1 to 0.5 nats."


def test_weak_ends_count_in_no_mean():
    cells = [[NAN, 0.1, 0.5], [0.1, NAN, 9.0], [0.5, 9.0, NAN]]
    said = headline(cells, weak=frozenset("c"))
    assert said == "**3 minima, 3 pairs (2 with an end below the floor).** Barrier: mean 0.1, from 0.1 to 0.1 nats."
