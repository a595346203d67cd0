"""Copies of networks with heads and neurons in another order: far apart as weights, the same once aligned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from raymc.landscape.barriers import entezari
from raymc.landscape.curves import Linear
from raymc.landscape.matching import permuted
from raymc.specs.errors import RaymcError
from raymc.tasks import alignment, symmetries, tuning
from raymc.tasks.alignment import align
from raymc.tasks.backbones import load_model
from raymc.tasks.points import PointModel

LABELS = ("no", "maybe", "yes")
Views = dict[str, torch.Tensor]
CLASSES = {
    "classifier": AutoModelForSequenceClassification,
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
T = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture
def opened(backbone, text_backbone, trial, store) -> Callable[..., PointModel]:
    """opened("bert"): a tiny network of 4 or 6 heads as a point; every weight, bias and gain in it is random."""

    def make(name: str) -> PointModel:
        if name == "bert":
            folder, kind = backbone("classifier", num_attention_heads=4), "classifier"
        elif name.startswith("t5"):
            gate = "gated-gelu" if name == "t5-gated" else "relu"
            folder, kind = text_backbone("t5", num_heads=4, d_kv=4, feed_forward_proj=gate), "seq2seq"
        elif name == "gpt2":
            folder, kind = text_backbone("gpt2", n_head=4), "causal"
        else:
            sizes = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 3}
            folder, kind = text_backbone(name, **sizes), "causal"
        return scattered(PointModel(folder, trial(folder, model={"kind": kind}), LABELS, "weights", store))

    return make


def scattered(model: PointModel) -> PointModel:
    """With random biases and gains too, so that the order of each of them matters."""
    model.flat.add_(0.3 * drawn(model, 0))
    return model


def drawn(model: PointModel, seed: int) -> torch.Tensor:
    """A point that has nothing to do with the model's."""
    generator, vector = torch.Generator().manual_seed(seed), torch.zeros_like(model.flat)
    for tensor in model.views(vector).values():
        tensor.normal_(generator=generator)
    return vector


# Orders, written by hand for each architecture -----------------------------------------------------------------------

HEADS = ([2, 0, 3, 1], [1, 2, 3, 0], [3, 2, 1, 0], [1, 0, 3, 2])
NEURONS = [torch.randperm(64, generator=torch.Generator().manual_seed(seed)).tolist() for seed in range(4)]


def neurons(layer: int, count: int) -> list[int]:
    return [n for n in NEURONS[layer] if n < count]


def bert(v: Views) -> None:
    for i in range(2):
        at, h, n = f"bert.encoder.layer.{i}.", HEADS[i], neurons(i, 32)
        for part in ("query", "key", "value"):
            weight, bias = v[f"{at}attention.self.{part}.weight"], v[f"{at}attention.self.{part}.bias"]
            weight.copy_(weight.reshape(4, 4, 16)[h].reshape(16, 16))
            bias.copy_(bias.reshape(4, 4)[h].flatten())
        out = v[f"{at}attention.output.dense.weight"]
        out.copy_(out.reshape(16, 4, 4)[:, h].reshape(16, 16))
        for name in ("intermediate.dense.weight", "intermediate.dense.bias"):
            v[at + name].copy_(v[at + name][n])
        v[f"{at}output.dense.weight"].copy_(v[f"{at}output.dense.weight"][:, n])


