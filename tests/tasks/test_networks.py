from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from raymc.specs.errors import RaymcError
from raymc.specs.text import TextBackbone
from raymc.tasks import grammar
from raymc.tasks.networks import check_reload, network_of, tokenizer_of
from raymc.tasks.text_faults import text_faults

TEXTS = grammar.corpus(200)
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2}
LLAMA = {**BERT, "num_key_value_heads": 1}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("masked", "wordpiece", BERT),
    "roberta": ("masked", "bpe", BERT),
    "distilbert": ("masked", "wordpiece", {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}),
    "electra": ("masked", "wordpiece", {**BERT, "embedding_size": 16}),
    "t5": ("span", "unigram", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}),
    "bart": ("span", "bpe", {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}),
    "gpt2": ("causal", "bpe", GPT2),
    "llama": ("causal", "unigram", LLAMA),
    "qwen3": ("causal", "bpe", {**LLAMA, "head_dim": 8}),
}


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join(TEXTS))
    return folder


def spec(folder: Path, kind: str = "bert", **fields: Any) -> TextBackbone:
    objective, tokenizer, sizes = ARCHITECTURES.get(kind, ("causal", "bpe", LLAMA))
    plain: dict[str, Any] = {"pretrain": objective, "text": {"path": str(folder)}, "max_length": 24}
    if "start" not in fields:
        architecture = {"model_type": kind, **sizes, **fields.pop("sizes", {})}
        plain |= {"architecture": architecture, "tokenizer": {"kind": tokenizer, "vocab_size": 300}}
    return TextBackbone.model_validate(plain | fields)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures_fit_tokenizer_length_and_seed(text_folder: Path, kind: str):
    one = spec(text_folder, kind, dropout=0.25)
    assert list(text_faults(one)) == []
    tokenizer = tokenizer_of(one, TEXTS)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model = network_of(one, tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
    config = model.config
    assert (config.model_type, config.vocab_size) == (kind, len(tokenizer))
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.eos_token_id == tokenizer.eos_token_id
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} <= {0.25}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    check_reload(tokenizer, model, TEXTS[:20])
    torch.manual_seed(2)
    again, other = network_of(one, tokenizer), network_of(spec(text_folder, kind, seed=2, dropout=0.25), tokenizer)
    state, second = model.state_dict(), other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    assert not torch.equal(model.get_input_embeddings().weight, other.get_input_embeddings().weight)
    assert state.keys() == second.keys()
    ids = torch.full((1, 24), 20)
    inputs = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.no_grad():
        assert model.eval()(input_ids=ids, **inputs).logits.shape == (1, 24, len(tokenizer))
    if kind not in ("t5", "llama", "qwen3"):  # their positions are learned, and no more than asked for
        with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
            model(input_ids=torch.full((1, 25), 20), **inputs)


def test_token_types_are_made_where_the_network_reads_them(text_folder: Path):
    for kind, reads in {"bert": True, "distilbert": False}.items():
        one = spec(text_folder, kind)
        tokenizer = tokenizer_of(one, TEXTS)
        network_of(one, tokenizer)
        assert ("token_type_ids" in tokenizer("the baker", "the king")) == reads


FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("t5", {"pretrain": "masked"}, "architecture.model_type", "t5 is not for pretrain: masked (such as bert"),
    ("bert", {"pretrain": "causal"}, "architecture.model_type", "bert is not for pretrain: causal (such as gpt2"),
    ("bart", {"pretrain": "causal"}, "architecture.model_type", "bart is not for pretrain: causal"),
    ("gpt2", {"pretrain": "span"}, "architecture.model_type", "gpt2 is not for pretrain: span (such as t5 are)"),
    ("brt", {}, "architecture.model_type", "no language model of transformers is called 'brt'; did you mean bert?"),
    ("qwen2", {}, "architecture.model_type", "reads every tokenizer of a qwen2 folder as a Qwen2Tokenizer"),
    ("bert", {"sizes": {"hiden_size": 8}}, "architecture.hiden_size", "did you mean hidden_size?"),
    ("bert", {"sizes": {"vocab_size": 8}}, "architecture.vocab_size", "the tokenizer's"),
    ("bert", {"sizes": {"pad_token_id": 8}}, "architecture.pad_token_id", "the tokenizer's"),
    ("bert", {"sizes": {"hidden_size": 15}}, "architecture", "not a multiple of the number of attention heads"),
    ("bert", {"sizes": {"hidden_size": "big"}}, "architecture", "Field 'hidden_size' expected int"),
    ("bert", {"sizes": {"max_position_embeddings": 20}}, "max_length", "24 is more than the 20 positions"),
    ("gpt2", {"sizes": {"n_positions": 8}}, "max_length", "24 is more than the 8 positions"),
    ("gpt2", {"corruption": 0.3}, "corruption", "causal predicts every token"),
    ("bert", {"span_length": 2.0}, "span_length", "masked has no spans"),
    ("bert", {"text": {"path": "/absent"}}, "text.path", "no file or folder /absent"),
    ("bert", {"tokenizer": "/absent"}, "tokenizer", "no folder /absent"),
    ("bert", {"tokenizer": "a b"}, "tokenizer", "neither a folder"),
    ("bert", {"start": "/absent"}, "start", "no folder /absent"),
]


@pytest.mark.parametrize(("kind", "fields", "field", "message"), FAULTS)
def test_faults_are_named(text_folder: Path, kind: str, fields: dict[str, Any], field: str, message: str):
    found = list(text_faults(spec(text_folder, kind, **fields)))
    assert [place for place, _ in found] == [field]
    assert message in found[0][1]
    assert "\n" not in found[0][1]


def test_empty_text_and_folders_without_a_tokenizer(tmp_path: Path):
    (tmp_path / "train.txt").write_text("\n  \n")
    assert list(text_faults(spec(tmp_path))) == [("text.path", f"{tmp_path / 'train.txt'} holds no text")]
    (tmp_path / "train.txt").write_text("text\n")
    found = list(text_faults(spec(tmp_path, tokenizer=str(tmp_path))))
    assert found == [("tokenizer", f"{tmp_path} holds no tokenizer (tokenizer.json)")]


@pytest.mark.parametrize("fields", [{"sizes": {"hiden_size": 8}}, {"pretrain": "span"}, {"sizes": {"hidden_size": 15}}])
def test_a_run_refuses_what_no_look_has_found(text_folder: Path, fields: dict[str, Any]):
    one = spec(text_folder, **fields)
    with pytest.raises(RaymcError, match="architecture"):
        network_of(one, tokenizer_of(one, TEXTS))


def test_a_start_brings_its_tokenizer_and_weights(text_folder: Path, backbone):
    folder = backbone("mlm")
    one = spec(text_folder, start=str(folder), dropout=0.3, max_length=8)
    assert list(text_faults(one)) == []
    tokenizer = tokenizer_of(one, TEXTS)
    model = network_of(one, tokenizer)
    kept = AutoModelForMaskedLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert tokenizer("the cat")["input_ids"][0] == 2
    assert model.config.hidden_dropout_prob == 0.3


def test_a_head_that_the_start_lacks_comes_from_the_seed(text_folder: Path, backbone):
    folder = str(backbone("bert"))  # an encoder alone
    tokenizer = tokenizer_of(spec(text_folder, start=folder, max_length=8), TEXTS)
    first, again, other = (
        network_of(spec(text_folder, start=folder, max_length=8, seed=seed), tokenizer).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert changed == {"cls.predictions.transform.dense.weight"}


def test_starts_that_do_not_fit(text_folder: Path, backbone):
    too_long = spec(text_folder, start=str(backbone("mlm")), max_length=512)
    assert [field for field, _ in text_faults(too_long)] == ["max_length"]
    with pytest.raises(RaymcError, match="max_length: 512 is more than the network's"):
        network_of(too_long, tokenizer_of(too_long, TEXTS))
    encoder = spec(text_folder, start=str(backbone("mlm")), pretrain="causal", max_length=8)
    assert [field for field, _ in text_faults(encoder)] == ["start"]
    with pytest.raises(RaymcError, match="start: bert is not for pretrain: causal"):
        network_of(encoder, tokenizer_of(encoder, TEXTS))
