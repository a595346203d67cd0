"""The first sentence and numbers of a sweep and of its minima, against counts by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from raymc.sweep.headline import headline
from raymc.sweep.section import Place, Section

PLACE = Place("linear", "validation", "weights")


def sweep(rows: list[tuple[Any, ...]]) -> Any:
    """Rows: a, b, curve, split, barrier, p, below the floor."""
    columns = ["a", "b", "curve", "split", "barrier_entezari", "p_holm", "below_floor"]
    table = pd.DataFrame(rows, columns=columns).assign(barrier_frankle=0.1)
    keys = sorted({*table["a"], *table["b"]})
    spec = SimpleNamespace(
        connectivity=SimpleNamespace(curve_names=("linear", "bezier")),
        row_sets=[SimpleNamespace(name="validation")],
        model=SimpleNamespace(kind="classifier"),
        axis_names=("seeds.order", "train.steps"),
    )
    return SimpleNamespace(
        barriers=lambda: table, minima=lambda: pd.DataFrame({"key": keys}), spec=spec, splits=("validation", "test")
    )


ROWS = [
    ("a", "b", "linear", "validation", 0.0, 1.0, False),
    ("a", "c", "linear", "validation", 0.6, 0.01, False),
    ("b", "c", "linear", "validation", 0.8, 0.04, False),
    ("a", "d", "linear", "validation", 9.0, 0.0, True),
    ("a", "b", "bezier", "test", 0.5, 1.0, False),
]


def clusters(**figures: Any) -> Section:
    return Section("clusters", "", "", PLACE, figures=figures)


def test_numbers_are_of_the_first_matrix_and_of_pairs_above_the_floor():
    told = headline(sweep(ROWS), [])
    assert told.metrics == pytest.approx(
        {
            "minima": 4,
            "pairs": 3,
            "barrier_mean": 1.4 / 3,
            "barrier_max": 0.8,
            "pairs_with_barrier": 2,
            "frankle_mean": 0.1,
            "barrier_mean_of/linear.validation": 1.4 / 3,
            "barrier_mean_of/bezier.test": 0.5,
        }
    )
    assert told.mean == pytest.approx({"a": 0.3, "b": 0.4, "c": 0.7})
    assert told.metrics_of("d") == {}
    assert told.finding == ""


def test_clusters_are_told_with_the_factor_that_parts_them():
    found = clusters(clusters=2, labels={"a": 1, "b": 1, "c": 2}, within=0.0, between=0.7, p_value=0.01)
    table = pd.DataFrame({"factor": ["x", "y", "z"], "effect": [0.2, 0.7, 0.9], "p_value": [0.01, 0.02, 0.3]})
    factors = Section("factors", "", "", PLACE, table=table)
    told = headline(sweep(ROWS), [found, factors])
    assert told.finding == (
        "2 clusters, parted by y: mean barrier 0 nats within, 0.7 between (p = 0.01; linear path, validation)."
    )
    assert told.metrics["clusters"] == 2
    assert told.tags_of("c") == {"cluster": "2"}
    assert told.tags_of("d") == {}
    alone = headline(sweep(ROWS), [found])
    assert alone.finding.startswith("2 clusters: mean barrier 0 nats within")


def test_one_cluster_and_none():
    one = clusters(clusters=1, labels={"a": 1, "b": 1}, within=0.25, between=math.nan, p_value=math.nan)
    assert headline(sweep(ROWS), [one]).finding == "One cluster: mean barrier 0.25 nats (linear path, validation)."
    assert headline(sweep(ROWS), [clusters()]).finding == ""
    nothing = headline(sweep(ROWS[:0]), [])
    assert nothing.metrics == {"minima": 0.0}


def test_columns_of_the_table_of_minima():
    told = headline(sweep(ROWS), [])
    assert told.columns(sweep(ROWS).spec) == (
        "params.seeds.order",
        "params.train.steps",
        "metrics.barrier_mean",
        "metrics.validation/loss",
        "metrics.validation/accuracy",
        "attributes.Models",
    )
