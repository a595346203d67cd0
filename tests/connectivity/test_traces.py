"""Rows along a path: as they are kept, what they add up to, and what is shared with the ends, against transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raymc.connectivity.pairs import Connections
from raymc.connectivity.traces import Trace, seen
from raymc.landscape.barriers import ainsworth, convexity_gap, entezari, frankle
from raymc.report.values import INTERVALS
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import Profile
from raymc.store.rows import RowTable, read_rows
from raymc.store.store import Store
from raymc.tasks.rows import read_rows as read_texts
from raymc.tasks.scoring import RowScores, Scorer

LABELS = ("neg", "pos")
SPLITS = ("validation", "test")


def run(found: Connections, worker: Any) -> dict[str, Profile]:
    """Score what is missing; the profiles of the one pair that was, by row set."""
    keys = set(found.points)
    for task in found.missing_endpoints(keys)[0]:
        for result in worker.endpoint(task):
            found.put(result)
    profiles: list[Profile] = []
    for task in found.missing_pairs(keys)[0]:
        ends = {split: (found.evaluation(task.a, split), found.evaluation(task.b, split)) for split in task.splits}
        profiles += worker.pair(task, ends)
        for result in profiles:
            found.put(result)
    return {profile.split: profile for profile in profiles}


@pytest.fixture
def pair(store, keys, trials, connections) -> Callable[..., Connections]:
    """pair(...): two full minima, on both row sets."""
    some = {key: trials[key] for key in sorted(keys["full"])[:2]}
    return lambda **connectivity: connections(store, some, **{"splits": list(SPLITS), **connectivity})


def logits_along(store: Store, keys: tuple[str, str], task: Any, split: str, t: tuple[float, ...]) -> np.ndarray:
    """(points, rows, labels) of plain transformers' models, row by row and unpadded."""
    folders = [store.folder("minima", key) for key in keys]
    models = [AutoModelForSequenceClassification.from_pretrained(folder).eval() for folder in folders]
    a, b = ({name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models)
    tokenizer, texts = AutoTokenizer.from_pretrained(folders[0]), read_texts(task, split).text
    points = []
    for one in t:
        models[0].load_state_dict({name: (1 - one) * a[name] + one * b[name] for name in a})
        with torch.no_grad():
            found = [models[0](**tokenizer(text, return_tensors="pt")).logits[0].double() for text in texts]
        points.append(torch.stack(found).numpy())
    return np.stack(points)


def by_bins(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """Guo et al. 2017, eq. 3, as it is written, with 15 bins."""
    top, right = probabilities.max(1), probabilities.argmax(1) == gold
    found = 0.0
    for m in range(15):
        inside = (top > m / 15) & (top <= (m + 1) / 15)
        if inside.any():
            found += inside.sum() / len(gold) * abs(right[inside].mean() - top[inside].mean())
    return found


def test_rows_and_what_they_add_up_to_are_those_of_transformers(store, pair, evaluator):
    found = pair()
    profiles, (a, b) = run(found, evaluator(store)), sorted(found.points)
    task = found.spec.task
    for split, profile in profiles.items():
        logits = logits_along(store, (a, b), task, split, profile.t)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        gold = np.array([LABELS.index(label) for label in read_texts(task, split).labels])
        losses = -np.log(shares[:, np.arange(len(gold)), gold])
        group = found.profile_key(split, "weights", "linear")
        rows = read_rows(store, group, f"{a}-{b}", profile.row_file)
        assert (rows.t, rows.labels, rows.probabilities) == (profile.t, LABELS, None)
        assert np.array_equal(rows.row, np.arange(len(gold)))
        assert np.array_equal(rows.gold, gold)
        assert (rows.terms == 1).all()
        np.testing.assert_allclose(rows.loss, losses, atol=5e-6)
        assert np.array_equal(rows.predicted, shares.argmax(-1))
        assert profile.loss == pytest.approx(rows.loss.mean(axis=1, dtype=np.float64), abs=1e-6)
        assert profile.metrics["accuracy"] == pytest.approx((rows.predicted == gold).mean(1), abs=0)
        assert profile.metrics["calibration_error"] == pytest.approx([by_bins(p, gold) for p in shares], abs=1e-5)
        for name, end in (("a", 0), ("b", -1)):
            agreeing = (shares.argmax(-1) == shares[end].argmax(-1)).mean(-1)
            assert profile.metrics[f"agreement_{name}"] == pytest.approx(agreeing, abs=0)
            divergence = [(jensenshannon(p, shares[end], axis=1) ** 2).mean() for p in shares]
            assert profile.metrics[f"jensen_shannon_{name}"] == pytest.approx(divergence, abs=1e-6)
            assert max(divergence) > 1e-4
        for key, place in ((a, 0), (b, -1)):
            evaluation = found.evaluation(key, split)
            kept = read_rows(store, found.evaluation_key(split, "weights"), key, evaluation.row_file)
            assert kept.t == (0.0,)
            np.testing.assert_allclose(kept.probabilities, shares[place], atol=2e-6)
            assert np.array_equal(kept.loss[0], rows.loss[place])
            assert np.array_equal(kept.predicted[0], rows.predicted[place])
            assert evaluation.loss == profile.loss[place]


def test_ends_are_read_from_their_rows_and_not_scored_again(store, pair, evaluator, monkeypatch):
    passes: list[int] = []
    plain = Scorer.collect
    monkeypatch.setattr(Scorer, "collect", lambda self, steps: passes.append(self.rows) or plain(self, steps))
    found, worker = pair(), evaluator(store)
    run(found, worker)
    assert sorted(passes) == sorted([13, 7] * 2 + [13, 7] * 3)  # of two ends, and of three points between


def test_a_sweep_may_keep_no_rows_of_paths(store, pair, evaluator):
    """The numbers are the same, the intervals among them."""
    without = run(pair(rows=False), evaluator(store))
    folders = {path.name for path in (store.root / "rows").iterdir()}
    found = pair()
    assert folders == {found.evaluation_key(split, "weights") for split in SPLITS}
    assert {profile.row_file for profile in without.values()} == {""}
    for split, profile in run(found, evaluator(store)).items():
        assert profile.row_file
        timeless = {"row_file": "", "seconds": 0.0}
        assert profile.model_copy(update=timeless) == without[split].model_copy(update=timeless)


def test_intervals_lie_around_the_barriers(store, pair, evaluator):
    profiles = run(pair(), evaluator(store))
    for profile in profiles.values():
        error = [1 - one for one in profile.metrics["accuracy"]]
        loss = (entezari, ainsworth, convexity_gap)
        heights = {f"barrier_{of.__name__}": of(profile.t, profile.loss) for of in loss[:2]}
        heights |= {"convexity_gap": convexity_gap(profile.t, profile.loss)}
        heights |= {"barrier_frankle": frankle(profile.t, error)}
        assert set(profile.intervals) == set(INTERVALS) == set(heights)
        for name, height in heights.items():
            low, high = profile.intervals[name]
            assert 0 <= low <= height + 1e-9
            assert high >= low
            assert low <= height <= high or height - high < 0.1 * height  # the centre is moved by half the bias
        assert 0 < profile.p_value <= 1


def test_damaged_rows_of_an_end_are_found(store, pair, evaluator):
    found, worker = pair(), evaluator(store)
    a, b = sorted(found.points)
    for task in found.missing_endpoints({a, b})[0]:
        for result in worker.endpoint(task):
            found.put(result)
    group = found.evaluation_key("test", "weights")
    (path,) = (store.root / "rows" / group).glob(f"{b}-*.parquet")
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    (task,) = found.missing_pairs({a, b})[0]
    ends = {split: (found.evaluation(a, split), found.evaluation(b, split)) for split in SPLITS}
    with pytest.raises(CorruptArtefact, match="SHA-256 differs") as caught:
        worker.pair(task, ends)
    assert (caught.value.kind, caught.value.key) == ("rows", f"{group}/{path.name}")
    store.set_aside(caught.value.kind, caught.value.key)  # as a run does it
    assert [task.key for task in found.missing_endpoints({a, b})[0]] == [b]


# By hand -------------------------------------------------------------------------------------------------------------


def scores(order: list[int], p: list[float]) -> RowScores:
    """Of two labels, the first of them gold; `p`: its probability, in the order of the batches."""
    shares = np.stack([p, 1 - np.array(p)], axis=1).astype(np.float32)
    gold, ones = np.zeros(len(p), np.int64), np.ones(len(p), np.int64)
    return RowScores(np.array(order), -np.log(np.array(p)), ones, gold, {"": shares.argmax(1)}, shares)


def test_rows_come_back_in_the_order_of_the_split():
    one = seen(scores([2, 0, 1], [0.9, 0.8, 0.3]))
    assert one.row.tolist() == [0, 1, 2]
    assert one.loss.tolist() == pytest.approx(-np.log([0.8, 0.3, 0.9]))
    assert one.predicted.tolist() == [0, 1, 0]
    assert one.probabilities[:, 0].tolist() == pytest.approx([0.8, 0.3, 0.9])


def test_a_trace_by_hand():
    first, middle = (seen(scores([0, 1], p)) for p in ([0.9, 0.8], [0.3, 0.2]))
    last = seen(scores([1, 0], [0.4, 0.6]))  # in another order of batches
    trace = Trace([0.0, 0.5, 1.0], ("x", "y"), [first, middle, last])
    metrics = trace.metrics()
    assert metrics["agreement_a"] == (1.0, 0.0, 0.5)
    assert metrics["agreement_b"] == (0.5, 0.5, 1.0)
    assert metrics["accuracy"] == (1.0, 0.0, 0.5)
    assert metrics["calibration_error"] == pytest.approx(((0.1 + 0.2) / 2, (0.7 + 0.8) / 2, 0.1), abs=1e-6)
    table: RowTable = trace.table()
    assert table.predicted.tolist() == [[0, 0], [1, 1], [0, 1]]
    assert trace.loss() == pytest.approx(table.loss.mean(axis=1))
    with pytest.raises(RaymcError, match="other rows"):
        Trace([0.0, 0.5, 1.0], ("x", "y"), [first, seen(scores([0, 2], [0.3, 0.2])), last])
