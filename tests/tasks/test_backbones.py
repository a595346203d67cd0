"""Where every new tensor comes from, which folders are refused, and heads matched by label name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from raymc.specs.content import backbone_key
from raymc.specs.errors import RaymcError, TrainingFault
from raymc.store import layout
from raymc.tasks import tuning
from raymc.tasks.backbones import (
    config_labels,
    derived_seed,
    load_model,
    load_tokenizer,
    source,
    tokenizer_digest,
)

LABELS = ("no", "maybe", "yes")
State = dict[str, torch.Tensor]
HEAD, POOLER = {"classifier.weight", "classifier.bias"}, {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


@pytest.fixture
def load(trial, store) -> Callable[..., Any]:
    """load(folder, labels=LABELS, **sections): the classifier of a trial."""

    def go(folder: Path, labels: tuple[str, ...] = LABELS, **sections: Any) -> Any:
        return load_model(trial(folder, **sections), labels, store)

    return go


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    def go(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"))

    return go


def changed(first: Any, second: Any) -> set[str]:
    """Names of the tensors that differ by as much as a bit."""
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def refused(load: Callable[..., Any], *arguments: Any, **sections: Any) -> str:
    with pytest.raises(RaymcError) as caught:
        load(*arguments, **sections)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_config(folder: Path, **entries: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


# Seeds ---------------------------------------------------------------------------------------------------------------


def test_same_seeds_give_the_same_bits_whatever_the_random_state(load, backbone):
    folder = backbone("mlm")
    torch.manual_seed(1)
    first = load(folder)
    torch.manual_seed(2)
    assert changed(first, load(folder)) == set()


def test_the_head_seed_changes_the_head_alone(load, backbone):
    for kind in ("bert", "mlm"):
        first, second = (load(backbone(kind), seeds={"head": seed, "init": 7}) for seed in (1, 2))
        assert changed(first, second) == {"classifier.weight"}  # BERT's biases start at zero


def test_the_init_seed_changes_other_new_modules_alone(load, backbone):
    first, second = (load(backbone("mlm"), seeds={"head": 7, "init": seed}) for seed in (1, 2))
    assert changed(first, second) == {"bert.pooler.dense.weight"}
    first, second = (load(backbone("bert"), seeds={"head": 7, "init": seed}) for seed in (1, 2))
    assert changed(first, second) == set()


def test_order_and_dropout_seeds_change_nothing(load, backbone):
    first = load(backbone("mlm"))
    assert changed(first, load(backbone("mlm"), seeds={"order": 5, "dropout": 6})) == set()


def test_all_else_is_the_checkpoints_bit_for_bit(load, backbone):
    for kind, prefix in (("bert", "bert."), ("mlm", "")):
        folder = backbone(kind)
        stored = {prefix + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        state = load(folder).state_dict()
        new = state.keys() - stored.keys()
        assert new == (HEAD if kind == "bert" else HEAD | POOLER)
        assert all(torch.equal(state[name], stored[name]) for name in state.keys() - new)


def test_new_tensors_are_drawn_as_the_architecture_draws(load, backbone):
    folder = backbone("mlm", hidden_size=64, initializer_range=0.05)
    model = load(folder, labels=tuple(map(str, range(200))))
    for name in ("classifier.weight", "bert.pooler.dense.weight"):
        tensor = model.get_parameter(name)
        assert tensor.std().item() == pytest.approx(0.05, rel=0.05)
        assert abs(tensor.mean().item()) < 0.003
    assert not model.classifier.bias.any()
    assert not model.bert.pooler.dense.bias.any()


def test_a_head_and_a_pooler_of_one_seed_are_not_one_draw(load, backbone):
    model = load(backbone("mlm"), seeds={"head": 3, "init": 3})
    assert not torch.equal(model.classifier.weight, model.bert.pooler.dense.weight[:3])


def test_the_global_random_state_is_left_as_it_was(load, backbone, trial):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    model = load(backbone("mlm"))
    assert torch.equal(torch.get_rng_state(), before)
    tuning.apply(model, trial(backbone("mlm"), tuning={"method": "lora"}))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_carried_head_is_replaced_when_a_new_one_is_asked_for(load, backbone):
    folder = backbone("classifier")
    carried = load_file(folder / "model.safetensors")["classifier.weight"]
    first, second = (load(folder, seeds={"head": seed}) for seed in (1, 2))
    assert first.classifier.weight.shape == carried.shape
    assert not torch.equal(first.classifier.weight, carried)
    assert changed(first, second) == {"classifier.weight"}
    assert not first.classifier.bias.any()
    assert load(folder, labels=("a", "b")).classifier.weight.shape == (2, 16)


def test_what_a_loaded_classifier_is(load, backbone):
    model = load(backbone("mlm"))
    assert model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {"no": 0, "maybe": 1, "yes": 2}
    assert model.config.problem_type == "single_label_classification"
    assert model.new_modules == ("bert.pooler.dense",)
    assert load(backbone("bert")).new_modules == ()


def test_half_precision_checkpoints_are_widened(load, backbone, copy):
    folder = copy(backbone("bert"))
    halved = {name: t.bfloat16() for name, t in load_file(folder / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, dtype="bfloat16")
    state = load(folder).state_dict()
    assert all(t.dtype == torch.float32 for t in state.values() if t.is_floating_point())
    assert all(torch.equal(state[f"bert.{name}"], tensor.float()) for name, tensor in halved.items())


def test_derived_seeds_are_stable_and_apart():
    assert derived_seed("order", 0, 0) == 8162653594506637687
    assert 0 <= derived_seed("a") < 2**63
    assert derived_seed("a", 12, 3) != derived_seed("a", 1, 23)
    assert derived_seed("a", 1) == derived_seed("a", "1")


# The spread of a new head, and kinds of model ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_a_new_heads_weights_have_the_spread_that_is_asked_for(load, backbone, kind: str):
    labels = tuple(map(str, range(300)))
    folder = backbone(kind)
    plain = load(folder, labels=labels)
    wide, wider = (load(folder, labels=labels, model={"head_std": std}) for std in (0.5, 2.0))
    head = {name for name in plain.state_dict() if name.split(".")[0] in ("classifier", "score")}
    assert changed(plain, wide) == {name for name in head if name.endswith("weight")}
    for name in changed(plain, wide):
        weight = wide.get_parameter(name)
        assert weight.std().item() == pytest.approx(0.5, rel=0.1 if weight.numel() < 1000 else 0.03)
        assert torch.allclose(weight * 4, wider.get_parameter(name))  # one stream, at another spread
    other = load(folder, labels=labels, model={"head_std": 0.5}, seeds={"head": 1})
    assert changed(wide, other) == changed(plain, wide)


def test_a_heads_spread_is_refused_where_no_head_is_new(load, backbone, text_backbone):
    message = refused(load, backbone("classifier"), model={"head": "backbone", "head_std": 0.1})
    assert message == "model.head_std: the head is the backbone's; head_std is for head: new"
    for field, value in (("head_std", 0.1), ("head", "backbone")):
        message = refused(load, text_backbone("gpt2"), model={"kind": "causal", field: value})
        assert message == f"model.{field}: a causal model has no classification head; leave it out"


KINDS = {"t5": "seq2seq", "bart": "seq2seq", "gpt2": "causal", "llama": "causal", "qwen2": "causal", "qwen3": "causal"}


@pytest.mark.parametrize("name", KINDS)
def test_text_models_are_the_checkpoint_bit_for_bit(load, text_backbone, name: str):
    folder = text_backbone(name)
    model = load(folder, model={"kind": KINDS[name]}, seeds={"head": 3, "init": 4})
    stored = load_file(folder / "model.safetensors")
    parameters = dict(model.named_parameters())
    assert parameters.keys() <= stored.keys()  # of tied tensors a file holds one
    assert all(torch.equal(parameters[tensor], stored[tensor]) for tensor in parameters)
    assert model.training
    assert model.new_modules == ()
    assert model.config.pad_token_id == 0
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_text_models_classify_too_with_a_head_from_its_seed(load, text_backbone, name: str):
    folder = text_backbone(name)
    first, second = (load(folder, seeds={"head": seed}) for seed in (1, 2))
    assert {tensor.split(".")[0] for tensor in changed(first, second)} <= {"score", "classification_head"}
    stored = {tensor.data_ptr(): tensor for tensor in first.parameters()}
    assert len(stored) == len(list(first.parameters()))
    body = {name: tensor for name, tensor in first.named_parameters() if name.split(".")[0] not in HEAD_NAMES}
    plain = load_file(folder / "model.safetensors")
    for tensor, value in body.items():
        assert any(torch.equal(value, plain[other]) for other in plain if tensor.endswith(other)), tensor
    rows = {"input_ids": torch.tensor([[5, 6, 7, 1], [5, 1, 0, 0]]), "attention_mask": torch.ones(2, 4).long()}
    rows["attention_mask"][1, 2:] = 0
    with torch.no_grad():
        first.eval()
        whole = first(**rows).logits
        alone = first(input_ids=rows["input_ids"][1:, :2], attention_mask=torch.ones(1, 2).long()).logits
    assert whole.shape == (2, 3)
    assert torch.allclose(whole[1:], alone, rtol=1e-5, atol=1e-6)


def test_a_decoder_classifies_by_the_last_token_that_its_tokenizer_did_not_pad(load, text_backbone):
    """Whatever its config calls padding: here a token that rows have, and not the one that they are padded with."""
    folder = text_backbone("llama", pad_token_id=7)
    model = load(folder).eval()
    assert model.config.pad_token_id == load_tokenizer(str(folder)).pad_token_id == 0
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([[2, 5, 7, 0, 0]]), attention_mask=torch.tensor([[1, 1, 1, 0, 0]]))
        assert torch.allclose(whole.logits, model(input_ids=torch.tensor([[2, 5, 7]])).logits, atol=1e-6)


def test_a_t5_whose_rows_do_not_end_is_no_classifier(load, text_backbone, copy):
    folder = copy(text_backbone("t5"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(text_backbone("llama") / name, folder)
    message = refused(load, folder)
    assert message.startswith("model.kind: a classifier of type t5 reads a row's end-of-text token")
    assert message.endswith("doesn't put there; use seq2seq")


HEAD_NAMES = ("score", "classification_head")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("bert", "seq2seq", "seq2seq needs an encoder and a decoder, as T5 has, and {} is of type bert"),
        ("roberta", "causal", "causal needs a decoder alone, as GPT-2, Llama and Qwen are, and {} is of type roberta"),
        ("bert", "causal", "causal needs a decoder alone, as GPT-2, Llama and Qwen are, and {} is of type bert"),
        ("t5", "causal", "causal needs a decoder alone, as GPT-2, Llama and Qwen are, and {} is of type t5"),
        ("bart", "causal", "causal needs a decoder alone, as GPT-2, Llama and Qwen are, and {} is of type bart"),
        ("gpt2", "seq2seq", "seq2seq needs an encoder and a decoder, as T5 has, and {} is of type gpt2"),
        ("llama", "seq2seq", "seq2seq needs an encoder and a decoder, as T5 has, and {} is of type llama"),
    ],
)
def test_a_kind_that_the_architecture_is_not_is_refused(load, backbone, text_backbone, name, kind, said):
    folder = text_backbone(name) if name in KINDS else backbone(name)
    assert refused(load, folder, model={"kind": kind}) == "model.kind: " + said.format(folder)


@pytest.mark.parametrize(
    ("name", "tensor"), [("t5", "decoder.final_layer_norm.weight"), ("llama", "lm_head.weight"), ("gpt2", "ln_f.bias")]
)
def test_a_text_model_that_lacks_weights_is_refused(load, text_backbone, copy, name: str, tensor: str):
    """transformers draws them at random."""
    folder = copy(text_backbone(name))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.endswith(tensor)}
    assert len(kept) == len(tensors) - 1
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    message = refused(load, folder, model={"kind": KINDS[name]})
    assert message.endswith(f"{tensor} of the shape that its config.json says")


def test_an_output_layer_of_its_own_stays_untied(load, text_backbone, copy, tmp_path: Path):
    """As T5 v1.1 has it; transformers' config says that T5 is tied, whatever its file says."""
    folder = edit_config(copy(text_backbone("t5")), tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    first = load(folder, model={"kind": "seq2seq"})
    first.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again", model={"kind": "seq2seq"})
    for model in (first, again):
        assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])
        assert torch.equal(model.get_input_embeddings().weight, tensors["shared.weight"])
        assert model.config.scale_decoder_outputs is False


