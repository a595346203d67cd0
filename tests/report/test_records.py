"""Numbers of a table in JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd

from raymc.report.records import records


def test_every_digit_comes_back_and_what_is_missing_is_null():
    small = [1.2345678901234567e-7, 6.022140857e-12, -0.1, 2 / 3]
    frame = pd.DataFrame(
        {
            "x": small,
            "missing": [math.nan, math.inf, None, 1.5],
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
            "narrow": np.array([1, 2, 3, 4], np.int16),
            "flag": [True, False, True, False],
            "text": ["a", None, "c", "d"],
            "several": [[1, 2], {"a": (3,)}, [], None],
        }
    )
    found = json.loads(json.dumps(records(frame), allow_nan=False))
    assert [row["x"] for row in found] == small
    assert [row["missing"] for row in found] == [None, None, None, 1.5]
    assert [row["whole"] for row in found] == [1, None, 3, 4]
    assert [row["narrow"] for row in found] == [1, 2, 3, 4]
    assert [row["flag"] for row in found] == [True, False, True, False]
    assert [row["text"] for row in found] == ["a", None, "c", "d"]
    assert [row["several"] for row in found] == [[1, 2], {"a": [3]}, [], None]
    assert records(frame.iloc[:0]) == []
