from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raymc.specs.errors import TrainingFault
from raymc.tasks.mlm import IGNORED
from raymc.training.language import LanguageModelling, validate
from raymc.training.parallel import Group


class Table(torch.nn.Module):
    """The logits of a position are the row of its token; `options` notes what else it was given."""

    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Embedding(5, 5)
        self.drop = torch.nn.Dropout(0.5)
        self.options: list[dict[str, Any]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any):
        self.options.append(options)
        return SimpleNamespace(logits=self.drop(self.rows(input_ids)))


@pytest.fixture
def table() -> Table:
    torch.manual_seed(0)
    return Table()


def batch_of(labels: list[list[int]]) -> dict[str, torch.Tensor]:
    ids = torch.arange(len(labels) * len(labels[0])).view(len(labels), -1) % 5
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(labels)}


class One:
    def __init__(self, labels: list[list[int]]):
        self._batch = batch_of(labels)

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        return self._batch


LABELS = [[IGNORED, 3, 1], [2, IGNORED, IGNORED], [0, 0, 4]]


def test_validation_is_the_mean_over_predicted_tokens_without_dropout(table: Table):
    batch = batch_of(LABELS)
    logs = torch.log_softmax(table.rows.weight.detach().double(), 1)
    terms = [
        -logs[token, label].item()
        for row, labels in zip(batch["input_ids"].tolist(), LABELS, strict=True)
        for token, label in zip(row, labels, strict=True)
        if label != IGNORED
    ]
    for rows_at_once in (1, 2, 7):
        found = validate(table, batch, rows_at_once, "cpu", use_cache=False)
        assert found.loss == pytest.approx(sum(terms) / 6, rel=1e-6)
        assert found.perplexity == pytest.approx(math.exp(found.loss))
        assert found.tokens == len(terms) == 6
    assert table.training
    assert table.options == [{"use_cache": False}] * 6


def test_workers_losses_add_up_to_the_whole(table: Table):
    objective = LanguageModelling(One(LABELS), use_cache=False)
    table.drop.p = 0.0
    whole, terms = objective.batch(0, Group())
    parts = [objective.batch(0, Group(rank, 2)) for rank in range(2)]
    assert {weight for _, weight in parts} == {terms} == {6}
    expected = objective.loss(table, whole)
    found = sum(objective.loss(table, part).item() for part, _ in parts)
    assert found == pytest.approx(expected.item(), rel=1e-6)


def test_nothing_to_predict_is_a_fault(table: Table):
    nothing = [[IGNORED] * 3]
    with pytest.raises(TrainingFault, match="step 4 has no token to predict"):
        LanguageModelling(One(nothing)).batch(4, Group())
    with pytest.raises(TrainingFault, match="validation text has no token"):
        validate(table, batch_of(nothing), 1, "cpu")