def test_a_decoder_starts_from_padding_where_its_config_does_not_say(load, text_backbone):
    model = load(text_backbone("t5", decoder_start_token_id=None), model={"kind": "seq2seq"})
    assert model.config.decoder_start_token_id == 0
    assert model(input_ids=torch.tensor([[5, 1]]), labels=torch.tensor([[6, 1]])).loss.isfinite()


# Dropout and length --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta"])
@pytest.mark.parametrize("rate", [0.0, 0.37])
def test_a_dropout_override_reaches_every_module(load, backbone, kind: str, rate: float):
    model = load(backbone(kind), train={"dropout": rate})
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates
    assert set(rates) == {rate}
    names = {"gpt2": ("attn_pdrop", "resid_pdrop", "embd_pdrop")}
    for name in names.get(kind, ("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout")):
        assert getattr(model.config, name) == rate


def test_without_an_override_dropout_is_the_backbones(load, backbone):
    model = load(backbone("bert", hidden_dropout_prob=0.21, attention_probs_dropout_prob=0.05))
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.21, 0.05}


def test_rows_longer_than_the_positions_are_refused(load, backbone):
    message = "task.max_length: 25 is more than the model's 24 positions"
    assert refused(load, backbone("bert"), task={"max_length": 25}) == message
    assert refused(load, backbone("gpt2"), task={"max_length": 25}) == message
    assert refused(load, backbone("roberta"), task={"max_length": 25}) == message
    load(backbone("bert"), task={"max_length": 24})


