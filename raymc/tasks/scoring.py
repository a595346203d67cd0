"""Loss and metrics of a model over a whole split: weighted by term, so that batches and padding change nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raymc.landscape.calibration import calibration_error
from raymc.specs.errors import RaymcError
from raymc.tasks.likelihoods import Likelihoods
from raymc.tasks.tokens import Tokens, budget_batches, gather

Parts = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats per example (text targets: per target token), metrics as fractions."""

    loss: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class RowScores:
    """What a model does with each row; all arrays are in the order of the batches, `order` their row numbers.

    loss: float64, cross-entropy summed over the row's terms, in nats; terms: int64, how many these are; gold: int64,
    the label's index; predicted: int64 by the metrics' prefix, the index of the label that the model gives. Metrics
    have the calibration error of the labels' probabilities beside them.
    """

    order: np.ndarray
    loss: np.ndarray
    terms: np.ndarray
    gold: np.ndarray
    predicted: dict[str, np.ndarray]
    probabilities: np.ndarray  # float32 (rows, labels): softmax of the logits; of text models, of the likelihoods

    def total(self) -> Score:
        """Raises RaymcError where the loss isn't finite."""
        loss = float(self.loss.sum()) / int(self.terms.sum())
        if not math.isfinite(loss):
            raise RaymcError(f"the loss is not finite ({loss})")
        found = {prefix: classification_metrics(self.gold, labels) for prefix, labels in self.predicted.items()}
        metrics = {prefix + name: value for prefix, part in found.items() for name, value in part.items()}
        return Score(loss, {**metrics, "calibration_error": calibration_error(self.probabilities, self.gold)})


class Scorer:
    """A split made ready for a classifier on a device: batches are padded once and used for every point of a path.

    `rows`: the row numbers of the split that are scored, each once; None: all.
    """

    def __init__(
        self,
        tokens: Tokens,
        token_budget: int,
        device: torch.device | str = "cpu",
        rows: np.ndarray | None = None,
    ):
        order = budget_batches(tokens, token_budget, rows=rows)
        batches = [gather(tokens, batch, device) for batch in order]
        self._order = np.concatenate(order)
        self.rows, self.tokens = len(self._order), int(tokens.lengths[self._order].sum())
        self._labels = [batch.pop("labels") for batch in batches]
        self._batches, self._gold = batches, tokens.labels[self._order]

    def __call__(self, model: Any) -> Score:
        """One pass over the split. The model is in evaluation mode (no dropout); logits' loss is taken in fp32.

        Raises RaymcError where the loss isn't finite.
        """
        return self.by_row(model).total()

    def by_row(self, model: Any) -> RowScores:
        return self.collect([self.step(model, index) for index in range(self.count)])

    @property
    def count(self) -> int:
        """Batches of a pass."""
        return len(self._batches)

    @torch.inference_mode()
    def step(self, model: Any, index: int) -> Parts:
        """What a model makes of one batch, left on the device: it is not waited for."""
        logits = model(**self._batches[index]).logits.float()
        loss = torch.nn.functional.cross_entropy(logits, self._labels[index], reduction="none")
        return loss, logits.argmax(-1), logits.softmax(-1)

    def collect(self, steps: Sequence[Parts]) -> RowScores:
        """The rows of a pass from what `step` gave for each of its batches."""
        losses, hits, shares = zip(*steps, strict=True)
        loss, predicted = torch.cat(losses).double().cpu().numpy(), torch.cat(hits).cpu().numpy()
        probabilities = torch.cat(shares).cpu().numpy()
        return RowScores(self._order, loss, np.ones_like(self._gold), self._gold, {"": predicted}, probabilities)


class TextScorer:
    """A split made ready for a seq2seq or causal model: rows are scored by their labels' texts.

    likelihood_...: the label whose target has the highest log-likelihood (summed over its tokens; the first of equal
    ones). generation_... (seq2seq): the label whose target, end-of-text token included, is token by token what greedy
    decoding gives; a generation that is no label's target is a label of its own, which never is gold: it is wrong for
    the accuracy and one more, F1 = 0, in the mean of macro-F1.
    """

    def __init__(
        self,
        kind: str,
        tokens: Tokens,
        token_budget: int,
        device: torch.device | str = "cpu",
        rows: np.ndarray | None = None,
    ):
        self._likelihoods = Likelihoods(kind, tokens, token_budget, device, rows)
        self._generates = kind == "seq2seq"
        self.rows, self.tokens = len(self._likelihoods.order), self._likelihoods.tokens
        order = self._likelihoods.order
        self._gold, self._terms = tokens.labels[order], tokens.target_lengths[order]

    def __call__(self, model: Any) -> Score:
        """One pass over the split, as `Scorer`'s. The loss is that of the gold targets, per token of theirs."""
        return self.by_row(model).total()

    def by_row(self, model: Any) -> RowScores:
        return self.collect([self.step(model, index) for index in range(self.count)])

    @property
    def count(self) -> int:
        return self._likelihoods.count

    def step(self, model: Any, index: int) -> Parts:
        return self._likelihoods.step(model, index)

    def collect(self, steps: Sequence[Parts]) -> RowScores:
        found, greedy = (torch.cat(column).cpu().numpy() for column in zip(*steps, strict=True))
        predicted = {"likelihood_": found.argmax(1)}
        if self._generates:
            predicted["generation_"] = np.where(greedy.any(1), greedy.argmax(1), greedy.shape[1])
        loss = -found[np.arange(len(found)), self._gold]
        relative = np.exp(found - found.max(1, keepdims=True))
        probabilities = (relative / relative.sum(1, keepdims=True)).astype(np.float32)
        return RowScores(self._likelihoods.order, loss, self._terms, self._gold, predicted, probabilities)


def make_scorer(
    kind: str,
    tokens: Tokens,
    token_budget: int,
    device: torch.device | str = "cpu",
    rows: np.ndarray | None = None,
) -> Scorer | TextScorer:
    """What scores a model of a kind (classifier, seq2seq, causal) on a split tokenized for that kind.

    `rows`: the row numbers of the split to score, each once; None: all. The scorer's `rows` say how many these are, and
    its `tokens` the real ones (no padding) that one call computes. Calling it with a model gives a Score with the
    metrics of raymc.specs.results.METRICS, and `by_row` what they are made of.
    """
    if kind == "classifier":
        return Scorer(tokens, token_budget, device, rows)
    return TextScorer(kind, tokens, token_budget, device, rows)


def classification_metrics(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1 averaged over the labels that occur in `gold` or `predicted` (as scikit-learn's macro F1)."""
    labels = np.union1d(gold, predicted)
    scores = []
    for label in labels:
        hit = int(((gold == label) & (predicted == label)).sum())
        scores.append(2 * hit / int((gold == label).sum() + (predicted == label).sum()))
    return {"accuracy": int((gold == predicted).sum()) / len(gold), "f1_macro": sum(scores) / len(scores)}