def t5(v: Views) -> None:
    for s, stack in enumerate(("encoder", "decoder")):
        table = v[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        table.copy_(table[:, HEADS[s]])
        for i in range(2):
            attentions = [(f"{stack}.block.{i}.layer.0.SelfAttention.", HEADS[s])]
            if stack == "decoder":
                attentions.append((f"decoder.block.{i}.layer.1.EncDecAttention.", HEADS[2 + i]))
            for at, h in attentions:
                for part in "qkv":
                    v[f"{at}{part}.weight"].copy_(v[f"{at}{part}.weight"].reshape(4, 4, 16)[h].reshape(16, 16))
                v[f"{at}o.weight"].copy_(v[f"{at}o.weight"].reshape(16, 4, 4)[:, h].reshape(16, 16))
            at, n = f"{stack}.block.{i}.layer.{1 + s}.DenseReluDense.", neurons(2 * s + i, 32)
            for up in ("wi", "wi_0", "wi_1"):
                if f"{at}{up}.weight" in v:
                    v[f"{at}{up}.weight"].copy_(v[f"{at}{up}.weight"][n])
            v[f"{at}wo.weight"].copy_(v[f"{at}wo.weight"][:, n])


def gpt2(v: Views) -> None:
    for i in range(2):
        at, h, n = f"transformer.h.{i}.", HEADS[i], neurons(i, 64)
        weight, bias, out = (v[f"{at}attn.{name}"] for name in ("c_attn.weight", "c_attn.bias", "c_proj.weight"))
        weight.copy_(weight.reshape(16, 3, 4, 4)[:, :, h].reshape(16, 48))
        bias.copy_(bias.reshape(3, 4, 4)[:, h].flatten())
        out.copy_(out.reshape(4, 4, 16)[h].reshape(16, 16))
        v[f"{at}mlp.c_fc.weight"].copy_(v[f"{at}mlp.c_fc.weight"][:, n])
        for name in ("mlp.c_fc.bias", "mlp.c_proj.weight"):
            v[at + name].copy_(v[at + name][n])


def llama(v: Views) -> None:
    """3 keys and values, of 2 queries each; qwen2 has biases."""
    for i in range(2):
        at, n = f"model.layers.{i}.", neurons(i, 32)
        groups = ([2, 0, 1], [1, 2, 0])[i]
        queries = [2 * g + q for g in groups for q in ((1, 0) if g % 2 == i else (0, 1))]
        for part, h in (("q", queries), ("k", groups), ("v", groups)):
            for name in ("weight", "bias"):
                if (tensor := v.get(f"{at}self_attn.{part}_proj.{name}")) is not None:
                    tensor.copy_(tensor.reshape(len(h), 4, -1)[h].reshape(tensor.shape))
        out = v[f"{at}self_attn.o_proj.weight"]
        out.copy_(out.reshape(24, 6, 4)[:, queries].reshape(24, 24))
        for name in ("gate_proj", "up_proj"):
            v[f"{at}mlp.{name}.weight"].copy_(v[f"{at}mlp.{name}.weight"][n])
        v[f"{at}mlp.down_proj.weight"].copy_(v[f"{at}mlp.down_proj.weight"][:, n])


REORDER = {"bert": bert, "t5": t5, "t5-gated": t5, "gpt2": gpt2, "llama": llama, "qwen2": llama}


def reordered(name: str, model: PointModel) -> torch.Tensor:
    vector = model.flat.clone()
    REORDER[name](model.views(vector))
    return vector


# What a network computes ---------------------------------------------------------------------------------------------


def outputs(model: PointModel, vector: torch.Tensor) -> torch.Tensor:
    """Logits of 24 random rows of 9 tokens, one a row or a token; writes the vector into the model."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(4, model.model.get_input_embeddings().num_embeddings, (24, 9), generator=generator)
    more = {"decoder_input_ids": ids.flip(1)} if model.model.config.is_encoder_decoder else {}
    model.flat.copy_(vector)
    model.refresh()
    with torch.inference_mode():
        logits = model.model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits
    return logits.flatten(0, -2)


def barrier(model: PointModel, a: torch.Tensor, b: torch.Tensor) -> float:
    """Entezari's, in nats of cross-entropy, on the labels that a's network itself finds likeliest."""
    labels, curve, point = outputs(model, a).argmax(-1), Linear(a, b), torch.empty_like(a)
    losses = []
    for t in T:
        curve.point(t, point)
        losses.append(torch.nn.functional.cross_entropy(outputs(model, point), labels).item())
    return entezari(T, losses)


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(RaymcError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Tests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REORDER)
def test_a_copy_in_another_order_has_a_high_barrier_and_none_once_aligned(opened, name: str):
    model = opened(name)
    a, b = model.flat.clone(), reordered(name, model)
    assert torch.allclose(outputs(model, a), outputs(model, b), rtol=1e-3, atol=1e-3)  # the same function
    assert barrier(model, a, b) > 0.5
    moved = align(model, a, b)
    assert torch.equal(moved, a)
    assert barrier(model, a, moved) < 1e-5
    same = align(model, a, a)
    assert torch.equal(same, a)
    assert same is not a


@pytest.mark.parametrize("name", ["bert", "t5-gated", "llama"])
def test_another_minimum_comes_nearer_and_computes_the_same(opened, name: str):
    """From the copy in another order the same result is reached as from the original."""
    model = opened(name)
    b, shuffled = model.flat.clone(), reordered(name, model)
    a = drawn(model, 1)
    kept = a.clone(), shuffled.clone(), model.flat.clone()
    moved = align(model, a, shuffled)
    assert all(torch.equal(x, y) for x, y in zip(kept, (a, shuffled, model.flat), strict=True))
    assert torch.equal(moved, align(model, a, b))
    assert torch.equal(moved, align(model, a, moved))
    assert (moved - a).norm() < min((b - a).norm(), (shuffled - a).norm())
    assert torch.allclose(outputs(model, moved), outputs(model, b), rtol=1e-3, atol=1e-3)


def test_heads_and_neurons_are_aligned_apart(opened):
    model = opened("bert")
    a, b = model.flat.clone(), reordered("bert", model)
    heads, ours = align(model, a, b, ("heads",)), model.views(a)
    for name, tensor in model.views(heads).items():
        feed_forward = ".intermediate." in name or (".output.dense.weight" in name and "attention" not in name)
        assert torch.equal(tensor, ours[name]) == (not feed_forward)
    assert not torch.equal(heads, a)
    assert torch.equal(align(model, a, heads, ("neurons",)), a)
    for what in ((), ("layers",)):
        with pytest.raises(ValueError, match="heads, neurons or both"):
            align(model, a, b, what)


def test_a_model_that_computes_in_bfloat16_aligns_in_float32(opened):
    model = opened("gpt2")
    a, b = model.flat.clone(), reordered("gpt2", model)
    model.to("cpu", "bf16")
    assert torch.equal(align(model, a, b), a)


SIZES = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
GROUPED = {**BERT, "num_key_value_heads": 2, "head_dim": 4}
T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    **{f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 2), ("ffn_dim", 24))},
    "d_model": 16,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "decoder_start_token_id": 2,
}
NETWORKS: list[tuple[str, str, dict[str, Any], dict[str, int]]] = [  # type, kind, sizes, blocks to be found
    *[(name, "classifier", BERT, {"heads": 2, "neurons": 2}) for name in ("roberta", "xlm-roberta", "camembert")],
    ("bert", "causal", {**BERT, "is_decoder": True}, {"heads": 2, "neurons": 2}),
    ("electra", "classifier", BERT, {"heads": 2, "neurons": 2}),
    (
        "distilbert",
        "classifier",
        {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
        {"heads": 2, "neurons": 2},
    ),
    (
        "deberta-v2",
        "classifier",
        {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        {"heads": 2, "neurons": 2},
    ),
    (
        "deberta-v2",
        "classifier",
        {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": True},
        {"heads": 2, "neurons": 2},
    ),
    ("albert", "classifier", {**BERT, "embedding_size": 8}, {"heads": 1, "neurons": 1}),
    ("gpt2", "classifier", {"n_embd": 16, "n_layer": 2, "n_head": 4}, {"heads": 2, "neurons": 2}),
    ("gpt_neox", "causal", BERT, {"heads": 2, "neurons": 2}),
    ("opt", "causal", {**BERT, "ffn_dim": 24, "word_embed_proj_dim": 16}, {"heads": 2, "neurons": 2}),
    *[(name, "causal", GROUPED, {"heads": 2, "neurons": 2}) for name in ("mistral", "qwen3", "gemma")],
    ("llama", "classifier", {**GROUPED, "attention_bias": True}, {"heads": 2, "neurons": 2}),
    ("qwen2", "classifier", {**GROUPED, "num_key_value_heads": 4}, {"heads": 2, "neurons": 2}),
    ("t5", "classifier", T5, {"heads": 4, "neurons": 4}),
    ("mt5", "seq2seq", {**T5, "feed_forward_proj": "gated-gelu"}, {"heads": 4, "neurons": 4}),
    ("umt5", "seq2seq", {**T5, "feed_forward_proj": "gated-gelu"}, {"heads": 6, "neurons": 4}),
    ("bart", "classifier", BART, {"heads": 6, "neurons": 4}),
    ("mbart", "seq2seq", BART, {"heads": 6, "neurons": 4}),
]


@pytest.mark.parametrize(("name", "kind", "sizes", "blocks"), NETWORKS)
def test_every_architecture_computes_the_same_once_aligned(tmp_path: Path, trial, store, name, kind, sizes, blocks):
    """align itself raises where it doesn't. Every block moves here, as a's units are b's, the last one first."""
    config = AutoConfig.for_model(name, **{**SIZES, "max_position_embeddings": 24, **sizes})
    model = scattered(_point(tmp_path, CLASSES[kind].from_config(config), trial, store, kind))
    b, a = model.flat.clone(), model.flat.clone()
    ours, theirs = model.views(a), model.views(b)
    found = symmetries.symmetries(config, dict(zip(model.names, model.shapes, strict=True)))
    assert {what: sum(block.what == what for block in found) for what in blocks} == blocks
    touched = [axis.name for block in found for axis in (*block.axes, *block.inner)]
    assert len(touched) == len(set(touched))
    for block in found:
        backwards = torch.arange(block.count * block.within).flip(0)
        for axes, order in ((block.axes, backwards[-block.count :]), (block.inner, backwards)):
            for axis in axes:
                ours[axis.name].copy_(permuted(theirs[axis.name], axis, order))
        assert all(block.count * block.within == 1 or not torch.equal(ours[x.name], theirs[x.name]) for x in block.axes)
    assert torch.equal(align(model, a, b), a)


def test_every_known_architecture_is_tested():
    assert {name for name, *_ in NETWORKS} == set(symmetries.RULES)


def _point(folder: Path, model: Any, trial, store, kind: str) -> PointModel:
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.normal_(std=0.3)
    model.save_pretrained(folder)
    return PointModel(folder, trial(folder, model={"kind": kind}), LABELS, "weights", store)


@pytest.mark.parametrize("fault", ["readers", "values", "biases", "parts", "groups", "tables"])
def test_a_wrong_rule_is_found_by_changed_outputs(opened, monkeypatch, fault: str):
    name, change = {
        "readers": ("bert", {"columns": "nothing"}),
        "values": ("bert", {"rows": r"self\.(?:query|key)\.(?:weight|bias)"}),
        "biases": ("bert", {"rows": r"self\.(?:query|key|value)\.weight"}),
        "parts": ("gpt2", {"parts": 1}),
        "groups": ("llama", {"shared": r"k_proj\.weight"}),
        "tables": ("t5", {}),
    }[fault]
    heads, *rest = symmetries.RULES[name]
    wrong = symmetries.RULES["umt5"] if fault == "tables" else (replace(heads, **change), *rest)
    monkeypatch.setitem(symmetries.RULES, name, wrong)
    model = opened(name)
    b = model.flat.clone()
    a = drawn(model, 1)
    message = refused(lambda: align(model, a, b))
    assert f"aligning a minimum of type {name} changes its outputs by" in message


def test_what_cannot_be_aligned_is_refused(opened, monkeypatch):
    model = opened("bert")
    a, b = model.flat.clone(), reordered("bert", model)
    broken = b.clone()
    broken[3] = float("nan")
    assert "aren't finite" in refused(lambda: align(model, a, broken))
    monkeypatch.setattr(model.model.config, "model_type", "xlnet")
    message = refused(lambda: align(model, a, b))
    assert "of type xlnet can't be aligned" in message
    assert "albert, bart, bert, camembert" in message
    monkeypatch.setattr(model.model.config, "model_type", "gpt2")
    assert "their tensors have other names" in refused(lambda: align(model, a, b))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_factors_are_refused_and_merged_weights_aligned(tmp_path, backbone, trial, store):
    spec = trial(backbone("classifier", num_attention_heads=4), tuning={"method": "lora", "rank": 2, "alpha": 6.0})
    model = tuning.apply(load_model(spec, LABELS, store), spec)
    tuning.save(model, spec, tmp_path / "minimum", model.state_dict())
    point = PointModel(tmp_path / "minimum", spec, LABELS, "factors", store)
    assert "use connectivity.space: delta_w" in refused(lambda: align(point, point.flat, point.flat))
    point = scattered(PointModel(tmp_path / "minimum", spec, LABELS, "delta_w", store))
    assert torch.equal(align(point, point.flat, reordered("bert", point)), point.flat)


def test_outputs_are_compared_on_whole_and_padded_rows(opened):
    for name in ("bert", "t5", "gpt2"):
        inputs = alignment._batch(opened(name).model)
        lengths = inputs["attention_mask"].sum(1).tolist()
        assert lengths == [12, 12, 6]
        assert all(x >= y for row in inputs["attention_mask"] for x, y in pairwise(row.tolist()))
        assert (inputs["input_ids"] < opened(name).model.get_input_embeddings().num_embeddings).all()
        assert ("decoder_input_ids" in inputs) == (name == "t5")