def test_the_longest_row_that_is_let_through_can_be_read(load, backbone):
    """RoBERTa's table has two positions more than a row can have."""
    for kind in ("bert", "roberta", "gpt2"):
        model = load(backbone(kind), task={"max_length": 24}).eval()
        assert model(input_ids=torch.full((1, 24), 7)).logits.isfinite().all()


# Heads that the backbone carries -------------------------------------------------------------------------------------

KEEP = {"model": {"head": "backbone"}}


@pytest.mark.parametrize("labels", [LABELS, ("yes", "no", "maybe"), ("maybe", "yes", "no")])
def test_a_carried_head_is_matched_by_label_name(load, backbone, ids, labels: tuple[str, ...]):
    folder = backbone("classifier")
    original = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model = load(folder, labels=labels, **KEEP).eval()
    order = [LABELS.index(name) for name in labels]
    with torch.no_grad():
        expected = original(**ids).logits[:, order]
        assert torch.equal(model(**ids).logits, expected)
    assert expected.unique().numel() == expected.numel()
    assert model.config.id2label == dict(enumerate(labels))
    assert changed(model, original) == (HEAD if labels != LABELS else set())


def test_seeds_change_nothing_of_a_carried_head(load, backbone):
    first, second = (load(backbone("classifier"), seeds={"head": seed, "init": seed}, **KEEP) for seed in (1, 2))
    assert changed(first, second) == set()


