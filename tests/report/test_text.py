"""Tables for a terminal: what is missing, what is weak, and the conclusions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from raymc.report.frames import MinimumRow, minima_frame
from raymc.report.text import print_matrix, print_minima, print_summary
from raymc.report.values import VALUES
from raymc.specs.results import Evaluation

NAMES = {"k1": "order=1", "k2": "order=2", "k3": "[red]odd"}


def cells(**pairs: float) -> pd.DataFrame:
    frame = pd.DataFrame(np.nan, index=list(NAMES), columns=list(NAMES))
    for name, value in pairs.items():
        a, b = name.split("_")
        frame.loc[a, b] = frame.loc[b, a] = value
    return frame


def test_a_whole_matrix_has_no_footnote(capsys):
    print_matrix(cells(k1_k2=0.25, k1_k3=0.5, k2_k3=1.0), NAMES, "heading")
    out = capsys.readouterr().out
    assert "heading" in out
    assert "0.2500" in out
    assert "[red]odd" in out  # a name is no markup
    assert "no value" not in out


def test_pairs_without_a_value_are_dots_and_counted(capsys):
    print_matrix(cells(k1_k2=0.25), NAMES, "heading", weak={"k2"})
    lines = capsys.readouterr().out.splitlines()
    assert "· no value: 2 of 3 pairs are not selected or not there" in lines
    assert any("order=2 *" in line for line in lines)
    assert not any("order=1 *" in line for line in lines)
    print_matrix(cells(), NAMES, "heading")
    assert "no value: 3 of 3 pairs" in capsys.readouterr().out


def test_minima_with_scores_of_row_sets_whose_names_begin_alike(capsys):
    minima = [MinimumRow(key, "uri", NAMES[key], "run", {}, below_floor=key == "k3") for key in NAMES]
    numbers = {"weights": "w", "rows": 1, "tokens": 1, "seconds": 0.0, "device": "cpu", "row_file": "f"}
    evaluations = {
        ("k1", split): Evaluation(minimum="k1", split=split, loss=loss, metrics={"accuracy": loss / 2}, **numbers)
        for split, loss in (("nli.dev", 0.5), ("nli.dev_mm", 0.25))
    }
    frame = minima_frame(minima, [], evaluations, ["nli.dev", "nli.dev_mm"], ["accuracy"])
    print_minima(frame, NAMES, ["nli.dev", "nli.dev_mm"], {"k3"}, "accuracy at least 0.8")
    out = capsys.readouterr().out
    said = "mean cross-entropy (loss, nats) and metrics (fractions) on every row of the split that the column names"
    assert said in out
    for text in ("nli.dev loss", "nli.dev accuracy", "nli.dev_mm loss", "nli.dev_mm accuracy"):
        assert out.count(f" {text} ") == 1
    assert out.count("0.5000") == 1
    assert "[red]odd *" in out
    assert "* below the floor (accuracy at least 0.8): shown, but in no conclusion" in out


def summary(**fields: object) -> pd.DataFrame:
    row = {"curve": "linear", "split": "validation", "space": "weights", "differs": "seeds.order", "pairs": 3}
    row |= {"same_trajectory": False, "left_out": 0, "barrier_mean": 0.125, "barrier_median": 0.25, "barrier_max": 0.5}
    return pd.DataFrame([row | {"significant": 7, "frankle_mean": 0.01, "distance_mean": 12.5} | fields])


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_conclusions_name_what_differs(capsys):
    both = pd.concat([summary(), summary(differs="train.snapshot", same_trajectory=True, split="test")])
    print_summary(both)
    out = capsys.readouterr().out
    for text in ("seeds.order", "train.snapshot (one run)", "0.125", "0.25", "0.5", "0.01", "12.5", "test"):
        assert text in out
    assert "left out" not in out
    print_summary(summary(left_out=2, pairs=0, barrier_mean=float("nan")))
    out = capsys.readouterr().out
    assert "left out" in out
    assert "·" in out


def test_conclusions_name_their_curve_split_space_and_definitions(capsys):
    """What is the same in all rows stands above the table, the rest in columns."""
    print_summary(summary())
    out = capsys.readouterr().out
    assert out.startswith("Barriers by difference: linear path, space of weights, validation split\n")
    for name in ("barrier_entezari", "barrier_frankle", "distance_l2"):
        assert VALUES[name][2] in out
    assert "at 5 % over all pairs of a curve and split (Holm)" in out
    assert "half-way" not in out
    rows = [
        *(summary(curve=curve, split=split) for curve in ("linear", "bezier") for split in ("validation", "test")),
        summary(curve="linear-delta_w", space="delta_w"),
    ]
    both = pd.concat(rows).assign(ends=0.75, middle=0.5, lowest=0.25)
    print_summary(both, metric="f1 macro")
    out = capsys.readouterr().out
    assert out.startswith("Barriers by difference\n")
    assert "f1 macro (fraction) at both ends, half-way, at its lowest" in out
    lines = [cells_of(line) for line in out.splitlines()]
    heading = next(line for line in lines if line[0] == "curve")
    assert heading == [
        *("curve", "space", "split", "differs", "pairs", "mean", "median", "max", "significant"),
        *("frankle mean", "distance mean", "ends", "middle", "lowest"),
    ]
    found = [line[:3] for line in lines if len(line) == len(heading) and line != heading]
    assert found == both[["curve", "space", "split"]].to_numpy().tolist()
    assert lines[-2][3:] == ["seeds.order", "3", "0.125", "0.25", "0.5", "7", "0.01", "12.5", "0.75", "0.5", "0.25"]
