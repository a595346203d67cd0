"""Pre-training as a stage: what it stores, how snapshots relate, and that stops and workers change nothing."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone, Pretrained
from raymc.specs.text import TextBackbone
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks import grammar
from raymc.training.finetune import finetune
from raymc.training.parallel import Group
from raymc.training.pretrain import pretrain

BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
KINDS: dict[str, dict[str, Any]] = {
    "masked": {"architecture": {"model_type": "bert", **BERT}, "tokenizer": {"vocab_size": 300}},
    "span": {
        "architecture": {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        "tokenizer": {"kind": "unigram", "vocab_size": 300},
    },
    "causal": {
        "architecture": {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2},
        "tokenizer": {"kind": "bpe", "vocab_size": 400},
    },
}
AUTO: dict[str, Any] = {
    "masked": AutoModelForMaskedLM,
    "span": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
}


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join(grammar.corpus(300)))
    (folder / "validation.txt").write_text("\n".join(grammar.corpus(340)[300:]))
    return folder


def spec(folder: Path, objective: str = "masked", **fields: Any) -> TextBackbone:
    settings = {"steps": 9, "batch_size": 4, "max_length": 24, "learning_rate": 1e-2, "validation_rows": 10}
    body = {"pretrain": objective, "text": {"path": str(folder)}, **settings, **KINDS[objective], **fields}
    return TextBackbone.model_validate(body)


def run(backbones: list[Pretrained], store: Store, report: Any = lambda _: None, every: int = 0, log: int = 2) -> None:
    pretrain(backbones, store, Group(), checkpoint_every=every, log_every=log, report=report)


def folder_of(store: Store, backbone: Pretrained) -> Path:
    return store.folder(layout.BACKBONES, backbone_key(backbone))


def weights(store: Store, backbone: Pretrained) -> dict[str, torch.Tensor]:
    return load_file(folder_of(store, backbone) / "model.safetensors")


def curve(store: Store, backbone: Pretrained) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder_of(store, backbone) / "training.jsonl").read_text().splitlines()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("objective", KINDS)
def test_each_snapshot_is_a_backbone(text: Path, store: Store, objective: str):
    snapshots = [spec(text, objective, snapshot=step) for step in (0, 3, 4, None)]
    points: list[dict[str, float]] = []
    run([*snapshots], store, points.append)
    perplexities = []
    for one, step in zip(snapshots, (0, 3, 4, 9), strict=True):
        body = store.read_json(layout.BACKBONES, backbone_key(one), "backbone.json")
        assert (body["key"], body["steps"]) == (backbone_key(one), step)
        assert TextBackbone.model_validate(body["backbone"]) == one
        found = body["validation"]
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
        assert curve(store, one)[-1] | {"step": step, "perplexity": found["perplexity"]} == curve(store, one)[-1]
        perplexities.append(found["perplexity"])
        model = AUTO[objective].from_pretrained(folder_of(store, one))
        assert same(weights(store, one), {k: v for k, v in model.state_dict().items() if k in weights(store, one)})
        tokenizer = AutoTokenizer.from_pretrained(folder_of(store, one))
        assert len(tokenizer) == model.config.vocab_size == body["text"]["vocabulary"]
    digests = {(folder_of(store, one) / "model.safetensors").read_bytes() for one in snapshots}
    assert len(digests) == 4
    assert perplexities[-1] < 0.9 * perplexities[0]
    assert [point["step"] for point in points] == [2, 3, 4, 6, 8, 9]
    assert [point.get("perplexity") for point in points] == [None, *perplexities[1:3], None, None, perplexities[3]]
    assert {point["steps"] for point in points} == {9}
    assert [point["step"] for point in curve(store, snapshots[3])] == [2, 4, 6, 8, 9]
    assert not (store.root / "checkpoints").exists()


def test_perplexity_is_that_of_the_stored_network(text: Path, store: Store):
    """Of a causal network: by transformers' own loss on the validation text, packed anew."""
    one = spec(text, "causal", validation_rows=1000)
    run([one], store)
    tokenizer = AutoTokenizer.from_pretrained(folder_of(store, one))
    model = AutoModelForCausalLM.from_pretrained(folder_of(store, one)).eval()
    ids: list[int] = []
    for line in (text / "validation.txt").read_text().splitlines():
        ids += [*tokenizer(line)["input_ids"], tokenizer.eos_token_id]
    rows = torch.tensor(ids[: len(ids) // 24 * 24]).view(-1, 24)
    with torch.no_grad():
        loss = model(input_ids=rows, labels=rows).loss.item()
    found = store.read_json(layout.BACKBONES, backbone_key(one), "backbone.json")["validation"]
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["tokens"] == rows.shape[0] * 23


def test_snapshots_say_nothing_of_the_others_in_the_run(text: Path, tmp_path: Path):
    """A snapshot is the same whether it is taken alone, with others, or after them from their store."""
    snapshots = [spec(text, snapshot=step) for step in (3, 6)]
    together, apart = Store(tmp_path / "together"), Store(tmp_path / "apart")
    run([*snapshots], together)
    calls: list[float] = []
    for one in reversed(snapshots):
        run([one], apart)
    run([*snapshots], apart, lambda point: calls.append(point["step"]))
    assert calls == []  # both are there
    for one in snapshots:
        assert same(weights(together, one), weights(apart, one))
        assert curve(together, one) == curve(apart, one)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("objective", KINDS)
@pytest.mark.parametrize("stop", [4, 7])
def test_a_run_that_is_stopped_goes_on_bit_for_bit(text: Path, tmp_path: Path, objective: str, stop: int):
    snapshots = [spec(text, objective, snapshot=step, dropout=0.1) for step in (5, None)]
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    run([*snapshots], whole, every=3, log=1)

    def stopping(point: dict[str, float]) -> None:
        if point["step"] == stop:
            raise Stopped

    with pytest.raises(Stopped):
        run([*snapshots], broken, stopping, every=3, log=1)
    assert [broken.has(layout.BACKBONES, backbone_key(one)) for one in snapshots] == [stop == 7, False]
    resumed: list[dict[str, float]] = []
    run([*snapshots], broken, resumed.append, every=3, log=1)
    assert resumed[0]["step"] == (4 if stop == 4 else 7)  # from the checkpoint, not from the start
    for one in snapshots:
        assert same(weights(whole, one), weights(broken, one))
        assert curve(whole, one) == curve(broken, one)
        kinds = [
            s.read_json(layout.BACKBONES, backbone_key(one), "backbone.json")["validation"] for s in (whole, broken)
        ]
        assert kinds[0] == kinds[1]


def test_seeds_differ_and_repeat(text: Path, tmp_path: Path):
    first, again = Store(tmp_path / "1"), Store(tmp_path / "2")
    one, other = spec(text, steps=3), spec(text, steps=3, seed=2)
    run([one], first)
    run([one], again)
    run([other], first)
    assert same(weights(first, one), weights(again, one))
    assert not same(weights(first, one), weights(first, other))
    digests = [hashlib.sha256((folder_of(first, b) / "tokenizer.json").read_bytes()).digest() for b in (one, other)]
    assert digests[0] == digests[1]  # else no path could join them


def test_a_start_goes_on(text: Path, store: Store):
    one = spec(text, steps=4)
    run([one], store)
    start = str(folder_of(store, one))
    onward = spec(text, architecture={}, start=start, tokenizer=None, snapshot=0)
    run([onward, onward.model_copy(update={"snapshot": None})], store)
    assert same(weights(store, onward), weights(store, one))
    before, after = (
        store.read_json(layout.BACKBONES, backbone_key(b), "backbone.json")["validation"] for b in (one, onward)
    )
    assert after == before


def test_a_backbone_of_each_kind_can_be_tuned(text: Path, store: Store):
    for objective in ("masked", "causal"):
        one = spec(text, objective, steps=1)
        run([one], store)
        model = AutoModelForSequenceClassification.from_pretrained(folder_of(store, one), num_labels=3)
        body = weights(store, one)
        kept = [name for name in body if name.startswith(f"{model.base_model_prefix}.")]
        assert kept
        assert all(torch.equal(model.state_dict()[name], body[name]) for name in kept)


def test_built_in_backbones_are_what_they_were(store: Store):
    """Weights and tokenizer of one as pre-trained before text could be."""
    one = GrammarBackbone(builtin="grammar-bert", steps=3, rows=64, hidden_size=16, layers=1, intermediate_size=16)
    points: list[dict[str, float]] = []
    run([one], store, points.append)
    assert backbone_key(GrammarBackbone(builtin="grammar-bert")) == "454c6721ee72d01d9d00"
    assert [set(point) for point in points] == [{"step", "loss", "learning_rate", "grad_norm", "steps"}] * 2
    total = sum(tensor.double().abs().sum().item() for tensor in weights(store, one).values())
    assert total == pytest.approx(394.0226186504235, rel=1e-6)
    digest = hashlib.sha256((folder_of(store, one) / "tokenizer.json").read_bytes()).hexdigest()
    assert digest.startswith("d6779cfe")


def test_what_is_refused(text: Path, store: Store, tmp_path: Path):
    with pytest.raises(ValueError, match="several runs"):
        run([spec(text), spec(text, seed=2)], store)
    with pytest.raises(RaymcError, match="4 can't be split over 5 workers"):
        pretrain([spec(text)], store, Group(0, 5), checkpoint_every=0, log_every=1, report=lambda _: None)
    with pytest.raises(RaymcError, match="architecture"):
        run([spec(text, architecture={"model_type": "t5"})], store)
    (tmp_path / "one.txt").write_text("word\n")
    with pytest.raises(RaymcError, match="one line"):
        run([spec(text, text={"path": str(tmp_path / "one.txt")})], store)
    assert not list(store.root.rglob("model.safetensors"))


JOBS = {
    **{objective: {"pretrain": objective, "strategy": "ddp"} for objective in KINDS},
    "sharded": {"pretrain": "masked", "strategy": "fsdp"},
}


@pytest.fixture(scope="session")
def two_workers(text: Path, two_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All JOBS by two gloo processes, each in the store of its name."""
    folder = tmp_path_factory.mktemp("two-workers")
    jobs = [
        {
            "backbones": [snapshot.model_dump(mode="json") for snapshot in snapshots_of(text, job)],
            "strategy": job["strategy"],
            "store": str(folder / name),
        }
        for name, job in JOBS.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    two_run("pretrain_workers.py", "2", folder)
    return folder


def snapshots_of(text: Path, job: dict[str, str]) -> list[Pretrained]:
    return [spec(text, job["pretrain"], snapshot=step, dropout=0.0, batch_size=5, steps=4) for step in (0, 2, None)]


@pytest.mark.parametrize("name", JOBS)
def test_two_workers_reach_the_weights_of_one(two_workers: Path, text: Path, store: Store, name: str):
    together, snapshots = Store(two_workers / name), snapshots_of(text, JOBS[name])
    run(snapshots, store)
    for one in snapshots:
        expected, found = weights(store, one), weights(together, one)
        assert found.keys() == expected.keys()
        for tensor, value in expected.items():
            if not tensor.endswith(("key.bias", "c_attn.bias")):  # softmax ignores a key's bias: its gradient is noise
                error = (found[tensor] - value).abs()
                assert (error > 1e-5).sum() <= error.numel() / 100, tensor
                assert error.max() < 1e-3, tensor
        for alone, two in zip(curve(store, one), curve(together, one), strict=True):
            assert two == pytest.approx(alone, rel=1e-4)


def test_real_text(shared_data: Path, store: Store):
    """A few updates on WikiText-2's validation text already tell frequent words from rare ones."""
    path = shared_data / "wikitext2" / "validation.txt"
    sizes = {"steps": 40, "batch_size": 16, "max_length": 32, "validation_rows": 50}
    tokenizer = {"kind": "wordpiece", "vocab_size": 1000}
    snapshots = [spec(path, snapshot=step, tokenizer=tokenizer, **sizes) for step in (0, None)]
    run([*snapshots], store)
    found = [store.read_json(layout.BACKBONES, backbone_key(one), "backbone.json") for one in snapshots]
    assert found[0]["text"]["held_out_of_train"]
    assert found[0]["validation"]["perplexity"] == pytest.approx(1000, rel=0.1)
    assert found[1]["validation"]["perplexity"] < 500


@pytest.mark.parametrize(("objective", "kind"), [("masked", "classifier"), ("span", "seq2seq"), ("causal", "causal")])
def test_fine_tuning_starts_from_a_snapshot(text: Path, store: Store, dataset: Path, objective: str, kind: str):
    one = spec(text, objective, snapshot=2)
    run([one], store)
    trial = TrialSpec.model_validate(
        {
            "model": {"kind": kind, "backbone": one.model_dump(mode="json")},
            "task": {"dataset": {"path": str(dataset)}, "max_length": 24},
            "train": {"steps": 2, "batch_size": 4, "learning_rate": 1e-6},
        }
    )
    finetune([trial], store, Group(), checkpoint_every=0, log_every=1, report=lambda _: None)
    tuned = load_file(store.folder(layout.MINIMA, trial.key) / "model.safetensors")
    body = weights(store, one)
    kept = [name for name in body if name in tuned]
    assert len(kept) > 0.7 * len(body)
    for name in kept:  # two updates of 1e-6 at most from where it began
        torch.testing.assert_close(tuned[name], body[name], rtol=0, atol=3e-6)
