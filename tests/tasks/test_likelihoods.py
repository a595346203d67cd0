"""Label likelihoods and greedy decoding against transformers' own loss and generate, a row at a time, unpadded."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from raymc.specs.errors import RaymcError
from raymc.specs.results import DIAGNOSTICS, METRICS
from raymc.specs.task import TaskSpec
from raymc.store.store import Store
from raymc.tasks.backbones import load_model, load_tokenizer
from raymc.tasks.rows import Rows
from raymc.tasks.scoring import make_scorer
from raymc.tasks.tokens import Tokens, tokenize

LABELS = ("n", "m", "p")
TARGETS = {"n": "bad", "m": "good", "p": "good bird"}  # one begins as another does
KINDS = {"t5": "seq2seq", "bart": "seq2seq", "gpt2": "causal", "llama": "causal", "qwen2": "causal", "qwen3": "causal"}
BUDGETS = (1, 60, 100000)
WORDS = ["the", "cat", "runs", "and", "dog", "sits", "a", "very", "good", "bird", "is", "not", "bad", "rain"]


@dataclass
class Case:
    """A tiny model, its rows, and what transformers says of each (row, label), computed alone."""

    kind: str
    model: Any
    tokenizer: Any
    rows: Rows
    task: TaskSpec
    tokens: Tokens
    nats: np.ndarray
    lengths: np.ndarray

    @property
    def gold(self) -> np.ndarray:
        return np.array([LABELS.index(label) for label in self.rows.labels])


def make_rows(count: int) -> Rows:
    stream = np.random.default_rng(5)
    texts = [" ".join(stream.choice(WORDS, stream.integers(1, 12))) for _ in range(count)]
    return Rows(texts, None, list(stream.choice(LABELS, count)))


def loss_of(model: Any, kind: str, prompt: list[int], target: list[int]) -> float:
    """transformers' own mean loss of the target's tokens, times their number."""
    if kind == "seq2seq":
        inputs = {"input_ids": torch.tensor([prompt]), "labels": torch.tensor([target])}
    else:
        ids = torch.tensor([prompt + target])
        inputs = {"input_ids": ids, "labels": torch.tensor([[-100] * len(prompt) + target])}
    with torch.no_grad():
        return model(**inputs).loss.item() * len(target)


def targets_by_hand(tokenizer: Any, kind: str) -> list[list[int]]:
    found = []
    for label in LABELS:
        ids = tokenizer(TARGETS[label] if kind == "seq2seq" else " " + TARGETS[label], add_special_tokens=False)
        found.append([*ids["input_ids"], tokenizer.eos_token_id])
    return found


@pytest.fixture(scope="module")
def case(text_backbone, trial, tmp_path_factory) -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in made:
            folder: Path = text_backbone(name, seed=1)
            kind = KINDS[name]
            spec = trial(
                folder, model={"kind": kind}, task={"prompt": "text: {text} day:", "targets": TARGETS, "max_length": 64}
            )
            model = load_model(spec, LABELS, Store(tmp_path_factory.mktemp("store"))).eval()
            tokenizer, rows = load_tokenizer(str(folder)), make_rows(17)
            tokens = tokenize(tokenizer, rows, LABELS, spec.task, kind)
            targets = targets_by_hand(tokenizer, kind)
            nats = [
                [loss_of(model, kind, tokenizer(f"text: {text} day:")["input_ids"], target) for target in targets]
                for text in rows.text
            ]
            lengths = np.array([len(target) for target in targets])
            made[name] = Case(kind, model, tokenizer, rows, spec.task, tokens, np.array(nats), lengths)
        return made[name]

    return make


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_scores_are_transformers_own_whatever_the_batches(case, name: str, budget: int):
    one = case(name)
    scorer = make_scorer(one.kind, one.tokens, budget)
    score = scorer(one.model)
    own = one.nats[np.arange(17), one.gold]
    assert score.loss == pytest.approx(own.sum() / one.lengths[one.gold].sum(), rel=1e-6)
    predicted = one.nats.argmin(1)
    assert score.metrics["likelihood_accuracy"] == accuracy_score(one.gold, predicted)
    assert score.metrics["likelihood_f1_macro"] == pytest.approx(f1_score(one.gold, predicted, average="macro"))
    assert tuple(score.metrics) == (*METRICS[one.kind], *DIAGNOSTICS)
    assert scorer.rows == 17
    assert scorer(one.model) == score  # batches are used again, so scoring must leave them as they are


def test_the_models_above_tell_rows_apart(case):
    assert sum(len(set(case(name).nats.argmin(1))) > 1 for name in KINDS) >= 3


@pytest.mark.parametrize("name", KINDS)
def test_by_row_is_each_rows_own(case, name: str):
    one = case(name)
    found = make_scorer(one.kind, one.tokens, 90).by_row(one.model)
    assert sorted(found.order) == list(range(17))
    assert found.order.tolist() != list(range(17))
    assert found.loss == pytest.approx(one.nats[found.order, one.gold[found.order]], rel=1e-5, abs=1e-6)
    assert found.terms.tolist() == one.lengths[one.gold[found.order]].tolist()
    assert found.gold.tolist() == one.gold[found.order].tolist()
    assert found.predicted["likelihood_"].tolist() == one.nats.argmin(1)[found.order].tolist()
    shares = np.exp(-one.nats) / np.exp(-one.nats).sum(1, keepdims=True)  # of each label's text among all labels'
    assert found.probabilities == pytest.approx(shares[found.order], abs=1e-5)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_generation_is_transformers_greedy_matched_exactly(case, name: str):
    """The targets are what the model itself says for some rows, so that there is something to match."""
    one = case(name)
    model = copy.deepcopy(one.model)
    with torch.no_grad():
        if name == "t5":  # so that it ends some texts early
            model.lm_head.weight[1] *= 3
        else:
            model.final_logits_bias[0, 1] = 5.0
    said = []
    for text in one.rows.text:
        ids = one.tokenizer(f"text: {text} day:", return_tensors="pt")["input_ids"]
        found = model.generate(input_ids=ids, max_new_tokens=5, do_sample=False, num_beams=1)[0]
        said.append(tuple(found[1:].tolist()))  # without the decoder's start
    ended = sorted({ids for ids in said if ids[-1] == 1}, key=lambda ids: (-said.count(ids), ids))
    choices = (*ended[:2], (5, 6, 7, 8, 1))
    predicted = np.array([choices.index(ids) if ids in choices else 3 for ids in said])
    assert {0, 1, 3} <= set(predicted)
    gold = predicted % 3  # right where it can be, but for every fourth row
    gold[::4] = (gold[::4] + 1) % 3
    tokens = Tokens(one.tokens.ids, None, one.tokens.offsets, gold, 0, choices)
    for budget in BUDGETS:
        metrics = make_scorer("seq2seq", tokens, budget)(model).metrics
        assert 0 < metrics["generation_accuracy"] < 1
        assert metrics["generation_accuracy"] == accuracy_score(gold, predicted)
        expected = f1_score(gold, predicted, average="macro", zero_division=0)
        assert metrics["generation_f1_macro"] == pytest.approx(expected)


# Padding -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5", "gpt2", "llama"])
def test_the_tokenizers_padding_side_changes_nothing(case, name: str):
    one = case(name)
    left = copy.deepcopy(one.tokenizer)
    left.padding_side = "left"
    tokens = tokenize(left, one.rows, LABELS, one.task, one.kind)
    for field in ("ids", "offsets", "labels"):
        assert np.array_equal(getattr(tokens, field), getattr(one.tokens, field))
    assert tokens.choices == one.tokens.choices
    assert make_scorer(one.kind, tokens, 60)(one.model) == make_scorer(one.kind, one.tokens, 60)(one.model)


@pytest.mark.parametrize("name", ["t5", "gpt2", "llama", "qwen3"])
def test_rows_score_alike_beside_other_rows_and_whatever_pads(case, name: str):
    one = case(name)
    whole = make_scorer(one.kind, one.tokens, 100000).by_row(one.model)
    nats = dict(zip(whole.order.tolist(), whole.loss.tolist(), strict=True))
    picked = [3, 11, 7]
    rows = Rows([one.rows.text[i] for i in picked], None, [one.rows.labels[i] for i in picked])
    part = replace(tokenize(one.tokenizer, rows, LABELS, one.task, one.kind), pad_id=9)
    found = make_scorer(one.kind, part, 100000).by_row(one.model)
    for place, loss in zip(found.order, found.loss, strict=True):
        assert loss == pytest.approx(nats[picked[place]], rel=1e-6)
    scorer = make_scorer(one.kind, one.tokens, 100000, rows=np.array(picked))
    some = scorer.by_row(one.model)
    assert (scorer.rows, sorted(some.order)) == (3, [3, 7, 11])
    for row, loss in zip(some.order, some.loss, strict=True):
        assert loss == pytest.approx(nats[row], rel=1e-6)


# Passes --------------------------------------------------------------------------------------------------------------


def widths(module: Any, scorer: Any, model: Any) -> list[int]:
    """Tokens a row that a module was given, call by call, while a model was scored."""
    found = []

    def seen(_: Any, args: Any, kwargs: Any) -> None:
        given = kwargs.get("input_ids", kwargs.get("decoder_input_ids", args[0] if args else None))
        found.append(given.shape[1])

    handle = module.register_forward_pre_hook(seen, with_kwargs=True)
    scorer(model)
    handle.remove()
    return found


def test_the_encoder_runs_once_a_batch_and_targets_share_passes(case):
    """A target is predicted by a pass that is fed its tokens but the last."""
    one = case("t5")
    scorer = make_scorer("seq2seq", one.tokens, 100000)
    assert widths(one.model.encoder, scorer, one.model) == [max(one.tokens.lengths)]
    assert widths(one.model.decoder, scorer, one.model) == [3, 2]  # good (bird), bad
    tokens = replace(one.tokens, choices=((5,), (6,), (5, 7)))  # all that is fed is the start, and 5
    assert widths(one.model.decoder, make_scorer("seq2seq", tokens, 100000), one.model) == [2]


def test_tokens_are_those_that_a_call_computes(case):
    one = case("gpt2")
    scorer = make_scorer("causal", one.tokens, 1)  # one row a batch: nothing is padded
    assert scorer.tokens == sum(widths(one.model, scorer, one.model))
    one = case("t5")
    scorer = make_scorer("seq2seq", one.tokens, 1)
    both = (one.model.encoder, one.model.decoder)
    assert scorer.tokens == sum(sum(widths(part, scorer, one.model)) for part in both)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "qwen3"])
def test_logits_are_made_where_they_are_needed(case, name: str):
    """With one row a batch, of no place of the prompt but its last."""
    one = case(name)
    found = widths(one.model.lm_head, make_scorer("causal", one.tokens, 1), one.model)
    assert max(found) == max(map(len, one.tokens.choices))


def test_a_loss_that_is_not_finite_is_refused(case):
    one = case("t5")
    broken = copy.deepcopy(one.model)
    with torch.no_grad():
        broken.lm_head.weight[5] = math.nan
    with pytest.raises(RaymcError, match="not finite"):
        make_scorer("seq2seq", one.tokens, 4096)(broken)


def test_scoring_changes_no_random_state(case):
    for name in ("t5", "gpt2"):
        one = case(name)
        before = torch.get_rng_state()
        make_scorer(one.kind, one.tokens, 4096)(one.model)
        assert torch.equal(torch.get_rng_state(), before)


# Adapters of peft ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_models_under_peft_score_as_their_own_loss_says(case, name: str, method: str):
    """The oracle is the wrapper's own forward with labels, a row at a time."""
    import peft

    one = case(name)
    kind = peft.TaskType.SEQ_2_SEQ_LM if one.kind == "seq2seq" else peft.TaskType.CAUSAL_LM
    configs = {
        "lora": lambda: peft.LoraConfig(task_type=kind, r=2, init_lora_weights=False),
        "prompt": lambda: peft.PromptTuningConfig(task_type=kind, num_virtual_tokens=3),
        "prefix": lambda: peft.PrefixTuningConfig(task_type=kind, num_virtual_tokens=3),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        model = peft.get_peft_model(copy.deepcopy(one.model), configs[method]()).eval()
    targets = targets_by_hand(one.tokenizer, one.kind)
    found = make_scorer(one.kind, one.tokens, 70).by_row(model)
    for place, loss in zip(found.order[:6], found.loss[:6], strict=True):
        prompt = one.tokenizer(f"text: {one.rows.text[place]} day:")["input_ids"]
        assert loss == pytest.approx(loss_of(model, one.kind, prompt, targets[one.gold[place]]), rel=1e-5)
    assert abs(found.loss - make_scorer(one.kind, one.tokens, 70).by_row(one.model).loss).max() > 1e-3
