"""Tiny random backbones on disk, and trials that start from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from raymc.specs.trial import TrialSpec
from raymc.store.store import Store

LABELS = ("no", "maybe", "yes")
POSITIONS = 24
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    *["the", "a", "cat", "dog", "bird", "runs", "sits", "sleeps", "is", "not", "very", "good", "bad", "great", "awful"],
    *map(str, range(30)),
)
_STD = {"initializer_range": 0.4}  # wide, so that outputs depend on the rows
_TINY = {
    **_STD,
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.fixture(autouse=True, scope="session")
def _quietly(on_one_thread: None) -> None:
    """All of this room."""


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Word-level and lower-casing, [CLS] a [SEP] b [SEP], with token types."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*_SPECIAL, *_WORDS))}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=POSITIONS, model_input_names=inputs, **names
    )


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory, tokenizer) -> Callable[..., Path]:
    """backbone("bert", seed=0, **config) is the folder of a tiny random checkpoint, made once.

    Kinds: bert; mlm (BERT as pre-trained: without a pooler); classifier (BERT with a head for LABELS); gpt2; roberta.
    """
    made: dict[str, Path] = {}

    def make(kind: str = "bert", seed: int = 0, **config: Any) -> Path:
        name = json.dumps([kind, seed, config], sort_keys=True)
        if name not in made:
            folder = tmp_path_factory.mktemp(kind)
            torch.manual_seed(seed)
            _build(kind, config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[name] = folder
        return made[name]

    return make


def _build(kind: str, config: dict[str, Any]) -> Any:
    if kind == "gpt2":
        sizes = {**_STD, "vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS}
        return GPT2Model(GPT2Config(**{**sizes, "pad_token_id": 0, **config}))
    if kind == "roberta":  # two positions are kept for padding
        return RobertaModel(RobertaConfig(**{**_TINY, "max_position_embeddings": POSITIONS + 2, **config}))
    sizes = {**_TINY, "max_position_embeddings": POSITIONS, **config}
    if kind == "classifier":
        names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
        model = BertForSequenceClassification(BertConfig(**{**sizes, **names}))
        torch.nn.init.normal_(model.classifier.weight)
        torch.nn.init.normal_(model.classifier.bias)
        return model
    return {"bert": BertModel, "mlm": BertForMaskedLM}[kind](BertConfig(**sizes))


TEXTS = [
    "the cat runs and the dog sits",
    "a very good bird is not a bad bird",
    "what a great day, it is good",
    "awful rain and awful wind: a bad, bad day",
    "positive or negative or neither of both",
]


@pytest.fixture(scope="session")
def text_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """text_backbone("t5", seed=0, **config) is the folder of a tiny random seq2seq or causal model, made once.

    Kinds and how their tokenizers encode: t5 and bart ("text </s>", in words); llama ("<s> text", in words); gpt2,
    qwen2, qwen3 (byte-level BPE without special tokens; the end-of-text token pads too).
    """
    made: dict[str, Path] = {}

    def make(kind: str, seed: int = 0, **config: Any) -> Path:
        name = json.dumps([kind, seed, config], sort_keys=True)
        if name not in made:
            folder = made[name] = tmp_path_factory.mktemp(kind)
            tokenizer = _text_tokenizer(kind)
            tokenizer.save_pretrained(folder)
            torch.manual_seed(seed)
            model = _text_model(kind, len(tokenizer), config)
            with torch.no_grad():  # so wide that greedy decoding depends on the row
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(std=0.5)
            model.save_pretrained(folder)
        return made[name]

    return make


def _text_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    if kind in ("gpt2", "qwen2", "qwen3"):
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<|endoftext|>"]
        inner.train_from_iterator(
            TEXTS,
            trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
        return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")
    words = sorted({word for text in TEXTS for word in text.replace(",", "").replace(":", "").split()})
    special = ["<pad>", "</s>", "<s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate((*special, *words, ":", ",", *map(str, range(20))))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    single, ids = ("<s> $A", [("<s>", 2)]) if kind == "llama" else ("$A </s>", [("</s>", 1)])
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"], **names)


def _text_model(kind: str, vocabulary: int, config: dict[str, Any]) -> Any:
    ends = {"eos_token_id": 0, "bos_token_id": 0} if kind in ("gpt2", "qwen2", "qwen3") else {"eos_token_id": 1}
    sizes = {"vocab_size": vocabulary, **ends}
    if kind == "t5":
        t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
        start = {"decoder_start_token_id": 0, "pad_token_id": 0, "tie_word_embeddings": False}
        return T5ForConditionalGeneration(T5Config(**{**sizes, **t5, **start, **config}))
    if kind == "bart":
        layers = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in _BART.items()}
        ids = {"pad_token_id": 0, "bos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None}
        return BartForConditionalGeneration(
            BartConfig(**{**sizes, **layers, **ids, "d_model": 16, "max_position_embeddings": 64, **config})
        )
    if kind == "gpt2":
        gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
        return GPT2LMHeadModel(GPT2Config(**{**sizes, **gpt2, **config}))
    llama = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "head_dim": 4,
    }
    configs = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
    return AutoModelForCausalLM.from_config(configs[kind](**{**sizes, **llama, **config}))


_BART = {"layers": 1, "ffn_dim": 32, "attention_heads": 2}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def trial() -> Callable[..., TrialSpec]:
    """trial(folder, tuning={...}, seeds={...}, ...): a trial from a backbone; sections are given as in YAML."""

    def make(folder: Path, **sections: Any) -> TrialSpec:
        model = {"backbone": str(folder), **sections.pop("model", {})}
        task = {"dataset": {"builtin": "grammar"}, "max_length": 16, **sections.pop("task", {})}
        return TrialSpec.model_validate({"model": model, "task": task, **sections})

    return make


@pytest.fixture(scope="session")
def ids() -> dict[str, torch.Tensor]:
    """Three rows of unlike length, padded."""
    rows = [[2, 5, 6, 7, 8, 9, 3], [2, 11, 12, 3], [2, 30, 31, 32, 33, 3]]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }
