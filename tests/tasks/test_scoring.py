"""Loss and metrics against a plain loop over rows with transformers' own loss, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForSequenceClassification

from raymc.specs.errors import RaymcError
from raymc.specs.task import TaskSpec
from raymc.tasks.rows import Rows
from raymc.tasks.scoring import Scorer, classification_metrics
from raymc.tasks.tokens import Tokens, tokenize

LABELS = ("no", "maybe", "yes")
BUDGETS = (1, 17, 64, 4096)


@pytest.fixture(scope="module")
def rows() -> Rows:
    stream = np.random.default_rng(3)
    words = ["cat", "dog", "bird", "good", "bad", "not", "very", "the", *map(str, range(30))]

    def sentence(most: int) -> str:
        return " ".join(stream.choice(words, stream.integers(1, most)))

    return Rows([sentence(14) for _ in range(41)], [sentence(6) for _ in range(41)], list(stream.choice(LABELS, 41)))


@pytest.fixture(scope="module")
def tokens(tokenizer, rows: Rows) -> Tokens:
    return tokenize(
        tokenizer,
        rows,
        LABELS,
        TaskSpec.model_validate({"dataset": {"builtin": "grammar"}, "max_length": 20}),
        "classifier",
    )


@pytest.fixture(scope="module")
def model(backbone):
    return AutoModelForSequenceClassification.from_pretrained(backbone("classifier")).eval()


@pytest.fixture(scope="module")
def by_row(model, tokenizer, rows: Rows) -> tuple[float, list[int]]:
    """Mean of transformers' own loss over the rows, one at a time, unpadded; and what was predicted."""
    losses, predicted = [], []
    for text, second, label in zip(rows.text, rows.text_pair, rows.labels, strict=True):
        inputs = tokenizer(text, second, truncation=True, max_length=20, return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs, labels=torch.tensor([LABELS.index(label)]))
        losses.append(out.loss.item())
        predicted.append(int(out.logits.argmax()))
    return math.fsum(losses) / len(losses), predicted


@pytest.fixture(scope="module")
def shares(model, tokenizer, rows: Rows) -> np.ndarray:
    """Softmax of transformers' logits, (rows, labels), one at a time."""
    found = []
    for text, second in zip(rows.text, rows.text_pair, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, second, truncation=True, max_length=20, return_tensors="pt")).logits
        found.append(logits[0].double().softmax(-1).numpy())
    return np.stack(found)


@pytest.mark.parametrize("budget", BUDGETS)
def test_rows_are_those_of_a_loop_whatever_the_batches(model, tokens: Tokens, rows: Rows, shares, budget: int):
    found = Scorer(tokens, budget).by_row(model)
    gold = np.array([LABELS.index(label) for label in rows.labels])
    assert sorted(found.order) == list(range(41))
    assert np.array_equal(found.gold, gold[found.order])
    np.testing.assert_allclose(found.probabilities, shares[found.order], atol=5e-6)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found.loss, -np.log(shares[np.arange(41), gold])[found.order], atol=1e-5)
    assert np.array_equal(found.predicted[""], shares.argmax(1)[found.order])
    assert (found.terms == 1).all()
    assert (found.probabilities.dtype, found.loss.dtype) == (np.float32, np.float64)


def test_the_calibration_error_is_of_the_probabilities(model, tokens: Tokens, rows: Rows, shares):
    """Guo et al. 2017, eq. 3, bin by bin."""
    gold = np.array([LABELS.index(label) for label in rows.labels])
    top, right = shares.max(1), shares.argmax(1) == gold
    expected = 0.0
    for m in range(15):
        inside = (top > m / 15) & (top <= (m + 1) / 15)
        if inside.any():
            expected += abs(right[inside].sum() - top[inside].sum()) / 41
    score = Scorer(tokens, 64)(model)
    assert set(score.metrics) == {"accuracy", "f1_macro", "calibration_error"}
    assert score.metrics["calibration_error"] == pytest.approx(expected, abs=1e-5)
    assert 0 < expected < 1


