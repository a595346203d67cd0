"""Keys of evaluations and profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.results import EvaluationSpec

LINEAR = {"curve": {"curve": "linear"}}


@pytest.fixture
def evaluation(with_fields: Callable[..., dict[str, Any]], files: dict[str, Any]) -> Callable[..., EvaluationSpec]:
    """evaluation(**changes): how the rows on disk are scored."""
    fields = {"task": files["task"], "split": "validation", "space": "weights", "precision": "fp32"}
    return lambda **changes: EvaluationSpec.model_validate(with_fields(fields, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"task__labels": ["a", "b"]},
        {"split": "test"},
        {"space": "delta_w"},
        {"precision": "bf16"},
        {"task__text": "sentence"},
        {"task__text_pair": "second"},
        {"task__label": "y"},
        {"task__max_length": 64},
        {"task__train_split": "test"},  # its labels decide the order of the logits
    ],
)
def test_an_evaluation_s_key_holds_how_it_is_scored(changes: dict[str, Any], evaluation):
    assert evaluation(**changes).key() != evaluation().key()


def test_an_evaluation_s_key_holds_the_rows_it_is_scored_on(evaluation, tmp_path: Path):
    before = evaluation(task__labels=["a", "b"]).key()
    (tmp_path / "files/rows/train.jsonl").write_text("changed")
    assert evaluation(task__labels=["a", "b"]).key() == before
    (tmp_path / "files/rows/validation.jsonl").write_text("changed")
    assert evaluation(task__labels=["a", "b"]).key() != before


def test_an_evaluation_s_key_holds_the_labels_in_order(evaluation, tmp_path: Path):
    assert evaluation(task__labels=["a", "b"]).key() != evaluation(task__labels=["b", "a"]).key()
    of_train = evaluation().key()
    (tmp_path / "files/rows/train.jsonl").write_text("changed")
    assert evaluation().key() != of_train  # labels left out are those of the training rows


def test_a_profile_s_key_holds_its_curve_and_points(evaluation):
    spec = evaluation()
    bent = {"curve": {"curve": "bezier"}, "rows": {"sha256": "x"}}
    other = {**bent, "rows": {"sha256": "y"}}  # the same kind of path, fitted on other rows
    hows = ((LINEAR, 5), (LINEAR, 6), (bent, 5), (other, 5))
    assert len({spec.key(), *(spec.profile_key(*how) for how in hows)}) == 5
    turned = {"rows": {"sha256": "x"}, "curve": {"curve": "bezier"}}
    assert spec.profile_key(turned, 5) == spec.profile_key(bent, 5)


def test_a_fixed_head_is_another_record(evaluation):
    assert evaluation(head="path").key() == evaluation().key()
    assert evaluation(head="own").key() != evaluation().key()
    assert evaluation(head="own").profile_key(LINEAR, 5) != evaluation().profile_key(LINEAR, 5)


@pytest.mark.parametrize(
    "changes", [{"task__subset": {"rows": 3}}, {"task__label_noise": 0.5}, {"task__noise_seed": 3}]
)
def test_what_is_trained_on_is_no_part_of_how_it_is_scored(changes: dict[str, Any], evaluation):
    assert evaluation(**changes).key() == evaluation().key()
