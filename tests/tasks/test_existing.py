"""Checkpoints that exist already: opened as they are, stored, and joined like minima of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from raymc.specs.errors import RaymcError
from raymc.specs.existing import ExistingMinimum
from raymc.specs.trial import TrialSpec
from raymc.tasks import folders, tuning
from raymc.tasks.backbones import load_model
from raymc.tasks.existing import existing_labels, open_existing
from raymc.tasks.points import PointModel

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")


def existing(folder: Path, kind: str = "classifier", base: Path | None = None, **task: Any) -> TrialSpec:
    trial = TrialSpec.model_validate(
        {
            "model": {"backbone": "unused", "kind": kind},
            "task": {"dataset": {"builtin": "grammar"}, "max_length": 16, **task},
        }
    )
    one = ExistingMinimum(name="one", uri=str(folder), base=None if base is None else str(base))
    return one.trial(trial.model, trial.task)


def stored(trial: TrialSpec, labels: tuple[str, ...], store, folder: Path) -> PointModel:
    model, _ = open_existing(trial, labels, store)
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    folder.mkdir()
    tuning.save(model, trial, folder, model.state_dict())
    space = "weights" if folders.is_whole(folder) else "factors"
    return PointModel(folder, trial, labels, space, store)


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model(**inputs).logits


@pytest.fixture
def adapter(backbone, tmp_path: Path):
    """adapter(kind="bert", rows=3): the folder of a LoRA classifier that peft alone made, and its model."""

    def make(kind: str = "bert", rows: int = 3, **config: Any) -> tuple[Path, Any]:
        torch.manual_seed(3)
        base = AutoModelForSequenceClassification.from_pretrained(backbone(kind), num_labels=rows)
        model = get_peft_model(base, LoraConfig(task_type=TaskType.SEQ_CLS, r=2, **config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.3)
        folder = tmp_path / f"peft-{kind}-{rows}"
        model.save_pretrained(str(folder))
        return folder, model.eval()

    return make


def test_a_whole_classifier_is_stored_as_it_is_in_its_own_label_order(backbone, store, tmp_path, ids):
    trial = existing(backbone("classifier"))
    assert existing_labels(trial) == LABELS
    point = stored(trial, LABELS, store, tmp_path / "copy")
    plain = AutoModelForSequenceClassification.from_pretrained(backbone("classifier")).eval()
    assert torch.equal(logits(point.model, ids), logits(plain, ids))
    reordered = point.read(tmp_path / "copy", trial, LABELS, order=("maybe", "yes", "no"))
    point.flat.copy_(reordered)
    assert torch.equal(logits(point.model, ids), logits(plain, ids)[:, [1, 2, 0]])


def test_a_seq2seq_model_is_stored_as_it_is(text_backbone, store, tmp_path):
    folder = text_backbone("t5")
    point = stored(existing(folder, "seq2seq"), (), store, tmp_path / "copy")
    inputs = {"input_ids": torch.tensor([[5, 6, 1]]), "decoder_input_ids": torch.tensor([[0, 7]])}
    assert torch.equal(logits(point.model, inputs), logits(AutoModelForSeq2SeqLM.from_pretrained(folder), inputs))


@pytest.mark.parametrize("given", [True, False])
def test_a_peft_folder_is_opened_on_its_backbone(adapter, backbone, store, tmp_path, ids, given: bool):
    """Given, or as its config names it; the stored copy names it too."""
    folder, model = adapter()
    if given:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "/gone"}))
    trial = existing(folder, base=backbone("bert") if given else None)
    point = stored(trial, LABELS, store, tmp_path / "copy")
    assert torch.equal(logits(point.model, ids), logits(model, ids))
    config = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(backbone("bert"))
    merged = PointModel(tmp_path / "copy", trial, LABELS, "delta_w", store)
    assert torch.equal(logits(merged.model, ids), logits(model.merge_and_unload().eval(), ids))


def test_an_existing_adapter_and_one_trained_here_share_their_factors(adapter, backbone, trial, store, tmp_path):
    folder, _ = adapter(lora_alpha=6, target_modules=["query"])
    ours = trial(backbone("bert"), tuning={"method": "lora", "rank": 2, "alpha": 6, "targets": ["query"]})
    model = tuning.apply(load_model(ours, LABELS, store), ours)
    tuning.save(model, ours, tmp_path / "ours", model.state_dict())
    point = PointModel(tmp_path / "ours", ours, LABELS, "factors", store)
    vector = point.read(folder, existing(folder), LABELS)
    theirs = load_file(folder / "adapter_model.safetensors")
    views = dict(zip(point.names, point._views(vector), strict=True))
    for name, view in views.items():
        assert torch.equal(view, theirs[name.replace(".default", "").replace(".modules_to_save", "")])


def test_half_precision_is_widened(adapter, backbone, store, tmp_path):
    folder, _ = adapter()
    path = folder / "adapter_model.safetensors"
    halves = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(halves, path, metadata={"format": "pt"})
    stored(existing(folder), LABELS, store, tmp_path / "copy")
    copy = load_file(tmp_path / "copy" / "adapter_model.safetensors")
    assert copy.keys() == halves.keys()
    assert all(torch.equal(tensor, halves[name].float()) for name, tensor in copy.items())


def test_houlsby_adapters_of_ours_are_opened_elsewhere(backbone, trial, store, tmp_path, ids):
    ours = trial(backbone("mlm"), tuning={"method": "houlsby", "bottleneck": 3})
    model = tuning.apply(load_model(ours, LABELS, store), ours).eval()
    tuning.save(model, ours, tmp_path / "ours", model.state_dict())
    (tmp_path / "ours" / "minimum.json").write_text(json.dumps({"labels": LABELS}))
    assert existing_labels(existing(tmp_path / "ours")) == LABELS
    point = stored(existing(tmp_path / "ours"), LABELS, store, tmp_path / "copy")
    assert torch.equal(logits(point.model, ids), logits(model, ids))
    config = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(backbone("mlm"))


def test_an_adapter_without_a_head_has_its_backbones(backbone, store, tmp_path, ids):
    """Which is then no part of its factors: labels come in that head's order, or in the merged weights in any."""
    base = AutoModelForSequenceClassification.from_pretrained(backbone("classifier"))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"]))
    model.save_pretrained(str(tmp_path / "adapter"))
    trial = existing(tmp_path / "adapter")
    found, _ = open_existing(trial, LABELS, store)
    expected = logits(model.eval(), ids)
    assert torch.equal(logits(found, ids), expected)
    turned = LABELS[::-1]
    point = PointModel(tmp_path / "adapter", trial, LABELS, "factors", store)
    with pytest.raises(RaymcError, match="its head is no part of the point"):
        point.read(tmp_path / "adapter", trial, LABELS, order=turned)
    merged = PointModel(tmp_path / "adapter", trial, LABELS, "delta_w", store)
    merged.flat.copy_(merged.read(tmp_path / "adapter", trial, LABELS, order=turned))
    assert torch.allclose(logits(merged.model, ids), expected.flip(1), atol=1e-6)


