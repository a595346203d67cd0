"""Exported folders as transformers and peft open them, against weights that were mixed by hand; whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.trial import TrialSpec
from raymc.store.store import Store
from raymc.tasks import tuning
from raymc.tasks.backbones import load_model, load_tokenizer, tokenizer_digest
from raymc.tasks.export import copy_minimum, destination, write_point, write_provenance
from raymc.tasks.points import PointModel

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")
LORA = {"method": "lora", "rank": 2, "alpha": 6.0}
Minimum = tuple[Path, TrialSpec]


@pytest.fixture
def minimum(tmp_path: Path, backbone, text_backbone, trial, store) -> Callable[..., Minimum]:
    """minimum(seed, tuning={...}, kind="bert"): a saved one with its tokenizer, whose trained weights are random."""

    def make(seed: int, how: dict[str, Any], kind: str = "bert", model: str = "classifier", **config: Any) -> Minimum:
        base = backbone(kind) if model == "classifier" else text_backbone(kind, **config)
        spec = trial(base, model={"kind": model}, tuning=how, seeds={"head": seed, "init": seed})
        tuned = tuning.apply(load_model(spec, LABELS if model == "classifier" else (), store), spec)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        folder = tmp_path / f"minimum-{seed}"
        tuning.save(tuned, spec, folder, tuned.state_dict())
        load_tokenizer(str(base)).save_pretrained(folder)
        return folder, spec

    return make


def mix(minima: list[Minimum], space: str, store: Store, t: float, out: Path, order=LABELS) -> PointModel:
    """The point t between two minima, written to `out`; the model that stands there."""
    (folder, spec), other = minima
    labels = LABELS if spec.model.kind == "classifier" else ()
    model = PointModel(folder, spec, labels, space, store)
    a, b = (model.read(*one, labels, order=order if labels else None) for one in (minima[0], other))
    model.flat.copy_(torch.lerp(a, b, t))
    out.mkdir()
    write_point(model, out, folder, order if labels else ())
    return model


def merged(one: Minimum) -> dict[str, torch.Tensor]:
    """As peft merges it."""
    model: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(one[0]), num_labels=len(LABELS))
    return model.merge_and_unload().state_dict()


def logits(model: Any, ids: dict[str, torch.Tensor], **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**ids, **more).logits


def test_a_point_between_full_minima_is_a_plain_folder(minimum, store, ids, tmp_path: Path):
    minima = [minimum(seed, {"method": "full"}) for seed in (1, 2)]
    model = mix(minima, "weights", store, 0.3, tmp_path / "out")
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    a, b = (AutoModelForSequenceClassification.from_pretrained(folder).state_dict() for folder, _ in minima)
    for name, tensor in found.state_dict().items():
        assert torch.allclose(tensor, 0.7 * a[name] + 0.3 * b[name], rtol=0, atol=1e-6)
    assert torch.equal(logits(found, ids), logits(model.model, ids))
    assert [found.config.id2label[i] for i in range(3)] == list(LABELS)
    assert found.dtype == torch.float32
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert tokenizer_digest(tmp_path / "out") == tokenizer_digest(minima[0][0])
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a cat")["input_ids"] == [2, 6, 7, 3]


def test_the_config_names_the_labels_in_the_order_of_the_head(minimum, store, ids, tmp_path: Path):
    minima = [minimum(seed, {"method": "full"}) for seed in (1, 2)]
    mix(minima, "weights", store, 0.5, tmp_path / "own")
    order = ("yes", "no", "maybe")
    mix(minima, "weights", store, 0.5, tmp_path / "other", order)
    own, other = (AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("own", "other"))
    assert other.config.label2id == {"yes": 0, "no": 1, "maybe": 2}
    places = [own.config.label2id[other.config.id2label[i]] for i in range(3)]
    assert torch.equal(logits(other, ids), logits(own, ids)[:, places])
    assert own.config.label2id != other.config.label2id


def test_a_lora_point_in_delta_w_is_what_peft_merges_interpolated(minimum, store, tmp_path: Path):
    minima = [minimum(seed, LORA) for seed in (1, 2)]
    mix(minima, "delta_w", store, 0.25, tmp_path / "out")
    a, b = map(merged, minima)
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").state_dict()
    assert found.keys() == a.keys()
    moved = 0
    for name, tensor in found.items():
        assert torch.allclose(tensor, 0.75 * a[name] + 0.25 * b[name], rtol=0, atol=1e-6)
        moved += not torch.equal(a[name], b[name])
    assert moved >= 4


def test_a_lora_point_in_factors_is_a_peft_folder(minimum, store, ids, tmp_path: Path):
    minima = [minimum(seed, LORA) for seed in (1, 2)]
    model = mix(minima, "factors", store, 0.5, tmp_path / "out")
    a, b, found = (load_file(f / "adapter_model.safetensors") for f in (minima[0][0], minima[1][0], tmp_path / "out"))
    assert found.keys() == a.keys()
    assert all(torch.allclose(found[n], (a[n] + b[n]) / 2, rtol=0, atol=1e-6) for n in found)
    again: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(tmp_path / "out"), num_labels=3)
    assert torch.allclose(logits(again, ids), logits(model.model, ids), atol=1e-6)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 6.0)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("how", [{"method": "houlsby", "bottleneck": 2}, {"method": "prefix", "tokens": 2}])
def test_factors_of_other_methods_are_folders_of_a_minimum_s_form(minimum, store, tmp_path: Path, how):
    minima = [minimum(seed, how) for seed in (1, 2)]
    model = mix(minima, "factors", store, 0.5, tmp_path / "out")
    spec = minima[0][1]
    again = PointModel(tmp_path / "out", spec, LABELS, "factors", store)
    assert torch.equal(again.read(tmp_path / "out", spec, LABELS), model.flat)
    theirs = {path.name for path in minima[0][0].iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == theirs


@pytest.mark.parametrize(
    ("kind", "model", "auto", "tied"),
    [
        ("gpt2", "causal", AutoModelForCausalLM, ("transformer.wte.weight", "lm_head.weight")),
        ("t5", "seq2seq", AutoModelForSeq2SeqLM, ("shared.weight", "encoder.embed_tokens.weight")),
    ],
)
def test_text_models_keep_their_ties(minimum, store, tmp_path: Path, kind: str, model: str, auto: Any, tied):
    minima = [minimum(seed, {"method": "full"}, kind, model) for seed in (1, 2)]
    point = mix(minima, "weights", store, 0.5, tmp_path / "out").model
    found = auto.from_pretrained(tmp_path / "out")
    one, other = (found.get_parameter(name) for name in tied)
    assert one.data_ptr() == other.data_ptr()
    state = point.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())
    sizes = [(place / "model.safetensors").stat().st_size for place in (tmp_path / "out", minima[0][0])]
    assert abs(sizes[0] - sizes[1]) < 200  # no tensor is there twice


def test_rounded_weights_are_not_written(minimum, store, tmp_path: Path):
    folder, spec = minimum(1, {"method": "full"})
    model = PointModel(folder, spec, LABELS, "weights", store)
    model.to("cpu", "bf16")
    with pytest.raises(ValueError, match="rounded weights"):
        write_point(model, tmp_path, folder, LABELS)


# Whole or not at all --------------------------------------------------------------------------------------------------


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path):
    out = tmp_path / "deep" / "out"
    with destination(out) as folder:
        (folder / "one").write_text("1")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["one"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path):
    with destination(tmp_path) as folder:
        (folder / "one").write_text("1")
    assert (tmp_path / "one").read_text() == "1"


def test_what_is_there_is_never_touched(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, message in (("full", "isn't empty"), ("file", "is no folder"), ("link", "is no folder")):
        with pytest.raises(RaymcError, match=message), destination(tmp_path / name):
            raise AssertionError
    with pytest.raises(RaymcError, match="can't be written"), destination(tmp_path / "file" / "out"):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "link"]
    assert (tmp_path / "full" / "mine").read_text() == "mine"


def test_what_came_to_be_meanwhile_stays(tmp_path: Path):
    def late() -> None:
        with destination(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(RaymcError, match="isn't empty"):
        late()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_fault_leaves_nothing(tmp_path: Path):
    def stopped() -> None:
        with destination(tmp_path / "out") as folder:
            (folder / "one").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_half_folder(tmp_path: Path):
    child = os.fork()
    if not child:
        with destination(tmp_path / "out") as folder:
            (folder / "one").write_text("1")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with destination(tmp_path / "out") as folder:
        (folder / "two").write_text("2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


# Copies ---------------------------------------------------------------------------------------------------------------


def test_a_minimum_is_copied_as_it_is_with_its_hashes_checked(minimum, store, tmp_path: Path):
    folder, _ = minimum(1, LORA)
    with store.create("minima", "some") as made:
        shutil.copytree(folder, made, dirs_exist_ok=True)
        (made / "minimum.json").write_text("{}")
    kept = store.folder("minima", "some")
    with destination(tmp_path / "out") as out:
        copy_minimum(store, "some", out)
        body = write_provenance(out, {"what": "minimum"})
    for path in kept.iterdir():
        assert path.name == "MANIFEST.json" or (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "out" / "MANIFEST.json").exists()
    assert body["files"] == {
        "adapter_model.safetensors": store.file_digest("minima", "some", "adapter_model.safetensors")
    }
    assert json.loads((tmp_path / "out" / "raymc.json").read_text()) == body
    content = bytearray((kept / "adapter_model.safetensors").read_bytes())
    content[-3] ^= 1
    (kept / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(CorruptArtefact, match="SHA-256"), destination(tmp_path / "other") as out:
        copy_minimum(store, "some", out)
    assert not (tmp_path / "other").exists()


def test_a_config_says_nothing_of_the_run(minimum, store, tmp_path: Path):
    """No path of this machine is left in a whole export."""
    minima = [minimum(seed, {"method": "full"}) for seed in (1, 2)]
    mix(minima, "weights", store, 0.5, tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.architectures == ["BertForSequenceClassification"]
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()
