"""Models in bfloat16 with a head in fp32, against transformers' own parts put together by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from raymc.tasks.narrow import head_modules, narrow

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 3]])
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODELS: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=1, n_head=2)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=False, **SIZES)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ),
    "roberta": lambda: RobertaForSequenceClassification(
        RobertaConfig(vocab_size=40, max_position_embeddings=16, num_labels=3, **SIZES)
    ),
}


def made(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run(model: Any, name: str) -> torch.Tensor:
    with torch.inference_mode():
        more = {"decoder_input_ids": IDS} if name == "t5" else {}
        return model(input_ids=IDS, **more).logits


@pytest.mark.parametrize("name", MODELS)
def test_the_body_is_rounded_and_the_head_is_exact(name: str):
    """What the head is given is what the whole model in bfloat16 gives it; what it makes of that is fp32's."""
    plain = made(name)
    exact = {key: tensor.detach().clone() for key, tensor in plain.named_parameters()}
    rounded = {key: tensor.to(torch.bfloat16) for key, tensor in exact.items()}
    model, whole = copy.deepcopy(plain), copy.deepcopy(plain)
    narrow(model, rounded, exact)
    whole.to(torch.bfloat16)
    if name == "llama":  # angles of positions are no weights: bfloat16 would lose them
        assert model.model.rotary_emb.inv_freq.dtype == torch.float32
        whole.model.rotary_emb.load_state_dict(plain.model.rotary_emb.state_dict())
        whole.model.rotary_emb.inv_freq = plain.model.rotary_emb.inv_freq
    given: list[torch.Tensor] = []
    (head,), (wide,) = head_modules(whole), head_modules(plain)
    head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    run(whole, name)
    found = run(model, name)
    assert found.dtype == torch.float32
    assert given[0].dtype == torch.bfloat16
    with torch.inference_mode():
        assert torch.equal(found, wide(given[0].float()))
    assert not torch.equal(found, run(plain, name))
    body = [p for key, p in model.named_parameters() if not any(p is q for q in head_modules(model)[0].parameters())]
    assert body
    assert all(parameter.dtype == torch.bfloat16 for parameter in body)


def test_a_frozen_head_is_not_rounded_beside_what_is_interpolated():
    """LoRA on a tied model: the point has the factors alone."""
    plain = made("gpt2")
    weight = plain.lm_head.weight.detach().clone()
    model = get_peft_model(plain, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    exact = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    narrow(model, {key: tensor.to(torch.bfloat16) for key, tensor in exact.items()}, exact)
    inner = model.get_base_model()
    assert torch.equal(inner.lm_head.weight, weight)
    assert torch.equal(inner.transformer.wte.weight, weight.to(torch.bfloat16))
    assert {p.dtype for key, p in model.named_parameters() if "lora" in key} == {torch.bfloat16}
    assert [key for key, p in model.named_parameters() if p.requires_grad] == list(exact)
    assert run(model, "gpt2").dtype == torch.float32
