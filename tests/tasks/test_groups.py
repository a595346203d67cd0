"""Groups and kinds of tensors, told by the names that transformers and peft give them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from raymc.specs.errors import RaymcError
from raymc.tasks.groups import group_of, kind_of, moves

SMALL = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 11}
CONFIGS: dict[str, Any] = {
    "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(**SMALL)),
    "roberta": lambda: tf.RobertaForSequenceClassification(tf.RobertaConfig(**SMALL)),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(
        tf.DistilBertConfig(dim=8, n_layers=3, n_heads=2, hidden_dim=8, vocab_size=11)
    ),
    "t5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=3, num_heads=2, vocab_size=11)
    ),
    "gpt2": lambda: tf.GPT2ForSequenceClassification(tf.GPT2Config(n_embd=8, n_layer=3, n_head=2, vocab_size=11)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL)),
    "bart": lambda: tf.BartForConditionalGeneration(
        tf.BartConfig(
            d_model=8,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            vocab_size=11,
        )
    ),
}
# Blocks' groups, sublayers of the first block (and, of two stacks, of the decoder's), and groups outside of blocks.
EXPECTED = {
    "bert": (["bert.encoder.layer.{}"], ["attention", "feedforward"], {"embeddings", "head", "bert.pooler.dense"}),
    "roberta": (["roberta.encoder.layer.{}"], ["attention", "feedforward"], {"embeddings", "head"}),
    "distilbert": (["distilbert.transformer.layer.{}"], ["attention", "feedforward"], {"embeddings", "pre_classifier"}),
    "t5": (["encoder.block.{}", "decoder.block.{}"], ["layer.0", "layer.1"], {"embeddings"}),
    "gpt2": (["transformer.h.{}"], ["attention", "feedforward"], {"embeddings", "head", "transformer.ln_f"}),
    "llama": (["model.layers.{}"], ["attention", "feedforward"], {"embeddings", "head", "model.norm"}),
    "bart": (["model.encoder.layers.{}", "model.decoder.layers.{}"], ["attention", "feedforward"], {"embeddings"}),
}


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    with torch.device("meta"):
        return {kind: [name for name, _ in make().named_parameters()] for kind, make in CONFIGS.items()}


@pytest.mark.parametrize("kind", CONFIGS)
def test_groups_of_an_architecture(names, kind: str):
    stacks, sublayers, outside = EXPECTED[kind]
    blocks = {stack.format(number) for stack in stacks for number in range(3)}
    found = {group_of(name, "block") for name in names[kind]}
    assert blocks | outside <= found
    assert len(found - blocks) <= 5
    first = {group_of(name, "sublayer") for name in names[kind] if group_of(name, "block") == stacks[0].format(0)}
    assert first == {f"{stacks[0].format(0)}.{sublayer}" for sublayer in sublayers}
    if len(stacks) > 1:
        decoder = {group_of(name, "sublayer") for name in names[kind] if name.startswith(stacks[1].format(0))}
        assert len(decoder) == 3  # and cross-attention
    assert [group_of(name, "tensor") for name in names[kind]] == names[kind]


@pytest.mark.parametrize(
    ("name", "kind", "sublayer"),
    [
        ("bert.embeddings.word_embeddings.weight", "embeddings", "embeddings"),
        ("bert.embeddings.LayerNorm.bias", "norms", "embeddings"),
        ("bert.encoder.layer.4.attention.self.query.bias", "attention", "bert.encoder.layer.4.attention"),
        ("bert.encoder.layer.4.attention.output.LayerNorm.bias", "norms", "bert.encoder.layer.4.attention"),
        ("bert.encoder.layer.4.output.LayerNorm.bias", "norms", "bert.encoder.layer.4.feedforward"),
        ("bert.encoder.layer.4.output.dense.weight", "feedforward", "bert.encoder.layer.4.feedforward"),
        ("bert.pooler.dense.weight", "other", "bert.pooler.dense"),
        ("classifier.out_proj.weight", "head", "head"),
        ("shared.weight", "embeddings", "embeddings"),
        ("encoder.final_layer_norm.weight", "norms", "encoder.final_layer_norm"),
        (
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "attention",
            "encoder.block.0.layer.0",
        ),
        ("decoder.block.1.layer.1.EncDecAttention.k.weight", "attention", "decoder.block.1.layer.1"),
        ("decoder.block.1.layer.2.DenseReluDense.wo.weight", "feedforward", "decoder.block.1.layer.2"),
        ("transformer.h.1.ln_1.weight", "norms", "transformer.h.1.attention"),
        ("transformer.h.1.ln_2.weight", "norms", "transformer.h.1.feedforward"),
        ("transformer.h.1.mlp.c_proj.weight", "feedforward", "transformer.h.1.feedforward"),
        ("model.layers.2.input_layernorm.weight", "norms", "model.layers.2.attention"),
        ("model.layers.2.post_attention_layernorm.weight", "norms", "model.layers.2.feedforward"),
        ("model.layers.2.self_attn.q_norm.weight", "norms", "model.layers.2.attention"),
        ("lm_head.weight", "head", "head"),
        ("transformer.layer.0.sa_layer_norm.weight", "norms", "transformer.layer.0.attention"),
        ("transformer.layer.0.ffn.lin1.weight", "feedforward", "transformer.layer.0.feedforward"),
        (
            "model.decoder.layers.0.encoder_attn.q_proj.weight",
            "attention",
            "model.decoder.layers.0.cross_attention",
        ),
        (
            "base_model.model.bert.encoder.layer.1.attention.self.query.lora_A.default.weight",
            "attention",
            "bert.encoder.layer.1.attention",
        ),
        ("base_model.model.classifier.modules_to_save.default.weight", "head", "head"),
        ("bert.encoder.layer.1.output.dense.houlsby.up.weight", "feedforward", "bert.encoder.layer.1.feedforward"),
        ("classifier.0.weight", "head", "head"),
    ],
)
def test_kinds_and_sublayers(name: str, kind: str, sublayer: str):
    assert kind_of(name) == kind
    assert group_of(name, "sublayer") == sublayer


def test_what_moves(names):
    every = names["bert"]
    moved = [name for name, goes in zip(every, moves(every, ("attention",), (1, 2)), strict=True) if goes]
    assert {".".join(name.split(".")[:4]) for name in moved} == {"bert.encoder.layer.1", "bert.encoder.layer.2"}
    assert {name.split(".")[4] for name in moved} == {"attention"}
    assert len(moved) == 2 * 8  # query, key, value and output, each with a bias; not the norm
    assert all(moves(every, (), ()))
    head = [name for name, goes in zip(every, moves(every, ("head", "embeddings"), ()), strict=True) if goes]
    assert [name.split(".")[-2] for name in head] == [
        "word_embeddings",
        "position_embeddings",
        "token_type_embeddings",
        *["classifier"] * 2,
    ]
    both = sum(moves(names["t5"], (), (0,)))
    assert both == sum(".block.0." in name for name in names["t5"])  # of encoder and decoder
    parts = [moves(every, (kind,), ()) for kind in ("attention", "feedforward", "embeddings", "norms", "head")]
    assert [sum(column) for column in zip(*parts, strict=True)] == ["pooler" not in name for name in every]


def test_what_cannot_move_is_said(names):
    with pytest.raises(RaymcError, match=r"curve.layers: no block 3 \(there are 0, 1, 2\)"):
        moves(names["bert"], (), (1, 3))
    with pytest.raises(RaymcError, match=r"curve.moves: no interpolated tensor is of head in block 1 \(there are att"):
        moves(names["bert"], ("head",), (1,))
    with pytest.raises(RaymcError, match=r"no block 0 \(none is interpolated\)"):
        moves(["classifier.weight"], (), (0,))
    with pytest.raises(ValueError, match="no level"):
        group_of("classifier.weight", "neuron")
