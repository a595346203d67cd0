"""The tables' columns as contracted, their numbers by hand, and matrices that mirror."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymc.landscape import barriers
from raymc.report.frames import (
    ALONG,
    BARRIERS,
    SUMMARY,
    MinimumRow,
    PairNote,
    barriers_frame,
    matrix,
    minima_frame,
    profiles_frame,
    summary_frame,
)
from raymc.report.values import INTERVALS, PLACES, VALUES
from raymc.specs.results import METRICS as BY_KIND
from raymc.specs.results import Evaluation, Profile

METRICS = BY_KIND["classifier"]

T = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARED = {  # what a path shares with its ends
    "agreement_a": (1.0, 0.9, 0.8, 0.7, 0.6),
    "agreement_b": (0.6, 0.7, 0.8, 0.9, 1.0),
    "jensen_shannon_a": (0.0, 0.1, 0.2, 0.3, 0.4),
    "jensen_shannon_b": (0.4, 0.3, 0.2, 0.1, 0.0),
}


def evaluation(key: str, split: str, loss: float, accuracy: float = 0.5) -> Evaluation:
    metrics = {"accuracy": accuracy, "f1_macro": accuracy / 2}
    numbers = {"rows": 4, "tokens": 9, "seconds": 0.1, "device": "cpu", "row_file": "f"}
    return Evaluation(minimum=key, weights="w", split=split, loss=loss, metrics=metrics, **numbers)


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
        "length": (0.0, 1.0, 2.0, 4.0, 8.0),
        "intervals": {"barrier_entezari": (0.5, 3.5)},
        "p_value": 0.25,
        "seconds": 0.1,
        "device": "cpu",
        **fields,
    }
    body["metrics"] = SHARED | body["metrics"]
    return Profile.model_validate(body)


HILL, SLOPE = (1.0, 3.0, 4.0, 2.75, 3.0), (3.0, 2.5, 2.0, 1.5, 1.0)


def note(a: str, b: str) -> PairNote:
    return PairNote("seeds.order")


def row(key: str, values: dict[str, Any] | None = None, **fields: Any) -> MinimumRow:
    body = {"uri": f"/s/{key}", "name": f"the {key}", "trajectory": f"run {key}", "values": values or {}}
    return MinimumRow(key=key, **{**body, **fields})


def parquet(frame: pd.DataFrame) -> pd.DataFrame:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    buffer.seek(0)
    return pd.read_parquet(buffer)


# Minima --------------------------------------------------------------------------------------------------------------


def test_minima_columns_and_values():
    axes = ["seeds.order", "model.backbone", "tuning.method"]
    minima = [
        row("k2", dict(zip(axes, (2, {"seed": 1, "builtin": "grammar-bert"}, "full"), strict=True)), below_floor=True),
        row("k1", dict(zip(axes, (1, "./folder", "lora"), strict=True))),
    ]
    evaluations = {
        ("k1", "validation"): evaluation("k1", "validation", 0.5, 0.75),
        ("k2", "validation"): evaluation("k2", "validation", 0.25, 1.0),
        ("k2", "test"): evaluation("k2", "test", 0.125, 0.5),
    }
    frame = minima_frame(minima, axes, evaluations, ["validation", "test"], METRICS)
    scores = [f"{split}_{name}" for split in ("validation", "test") for name in ("loss", "accuracy", "f1_macro")]
    assert list(frame.columns) == ["key", "uri", "name", "trajectory", *axes, *scores, "below_floor"]
    assert list(frame["key"]) == ["k2", "k1"]
    assert list(frame["uri"]) == ["/s/k2", "/s/k1"]
    assert list(frame["name"]) == ["the k2", "the k1"]
    assert list(frame["trajectory"]) == ["run k2", "run k1"]
    assert list(frame["seeds.order"]) == [2, 1]
    assert list(frame["model.backbone"]) == ['{"builtin": "grammar-bert", "seed": 1}', "./folder"]
    assert list(frame["validation_loss"]) == [0.25, 0.5]
    assert list(frame["validation_accuracy"]) == [1.0, 0.75]
    assert list(frame["validation_f1_macro"]) == [0.5, 0.375]
    assert frame["test_loss"][0] == 0.125
    assert frame.loc[1, ["test_loss", "test_accuracy", "test_f1_macro"]].isna().all()
    assert list(frame["below_floor"]) == [True, False]
    pd.testing.assert_frame_equal(parquet(frame), frame)


@pytest.mark.parametrize(
    "values", [[None, 0.5], [True, None], ["a", None], [1, 2], [None, [1, 2]], [0.1, 1], [1, "a"], [True, 2], [{}, 1.5]]
)
def test_values_of_axes_can_be_kept_as_parquet(values: list[Any]):
    minima = [row(f"k{i}", {"axis": value}) for i, value in enumerate(values)]
    frame = minima_frame(minima, ["axis"], {}, ["test"], METRICS)
    assert list(parquet(frame).columns) == list(frame.columns)
    assert len(frame) == 2


def test_an_existing_minimum_has_no_value_and_leaves_the_others_whole():
    minima = [row("k0", {"seeds.order": 3}), row("k1"), row("k2", {"seeds.order": 2**32 - 1})]
    frame = parquet(minima_frame(minima, ["seeds.order"], {}, [], METRICS))
    assert [frame["seeds.order"][0], frame["seeds.order"][2]] == [3, 2**32 - 1]
    assert frame["seeds.order"].isna().tolist() == [False, True, False]
    assert '"seeds.order":3,' in frame.to_json(orient="records")


def test_no_minimum_at_all_still_has_its_columns():
    frame = minima_frame([], ["seeds.order"], {}, ["validation"], METRICS)
    scores = ["validation_loss", "validation_accuracy", "validation_f1_macro"]
    assert list(frame.columns) == ["key", "uri", "name", "trajectory", "seeds.order", *scores, "below_floor"]
    assert len(frame) == 0
    assert frame["below_floor"].dtype == bool


# Profiles and barriers -----------------------------------------------------------------------------------------------


def test_profiles_columns_and_values():
    profiles = [profile("a", "b", HILL), profile("a", "c", SLOPE, "test", space="delta_w")]
    frame = profiles_frame(profiles, METRICS)
    contracted = ["a", "b", "curve", "split", "t", "loss", "accuracy", "f1_macro"]
    assert [name for name in frame.columns if name in contracted] == contracted
    assert set(frame.columns) - set(contracted) == {"space", "head"}
    assert set(frame["head"]) == {"path"}
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
    frame = barriers_frame([profile("a", "b", HILL), profile("a", "c", SLOPE, "test", cosine=-0.5)], note)
    contracted = ["a", "b", "curve", "split", "barrier_entezari", "barrier_ainsworth", "barrier_frankle"]
    contracted += ["t_peak", "distance_l2", "cosine"]
    assert [name for name in frame.columns if name in contracted] == contracted
    bounds = [f"{name}_{side}" for name in INTERVALS for side in ("low", "high")]
    assert set(INTERVALS) < set(VALUES)
    assert list(frame.columns) == [*BARRIERS, *VALUES, *bounds, "precision"]
    of_pair = {"precision", "space", "head", "chosen_on", "differs", "same_trajectory", "below_floor"}
    assert set(frame.columns) - set(contracted) - set(VALUES) - set(bounds) == of_pair
    assert frame.drop(columns=["barrier_entezari_low", "barrier_entezari_high"])[bounds[2:]].isna().all().all()
    hill, slope = frame.drop(columns=bounds[2:]).to_dict("records")
    # error .25, .5, .75, .5, 0: the highest is .75, the mean of the ends .125
    known = {"curve": "linear", "space": "weights", "distance_l2": 2.5, "barrier_frankle": 0.625}
    known |= {"head": "path", "differs": "seeds.order", "same_trajectory": False, "below_floor": False}
    known |= {"chosen_on": "", "barrier_entezari_low": 0.5, "barrier_entezari_high": 3.5, "p_value": 0.25}
    known |= {"agreement_ends": 0.6, "jensen_shannon_ends": 0.4, "length": 8.0, "p_holm": 0.25}
    known |= {"bound": 0.0, "passes": 0.0, "precision": "fp32"}
    bend, slant, height = np.polyfit([0.25, 0.5, 0.75], [1.5, 2.0, 0.25], 2)  # over the chord
    assert hill == {
        "a": "a",
        "b": "b",
        "split": "validation",
        **known,
        "cosine": 0.75,
        "barrier_entezari": 2.0,  # over the chord 1, 1.5, 2, 2.5, 3
        "barrier_ainsworth": 2.0,
        "t_peak": 0.5,
        "saddle": 4.0,
        "convexity_gap": 2.0,
        # trapezoids over the lengths 1, 1, 2 and 4: (2 + 3.5 + 2 * 3.375 + 4 * 2.875) / 8
        "loss_integral": pytest.approx(2.96875),
        "loss_mean": pytest.approx((2 + 3.5 + 3.375 + 2.875) / 4),
        "better": 0,
        "refined_barrier": pytest.approx(height - slant**2 / (4 * bend)),
        "t_refined": pytest.approx(-slant / (2 * bend)),
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
        "saddle": 3.0,
        "convexity_gap": 0.0,
        "loss_integral": pytest.approx((2.75 + 2.25 + 2 * 1.75 + 4 * 1.25) / 8),
        "loss_mean": pytest.approx(2.0),
        "better": 0,
        "refined_barrier": 0.0,
        "t_refined": 0.0,
    }
    pd.testing.assert_frame_equal(parquet(frame), frame)
    assert list(barriers_frame([], note).columns) == list(frame.columns)


@given(st.lists(st.floats(0, 10), min_size=5, max_size=5))
def test_barriers_are_the_one_definition_of_each(loss: list[float]):
    row = barriers_frame([profile("a", "b", tuple(loss))], note).iloc[0]
    assert row["barrier_entezari"] == barriers.entezari(T, loss)
    assert row["barrier_ainsworth"] == barriers.ainsworth(T, loss)
    assert row["t_peak"] == barriers.peak(T, loss)
    assert row["saddle"] == max(loss)
    assert row["convexity_gap"] >= row["barrier_entezari"] >= 0
    assert row["better"] == sum(one < min(loss[0], loss[-1]) for one in loss[1:-1])
    assert min(loss) - 1e-9 <= row["loss_integral"] <= max(loss) + 1e-9


def test_p_values_are_adjusted_over_the_pairs_of_a_curve_and_row_set():
    """Holm: the smallest of three times 3, the next times 2, none below the one before."""
    some = [
        *(profile("a", b, HILL, p_value=p) for b, p in zip("bcd", (0.04, 0.01, 0.03), strict=True)),
        profile("a", "b", HILL, "test", p_value=0.04),
        profile("a", "b", HILL, curve="bezier", p_value=0.5),
        profile("a", "c", HILL, curve="bezier", p_value=0.75),
    ]
    frame = barriers_frame(some, note)
    assert list(frame["p_value"]) == [0.04, 0.01, 0.03, 0.04, 0.5, 0.75]
    assert list(frame["p_holm"]) == pytest.approx([0.06, 0.03, 0.06, 0.04, 1.0, 1.0])
    apart = barriers_frame(some[:3], lambda a, b: PairNote("order", below_floor=b == "d"))
    assert list(apart["p_holm"]) == pytest.approx([0.04, 0.02, 0.03])  # a weak pair counts in no conclusion


def test_bounds_stand_beside_their_value():
    bounds = {name: (0.25 * i, 1.0 + i) for i, name in enumerate(INTERVALS)}
    row = barriers_frame([profile("a", "b", HILL, intervals=bounds, chosen_on="validation")], note).iloc[0]
    for name, (low, high) in bounds.items():
        assert (row[f"{name}_low"], row[f"{name}_high"]) == (low, high)
    assert row["chosen_on"] == "validation"


def test_every_value_names_its_unit_and_definition():
    for name, (title, unit, definition) in VALUES.items():
        assert title
        assert unit
        assert len(definition) > 10
        assert unit in {"nats", "error rate", "t", "parameters", "cosine", "points", "rows", "probability", "passes"}
        if name.startswith("barrier_"):
            assert name.removeprefix("barrier_").capitalize() in title
            assert "max over t" in definition


def test_a_barrier_row_says_what_its_pair_is():
    def told(a: str, b: str) -> PairNote:
        return PairNote(f"from {a} to {b}", same_trajectory=b == "c", below_floor=b == "b")

    frame = barriers_frame([profile("a", "b", HILL, head="b"), profile("a", "c", HILL)], told)
    assert list(frame["differs"]) == ["from a to b", "from a to c"]
    assert list(frame["same_trajectory"]) == [False, True]
    assert list(frame["below_floor"]) == [True, False]
    assert list(frame["head"]) == ["b", "path"]
    pd.testing.assert_frame_equal(parquet(frame), frame)


def test_frankle_s_error_is_of_the_metric_that_is_asked_for():
    metrics = {"likelihood_accuracy": (1.0, 0.5, 0.0, 0.5, 1.0), "generation_accuracy": (0.0,) * 5}
    frame = barriers_frame([profile("a", "b", HILL, metrics=metrics)], note, "likelihood_accuracy")
    assert frame["barrier_frankle"][0] == 1.0
    kinds = BY_KIND["seq2seq"][:1]
    assert list(profiles_frame([profile("a", "b", HILL, metrics=metrics)], kinds)["likelihood_accuracy"]) == list(
        metrics["likelihood_accuracy"]
    )


# Conclusions ---------------------------------------------------------------------------------------------------------


def test_conclusions_by_hand():
    """Three pairs that differ in one thing, one of them below the floor, and one of another kind."""
    notes = {
        "ab": PairNote("seeds.order"),
        "ac": PairNote("seeds.order"),
        "ad": PairNote("seeds.order", below_floor=True),
        "bc": PairNote("tuning", same_trajectory=True),
        "bd": PairNote("task", below_floor=True),
    }
    tall = (1.0, 5.0, 6.0, 5.0, 3.0)  # 4 above the chord
    profiles = [
        profile("a", "b", HILL),
        profile("a", "c", tall, distance_l2=3.5, p_value=0.009),  # five pairs: 0.045 by Holm
        profile("a", "d", (0.0, 99.0, 0.0, 0.0, 0.0)),
        profile("b", "c", SLOPE),
        profile("b", "d", HILL),
        profile("a", "b", SLOPE, "test"),
    ]
    found = summary_frame(barriers_frame(profiles, lambda a, b: notes[a + b]))
    assert list(found.columns) == [name for name in SUMMARY if name not in ALONG]
    rows = found.set_index(["split", "differs"])
    assert list(rows.index) == [
        *(("validation", name) for name in ("seeds.order", "tuning", "task")),
        ("test", "seeds.order"),
    ]
    order = rows.loc[("validation", "seeds.order")]
    assert (order["pairs"], order["left_out"]) == (2, 1)
    assert (order["barrier_mean"], order["barrier_median"], order["barrier_max"]) == (3.0, 3.0, 4.0)
    assert (order["frankle_mean"], order["distance_mean"]) == (0.625, 3.0)
    assert (order["significant"], rows.loc[("test", "seeds.order"), "significant"]) == (1, 0)
    assert rows.loc[("validation", "tuning"), "same_trajectory"]
    assert rows.loc[("validation", "task"), ["pairs", "left_out"]].tolist() == [0, 1]
    assert np.isnan(rows.loc[("validation", "task"), "barrier_mean"])
    assert rows.loc[("test", "seeds.order"), "barrier_max"] == 0.0


def test_conclusions_of_nothing():
    columns = [name for name in SUMMARY if name not in ALONG]
    assert list(summary_frame(barriers_frame([], note)).columns) == columns
    empty = profiles_frame([], METRICS)
    assert list(summary_frame(barriers_frame([], note), empty).columns) == list(SUMMARY)


def test_conclusions_along_the_path_and_by_axis():
    """Means over the pairs of a metric at both ends, at the t nearest to a half, and at its lowest."""
    first = profile("a", "b", HILL, metrics={"accuracy": (0.9, 0.5, 0.6, 0.7, 0.7), "f1_macro": (0.0,) * 5})
    second = profile("a", "c", HILL, metrics={"accuracy": (0.9, 0.8, 0.8, 0.3, 0.5), "f1_macro": (0.0,) * 5})
    weak = profile("b", "c", HILL, metrics={"accuracy": (0.0,) * 5, "f1_macro": (0.0,) * 5})
    notes = {"ab": note("a", "b"), "ac": note("a", "c"), "bc": PairNote("seeds.order", below_floor=True)}
    some = [first, second, weak]
    table = barriers_frame(some, lambda a, b: dataclasses.replace(notes[a + b], differs="seeds.order"))
    along = profiles_frame(some, METRICS)
    (row,) = summary_frame(table, along).to_dict("records")
    assert (row["pairs"], row["left_out"]) == (2, 1)
    assert row["ends"] == pytest.approx((0.8 + 0.7) / 2)
    assert row["middle"] == pytest.approx((0.6 + 0.8) / 2)
    assert row["lowest"] == pytest.approx((0.5 + 0.3) / 2)
    parted = summary_frame(table, along, groups={"train.steps": {"a": 5, "b": 5, "c": 10}})
    assert parted.set_index("train.steps")["middle"].to_dict() == {"5": 0.6, "10 | 5": 0.8}


def test_a_matrix_above_the_floor():
    table = barriers_frame(
        [profile("a", "b", HILL), profile("a", "c", HILL)], lambda a, b: PairNote("x", below_floor=b == "c")
    )
    keys = ["a", "b", "c"]
    assert matrix(table, keys, "linear", "validation", "cosine").notna().sum().sum() == 4
    above = matrix(table, keys, "linear", "validation", "cosine", floor=True)
    assert above.loc["a", "b"] == 0.75
    assert above["c"].isna().all()


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
        ],
        note,
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
    mirrored = 1.0 - found.T if value in PLACES else found.T
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
    empty = matrix(barriers_frame([], note), ["a", "b"], "linear", "test", "cosine")
    assert empty.shape == (2, 2)
    assert empty.isna().all().all()
    assert matrix(barriers_frame([], note), [], "linear", "test", "cosine").shape == (0, 0)


def test_a_large_matrix_is_quick():
    """500 minima: 124,750 pairs."""
    keys = [f"{i:03d}" for i in range(500)]
    a, b = np.triu_indices(500, 1)
    columns = {"a": np.array(keys)[a], "b": np.array(keys)[b], "curve": "linear", "split": "test"}
    table = pd.DataFrame({**columns, "cosine": np.arange(len(a)) / len(a)})
    found = matrix(table, keys, "linear", "test", "cosine").to_numpy()
    assert np.array_equal(found[a, b], table["cosine"])
    assert np.array_equal(found[b, a], table["cosine"])
