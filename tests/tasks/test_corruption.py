from __future__ import annotations

from collections import Counter
from math import comb
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raymc.specs.errors import RaymcError
from raymc.specs.text import TrainedTokenizer
from raymc.tasks import grammar
from raymc.tasks.corpus import pack, token_stream
from raymc.tasks.corruption import Batches, Causal, Masked, Span, corrupted, noise, row_length
from raymc.tasks.mlm import IGNORED
from raymc.tasks.text_tokenizers import sentinels, train_tokenizer

TEXTS = grammar.corpus(300)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    spec = TrainedTokenizer(kind="bpe", vocab_size=400)
    return {name: train_tokenizer(TEXTS, spec, name, max_length=32) for name in ("masked", "span", "causal")}


def packed(corruption: Any, tokenizer: Any) -> np.ndarray:
    return pack(
        token_stream(tokenizer, TEXTS, corruption.separator), corruption.length, corruption.before, corruption.after
    )


def test_causal_labels_are_the_next_tokens_and_rows_the_text(tokenizers):
    tokenizer = tokenizers["causal"]
    causal = Causal(tokenizer, 24)
    rows = packed(causal, tokenizer)
    batch = corrupted(rows, causal, 0, 0)
    assert torch.equal(batch["labels"][:, :-1], batch["input_ids"][:, 1:])
    assert (batch["labels"][:, -1] == IGNORED).all()
    assert batch["attention_mask"].all()
    text = tokenizer.decode(batch["input_ids"].flatten().tolist())
    assert tokenizer.eos_token.join(TEXTS).lower().startswith(text.removesuffix(tokenizer.eos_token)[:-40])
    assert len(text) > 0.99 * sum(map(len, TEXTS))


def test_masked_rows_have_ends_and_proportions(tokenizers):
    tokenizer = tokenizers["masked"]
    masked = Masked(tokenizer, 24, 0.15)
    rows = packed(masked, tokenizer)
    assert rows.shape[1] == 24
    counts: Counter[str] = Counter()
    for draw in range(20):
        batch = corrupted(rows, masked, 1, draw)
        chosen = batch["labels"] != IGNORED
        assert torch.equal(torch.where(chosen, batch["labels"], batch["input_ids"]), torch.from_numpy(rows))
        special = torch.isin(torch.from_numpy(rows), torch.tensor(tokenizer.all_special_ids))
        assert not (chosen & special).any()
        shown = batch["input_ids"][chosen]
        counts["words"] += int((~special).sum())
        counts["chosen"] += len(shown)
        counts["mask"] += int((shown == tokenizer.mask_token_id).sum())
        counts["kept"] += int((shown == batch["labels"][chosen]).sum())
    sigma = (0.15 * 0.85 / counts["words"]) ** 0.5
    assert counts["chosen"] / counts["words"] == pytest.approx(0.15, abs=4 * sigma)
    assert counts["mask"] / counts["chosen"] == pytest.approx(0.8, abs=0.02)
    assert counts["kept"] / counts["chosen"] == pytest.approx(0.1, abs=0.02)
    assert (rows[:, 0] == tokenizer.cls_token_id).all()
    assert (rows[:, -1] == tokenizer.sep_token_id).all()


def put_back(inputs: list[int], targets: list[int], marks: list[int]) -> list[int]:
    """The text of a corrupted row: each sentinel replaced by what targets say of it."""
    spans: dict[int, list[int]] = {}
    for token in targets:
        if token in marks:
            current = spans[token] = []
        else:
            current.append(token)
    text: list[int] = []
    for token in inputs:
        text += spans.pop(token) if token in marks else [token]
    assert not spans
    return text


@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.5, 5.0), (0.05, 1.0), (0.9, 2.0)])
def test_inputs_and_targets_make_the_text(tokenizers, rate: float, mean: float):
    tokenizer = tokenizers["span"]
    span = Span(tokenizer, 32, rate, mean, start=0)
    rows = packed(span, tokenizer)
    batch = corrupted(rows, span, 3, 0)
    inputs, targets = batch["input_ids"], batch["labels"]
    noisy, spans = noise(span.length, rate, mean)
    assert inputs.shape == (len(rows), span.length - noisy + spans + 1)
    assert targets.shape == (len(rows), noisy + spans + 1)
    assert 32 - 2 <= max(inputs.shape[1], targets.shape[1]) <= 32
    marks, end = sentinels(tokenizer), tokenizer.eos_token_id
    for row, shown, said in zip(rows.tolist(), inputs.tolist(), targets.tolist(), strict=True):
        assert (shown.pop(), said.pop()) == (end, end)
        assert [token for token in shown if token in marks] == marks[:spans]
        assert [token for token in said if token in marks] == marks[:spans]
        assert shown[0] == row[0]
        assert put_back(shown, said, marks) == row
    assert torch.equal(batch["decoder_input_ids"][:, 1:], targets[:, :-1])
    assert (batch["decoder_input_ids"][:, 0] == 0).all()


