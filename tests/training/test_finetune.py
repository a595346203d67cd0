"""What a fine-tuning leaves in the store: a folder that plain transformers or peft can use, and where it is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import raymc.training.finetune as module
from raymc.specs.errors import RaymcError, TrainingFault
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.backbones import config_labels, load_tokenizer, tokenizer_digest
from raymc.tasks.points import PointModel
from raymc.tasks.rows import read_rows
from raymc.tasks.tokens import tokenize
from raymc.training.finetune import finetune
from raymc.training.loop import train
from raymc.training.parallel import Group

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LORA = {"method": "lora", "rank": 2}
TEXTS = ["the cat is good", "a dog was very very awful", "the bird is fine"]


def run(spec: TrialSpec, store: Store, **options: Any) -> list[dict[str, float]]:
    reported: list[dict[str, float]] = []
    options = {"checkpoint_every": 0, "log_every": 2, "report": reported.append, **options}
    finetune([spec], store, Group(), **options)
    return reported


@pytest.fixture
def trained_model(monkeypatch) -> list[Any]:
    """The models as training left them."""
    kept: list[Any] = []

    def keep(model: Any, *arguments: Any, **options: Any) -> Any:
        kept.append(model)
        return train(model, *arguments, **options)

    monkeypatch.setattr(module, "train", keep)
    return kept


def logits(model: Any, folder: Path) -> torch.Tensor:
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits


@pytest.mark.parametrize("kind", ["bert", "mlm"])
def test_a_full_minimum_loads_in_plain_transformers(trial, store, trained_model, kind: str):
    spec = trial(kind)
    run(spec, store)
    folder = store.folder(layout.MINIMA, spec.key)
    torch.manual_seed(5)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(logits(loaded, folder), logits(trained_model[0], folder))
    assert loaded.config.id2label == {0: "neg", 1: "pos"}
    assert loaded.config.label2id == {"neg": 0, "pos": 1}
    assert config_labels(folder) == ("neg", "pos")
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())


@pytest.mark.parametrize("kind", ["bert", "mlm"])
def test_a_lora_minimum_loads_in_plain_peft(trial, store, trained_model, kind: str):
    """A pooler that the backbone lacks is part of it: peft would else draw one of its own."""
    spec = trial(kind, tuning=LORA)
    run(spec, store)
    folder = store.folder(layout.MINIMA, spec.key)
    torch.manual_seed(5)
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(str(folder))
    assert torch.equal(logits(loaded, folder), logits(trained_model[0], folder))
    assert not (folder / "model.safetensors").exists()
    (weights,) = folder.glob("*.safetensors")
    assert weights.stat().st_size < 40_000


@pytest.mark.parametrize(("tuning", "space"), [({"method": "full"}, "weights"), (LORA, "factors")])
def test_a_minimum_opens_as_a_point(trial, store, trained_model, tuning, space: str):
    spec = trial("mlm", tuning=tuning)
    run(spec, store)
    folder = store.folder(layout.MINIMA, spec.key)
    point = PointModel(folder, spec, ("neg", "pos"), space, store)
    assert torch.equal(logits(point.model, folder), logits(trained_model[0], folder))


def test_the_files_of_a_minimum(trial, store):
    for tuning, own in (({"method": "full"}, {"config.json", "model.safetensors"}), (LORA, {"adapter_config.json"})):
        spec = trial(tuning=tuning)
        run(spec, store)
        folder = store.folder(layout.MINIMA, spec.key)
        names = {path.name for path in folder.iterdir()}
        assert names >= own | {"tokenizer.json", "minimum.json", "training.jsonl", "MANIFEST.json"}
        assert not {path.suffix for path in folder.iterdir()} & {".bin", ".pt", ".pkl"}
        store.verify(layout.MINIMA, spec.key, deep=True)
    assert {path.name for path in store.root.iterdir()} == {"minima", ".tmp"}
    assert not list((store.root / ".tmp").iterdir())


def test_where_a_minimum_is_from(trial, store, dataset: Path, backbone):
    spec = trial(seeds={"order": 3})
    run(spec, store)
    found = store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE)
    assert found["key"] == spec.key
    assert TrialSpec.model_validate(found["trial"]) == spec
    assert TrialSpec.model_validate(found["trial"]).key == spec.key
    assert found["content"] == json.loads(json.dumps(spec.content))
    assert (found["labels"], found["rows"], found["steps"], found["workers"]) == (["neg", "pos"], 22, 5, 1)
    tokenizer = load_tokenizer(str(backbone("bert")))
    rows = read_rows(spec.task, "train")
    assert found["tokens"] == len(tokenize(tokenizer, rows, ("neg", "pos"), spec.task, "classifier").ids)
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["versions"]) == {"raymc", "torch", "transformers", "peft", "tokenizers", "ray", "numpy"}
    assert found["seconds"]["total"] >= found["seconds"]["train"] > 0
    assert found["commit"] is None or len(found["commit"].removesuffix("-dirty")) == 40


def test_the_curve_is_kept_and_reported(trial, store):
    spec = trial()
    reported = run(spec, store)
    lines = (store.folder(layout.MINIMA, spec.key) / "training.jsonl").read_text().splitlines()
    curve = [json.loads(line) for line in lines]
    assert [point["step"] for point in curve] == [2, 4, 5]
    assert all(point.keys() == {"step", "loss", "learning_rate", "grad_norm"} for point in curve)
    assert reported == [{**point, "steps": 5} for point in curve]


def test_it_learns(trial, store):
    spec = trial(train={"steps": 60, "learning_rate": 1e-2, "dropout": 0.0})
    reported = run(spec, store, log_every=10)
    assert reported[0]["loss"] > 0.3
    assert reported[-1]["loss"] < 0.05


def test_training_is_the_same_bits_every_time_and_with_every_tracking_interval(trial, tmp_path: Path):
    spec, results = trial(train={"dropout": 0.3}), []
    for name, log_every in (("a", 1), ("b", 1), ("c", 4)):
        store = Store(tmp_path / name)
        torch.manual_seed(len(results))
        run(spec, store, log_every=log_every)
        results.append(load_file(store.folder(layout.MINIMA, spec.key) / "model.safetensors"))
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in other)


def test_length_of_training_rows_is_no_part_of_the_tokenizer(trial, store):
    """Minima of unlike max_length can be joined: their tokenizers are one."""
    digests = set()
    for length in (6, 16):
        spec = trial(task={"max_length": length})
        run(spec, store)
        digests.add(tokenizer_digest(store.folder(layout.MINIMA, spec.key)))
    assert len(digests) == 1
    assert "" not in digests


def test_epochs_are_counted_in_rows(trial, store):
    spec = trial(train={"steps": None, "epochs": 1.5, "batch_size": 8})
    reported = run(spec, store, log_every=1)
    assert len(reported) == 5  # 33 rows in batches of 8


def test_labels_of_the_spec_decide_the_order_of_the_logits(trial, store):
    spec = trial(task={"labels": ["pos", "other", "neg"]})
    run(spec, store)
    folder = store.folder(layout.MINIMA, spec.key)
    assert AutoConfig.from_pretrained(folder).id2label == {0: "pos", 1: "other", 2: "neg"}
    assert store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE)["labels"] == ["pos", "other", "neg"]


def test_a_head_of_three_labels_loads_in_peft(trial, store, trained_model):
    spec = trial(tuning=LORA, task={"labels": ["pos", "other", "neg"]})
    run(spec, store)
    folder = store.folder(layout.MINIMA, spec.key)
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(str(folder), num_labels=3)
    assert torch.equal(logits(loaded, folder), logits(trained_model[0], folder))


def test_nothing_is_there_until_it_is_whole(trial, store, monkeypatch):
    spec = trial()
    monkeypatch.setattr("raymc.training.provenance.commit_of_raymc", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(spec, store)
    assert not store.has(layout.MINIMA, spec.key)
    assert not list(store.root.rglob("model.safetensors"))
    monkeypatch.undo()
    run(spec, store)
    assert store.has(layout.MINIMA, spec.key)


def test_what_is_there_already_stays(trial, store):
    spec = trial()
    run(spec, store)
    kept = store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE)
    run(spec, store)
    assert store.read_json(layout.MINIMA, spec.key, layout.PROVENANCE) == kept


# Faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"task": {"text": "sentence"}}, "no column 'sentence'"),
        ({"task": {"train_split": "validation"}}, "no split 'validation'"),
        ({"task": {"labels": ["neg", "other"]}}, "training row 1 has label 'pos'"),
        ({"task": {"max_length": 17}}, "task.max_length: 17 is more than the model's 16 positions"),
        ({"model": {"head": "backbone"}}, "label 'neg' is not among the labels of"),
    ],
)
def test_faults_of_the_input_are_one_line(trial, store, sections: dict[str, Any], said: str):
    with pytest.raises(RaymcError) as caught:
        run(trial(**sections), store)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.root.exists()


def test_a_batch_smaller_than_the_workers_is_refused(trial, store):
    with pytest.raises(RaymcError, match=r"^train.batch_size: 4 rows can't be split over 5 workers$"):
        finetune([trial()], store, Group(0, 5), checkpoint_every=0, log_every=1, report=print)


def test_a_tokenizer_of_another_model_is_refused(trial, store, backbone, tmp_path: Path):
    """Its ids would index past the embeddings in the middle of the training, or worse, not."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in backbone("bert").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["cat"] = 99
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RaymcError, match="has 19 embeddings, and its tokenizer makes token 99"):
        run(trial(model={"backbone": str(folder)}), store)


def test_a_training_that_diverges_is_the_trials_fault(trial, store):
    spec = trial(train={"learning_rate": 1e30, "clip_norm": None, "steps": 8})
    with pytest.raises(TrainingFault, match="not finite"):
        run(spec, store, log_every=1)
    assert not store.has(layout.MINIMA, spec.key)
