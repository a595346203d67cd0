"""Losses on texts of labels against transformers' own, a row at a time, without padding."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from raymc.tasks.tokens import Tokens
from raymc.training.microbatch import by_length
from raymc.training.objectives import Classification, TextTarget, objective_of
from raymc.training.parallel import Group

CHOICES = ((5, 1), (6, 7, 8, 1), (9, 10, 1))
KINDS = {"t5": "seq2seq", "gpt2": "causal", "llama": "causal"}


def split(lengths: list[int], choices: tuple[tuple[int, ...], ...] = CHOICES, seed: int = 0) -> Tokens:
    stream = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = stream.integers(2, 30, offsets[-1]).astype(np.int32)
    return Tokens(ids, None, offsets, stream.integers(0, 3, len(lengths)), 0, choices)


LENGTHS = [3, 9, 4, 4, 12, 1, 7, 2, 10, 5, 6, 8, 11, 3, 2, 9, 4, 5, 1, 7]


@pytest.fixture(scope="module")
def model() -> Any:
    """model(name): a tiny random one without dropout, drawn wide, so that its loss depends on the row."""
    made: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in made:
            torch.manual_seed(0)
            size = {"vocab_size": 30, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
            if name == "t5":
                t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
                made[name] = T5ForConditionalGeneration(T5Config(**size, **t5, decoder_start_token_id=0))
            elif name == "gpt2":
                rates = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
                sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
                made[name] = AutoModelForCausalLM.from_config(GPT2Config(**size, **sizes, **rates))
            else:
                sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
                made[name] = AutoModelForCausalLM.from_config(LlamaConfig(**size, **sizes))
            with torch.no_grad():
                for parameter in made[name].parameters():
                    parameter.normal_(std=0.3)
        return made[name].train()

    return make


def own_loss(model: Any, kind: str, tokens: Tokens, row: int) -> torch.Tensor:
    """transformers' mean over the target's tokens, times their number."""
    prompt = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()
    target = list(tokens.choices[tokens.labels[row]])
    if kind == "seq2seq":
        return model(input_ids=torch.tensor([prompt]), labels=torch.tensor([target])).loss * len(target)
    labels = torch.tensor([[-100] * len(prompt) + target])
    return model(input_ids=torch.tensor([prompt + target]), labels=labels).loss * len(target)


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_is_the_sum_of_transformers_own_over_the_rows(model, name: str):
    tokens = split(LENGTHS)
    objective = objective_of(KINDS[name], tokens, 6, 3)
    for step in range(3):
        rows = objective.rows(step)
        batch, weight = objective.batch(step, Group())
        expected = sum(own_loss(model(name), KINDS[name], tokens, row).item() for row in rows)
        assert objective.loss(model(name), batch).item() == pytest.approx(expected, rel=1e-5)
        assert weight == sum(len(CHOICES[label]) for label in tokens.labels[rows])


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_mean_over_target_tokens(model, name: str):
    tokens = split(LENGTHS)
    objective = objective_of(KINDS[name], tokens, 5, 0)
    network = model(name)
    batch, weight = objective.batch(0, Group())
    (objective.loss(network, batch) / weight).backward()
    found = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    (sum(own_loss(network, KINDS[name], tokens, row) for row in objective.rows(0)) / weight).backward()
    for part, parameter in network.named_parameters():
        assert torch.allclose(found[part], parameter.grad, rtol=1e-3, atol=1e-5), part
    network.zero_grad()


def test_rows_come_in_the_order_of_classification():
    tokens = split(LENGTHS)
    text, plain = TextTarget("causal", tokens, 7, 5), Classification(tokens, 7, 5)
    assert all(np.array_equal(text.rows(step), plain.rows(step)) for step in range(9))
    assert isinstance(objective_of("classifier", tokens, 7, 5), Classification)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [2, 3])
def test_workers_share_out_a_batch_and_count_the_whole_of_it(model, name: str, size: int):
    objective = objective_of(KINDS[name], split(LENGTHS), 7, 1)
    for step in range(2):
        whole, weight = objective.batch(step, Group())
        parts = [objective.batch(step, Group(rank, size)) for rank in range(size)]
        assert {terms for _, terms in parts} == {weight}
        total = sum(objective.loss(model(name), part).item() for part, _ in parts)
        assert total == pytest.approx(objective.loss(model(name), whole).item(), rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("target", [4, 12])
def test_a_batch_in_parts_by_length_has_the_same_loss(model, name: str, target: int):
    """A decoder's targets may be as wide as the prompts (12), and aren't cut with them."""
    choices = ((5, 1), (*range(3, 2 + target), 1), (9, 1))
    tokens = split(LENGTHS, choices)
    objective = objective_of(KINDS[name], tokens, 20, 1)
    batch, _ = objective.batch(0, Group())
    if name == "t5":
        assert (batch["decoder_labels"].shape == batch["input_ids"].shape) == (target == 12)
    parts = by_length(batch)
    assert len(parts) == 2
    assert parts[0]["input_ids"].shape[1] < batch["input_ids"].shape[1]
    total = sum(objective.loss(model(name), part).item() for part in parts)
    assert total == pytest.approx(objective.loss(model(name), batch).item(), rel=1e-5)


def test_a_masked_models_labels_are_cut_with_their_rows():
    mask = torch.tensor([[1] * 3 + [0] * 5] * 10 + [[1] * 8] * 10)
    parts = by_length({"input_ids": mask, "attention_mask": mask, "labels": mask})
    assert [part["labels"].shape for part in parts] == [(10, 3), (10, 8)]


@pytest.mark.parametrize("name", KINDS)
def test_virtual_tokens_before_the_input_are_not_scored(model, name: str):
    import peft

    kind = peft.TaskType.SEQ_2_SEQ_LM if name == "t5" else peft.TaskType.CAUSAL_LM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = peft.get_peft_model(
            copy.deepcopy(model(name)), peft.PromptTuningConfig(task_type=kind, num_virtual_tokens=4)
        )
    tokens = split(LENGTHS)
    objective = objective_of(KINDS[name], tokens, 6, 3)
    batch, _ = objective.batch(0, Group())
    expected = sum(own_loss(tuned, KINDS[name], tokens, row).item() for row in objective.rows(0))
    assert objective.loss(tuned, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def alone_in_a_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_under_data_parallel_is_the_models(model, alone_in_a_group, name: str):
    objective = objective_of(KINDS[name], split(LENGTHS), 6, 3)
    batch, _ = objective.batch(0, Group())
    wrapped = torch.nn.parallel.DistributedDataParallel(copy.deepcopy(model(name)))
    assert objective.loss(wrapped, batch).item() == objective.loss(model(name), batch).item()


def test_a_classifiers_loss_is_the_sum_over_rows():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=30, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
    model, tokens = BertForSequenceClassification(config), split(LENGTHS, ())
    objective = objective_of("classifier", tokens, 6, 3)
    batch, weight = objective.batch(0, Group())
    expected = 0.0
    for row in objective.rows(0):
        ids = torch.tensor([tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist()])
        expected += model(input_ids=ids, labels=torch.tensor([int(tokens.labels[row])])).loss.item()
    assert weight == 6
    assert objective.loss(model, batch).item() == pytest.approx(expected, rel=1e-5)