def test_lengths_are_those_of_t5():
    """The published code's: 568 tokens fill inputs of 512, with targets of 114."""
    assert row_length(512, 0.15, 3.0) == 568
    noisy, spans = noise(568, 0.15, 3.0)
    assert (568 - noisy + spans + 1, noisy + spans + 1) == (512, 114)


@given(st.integers(8, 300), st.floats(0.01, 0.99), st.floats(0.5, 40.0))
def test_row_length_is_the_most_that_fits(length: int, rate: float, mean: float):
    def widest(size: int) -> int:
        noisy, spans = noise(size, rate, mean)
        assert 1 <= spans <= min(noisy, size - noisy)
        return max(size - noisy, noisy) + spans + 1

    size = row_length(length, rate, mean)
    assert widest(size) <= length < widest(size + 1)


def test_every_cut_into_spans_is_equally_likely(tokenizers):
    span = Span(tokenizers["span"], 12, 0.4, 2.0, start=0)
    noisy, spans = noise(span.length, 0.4, 2.0)
    rows = np.tile(np.arange(200, 200 + span.length), (20000, 1))
    batch = corrupted(rows, span, 5, 0)
    seen = Counter(map(tuple, batch["input_ids"].tolist()))
    ways = comb(noisy - 1, spans - 1) * comb(span.length - noisy - 1, spans - 1)
    assert len(seen) == ways > 5
    expected = len(rows) / ways
    statistic = sum((count - expected) ** 2 / expected for count in seen.values())  # chi-squared of ways - 1
    assert statistic < ways - 1 + 5 * (2 * (ways - 1)) ** 0.5


def test_tokenizers_that_lack_a_token(tokenizers):
    with pytest.raises(RaymcError, match="no cls token"):
        Masked(tokenizers["causal"], 32, 0.15)
    with pytest.raises(RaymcError, match="no <extra_id_0>"):
        Span(tokenizers["masked"], 32, 0.15, 3.0, start=0)
    with pytest.raises(RaymcError, match=r"need <extra_id_0> to <extra_id_\d+>, and it has 100"):
        Span(tokenizers["span"], 1024, 0.5, 1.0, start=0)
    bare = tokenizers["causal"].__class__(tokenizer_object=tokenizers["causal"].backend_tokenizer)
    with pytest.raises(RaymcError, match="no eos token"):
        Causal(bare, 32)


@pytest.mark.parametrize("size", [3, 7, 12])
def test_batches_are_pure_and_every_epoch_visits_every_row(tokenizers, size: int):
    causal = Causal(tokenizers["causal"], 8)
    rows = np.arange(80).reshape(10, 8)
    straight = Batches(rows, causal, batch_size=size, seed=4)
    seen = [int(row[0]) // 8 for step in range(10) for row in straight.batch(step)["input_ids"]]
    epochs = [seen[start : start + 10] for start in range(0, len(seen) - 9, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    again = Batches(rows, causal, batch_size=size, seed=4)
    for step in (9, 0, 5):
        assert torch.equal(again.batch(step)["input_ids"], straight.batch(step)["input_ids"])
    other = Batches(rows, causal, batch_size=size, seed=5)
    assert any(not np.array_equal(other.rows(step), straight.rows(step)) for step in range(4))


def test_corruption_differs_by_step_and_seed_alone(tokenizers):
    masked = Masked(tokenizers["masked"], 24, 0.15)
    rows = packed(masked, tokenizers["masked"])[:8]
    torch.manual_seed(0)
    first = corrupted(rows, masked, 1, 2)["input_ids"]
    torch.manual_seed(1)
    assert torch.equal(corrupted(rows, masked, 1, 2)["input_ids"], first)
    assert not torch.equal(corrupted(rows, masked, 1, 3)["input_ids"], first)
    assert not torch.equal(corrupted(rows, masked, 2, 2)["input_ids"], first)
