"""A store of tiny minima, made once; tests that write work on a copy."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.pairs import Connections
from raymc.connectivity.token_sets import TokenSets
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks import backbones
from raymc.tasks.rows import read_rows
from raymc.tasks.tokens import Tokens, tokenize
from raymc.training.finetune import finetune
from raymc.training.parallel import Group

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "a", "cat", "dog", "bird", "is", "was", "very", "good", "great", "bad", "awful")
SPLITS = {"train": 24, "validation": 13, "test": 7, "many": 64, "more": 40}
LABELS = ("neg", "pos")


@pytest.fixture(autouse=True, scope="session")
def _quietly(on_one_thread: None) -> None:
    """All of this room."""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    for split, count in SPLITS.items():
        rows = []
        for i in range(count):
            words = [WORDS[i % 2], WORDS[2 + i % 3], *["very"] * (i * 7 % 5), WORDS[8 + i * 5 % 4]]
            rows.append({"text": " ".join(words), "label": LABELS[WORDS[8 + i * 5 % 4] in ("good", "great")]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """backbone(words=WORDS, **config) is the folder of a tiny random BERT."""
    made: dict[str, Path] = {}

    def make(words: tuple[str, ...] = WORDS, **config: Any) -> Path:
        name = json.dumps([words, config])
        if name not in made:
            folder = made[name] = tmp_path_factory.mktemp("backbone")
            inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*SPECIAL, *words))}, unk_token="[UNK]"))
            inner.normalizer = normalizers.Lowercase()
            inner.pre_tokenizer = pre_tokenizers.Whitespace()
            inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
            names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
            PreTrainedTokenizerFast(
                tokenizer_object=inner, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
            ).save_pretrained(folder)
            sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
            torch.manual_seed(0)
            BertModel(
                BertConfig(
                    **{
                        "vocab_size": len(SPECIAL) + len(words),
                        "max_position_embeddings": 16,
                        "initializer_range": 0.2,
                        **sizes,
                        **config,
                    }
                )
            ).save_pretrained(folder)
        return made[name]

    return make


@pytest.fixture(scope="session")
def sweep(backbone, dataset: Path) -> Callable[..., SweepSpec]:
    """sweep(axes={...}, tuning={...}, connectivity={...}, ...): sections as in YAML."""

    def make(**sections: Any) -> SweepSpec:
        body = {
            "name": "tiny",
            "model": {"backbone": str(backbone())},
            "task": {"dataset": {"path": str(dataset)}, "max_length": 16},
            "train": {"steps": 6, "batch_size": 6, "learning_rate": 2e-2, "dropout": 0.0},
            "connectivity": {"points": 5, "splits": ["validation"]},
        }
        for name, section in sections.items():
            known = body.get(name)
            body[name] = {**known, **section} if isinstance(known, dict) else section
        return SweepSpec.model_validate(body)

    return make


def fill(store: Store, trial: TrialSpec) -> str:
    if not store.has("minima", trial.key):
        finetune([trial], store, Group(), checkpoint_every=0, log_every=6, report=lambda _: None)
    return trial.key


AXES = {"seeds.head": [1, 2, 3]}


@pytest.fixture(scope="session")
def master(sweep, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, list[str]], dict[str, TrialSpec]]:
    """A store with three full and three LoRA minima, their keys by method, and their trials. To be read alone."""
    store = Store(tmp_path_factory.mktemp("store"))
    keys: dict[str, list[str]] = {}
    trials: dict[str, TrialSpec] = {}
    for method in ("full", "lora"):
        points = sweep(axes=AXES, tuning={"method": method}).points
        keys[method] = sorted(fill(store, point.trial) for point in points)
        trials |= {point.trial.key: point.trial for point in points}
    return store, keys, trials


@pytest.fixture
def store(master, tmp_path: Path) -> Store:
    """A copy to write to."""
    shutil.copytree(master[0].root, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def add() -> Callable[[Store, TrialSpec], str]:
    """add(store, trial): fine-tune it unless it is there; its key."""
    return fill


@pytest.fixture(scope="session")
def keys(master) -> dict[str, list[str]]:
    return master[1]


@pytest.fixture(scope="session")
def trials(master) -> dict[str, TrialSpec]:
    return master[2]


@pytest.fixture(scope="session")
def tokens(sweep, backbone) -> dict[str, Tokens]:
    tokenizer = backbones.load_tokenizer(str(backbone()))
    task = sweep().task
    return {
        split: tokenize(tokenizer, read_rows(task, split), LABELS, task, "classifier")
        for split in ("validation", "test", "many", "more")
    }


@pytest.fixture(scope="session")
def evaluator(tokens, keys, master) -> Callable[..., Evaluator]:
    """evaluator(store, labels=LABELS, tokens=..., trials={}, **options): row sets of one task."""
    digest = backbones.tokenizer_digest(master[0].folder("minima", keys["full"][0]))

    def make(
        store: Store, labels: tuple[str, ...] = LABELS, tokens: Any = tokens, trials: Any = None, **options: Any
    ) -> Evaluator:
        sets = TokenSets("classifier", {digest: tokens}, dict.fromkeys(tokens, labels), trials or {})
        return Evaluator(store, sets, **options)

    return make


@pytest.fixture(scope="session")
def connections(sweep) -> Callable[..., Connections]:
    """connections(store, trials, space="auto", ...): of a sweep that has these trials."""

    def make(store: Store, trials: dict[str, TrialSpec], **connectivity: Any) -> Connections:
        return Connections(sweep(connectivity=connectivity), store, {k: Point({}, one) for k, one in trials.items()})

    return make