@pytest.mark.parametrize("budget", BUDGETS)
def test_scores_are_those_of_a_loop_over_rows_whatever_the_batches(model, tokens: Tokens, rows: Rows, by_row, budget):
    loss, predicted = by_row
    scorer = Scorer(tokens, budget)
    score = scorer(model)
    gold = [LABELS.index(label) for label in rows.labels]
    assert score.loss == pytest.approx(loss, abs=1e-6)
    assert score.metrics["accuracy"] == accuracy_score(gold, predicted)
    assert score.metrics["f1_macro"] == pytest.approx(f1_score(gold, predicted, average="macro"), abs=1e-12)
    assert len(set(predicted)) > 1
    assert (scorer.rows, scorer.tokens) == (41, len(tokens.ids))
    assert scorer(model) == score  # batches are used again, so scoring must leave them as they are


def test_the_loss_is_a_mean_over_rows_not_over_batches(model, tokens: Tokens):
    """A budget that cuts batches of unlike size tells the two apart."""
    sizes = [len(batch["input_ids"]) for batch in Scorer(tokens, 64)._batches]
    assert len(set(sizes)) > 1
    scorer = Scorer(tokens, 64)
    means = []
    for batch, labels in zip(scorer._batches, scorer._labels, strict=True):
        with torch.no_grad():
            means.append(torch.nn.functional.cross_entropy(model(**batch).logits, labels).item())
    assert abs(np.mean(means) - scorer(model).loss) > 1e-4


def test_scoring_needs_no_gradient_and_changes_no_random_state(model, tokens: Tokens):
    before = torch.get_rng_state()
    Scorer(tokens, 4096)(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_is_not_finite_is_refused(backbone, tokens: Tokens):
    broken = AutoModelForSequenceClassification.from_pretrained(backbone("classifier")).eval()
    with torch.no_grad():
        broken.classifier.bias[1] = math.nan
    with pytest.raises(RaymcError, match="not finite"):
        Scorer(tokens, 4096)(broken)


pairs = st.integers(1, 5).flatmap(
    lambda kinds: st.lists(st.tuples(st.integers(0, kinds), st.integers(0, kinds)), min_size=1, max_size=30)
)


@given(pairs)
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning:sklearn")
def test_metrics_are_scikit_learns(both: list[tuple[int, int]]):
    gold, predicted = np.array(both).T
    found = classification_metrics(gold, predicted)
    assert found.keys() == {"accuracy", "f1_macro"}
    assert found["accuracy"] == accuracy_score(gold, predicted)
    assert found["f1_macro"] == pytest.approx(f1_score(gold, predicted, average="macro"), abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted", "accuracy", "f1"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0, 1.0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 0.0, 0.0),
        ([0, 0, 0, 1], [0, 0, 0, 0], 0.75, (6 / 7 + 0) / 2),
        ([0, 0], [0, 2], 0.5, (2 / 3 + 0) / 2),  # a label that was predicted and never gold counts, as 0
        ([1, 1, 2, 0], [1, 2, 2, 0], 0.75, (2 / 3 + 2 / 3 + 1) / 3),
    ],
)
def test_metrics_by_hand(gold, predicted, accuracy: float, f1: float):
    found = classification_metrics(np.array(gold), np.array(predicted))
    assert found == {"accuracy": accuracy, "f1_macro": pytest.approx(f1)}


def test_some_rows_score_as_they_do_among_all(model, tokens: Tokens):
    """By their row numbers, in whatever order these are given."""
    some = np.array([40, 3, 17, 0, 22])
    whole, part = Scorer(tokens, 64).by_row(model), Scorer(tokens, 64, rows=some)
    found = part.by_row(model)
    assert sorted(found.order) == sorted(some)
    assert (part.rows, part.tokens) == (5, int(tokens.lengths[some].sum()))
    place = {row: i for i, row in enumerate(whole.order)}
    there = [place[row] for row in found.order]
    np.testing.assert_allclose(found.loss, whole.loss[there], atol=1e-6)
    np.testing.assert_array_equal(found.gold, whole.gold[there])
