"""The point of a path is chosen on one row set; what is reported comes from another."""

from __future__ import annotations

import numpy as np
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


def test_every_path_alone_says_the_same():
    random, parts = np.random.default_rng(0), []
    for path in range(12):
        t = np.linspace(0, 1, 3 + path % 3)  # as many points as it likes
        for split in ("test", "validation")[: 1 + (path > 1)]:
            ties = {"loss": random.integers(0, 4, len(t)) / 4, "accuracy": random.integers(0, 3, len(t)) / 2}
            if random.random() < 0.1:
                ties["loss"][random.integers(len(t))] = np.nan
            of = {"a": f"a{path % 5}", "b": f"b{path}", "curve": "linear", "space": "weights", "head": "path"}
            parts.append(pd.DataFrame({**of, "split": split, "t": t, **ties}))
    table = pd.concat(parts).sample(frac=1, random_state=0)
    found = best_points(table, "validation", "test").set_index("b")
    assert len(found) == 10
    for b, rows in table[table["b"].isin(found.index)].sort_values("t").groupby("b"):
        chosen, other = (rows[rows["split"] == split] for split in ("validation", "test"))
        losses, test = chosen["loss"].tolist(), other["loss"].tolist()
        end = 0 if losses[0] <= losses[-1] else -1
        lower = [i for i, loss in enumerate(losses) if loss < losses[end] and loss == np.min(losses)]
        at = lower[0] if lower else end
        row = found.loc[b]
        assert (row["t"], row["better_end"]) == (chosen["t"].iloc[at], "a" if end == 0 else "b")
        np.testing.assert_equal(
            row[["chosen", "loss", "loss_a", "loss_b", "loss_gain", "accuracy"]].tolist(),
            [losses[at], test[at], test[0], test[-1], test[end] - test[at], other["accuracy"].iloc[at]],
        )


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
