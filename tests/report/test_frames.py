"""The tables' columns as contracted, their numbers by hand, and matrices that mirror."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymc.landscape import barriers
from raymc.report.frames import VALUES, barriers_frame, matrix, minima_frame, profiles_frame
from raymc.specs.results import METRICS, Evaluation, Profile

T = (0.0, 0.25, 0.5, 0.75, 1.0)


def evaluation(key: str, split: str, loss: float, accuracy: float = 0.5) -> Evaluation:
    metrics = {"accuracy": accuracy, "f1_macro": accuracy / 2}
    return Evaluation(
        minimum=key, weights="w", split=split, rows=4, tokens=9, loss=loss, metrics=metrics, seconds=0.1, device="cpu"
    )


def profile(a: str, b: str, loss: tuple[float, ...], split: str = "validation", **fields: Any) -> Profile:
    body = {
        "a": a,
        "b": b,
        "a_weights": "wa",
        "b_weights": "wb",
        "curve": "linear",
        "space": "weights",
        "split": split,
        "rows": 4,
        "tokens": 9,
        "t": T,
        "loss": loss,
        "distance_l2": 2.5,
        "cosine": 0.75,
        "metrics": {"accuracy": (0.75, 0.5, 0.25, 0.5, 1.0), "f1_macro": (0.7, 0.5, 0.2, 0.5, 0.9)},
        "seconds": 0.1,
        "device": "cpu",
        **fields,
    }
    return Profile.model_validate(body)


HILL, SLOPE = (1.0, 3.0, 4.0, 2.75, 3.0), (3.0, 2.5, 2.0, 1.5, 1.0)


def parquet(frame: pd.DataFrame) -> pd.DataFrame:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    buffer.seek(0)
    return pd.read_parquet(buffer)


# Minima --------------------------------------------------------------------------------------------------------------


def test_minima_columns_and_values():
    axes = {
        "k2": {"seeds.order": 2, "model.backbone": {"seed": 1, "builtin": "grammar-bert"}, "tuning.method": "full"},
        "k1": {"seeds.order": 1, "model.backbone": "./folder", "tuning.method": "lora"},
    }
    evaluations = {
        ("k1", "validation"): evaluation("k1", "validation", 0.5, 0.75),
        ("k2", "validation"): evaluation("k2", "validation", 0.25, 1.0),
        ("k2", "test"): evaluation("k2", "test", 0.125, 0.5),
    }
    uris = {"k1": "/s/k1", "k2": "/s/k2"}
    frame = minima_frame(["k2", "k1"], uris, axes, evaluations, ["validation", "test"], METRICS)
    scores = [f"{split}_{name}" for split in ("validation", "test") for name in ("loss", "accuracy", "f1_macro")]
    assert list(frame.columns) == ["key", "uri", "seeds.order", "model.backbone", "tuning.method", *scores]
    assert list(frame["key"]) == ["k2", "k1"]
    assert list(frame["uri"]) == ["/s/k2", "/s/k1"]
    assert list(frame["seeds.order"]) == [2, 1]
    assert list(frame["model.backbone"]) == ['{"builtin": "grammar-bert", "seed": 1}', "./folder"]
    assert list(frame["validation_loss"]) == [0.25, 0.5]
    assert list(frame["validation_accuracy"]) == [1.0, 0.75]
    assert list(frame["validation_f1_macro"]) == [0.5, 0.375]
    assert frame["test_loss"][0] == 0.125
    assert frame.loc[1, ["test_loss", "test_accuracy", "test_f1_macro"]].isna().all()
    pd.testing.assert_frame_equal(parquet(frame), frame)


@pytest.mark.parametrize("values", [[None, 0.5], [True, None], ["a", None], [1, 2], [None, [1, 2]], [0.1, 1]])
def test_values_of_axes_can_be_kept_as_parquet(values: list[Any]):
    axes = {f"k{i}": {"axis": value} for i, value in enumerate(values)}
    frame = minima_frame(list(axes), dict.fromkeys(axes, "u"), axes, {}, ["test"], METRICS)
    assert list(parquet(frame).columns) == list(frame.columns)
    assert len(frame) == 2


def test_no_minimum_at_all_still_has_its_columns():
    frame = minima_frame([], {}, {}, {}, ["validation"], METRICS)
    assert list(frame.columns) == ["key", "uri", "validation_loss", "validation_accuracy", "validation_f1_macro"]
    assert len(frame) == 0


# Profiles and barriers -----------------------------------------------------------------------------------------------


def test_profiles_columns_and_values():
    profiles = [profile("a", "b", HILL), profile("a", "c", SLOPE, "test", space="delta_w")]
    frame = profiles_frame(profiles, METRICS)
    contracted = ["a", "b", "curve", "split", "t", "loss", "accuracy", "f1_macro"]
    assert [name for name in frame.columns if name in contracted] == contracted
    assert set(frame.columns) - set(contracted) == {"space"}
    assert len(frame) == 10
    assert list(frame["t"]) == [*T, *T]
    assert list(frame["loss"]) == [*HILL, *SLOPE]
    assert list(frame["accuracy"][:5]) == [0.75, 0.5, 0.25, 0.5, 1.0]
    assert list(frame["f1_macro"][5:]) == [0.7, 0.5, 0.2, 0.5, 0.9]
    assert list(zip(frame["a"], frame["b"], frame["split"], frame["space"], strict=True)) == (
        [("a", "b", "validation", "weights")] * 5 + [("a", "c", "test", "delta_w")] * 5
    )
    pd.testing.assert_frame_equal(parquet(frame), frame)
    assert list(profiles_frame([], METRICS).columns) == list(frame.columns)


def test_barriers_columns_and_values():
    frame = barriers_frame([profile("a", "b", HILL), profile("a", "c", SLOPE, "test", cosine=-0.5)])
    contracted = ["a", "b", "curve", "split", "barrier_entezari", "barrier_ainsworth", "barrier_frankle"]
    contracted += ["t_peak", "distance_l2", "cosine"]
    assert [name for name in frame.columns if name in contracted] == contracted
    assert set(frame.columns) - set(contracted) == {"space"}
    assert set(VALUES) < set(frame.columns)
    hill, slope = frame.to_dict("records")
    # error .25, .5, .75, .5, 0: the highest is .75, the mean of the ends .125
    known = {"curve": "linear", "space": "weights", "distance_l2": 2.5, "barrier_frankle": 0.625}
    assert hill == {
        "a": "a",
        "b": "b",
        "split": "validation",
        **known,
        "cosine": 0.75,
        "barrier_entezari": 2.0,
        "barrier_ainsworth": 2.0,
        "t_peak": 0.5,
    }
    assert slope == {
        "a": "a",
        "b": "c",
        "split": "test",
        **known,
        "cosine": -0.5,
        "barrier_entezari": 0.0,
        "barrier_ainsworth": 1.0,
        "t_peak": 0.0,
    }
    pd.testing.assert_frame_equal(parquet(frame), frame)
    assert list(barriers_frame([]).columns) == list(frame.columns)


@given(st.lists(st.floats(0, 10), min_size=5, max_size=5))
def test_barriers_are_the_one_definition_of_each(loss: list[float]):
    row = barriers_frame([profile("a", "b", tuple(loss))]).iloc[0]
    assert row["barrier_entezari"] == barriers.entezari(T, loss)
    assert row["barrier_ainsworth"] == barriers.ainsworth(T, loss)
    assert row["t_peak"] == barriers.peak(T, loss)


def test_every_value_names_its_unit_and_definition():
    for name, (title, unit, definition) in VALUES.items():
        assert title
        assert unit
        assert len(definition) > 10
        if name.startswith("barrier_"):
            assert name.removeprefix("barrier_").capitalize() in title
            assert "max over t" in definition


# Matrices ------------------------------------------------------------------------------------------------------------

KEYS = ["b", "a", "c", "d"]  # in an order of their own


@pytest.fixture
def table() -> pd.DataFrame:
    return barriers_frame(
        [
            profile("a", "b", (0.0, 2.0, 1.0, 0.5, 0.0), distance_l2=1.0),
            profile("a", "c", HILL, distance_l2=2.0),
            profile("b", "c", (0.0, 0.0, 0.0, 5.0, 0.0), distance_l2=3.0),
            profile("a", "b", SLOPE, "test", distance_l2=9.0),
            profile("a", "z", HILL, distance_l2=7.0),  # a minimum that isn't shown
        ]
    )


@pytest.mark.parametrize("value", VALUES)
def test_a_matrix_is_symmetric_with_nothing_on_its_diagonal(table: pd.DataFrame, value: str):
    found = matrix(table, KEYS, "linear", "validation", value)
    assert list(found.index) == list(found.columns) == KEYS
    assert found.to_numpy().dtype == np.float64
    assert np.isnan(np.diag(found)).all()
    assert found.loc["d"].isna().all()
    assert found["d"].isna().all()
    assert found.notna().sum().sum() == 6
    mirrored = 1.0 - found.T if value == "t_peak" else found.T
    pd.testing.assert_frame_equal(found, mirrored)
    for _, row in table[(table["split"] == "validation") & (table["b"] != "z")].iterrows():
        assert found.loc[row["a"], row["b"]] == row[value]


def test_a_matrix_by_hand(table: pd.DataFrame):
    nan = float("nan")
    distances = matrix(table, KEYS, "linear", "validation", "distance_l2").to_numpy()
    np.testing.assert_array_equal(
        distances, [[nan, 1, 3, nan], [1, nan, 2, nan], [3, 2, nan, nan], [nan, nan, nan, nan]]
    )
    peaks = matrix(table, KEYS, "linear", "validation", "t_peak").to_numpy()
    np.testing.assert_array_equal(
        peaks, [[nan, 0.75, 0.75, nan], [0.25, nan, 0.5, nan], [0.25, 0.5, nan, nan], [nan, nan, nan, nan]]
    )


def test_a_matrix_is_of_one_split_and_curve(table: pd.DataFrame):
    test = matrix(table, KEYS, "linear", "test", "distance_l2")
    assert test.loc["a", "b"] == 9.0
    assert test.notna().sum().sum() == 2
    other = table.assign(curve="bezier", distance_l2=4.0)
    both = pd.concat([table, other], ignore_index=True)
    pd.testing.assert_frame_equal(
        matrix(both, KEYS, "linear", "validation", "distance_l2"),
        matrix(table, KEYS, "linear", "validation", "distance_l2"),
    )
    assert matrix(both, KEYS, "bezier", "validation", "distance_l2").loc["a", "b"] == 4.0


def test_a_matrix_of_nothing():
    empty = matrix(barriers_frame([]), ["a", "b"], "linear", "test", "cosine")
    assert empty.shape == (2, 2)
    assert empty.isna().all().all()
    assert matrix(barriers_frame([]), [], "linear", "test", "cosine").shape == (0, 0)


def test_a_large_matrix_is_quick():
    """500 minima: 124,750 pairs."""
    keys = [f"{i:03d}" for i in range(500)]
    a, b = np.triu_indices(500, 1)
    columns = {"a": np.array(keys)[a], "b": np.array(keys)[b], "curve": "linear", "split": "test"}
    table = pd.DataFrame({**columns, "cosine": np.arange(len(a)) / len(a)})
    found = matrix(table, keys, "linear", "test", "cosine").to_numpy()
    assert np.array_equal(found[a, b], table["cosine"])
    assert np.array_equal(found[b, a], table["cosine"])
