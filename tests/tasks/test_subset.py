"""Subsets that overlap exactly as said, noise on exactly as many rows, renamed labels, and their faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raymc.specs.errors import RaymcError
from raymc.specs.task import Subset, TaskSpec, training_row_count
from raymc.tasks.rows import fingerprint, label_names, labels_of, read_rows, row_count, task_faults, training_rows
from raymc.tasks.subset import mislabelled, most_rows, share_of, window

SHARES = st.decimals(0, 1, places=3).map(float)
NAMES = ("a", "b", "c")


def rounded(share: float, rows: int) -> int:
    """The share as it is written, in decimal arithmetic."""
    return int((Decimal(repr(share)) * rows).quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """task(labels, pair=False, **fields): training rows "row 0", "row 1", ... with these labels."""

    def make(of_rows: str | list[str], pair: bool = False, **fields: Any) -> TaskSpec:
        lines = []
        for i, label in enumerate(of_rows):
            lines.append(json.dumps({"text": f"row {i}", "label": label} | ({"pair": f"pair {i}"} if pair else {})))
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        (tmp_path / "validation.jsonl").write_text("\n".join(lines[:4]))
        given = {"dataset": {"path": str(tmp_path)}, "text_pair": "pair" if pair else None, **fields}
        return TaskSpec.model_validate(given)

    return make


# Windows -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 60), SHARES, SHARES, st.integers(0, 5))
def test_windows_share_exactly_what_is_said(rows: int, more: int, one: float, other: float, seed: int):
    windows = {p: window(2 * rows + more, Subset(rows=rows, seed=seed, overlap=p)) for p in (one, other, 1.0, 0.0)}
    for found in windows.values():
        assert (found.dtype, len(found), len(set(found.tolist()))) == (np.int64, rows, rows)
        assert found.min() >= 0
        assert found.max() < 2 * rows + more
    for p in (one, other):
        assert len(np.intersect1d(windows[p], windows[1.0])) == rounded(p, rows)
    apart = abs(rounded(one, rows) - rounded(other, rows))
    assert len(np.intersect1d(windows[one], windows[other])) == rows - apart
    shared = np.isin(windows[one], windows[other])  # what is shared keeps its place
    assert (windows[one][shared] == windows[other][shared]).all()


def test_the_share_is_the_decimal_that_was_written():
    assert share_of(0.29, 100) == 29  # 0.29 * 100 in floating point is less
    assert share_of(0.145, 1000) == 145
    assert [share_of(0.5, rows) for rows in (1, 3, 5)] == [0, 2, 2]


def test_the_window_of_all_rows_is_the_split():
    assert window(50, Subset(rows=50, seed=3)).tolist() == list(range(50))
    first = window(50, Subset(rows=20, seed=3))
    assert first.tolist() == sorted(first)


def test_every_row_is_as_likely_and_seeds_draw_apart():
    chosen = [set(window(40, Subset(rows=10, seed=seed, overlap=0.5)).tolist()) for seed in range(400)]
    counts = np.bincount([row for rows in chosen for row in rows], minlength=40)
    assert abs(counts - 100).max() < 5 * (400 * 0.25 * 0.75) ** 0.5
    common = [len(one & other) for one, other in pairwise(chosen)]
    assert np.mean(common) == pytest.approx(10 * 10 / 40, abs=0.4)  # hypergeometric


def test_windows_never_change_under_one_version():
    """A failure here means that minima no longer fit their keys: bump MINIMUM_VERSION, then this."""
    assert window(12, Subset(rows=5, seed=1)).tolist() == [0, 3, 7, 10, 11]
    assert window(12, Subset(rows=5, seed=1, overlap=0.4)).tolist() == [9, 6, 7, 2, 11]
    noisy = mislabelled(["a"] * 8, np.arange(8), 0.5, 2, NAMES)
    assert "".join(noisy) == "aacccaca"


@given(SHARES, st.integers(0, 300))
def test_the_most_rows_that_a_split_has_for_an_overlap(overlap: float, split_rows: int):
    def needed(rows: int) -> int:
        return 2 * rows - rounded(overlap, rows)

    most = most_rows(overlap, split_rows)
    assert most == max(rows for rows in range(split_rows + 1) if needed(rows) <= split_rows)


def test_a_window_past_the_end_is_refused():
    with pytest.raises(ValueError, match="ends at 15, and there are 14"):
        window(14, Subset(rows=10, overlap=0.5))


# Noise ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=60), SHARES, SHARES, st.integers(0, 5))
def test_exactly_so_many_labels_are_wrong_and_more_contains_less(labels: list[str], one: float, other: float, seed):
    low, high = sorted((one, other))
    less, more = (mislabelled(labels, np.arange(len(labels)), share, seed, NAMES) for share in (low, high))
    wrong = [i for i, (found, right) in enumerate(zip(less, labels, strict=True)) if found != right]
    assert len(wrong) == rounded(low, len(labels))
    assert sum(found != right for found, right in zip(more, labels, strict=True)) == rounded(high, len(labels))
    assert all(more[i] == less[i] for i in wrong)
    assert set(more) <= set(NAMES)


def test_wrong_labels_are_drawn_alike_and_by_their_seed():
    labels = ["a", "b", "c"] * 400
    drawn = {seed: mislabelled(labels, np.arange(1200), 0.5, seed, NAMES) for seed in (0, 1)}
    counts = Counter((right, found) for right, found in zip(labels, drawn[0], strict=True) if right != found)
    assert len(counts) == 6
    assert all(abs(count - 100) < 50 for count in counts.values())
    assert drawn[0] != drawn[1]
    same = sum(a == b for a, b in zip(*drawn.values(), strict=True))
    assert same / 1200 == pytest.approx(0.25 + 0.25 * 0.5, abs=0.06)  # both right, or both wrong and alike


def test_the_noise_of_a_row_is_its_own():
    """Which rows are changed first, and to what, is the same in any window, whatever lies beside them."""
    labels = [NAMES[i % 3] for i in range(100)]
    whole = mislabelled(labels, np.arange(100), 1.0, 4, NAMES)
    part = np.arange(30, 70)[::-1]
    inside = mislabelled([labels[i] for i in part], part, 1.0, 4, NAMES)
    assert inside == [whole[i] for i in part]
    half = mislabelled(labels, np.arange(100), 0.5, 4, NAMES)
    first = [i for i in part if half[i] != labels[i]]
    few = mislabelled([labels[i] for i in part], part, len(first) / 40, 4, NAMES)
    assert [i for i, found in zip(part, few, strict=True) if found != labels[i]] == first


# Training rows -------------------------------------------------------------------------------------------------------

LABELS = "abcab" * 8


def test_without_a_subset_or_noise_they_are_the_split(task):
    rows, indices = training_rows(task(LABELS))
    assert rows == read_rows(task(LABELS), "train")
    assert indices.tolist() == list(range(40))


@pytest.mark.parametrize("pair", [False, True])
def test_a_subset_with_noise_is_rows_of_the_split_with_some_labels_wrong(task, pair: bool):
    spec = task(LABELS, pair, subset={"rows": 20, "seed": 1, "overlap": 0.3}, label_noise=0.25, noise_seed=3)
    rows, indices = training_rows(spec)
    assert indices.tolist() == window(40, spec.subset).tolist()
    assert rows.text == [f"row {i}" for i in indices]
    assert rows.text_pair == ([f"pair {i}" for i in indices] if pair else None)
    assert sum(label != LABELS[i] for label, i in zip(rows.labels, indices, strict=True)) == 5
    assert len(rows) == training_row_count(spec, row_count(spec, "train")) == 20
    assert training_row_count(task(LABELS), 40) == 40


def test_what_is_scored_has_neither_subset_nor_noise(task):
    spec = task(LABELS, subset={"rows": 5}, label_noise=1.0)
    assert read_rows(spec, "train").labels == list(LABELS)
    assert read_rows(spec, "validation").labels == list("abca")


def test_subset_noise_and_renaming_have_streams_of_their_own(task):
    """Another noise seed or share leaves the rows, another subset seed the noise of the rows that stay, as they are."""
    fields = {"subset": {"rows": 30, "overlap": 0.8}, "label_noise": 0.5}
    base, base_indices = training_rows(task(LABELS, **fields))
    for change in ({"noise_seed": 1}, {"label_noise": 0.1}):
        rows, indices = training_rows(task(LABELS, **{**fields, **change}))
        assert (rows.text, indices.tolist()) == (base.text, base_indices.tolist())
        assert rows.labels != base.labels
    whole = {"label_noise": 1.0}
    one, two = (training_rows(task(LABELS, subset={"rows": 30, "seed": seed}, **whole)) for seed in (0, 1))
    assert one[1].tolist() != two[1].tolist()
    found = [dict(zip(indices.tolist(), rows.labels, strict=True)) for rows, indices in (one, two)]
    shared = found[0].keys() & found[1].keys()
    assert len(shared) >= 20
    assert all(found[0][i] == found[1][i] for i in shared)
    names = {"a": "x", "b": "y", "c": "z"}
    renamed, indices = training_rows(task(LABELS, rename=names, **fields))
    assert indices.tolist() == base_indices.tolist()
    assert renamed.labels == [names[label] for label in base.labels]


def test_neither_subset_nor_noise_changes_the_names_of_the_labels(task):
    spec = task("a" * 20 + "b" * 20 + "c", subset={"rows": 4, "seed": 2}, label_noise=0.5)
    assert labels_of(spec) == label_names(spec, read_rows(spec, "train")) == NAMES
    assert set(training_rows(spec)[0].labels) <= set(NAMES)


def test_the_fingerprint_tells_rows_labels_and_their_order_apart(task):
    changes: list[dict[str, Any]] = [
        {},
        {"subset": {"rows": 20}},
        {"subset": {"rows": 20, "seed": 1}},
        {"subset": {"rows": 20, "overlap": 0.9}},
        {"label_noise": 0.1},
        {"label_noise": 0.1, "noise_seed": 1},
        {"rename": {"a": "x"}},
    ]
    digests = [fingerprint(*training_rows(task(LABELS, **change))) for change in changes]
    assert len(set(digests)) == len(changes)
    assert digests == [fingerprint(*training_rows(task(LABELS, **change))) for change in changes]
    rows, indices = training_rows(task(LABELS))
    assert fingerprint(rows, indices[::-1]) != fingerprint(rows, indices) == digests[0]
    assert training_rows(task(LABELS, subset={"rows": 40, "seed": 7}))[1].tolist() == indices.tolist()


def test_the_grammar_has_subsets_too():
    spec = TaskSpec.model_validate({"dataset": {"builtin": "grammar", "train_rows": 50}, "subset": {"rows": 10}})
    rows, indices = training_rows(spec)
    whole = read_rows(spec, "train")
    assert rows.text == [whole.text[i] for i in indices]


# Names ---------------------------------------------------------------------------------------------------------------


def test_renamed_labels_match_another_dataset(task):
    spec = task("0120", rename={"0": "yes", "2": "no", "1": "maybe"})
    assert read_rows(spec, "train").labels == ["yes", "maybe", "no", "yes"]
    assert labels_of(spec) == ("maybe", "no", "yes")
    assert read_rows(task("abba", rename={"a": "b", "b": "a"}), "train").labels == list("baab")  # all at once
    assert labels_of(task("abca", rename={"c": "b"})) == ("a", "b")


def test_the_labels_follow_the_file(task):
    assert labels_of(task("abab")) == ("a", "b")
    assert labels_of(task("xyxy")) == ("x", "y")
    assert labels_of(task("xyxy", labels=["y", "x", "z"])) == ("y", "x", "z")
    with pytest.raises(RaymcError, match="one label only: 'a'"):
        labels_of(task("aaaa"))
    with pytest.raises(RaymcError, match=r"^training row 3 has label 'c', which is not among a, b$"):
        labels_of(task("abca", labels=["a", "b"]))


def test_the_labels_of_a_hub_set_are_those_of_the_spec():
    assert labels_of(TaskSpec.model_validate({"dataset": {"hub": "owner/set"}})) is None
    assert labels_of(TaskSpec.model_validate({"dataset": {"hub": "owner/set"}, "labels": ["b", "a"]})) == ("b", "a")


# Faults --------------------------------------------------------------------------------------------------------------


def faults(spec: TaskSpec) -> list[tuple[str, str]]:
    return list(task_faults(spec, {"train": "train_split", "validation": "connectivity.splits"}))


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"subset": {"rows": 41}}, "subset.rows", "41 are more than the 40 rows of split 'train'"),
        (
            {"subset": {"rows": 25, "overlap": 0.0}},
            "subset.overlap",
            "two windows of 25 rows with an overlap of 0 need 50 rows, and split 'train' has 40: enough for at most 20 "
            "rows each",
        ),
        (
            {"subset": {"rows": 30, "overlap": 0.5}},
            "subset.overlap",
            "two windows of 30 rows with an overlap of 0.5 need 45 rows, and split 'train' has 40: enough for at most "
            "27 rows each",
        ),
        ({"subset": {"rows": 1}}, "subset", "its rows have one label only: 'b'"),
        ({"rename": {"d": "e"}}, "rename", "no row has the label 'd' (there are a, b, c)"),
        ({"targets": {"d": "e"}}, "targets", "no label 'd' (labels: a, b, c)"),
        ({"targets": {"a": "b"}}, "targets", "labels 'a' and 'b' have the same text 'b'"),
        ({"prompt": "classify"}, "prompt", "it has neither {text} nor {text_pair}, so all rows would be the same"),
        ({"rename": {"a": "c", "b": "c"}}, "rename", "the training rows have one label only: 'c'"),
    ],
)
def test_faults_are_named_with_their_field(task, fields: dict[str, Any], field: str, said: str):
    assert faults(task(LABELS, **fields)) == [(field, said)]


@given(st.integers(1, 45), SHARES)
def test_what_has_no_fault_can_be_read(tmp_path_factory, rows: int, overlap: float):
    folder = tmp_path_factory.getbasetemp() / "forty"
    if not folder.exists():
        folder.mkdir()
        lines = [json.dumps({"text": str(i), "label": "ab"[i % 2]}) for i in range(40)]
        (folder / "train.jsonl").write_text("\n".join(lines))
    spec = TaskSpec.model_validate({"dataset": {"path": str(folder)}, "subset": {"rows": rows, "overlap": overlap}})
    found = [field for field, _ in task_faults(spec, {"train": "train_split"})]
    assume(found != ["subset"])
    if found:
        with pytest.raises(RaymcError, match=r"^task\.subset\.(rows|overlap): "):
            training_rows(spec)
    else:
        assert len(training_rows(spec)[0]) == rows


def test_a_label_of_one_split_alone_may_be_renamed(task, tmp_path: Path):
    spec = task("abab", rename={"c": "b"}, labels=["a", "b"])
    (tmp_path / "validation.jsonl").write_text('{"text": "x", "label": "c"}')
    assert faults(spec) == []


def test_the_targets_of_a_hub_set_are_checked_as_far_as_they_go():
    hub = {"dataset": {"hub": "owner/set"}}
    assert faults(TaskSpec.model_validate({**hub, "targets": {"a": "x", "b": "y"}})) == []
    found = faults(TaskSpec.model_validate({**hub, "targets": {"a": "x", "b": "x"}}))
    assert found == [("targets", "labels 'a' and 'b' have the same text 'x'")]
