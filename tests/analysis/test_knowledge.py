"""Cartography, forgotten and learned rows, and their trends, against what was computed by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raymc.analysis.knowledge import Crossing, cartography, knowledge, sets, standard_error, trends
from raymc.specs.errors import RaymcError
from raymc.store.rows import RowTable

NAN = math.nan
ROWS = [3, 5, 8, 9, 11]
# right (1) or wrong (0) at four points, by row
PATTERNS = [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1]]


def snapshot(probabilities: Sequence[Sequence[float]], gold: Sequence[int], row: Sequence[int] = (2, 7)) -> RowTable:
    """An endpoint that gives each row its likeliest label."""
    chances = np.array(probabilities, np.float32)
    labels = ("contradiction", "entailment", "neutral")
    return RowTable(
        t=(0.0,),
        row=np.array(row, np.int32),
        gold=np.array(gold, np.int16),
        terms=np.ones(len(row), np.int32),
        loss=-np.log(chances[np.arange(len(row)), np.array(gold)])[None],
        predicted=chances.argmax(1).astype(np.int16)[None],
        probabilities=chances,
        labels=labels,
    )


def path(patterns: Sequence[Sequence[int]] | np.ndarray, rows: Sequence[int] = ROWS, end: float = 1.0) -> RowTable:
    """A path with these rows right and wrong, at evenly spaced points."""
    right = np.array(patterns, bool).T
    gold = (np.arange(len(rows)) % 3).astype(np.int16)
    return RowTable(
        t=tuple(np.linspace(0, end, len(right)).tolist()),
        row=np.array(rows, np.int32),
        gold=gold,
        terms=np.ones(len(rows), np.int32),
        loss=np.zeros(right.shape, np.float32),
        predicted=np.where(right, gold, (gold + 1) % 3).astype(np.int16),
        probabilities=None,
        labels=("a", "b", "c"),
    )


def map_of(confidence: Sequence[float], variability: Sequence[float] | None = None, rows: Sequence[int] = ROWS):
    chosen = [0.1] * len(confidence) if variability is None else variability
    return pd.DataFrame({"confidence": confidence, "variability": chosen}, index=pd.Index(rows, name="row"))


def turned(one: Crossing) -> Crossing:
    """The same crossing as a pair that has the target for its first end."""

    def flipped(table: RowTable) -> RowTable:
        t = tuple(1 - t for t in reversed(table.t))
        return dataclasses.replace(table, t=t, predicted=table.predicted[::-1].copy(), loss=table.loss[::-1].copy())

    return dataclasses.replace(
        one, on_source=flipped(one.on_source), on_target=flipped(one.on_target), reverse=not one.reverse
    )


def as_lists(found: dict[int, np.ndarray]) -> dict[int, list[int]]:
    return {k: rows.tolist() for k, rows in found.items()}


# Cartography -------------------------------------------------------------------------------------------------------


def test_cartography_by_hand():
    run = [
        snapshot([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]], gold=[0, 1]),
        snapshot([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1]], gold=[0, 1]),
        snapshot([[0.8, 0.1, 0.1], [0.1, 0.3, 0.6]], gold=[0, 1]),
    ]
    found = cartography(run)
    assert found.index.tolist() == [2, 7]
    assert found.index.name == "row"
    # row 2: 0.2, 0.5, 0.8: mean 0.5, squares of deviations 0.09, 0, 0.09; row 7: 0.9, 0.6, 0.3 alike
    assert found["confidence"].tolist() == pytest.approx([0.5, 0.6], abs=1e-7)
    assert found["variability"].tolist() == pytest.approx([math.sqrt(0.06)] * 2, abs=1e-7)
    assert found["correctness"].tolist() == pytest.approx([2 / 3, 2 / 3])  # wrong first; wrong last


def test_cartography_refuses_what_is_no_trajectory():
    one = snapshot([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]], gold=[0, 1])
    with pytest.raises(
        RaymcError, match=r"two or more snapshots of a training run, not 1: make train.snapshot an axis"
    ):
        cartography([one])
    with pytest.raises(RaymcError, match="with their probabilities"):
        cartography([one, dataclasses.replace(one, probabilities=None)])
    for other in (
        dataclasses.replace(one, row=np.array([2, 8], np.int32)),
        dataclasses.replace(one, gold=np.array([0, 2], np.int16)),
        dataclasses.replace(one, labels=("entailment", "contradiction", "neutral")),
    ):
        with pytest.raises(RaymcError, match="not scored on the same rows"):
            cartography([one, other])


# Sets --------------------------------------------------------------------------------------------------------------


def test_sets_by_hand_with_rows_that_come_back():
    table = path(PATTERNS)
    assert as_lists(sets(table, "forgotten")) == {1: [5], 2: [3, 11], 3: [5]}
    assert as_lists(sets(table, "learned")) == {1: [11], 2: [5, 8], 3: [11]}


def test_sets_walked_from_the_other_end():
    table = path(PATTERNS)
    assert as_lists(sets(table, "forgotten", reverse=True)) == {1: [11], 2: [5, 8], 3: [11]}
    assert as_lists(sets(table, "learned", reverse=True)) == {1: [5], 2: [3, 11], 3: [5]}


@given(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 6))), st.booleans())
def test_what_is_right_changes_by_what_is_learned_less_what_is_forgotten(right: np.ndarray, reverse: bool):
    table = path(right, rows=list(range(len(right))))
    along = right[:, ::-1] if reverse else right
    lost, won = sets(table, "forgotten", reverse), sets(table, "learned", reverse)
    assert list(lost) == list(won) == list(range(1, right.shape[1]))
    known = set(np.flatnonzero(along[:, 0]).tolist())
    for k in lost:
        assert set(lost[k].tolist()) <= known
        assert not set(won[k].tolist()) & known
        known = known - set(lost[k].tolist()) | set(won[k].tolist())
        assert known == set(np.flatnonzero(along[:, k]).tolist())


# One pair ----------------------------------------------------------------------------------------------------------

SOURCE = map_of([0.9, 0.3, 0.5, 1.0, 0.6], [0.1, 0.4, 0.2, 0.0, 0.3])
TARGET = map_of([0.8, 0.2, 0.4], [0.05, 0.3, 0.1], rows=[0, 1, 2])
ON_TARGET = path([[0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]], rows=[0, 1, 2])
PAIR = Crossing("mnli", "anli", path(PATTERNS), ON_TARGET, reverse=False)


@pytest.mark.parametrize("one", [PAIR, turned(PAIR)], ids=["source first", "target first"])
def test_knowledge_of_one_pair_by_hand(one: Crossing):
    found = knowledge([one], {"mnli": SOURCE, "anli": TARGET})
    assert found["set"].tolist() == ["forgotten"] * 3 + ["learned"] * 3
    assert found["k"].tolist() == [1, 2, 3] * 2
    assert found["t"].tolist() == pytest.approx([1 / 3, 2 / 3, 1] * 2)
    # F1 = {5}, F2 = {3, 11}, F3 = {5} by the source's map; M1 = {0, 2}, M2 = {}, M3 = {1, 2} by the target's
    assert found["rows"].tolist() == [1, 2, 1, 2, 0, 2]
    assert found["total"].tolist() == [1, 2, 1, 2, 0, 2]
    assert found["pairs"].tolist() == [1, 1, 1, 1, 0, 1]
    assert found["confidence"].tolist() == pytest.approx([0.3, 0.75, 0.3, 0.6, NAN, 0.3], nan_ok=True)
    assert found["variability"].tolist() == pytest.approx([0.4, 0.2, 0.4, 0.075, NAN, 0.2], nan_ok=True)
    assert found[["confidence_se", "variability_se"]].isna().all(axis=None)


def test_trends_of_one_pair_by_hand():
    """A row a step: F1..F4 with confidence .2, .4, .6, .8 (rises), M1..M3 .9, .3, .5, and an empty set between."""
    lost = path(np.tri(4, 5, dtype=int), rows=[0, 1, 2, 3])  # row i is right up to point i
    won = path([[0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], rows=[0, 1, 2])
    maps = {
        "a": map_of([0.2, 0.4, 0.6, 0.8], [0.4, 0.3, 0.2, 0.1], rows=[0, 1, 2, 3]),
        "b": map_of([0.9, 0.3, 0.5], [0.1, 0.1, 0.1], rows=[0, 1, 2]),
    }
    found = trends([Crossing("a", "b", lost, won, reverse=False)], maps).set_index(["set", "measure"])
    assert found[["first", "last"]].to_numpy().tolist() == [[0.2, 0.8], [0.4, 0.1], [0.9, 0.5], [0.1, 0.1]]
    assert found["of_means"].tolist() == pytest.approx(
        [1, -1, -0.5, NAN], nan_ok=True
    )  # ranks 3, 1, 2 of 1, 2, 3: -1/2
    assert found["of_rows"].tolist() == pytest.approx([1, -1, -0.5, NAN], nan_ok=True)
    assert found["p_value"].iloc[0] == pytest.approx(0.0, abs=1e-9)
    assert found["of_rows_se"].isna().all()


def test_rank_correlation_of_rows_is_pandas_own():
    rng = np.random.default_rng(0)
    right, confidence = rng.random((300, 6)) < 0.5, rng.random(300)
    table = path(right, rows=list(range(300)))
    maps = {key: map_of(confidence.tolist(), rows=list(range(300))) for key in "ab"}
    found = trends([Crossing("a", "b", table, table, reverse=False)], maps).set_index(["set", "measure"])
    for kind in ("forgotten", "learned"):
        members = [(k, confidence[row]) for k, rows in sets(table, kind).items() for row in rows.tolist()]
        wanted = pd.DataFrame(members).corr(method="spearman").iloc[0, 1]
        assert found.loc[(kind, "confidence"), "of_rows"] == pytest.approx(wanted, abs=1e-12)


# Several pairs -----------------------------------------------------------------------------------------------------


def test_knowledge_pooled_over_pairs_by_hand():
    """The second pair forgets nothing at k = 1, rows 5 and 8 at k = 2, and learns as the first does."""
    other = path([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    second = turned(Crossing("mnli 2", "anli 2", other, ON_TARGET, reverse=False))
    maps = {
        "mnli": SOURCE,
        "anli": TARGET,
        "mnli 2": map_of([1.0, 0.35, 0.45, 0.7, 0.0]),
        "anli 2": map_of([0.9, 0.4, 0.5], rows=[0, 1, 2]),
    }
    found = knowledge([PAIR, second], maps)
    assert found["rows"].tolist() == [0.5, 2, 1, 2, 0, 2]
    assert found["total"].tolist() == [1, 4, 2, 4, 0, 4]
    assert found["pairs"].tolist() == [1, 2, 2, 2, 0, 2]
    # means of the pairs: F1 0.3; F2 0.75 and 0.4; F3 0.3 and 0.7; M1 0.6 and 0.7; M3 0.3 and 0.45
    assert found["confidence"].tolist() == pytest.approx([0.3, 0.575, 0.5, 0.65, NAN, 0.375], nan_ok=True)
    assert found["confidence_se"].tolist() == pytest.approx([NAN, 0.175, 0.2, 0.05, NAN, 0.075], nan_ok=True)
    assert trends([PAIR, second], maps)["p_value"].isna().all()


def test_rows_without_a_place_in_the_cartography_count_nowhere():
    """The run saw a subset: row 11 isn't in it, so F2 is row 3 alone."""
    found = knowledge([PAIR], {"mnli": SOURCE.drop(index=11), "anli": TARGET})
    assert found["rows"].tolist()[:3] == [1, 1, 1]
    assert found["confidence"].tolist()[:3] == pytest.approx([0.3, 0.9, 0.3])


