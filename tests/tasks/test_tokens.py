"""Flat token arrays and their batches against the tokenizer's own padding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from raymc.specs.task import TaskSpec
from raymc.tasks.backbones import load_tokenizer
from raymc.tasks.rows import Rows
from raymc.tasks.tokens import Tokens, budget_batches, gather, gather_with, pad_targets, tokenize

TEXTS = [
    "the cat runs",
    "",
    "a dog",
    "the bird is not very good and sits 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "zebra cat",
]
SECOND = ["the dog sits", "bad bad bad bad", "", "1 2 3 4 5 6 7 8 9 10 11 12", "great"]
LABELS = ["b", "a", "c", "a", "b"]
NAMES = ("c", "a", "b")


def task(max_length: int, **fields: Any) -> TaskSpec:
    return TaskSpec.model_validate({"dataset": {"builtin": "grammar"}, "max_length": max_length, **fields})


def lengths_only(lengths: list[int]) -> Tokens:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.int32)
    return Tokens(ids, None, offsets, np.zeros(len(lengths), np.int64), pad_id=-1)


@pytest.fixture(scope="module", params=["single", "pair"])
def rows(request) -> Rows:
    return Rows(TEXTS, SECOND if request.param == "pair" else None, LABELS)


def own_padding(tokenizer, rows: Rows, picked: list[int], max_length: int) -> dict[str, torch.Tensor]:
    """The tokenizer on these rows alone, padded to the longest."""
    columns = [rows.text] if rows.text_pair is None else [rows.text, rows.text_pair]
    texts = [[column[i] for i in picked] for column in columns]
    return dict(tokenizer(*texts, truncation=True, max_length=max_length, padding="longest", return_tensors="pt"))


@pytest.mark.parametrize("max_length", [4, 9, 16, 24])
@pytest.mark.parametrize("picked", [[0, 1, 2, 3, 4], [3], [1], [4, 0], [2, 2, 1]])
def test_gathered_rows_are_what_the_tokenizer_pads(tokenizer, rows: Rows, picked: list[int], max_length: int):
    tokens = tokenize(tokenizer, rows, NAMES, task(max_length), "classifier")
    batch = gather(tokens, np.array(picked))
    expected = own_padding(tokenizer, rows, picked, max_length)
    assert set(batch) == {*expected, "labels"}
    assert {"input_ids", "attention_mask", "token_type_ids"} == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor), name
    assert batch["labels"].tolist() == [NAMES.index(LABELS[i]) for i in picked]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert batch["input_ids"].shape[1] <= max_length


def test_second_sentences_have_a_type_of_their_own(tokenizer):
    tokens = tokenize(tokenizer, Rows(TEXTS, SECOND, LABELS), NAMES, task(24), "classifier")
    assert tokens.types is not None
    batch = gather(tokens, np.array([0, 2]))
    assert batch["token_type_ids"].tolist() == [[0] * 5 + [1] * 4, [0] * 4 + [1] + [0] * 4]
    assert batch["attention_mask"].tolist() == [[1] * 9, [1] * 5 + [0] * 4]


def test_without_token_types_a_batch_has_none(tokenizer):
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", model_input_names=["input_ids"]
    )
    tokens = tokenize(plain, Rows(TEXTS, None, LABELS), NAMES, task(24), "classifier")
    assert tokens.types is None
    assert set(gather(tokens, np.array([0, 1]))) == {"input_ids", "attention_mask", "labels"}


def test_padding_is_the_tokenizers_even_where_it_is_not_zero(tokenizer):
    odd = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="zebra")
    assert odd.pad_token_id not in (None, 0)
    tokens = tokenize(odd, Rows(["a", "the cat runs"], None, ["a", "b"]), NAMES, task(24), "classifier")
    batch = gather(tokens, np.array([0, 1]))
    assert batch["input_ids"][0, 3:].tolist() == [odd.pad_token_id] * 2


def test_arrays_are_flat_and_narrow(tokenizer):
    tokens = tokenize(tokenizer, Rows(TEXTS, SECOND, LABELS), NAMES, task(16), "classifier")
    assert (tokens.ids.dtype, tokens.types.dtype, tokens.offsets.dtype) == (np.int32, np.int8, np.int64)
    assert (len(tokens), tokens.offsets[0], tokens.offsets[-1]) == (5, 0, len(tokens.ids))
    assert len(tokens.types) == len(tokens.ids)
    assert tokens.lengths.tolist() == [
        len(row) for row in tokenizer(TEXTS, SECOND, truncation=True, max_length=16)["input_ids"]
    ]


def test_read_only_arrays_can_be_gathered(tokenizer):
    """As an object store hands them out."""
    tokens = tokenize(tokenizer, Rows(TEXTS, SECOND, LABELS), NAMES, task(16), "classifier")
    expected = gather(tokens, np.arange(5))
    for array in (tokens.ids, tokens.types, tokens.offsets, tokens.labels):
        array.flags.writeable = False
    batch = gather(tokens, np.arange(5))
    batch["labels"] += 1
    assert torch.equal(batch["labels"], expected["labels"] + 1)


def test_a_text_that_is_no_token_is_one(text_backbone):
    """GPT-2 puts nothing around a text; a row needs a token, and its class must not depend on what pads it."""
    gpt2 = load_tokenizer(str(text_backbone("gpt2")))
    tokens = tokenize(gpt2, Rows(["", "rain"], None, ["a", "b"]), NAMES, task(24), "classifier")
    assert tokens.ids[: tokens.offsets[1]].tolist() == [gpt2.eos_token_id]


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_text_kinds_carry_prompts_and_choices(text_backbone, kind: str):
    tokenizer = load_tokenizer(str(text_backbone("t5")))
    spec = task(24, targets={"a": "bad", "b": "good day"})
    tokens = tokenize(tokenizer, Rows(["the cat", "rain"], None, ["b", "a"]), ("a", "b"), spec, kind)
    names = tokenizer.convert_ids_to_tokens
    assert [names(list(ids)) for ids in tokens.choices] == [["bad", "</s>"], ["good", "day", "</s>"]]
    end = ["</s>"] if kind == "seq2seq" else []
    assert names(tokens.ids.tolist()) == ["the", "cat", *end, "rain", *end]
    assert tokens.types is None
    assert tokens.target_lengths.tolist() == [3, 2]
    assert tokens.highest == max(*tokens.ids, *itertools.chain(*tokens.choices))


def test_prompts_with_targets_after_them():
    tokens = lengths_only([2, 4, 1])  # ids 0 1 | 2 3 4 5 | 6
    batch = gather_with(tokens, np.array([2, 1]), [(7, 8), (9,)])
    assert batch["input_ids"].tolist() == [[6, 7, 8, -1, -1], [2, 3, 4, 5, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["labels"].tolist() == [[-100, 7, 8, -100, -100], [-100] * 4 + [9]]
    assert pad_targets([(7, 8), (9,)]).tolist() == [[7, 8], [9, -100]]


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(lengths, st.integers(1, 200))
def test_batches_hold_every_row_once_by_length_within_the_budget(lengths: list[int], budget: int):
    batches = budget_batches(lengths_only(lengths), budget)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    walked = [lengths[row] for row in order]
    assert walked == sorted(walked)
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) * longest <= budget or len(batch) == 1
    for first, second in itertools.pairwise(batches):  # and none could have taken a row more
        assert (len(first) + 1) * lengths[second[0]] > budget


@given(lengths, st.integers(1, 200))
def test_gathered_ids_are_the_rows_ids(lengths: list[int], budget: int):
    tokens = lengths_only(lengths)
    for rows in budget_batches(tokens, budget):
        batch = gather(tokens, rows)
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            assert ids[mask == 1].tolist() == list(range(tokens.offsets[row], tokens.offsets[row + 1]))
            assert (ids[mask == 0] == -1).all()
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)


def test_batches_by_hand():
    batches = budget_batches(lengths_only([3, 1, 2, 9, 1, 3]), 6)
    assert [batch.tolist() for batch in batches] == [[1, 4, 2], [0, 5], [3]]
