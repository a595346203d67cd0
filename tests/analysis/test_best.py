"""The point of a path is chosen on one row set; what is reported comes from another."""

from __future__ import annotations

import pandas as pd
import pytest

from raymc.analysis.best import best_points
from raymc.specs.errors import RaymcError

T = [0.0, 0.5, 1.0]


def rows(split: str, loss: list[float], accuracy: list[float], **fields: object) -> pd.DataFrame:
    path = {"a": "a", "b": "b", "curve": "linear", "space": "weights", "head": "path"}
    return pd.DataFrame({**path, "split": split, "t": T, "loss": loss, "accuracy": accuracy} | fields)


VALIDATION = rows("validation", [0.5, 0.3, 0.4], [0.7, 0.8, 0.9])
TEST = rows("test", [0.45, 0.5, 0.6], [0.6, 0.75, 0.7])


def test_the_choice_and_the_better_end_are_validations_and_the_figures_are_tests():
    found = best_points(pd.concat([VALIDATION, TEST]), "validation", "test").iloc[0]
    assert (found.t, found.better_end, found.chosen) == (0.5, "b", 0.3)
    assert (found.loss, found.loss_a, found.loss_b) == (0.5, 0.45, 0.6)
    assert found.loss_gain == pytest.approx(0.1)  # over b, which validation prefers; a is better on test
    assert (found.accuracy, found.accuracy_gain) == (0.75, pytest.approx(0.05))


def test_more_is_better_of_a_metric():
    found = best_points(pd.concat([VALIDATION, TEST]), "validation", "test", by="accuracy").iloc[0]
    assert (found.t, found.better_end, found.chosen, found.loss, found.accuracy_gain) == (1.0, "b", 0.9, 0.6, 0)


def test_the_test_rows_never_enter_the_choice():
    for loss in ([9.0, 9, 0], [0.0, 9, 9], [9.0, 0, 9]):
        assert best_points(pd.concat([VALIDATION, rows("test", loss, loss)]), "validation", "test")["t"].tolist() == [
            0.5
        ]


def test_an_end_wins_a_tie_and_each_path_has_its_row():
    flat = rows("validation", [0.3, 0.3, 0.3], [0.5] * 3)
    bent = [frame.assign(curve="bezier") for frame in (VALIDATION, TEST)]
    alone = VALIDATION.assign(b="c")
    found = best_points(pd.concat([flat, TEST, *bent, alone]).iloc[::-1], "validation", "test")
    assert found[["curve", "t", "better_end"]].to_numpy().tolist() == [["bezier", 0.5, "b"], ["linear", 0.0, "a"]]


def test_faults():
    both = pd.concat([VALIDATION, TEST])
    with pytest.raises(RaymcError, match="chosen and reported on test"):
        best_points(both, "test", "test")
    with pytest.raises(RaymcError, match="no row set dev in the profiles; there are test, validation"):
        best_points(both, "dev", "test")
    with pytest.raises(RaymcError, match="no column f1 in the profiles; there are loss, accuracy"):
        best_points(both, "validation", "test", by="f1")
    with pytest.raises(RaymcError, match="a - b has other points"):
        best_points(pd.concat([VALIDATION, TEST[TEST["t"] != 0.5]]), "validation", "test")