def test_the_standard_error_of_pairs_that_share_minima():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    apart, shared = ["a", "b", "c", "d"], ["a", "a", "a", "a"]
    usual = values.std(ddof=1) / 2
    assert standard_error(values, apart, list("wxyz")) == pytest.approx(usual)
    assert standard_error(values, shared, apart) == pytest.approx(usual)  # speaks of the targets alone
    # crossed: residuals -2, -1, 0, 3; by source 2 x (9 + 9) / 16 = 2.25, by target 2 x (4 + 4) / 16 = 1, by pair
    # 4 / 3 x 14 / 16; their sum, less the last, is below the first
    assert standard_error(values, list("aabb"), list("xyxy")) == pytest.approx(1.5)
    # 3 x 2, a_i + b_j with a = 0, 3, 6 and b = 0, 4: by source 9 / 3, by target 8 / 2, by pair 6 / 5 x 60 / 36
    crossed = np.array([0.0, 4, 3, 7, 6, 10])
    assert standard_error(crossed, list("aabbcc"), list("xyxyxy")) == pytest.approx(math.sqrt(3 + 4 - 2))
    assert math.isnan(standard_error(values[:1], ["a"], ["x"]))


# Faults ------------------------------------------------------------------------------------------------------------


def test_what_is_missing_or_does_not_fit_is_said():
    maps = {"mnli": SOURCE, "anli": TARGET}
    with pytest.raises(RaymcError, match="no path leads from"):
        knowledge([], maps)
    with pytest.raises(RaymcError, match=r"the run of minimum anli has no cartography: make train.snapshot an axis"):
        knowledge([PAIR], {"mnli": SOURCE})
    with pytest.raises(RaymcError, match="cartography of minimum anli has none of the path's rows"):
        knowledge([PAIR], {"mnli": SOURCE, "anli": map_of([0.5], rows=[99])})
    coarse = path([[1, 1, 0]] * 3, rows=[0, 1, 2])
    with pytest.raises(RaymcError, match="mnli-anli was scored at other points on the other task"):
        knowledge([dataclasses.replace(PAIR, on_target=coarse)], maps)
    with pytest.raises(RaymcError, match="the paths were scored at different points"):
        knowledge([PAIR, Crossing("mnli", "anli", coarse, coarse, reverse=False)], maps)
    with pytest.raises(ValueError, match="forgotten, learned, not lost"):
        sets(path(PATTERNS), "lost")  # type: ignore[arg-type]