def test_labels_that_a_carried_head_lacks_are_refused(load, backbone):
    folder = backbone("classifier")
    message = refused(load, folder, labels=("yes", "no", "perhaps"), **KEEP)
    assert message.startswith("model.head: label 'perhaps' is not among the labels of ")
    assert message.endswith("(no, maybe, yes)")
    assert "has 3 labels, the task 2" in refused(load, folder, labels=("yes", "no"), **KEEP)
    assert "label '0' is not among" in refused(load, folder, labels=("0", "1", "2"), **KEEP)


def test_a_backbone_without_a_head_has_none_to_carry(load, backbone):
    for kind in ("bert", "mlm"):
        labels = ("LABEL_0", "LABEL_1")  # what transformers calls them where a config names none
        message = refused(load, backbone(kind), labels=labels, **KEEP)
        assert message.endswith("carries no classification head; use head: new")


# Folders that are no checkpoint --------------------------------------------------------------------------------------


def _pickle_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _lacks_a_layer(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle only": (_pickle_only, "can't be loaded: .*no file named model.safetensors"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "is no checkpoint"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "is no checkpoint"),
    "config of no model": (lambda folder: (folder / "config.json").write_text("{}"), "is no checkpoint"),
    "config of an unknown model": (lambda folder: edit_config(folder, model_type="nonesuch"), "is no checkpoint"),
    "config of the wrong type": (lambda folder: edit_config(folder, hidden_size="16"), "is no checkpoint"),
    "no classifier of that kind": (lambda folder: edit_config(folder, model_type="whisper"), "can't be loaded"),
    "truncated weights": (_truncated, "can't be loaded"),
    "other sizes": (lambda folder: edit_config(folder, hidden_size=32), "has no bert.* of the shape"),
    "other vocabulary": (lambda folder: edit_config(folder, vocab_size=60), "has no bert.*word_embeddings.weight"),
    "more layers": (lambda folder: edit_config(folder, num_hidden_layers=3), r"has no bert.encoder.layer.2\."),
    "a layer lacking": (_lacks_a_layer, r"has no bert.encoder.layer.1\."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_line(load, backbone, copy, name: str):
    """Some of these transformers loads without a word, with random weights where it found none."""
    damage, said = BROKEN[name]
    folder = copy(backbone("bert"))
    damage(folder)
    with pytest.raises(RaymcError, match=f"^model.backbone: {folder} {said}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_pickle_beside_the_weights_is_not_opened(load, backbone, copy):
    folder = copy(backbone("bert"))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04boom")
    assert changed(load(folder), load(backbone("bert"))) == set()


def test_a_folder_that_is_not_there(load, tmp_path: Path):
    assert "is no checkpoint" in refused(load, tmp_path / "gone")


@pytest.fixture
def pretrained(tmp_path: Path) -> list[Any]:
    """Backbones that raymc trains, as a spec has them."""
    (tmp_path / "train.txt").write_text("a text\n")
    architecture = {"model_type": "gpt2", "n_embd": 16}
    text = {"pretrain": "causal", "text": {"path": str(tmp_path / "train.txt")}, "architecture": architecture}
    return [{"builtin": "grammar-bert"}, text]


def test_a_backbone_that_was_never_pretrained(trial, store, pretrained):
    for one in pretrained:
        spec = trial(Path("x"), model={"backbone": one})
        with pytest.raises(RaymcError, match="is not in the store"):
            source(spec.model, store)


def test_a_backbone_that_was_pretrained_is_taken_from_the_store(trial, store, pretrained, text_backbone):
    for one in pretrained:
        spec = trial(Path("x"), model={"backbone": one, "kind": "causal"})
        key = backbone_key(spec.model.backbone)
        with store.create(layout.BACKBONES, key) as folder:
            shutil.copytree(text_backbone("gpt2"), folder, dirs_exist_ok=True)
        assert source(spec.model, store) == (str(store.folder(layout.BACKBONES, key)), None)
        assert load_model(spec, LABELS, store).config.model_type == "gpt2"


# Tokenizers ----------------------------------------------------------------------------------------------------------


def test_a_tokenizer_is_loaded(backbone, tokenizer):
    loaded = load_tokenizer(str(backbone("bert")))
    assert loaded("the cat", "a dog") == tokenizer("the cat", "a dog")


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_folder_without_a_tokenizer_is_refused(backbone, copy, content: str | None):
    """transformers makes a BERT tokenizer without a vocabulary from config.json alone."""
    folder = copy(backbone("bert"))
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(RaymcError, match=f"^no tokenizer in {folder}") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_pad_pads_with_its_end_of_text(load, backbone, copy, tokenizer, ids):
    folder = copy(backbone("gpt2"))
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="[SEP]")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    plain.save_pretrained(folder)
    edit_config(folder, pad_token_id=None)
    assert load_tokenizer(str(folder)).pad_token_id == 3
    model = load(folder).eval()
    assert model.config.pad_token_id == 3
    model(**ids)  # GPT-2 refuses batches without a padding token


def test_nothing_to_pad_with_is_refused(load, backbone, copy, tokenizer):
    folder = copy(backbone("gpt2"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(folder)
    edit_config(folder, pad_token_id=None, eos_token_id=None, bos_token_id=None)
    assert "names a padding token" in refused(load, folder)


def test_the_digest_of_a_tokenizer_is_of_its_vocabulary_not_of_its_last_use(backbone, tmp_path: Path):
    digests = []
    for length in (8, 16, None):
        loaded = load_tokenizer(str(backbone("bert")))
        if length:
            loaded(["the cat runs"], truncation=True, max_length=length, padding="max_length")
        loaded.save_pretrained(tmp_path / str(length))
        digests.append(tokenizer_digest(tmp_path / str(length)))
    assert len((tmp_path / "8" / "tokenizer.json").read_text()) > 0
    assert len(set(digests)) == 1
    assert len(digests[0]) == 20
    path = tmp_path / "8" / "tokenizer.json"
    path.write_text(path.read_text().replace('"cat"', '"cow"'))
    assert tokenizer_digest(tmp_path / "8") != digests[0]
    assert tokenizer_digest(tmp_path) == ""


def test_labels_of_a_saved_classifier(backbone):
    assert config_labels(backbone("classifier")) == LABELS


# LoRA ----------------------------------------------------------------------------------------------------------------


def lora(load, trial, folder: Path, seed: int = 0, **fields: Any) -> Any:
    spec = {"method": "lora", "rank": 2, **fields}
    return tuning.apply(load(folder), trial(folder, tuning=spec, seeds={"init": seed}))


def trained(model: Any) -> set[str]:
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name.removeprefix("base_model.model.").replace(".default", "") for name in names}


def test_lora_trains_its_factors_the_head_and_what_else_is_new(load, trial, backbone):
    query = {f"bert.encoder.layer.{i}.attention.self.query.lora_{x}.weight" for i in (0, 1) for x in "AB"}
    head = {f"classifier.modules_to_save.{x}" for x in ("weight", "bias")}
    pooler = {f"bert.pooler.dense.modules_to_save.{x}" for x in ("weight", "bias")}
    assert trained(lora(load, trial, backbone("bert"), targets=["query"])) == query | head
    assert trained(lora(load, trial, backbone("mlm"), targets=["query"])) == query | head | pooler
    assert trained(lora(load, trial, backbone("bert"))) > query | head


def test_lora_factors_come_from_the_seed_and_start_at_no_change(load, trial, backbone, ids):
    models = [lora(load, trial, backbone("bert"), seed) for seed in (1, 1, 2)]
    assert changed(models[0], models[1]) == set()
    differ = changed(models[0], models[2])
    assert differ
    assert all("lora_A" in name for name in differ)
    plain = load(backbone("bert")).eval()
    with torch.no_grad():
        assert torch.equal(models[0].eval()(**ids).logits, plain(**ids).logits)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6.0 / 4), (True, 6.0 / 2)])
def test_lora_scales_by_alpha_over_rank_or_its_root(load, trial, backbone, rslora: bool, scale: float):
    model = lora(load, trial, backbone("bert"), rank=4, alpha=6.0, rslora=rslora)
    scalings = [m.scaling["default"] for m in model.modules() if isinstance(getattr(m, "scaling", None), dict)]
    assert len(scalings) == 4
    assert set(scalings) == {scale}


def test_lora_targets_that_are_not_there_are_the_trials_fault(load, trial, backbone):
    with pytest.raises(TrainingFault, match=r"^tuning.targets: ") as caught:
        lora(load, trial, backbone("bert"), targets=["nonesuch"])
    assert "\n" not in str(caught.value)


def test_full_tuning_trains_everything(load, trial, backbone):
    model = load(backbone("bert"))
    assert tuning.apply(model, trial(backbone("bert"))) is model
    assert all(parameter.requires_grad for parameter in model.parameters())