def test_an_adapter_of_ours_on_a_perturbed_backbone_is_refused(backbone, trial, store, tmp_path):
    """Its folder names the backbone as it was before the noise, on which it is another minimum."""
    ours = trial(backbone("bert"), tuning={"method": "lora"}, model={"perturbation": {"scale": 0.5}})
    model = tuning.apply(load_model(ours, LABELS, store), ours)
    tuning.save(model, ours, tmp_path / "ours", model.state_dict())
    provenance = {"labels": LABELS, "trial": ours.model_dump(mode="json")}
    (tmp_path / "ours" / "minimum.json").write_text(json.dumps(provenance))
    with pytest.raises(RaymcError, match="tuned on a perturbed backbone"):
        open_existing(existing(tmp_path / "ours"), LABELS, store)


# Labels --------------------------------------------------------------------------------------------------------------


def test_labels_of_an_adapter_are_its_backbones_where_that_has_as_many(adapter, backbone):
    folder, _ = adapter("classifier")
    assert existing_labels(existing(folder)) == LABELS


def test_labels_without_names_cannot_be_matched_unless_the_task_has_the_same(adapter):
    folder, _ = adapter(rows=3)
    with pytest.raises(RaymcError) as caught:
        existing_labels(existing(folder))
    assert str(caught.value) == (
        f"{folder}: its labels have no names (LABEL_0, LABEL_1, LABEL_2), so they can't be matched with the task's; "
        "name them in config.json's id2label, or rename the data's to them (task.rename)"
    )
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    renamed = existing(folder, rename={"bad": "LABEL_0", "so-so": "LABEL_1", "good": "LABEL_2"})
    assert existing_labels(renamed) == tuple(names)
    assert existing_labels(existing(folder, labels=names)) == tuple(names)


# What can't be opened ------------------------------------------------------------------------------------------------


def test_a_backbone_that_is_named_nowhere_or_is_gone(adapter, store):
    folder, _ = adapter()
    path = folder / "adapter_config.json"
    body = json.loads(path.read_text())
    for name, said in ((None, "names no backbone; give its base"), ("/gone", "its backbone /gone isn't there")):
        path.write_text(json.dumps({**body, "base_model_name_or_path": name}))
        with pytest.raises(RaymcError, match=said):
            open_existing(existing(folder), LABELS, store)


def test_a_new_module_that_an_adapter_does_not_hold_is_refused(adapter, store):
    """It was random when the adapter trained, and nobody knows how."""
    folder, _ = adapter("mlm")
    with pytest.raises(RaymcError, match=r"holds no bert\.pooler\.dense, and its backbone has no weights for it"):
        open_existing(existing(folder), LABELS, store)


def test_an_adapter_on_another_architecture_is_refused(adapter, backbone, store):
    folder, _ = adapter()
    with pytest.raises(RaymcError) as caught:
        open_existing(existing(folder, base=backbone("bert", hidden_size=32)), LABELS, store)
    assert "\n" not in str(caught.value)


def test_a_built_in_backbone_is_no_existing_minimum(store):
    one = TrialSpec.model_validate(
        {
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": {"dataset": {"builtin": "grammar"}},
            "tuning": {"method": "existing"},
        }
    )
    with pytest.raises(RaymcError, match="no existing minimum; give a Hugging Face or PEFT folder or hub id"):
        open_existing(one, LABELS, store)
