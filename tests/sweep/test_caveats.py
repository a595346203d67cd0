"""What is said beside figures of paths whose ends are no minima, or that were chosen on the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from raymc.specs.sweep import SweepSpec
from raymc.sweep.caveats import caveats

GRAMMAR: dict[str, Any] = {"dataset": {"builtin": "grammar", "train_rows": 8}, "max_length": 16}
COURT: dict[str, Any] = {"dataset": {"builtin": "grammar", "domain": "court", "train_rows": 8}, "max_length": 16}


def spec(curve: Any, **connectivity: Any) -> SweepSpec:
    body = {"name": "some", "model": {"backbone": {"builtin": "grammar-bert"}}, "task": GRAMMAR}
    body |= {"axes": {"seeds.order": [1, 2]}, "connectivity": {"curves": [curve], **connectivity}}
    return SweepSpec.model_validate(body)


@pytest.mark.parametrize("curve", ["linear", "spherical", "bezier", {"curve": "bezier", "fit": {"select": "test"}}])
def test_nothing_where_ends_are_minima_and_rows_are_others(curve: Any):
    found = spec(curve)
    assert caveats(found, found.connectivity.curve_names[0], "validation") == ()


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ({"curve": "linear", "moves": ["attention", "norms"]}, "attention and norms moves, the rest stays as in a"),
        ({"curve": "spherical", "layers": [0], "rest": "b"}, "block 0 moves, the rest stays as in b: the end at t = 0"),
        ({"curve": "aligned", "permute": ["heads"]}, "at t = 1 b has its heads in another order"),
        ({"curve": "bezier", "fit": {"select": "validation"}}, "chosen on the rows of validation"),
    ],
)
def test_what_is_said(curve: Any, words: str):
    found = spec(curve)
    (line,) = caveats(found, found.connectivity.curve_names[0], "validation")
    assert words in line


def test_rows_of_another_task_with_a_split_of_that_name():
    found = spec({"curve": "bezier", "fit": {"select": "validation"}}, tasks={"mine": GRAMMAR, "court": COURT})
    assert len(caveats(found, "bezier", "mine.validation")) == 1
    assert caveats(found, "bezier", "court.validation") == ()
