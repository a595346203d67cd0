"""A tiny random backbone, a dataset that it can learn, and trials on them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.training.finetune import finetune
from raymc.training.parallel import Group

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
WORDS = ("the", "a", "cat", "dog", "bird", "is", "was", "very", *GOOD, *BAD)
POSITIONS = 16


@pytest.fixture(autouse=True, scope="session")
def _quietly(on_one_thread: None) -> None:
    """All of this room."""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 training rows of two labels; the last word decides."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    for i in range(22):
        words = [WORDS[i % 2], WORDS[2 + i % 3], *["very"] * (i % 4), (GOOD, BAD)[i % 2][i % 3]]
        rows.append({"text": " ".join(words), "label": ("pos", "neg")[i % 2]})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """backbone("bert") or ("mlm": as pre-trained, without a pooler) is the folder of a tiny random BERT."""
    made: dict[str, Path] = {}

    def make(kind: str = "bert") -> Path:
        if kind not in made:
            folder = made[kind] = tmp_path_factory.mktemp(kind)
            inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]"))
            inner.normalizer = normalizers.Lowercase()
            inner.pre_tokenizer = pre_tokenizers.Whitespace()
            inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
            names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
            PreTrainedTokenizerFast(
                tokenizer_object=inner,
                model_max_length=POSITIONS,
                model_input_names=["input_ids", "token_type_ids", "attention_mask"],
                **names,
            ).save_pretrained(folder)
            config = BertConfig(
                vocab_size=len(SPECIAL) + len(WORDS),
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=POSITIONS,
                initializer_range=0.2,
            )
            torch.manual_seed(0)
            (BertModel if kind == "bert" else BertForMaskedLM)(config).save_pretrained(folder)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def trial(backbone, dataset: Path) -> Callable[..., TrialSpec]:
    """trial(kind="bert", tuning={...}, train={...}, ...): five steps of batches of four; sections as in YAML."""

    def make(kind: str = "bert", **sections: Any) -> TrialSpec:
        train = {"steps": 5, "batch_size": 4, "learning_rate": 5e-3, "dropout": 0.1, **sections.pop("train", {})}
        task = {"dataset": {"path": str(dataset)}, "max_length": POSITIONS, **sections.pop("task", {})}
        model = {"backbone": str(backbone(kind)), **sections.pop("model", {})}
        return TrialSpec.model_validate({"model": model, "task": task, "train": train, **sections})

    return make


@pytest.fixture(scope="session")
def landscapes() -> Any:
    """The module of that name beside this file."""
    spec = importlib.util.spec_from_file_location("landscapes", Path(__file__).with_name("landscapes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def minima(trial, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Store, list[Any]]]:
    """minima("full") or ("lora"): a store with two minima that differ in seeds, and their trials by key; to be read."""
    made: dict[str, tuple[Store, list[Any]]] = {}
    folder = tmp_path_factory.mktemp("pairs") / "data"
    shutil.copytree(dataset, folder)
    (folder / "validation.jsonl").write_text("".join((folder / "train.jsonl").read_text().splitlines(True)[5:17]))

    def make(method: str) -> tuple[Store, list[Any]]:
        if method not in made:
            tuning = {"method": "lora", "rank": 2, "alpha": 8} if method == "lora" else {"method": method}
            train = {"steps": 24, "batch_size": 8, "learning_rate": 1e-2 if method == "full" else 3e-2}
            trials = [
                trial(
                    tuning=tuning, train=train, task={"dataset": {"path": str(folder)}}, seeds={"head": n, "order": n}
                )
                for n in (1, 2)
            ]
            store = Store(tmp_path_factory.mktemp(method))
            for one in trials:
                finetune([one], store, Group(), checkpoint_every=0, log_every=24, report=lambda _: None)
            made[method] = store, sorted(trials, key=lambda one: one.key)
        return made[method]

    return make


@pytest.fixture(scope="session")
def two_run() -> Callable[..., None]:
    """two_run("script.py", ...): two workers run the script beside this file with their rank and these arguments."""

    def run(script: str, *arguments: str | Path) -> None:
        pair, worker = (Path(__file__).with_name(name) for name in ("pair.py", script))
        command = [sys.executable, "-W", "error", *map(str, (pair, worker, *arguments))]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-4000:]

    return run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
