"""What trains under each method, from which draws, and how a wrong setting is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from raymc.specs.errors import RaymcError
from raymc.tasks import tuning
from raymc.tasks.backbones import load_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("no", "maybe", "yes")


@pytest.fixture
def tuned(trial, store) -> Callable[..., Any]:
    """tuned(folder, how, kind, seeds={...}, **task): a model made ready to train."""

    def make(folder: Path, how: dict[str, Any], kind: str = "classifier", seeds: Any = None, **task: Any) -> Any:
        one = trial(folder, model={"kind": kind}, tuning=how, seeds=seeds or {}, task=task)
        return tuning.apply(load_model(one, LABELS, store), one)

    return make


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(RaymcError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


DRAWN = [
    {"method": "lora", "rank": 2},
    {"method": "houlsby", "bottleneck": 3},
    {"method": "prefix", "tokens": 3},
    {"method": "prompt", "tokens": 3},
    {"method": "peft", "type": "LOHA", "config": {"r": 2}},
]


@pytest.mark.parametrize("how", DRAWN, ids=lambda how: how["method"])
def test_new_tensors_are_drawn_from_the_init_seed_and_the_head_from_its_own(tuned, backbone, how):
    plain = trained(tuned(backbone("bert"), how))
    torch.manual_seed(99)  # what was drawn elsewhere changes nothing
    again = trained(tuned(backbone("bert"), how, seeds={"order": 5, "dropout": 6}))
    init = trained(tuned(backbone("bert"), how, seeds={"init": 1}))
    head = trained(tuned(backbone("bert"), how, seeds={"head": 1}))
    heads = {name for name in plain if "classifier" in name and name.endswith("weight")}
    assert heads
    assert all(torch.equal(tensor, again[name]) for name, tensor in plain.items())
    assert all(torch.equal(plain[name], init[name]) and not torch.equal(plain[name], head[name]) for name in heads)
    others = plain.keys() - heads
    assert all(torch.equal(plain[name], head[name]) for name in others)
    assert any(not torch.equal(plain[name], init[name]) for name in others)


def test_bitfit_trains_biases_the_head_and_what_is_new(tuned, backbone):
    names = set(trained(tuned(backbone("mlm"), {"method": "bitfit"})))
    everything = {name for name, _ in tuned(backbone("mlm"), {"method": "full"}).named_parameters()}
    new = {"classifier.weight", "bert.pooler.dense.weight"}
    assert names == {name for name in everything if name.endswith(".bias")} | new


def test_a_prompt_starts_at_tokens_of_the_vocabulary_and_is_one_set_of_them(tuned, text_backbone):
    folder = text_backbone("t5")
    model = tuned(folder, {"method": "prompt", "tokens": 5}, "seq2seq")
    ((name, prompt),) = trained(model).items()
    assert name == "prompt_encoder.default.embedding.weight"
    assert prompt.shape == (5, 16)
    vocabulary = load_file(folder / "model.safetensors")["shared.weight"]
    assert all((vocabulary == row).all(1).any() for row in prompt)


def test_a_prefix_is_the_keys_and_values_of_every_layer(tuned, text_backbone):
    model = tuned(text_backbone("llama"), {"method": "prefix", "tokens": 5}, "causal")
    ((_, prefix),) = trained(model).items()
    assert prefix.shape == (5, 2 * 2 * 2 * 4)  # layers x (key, value) x their heads x the heads' size


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_take_positions(tuned, backbone, method: str):
    for folder in (backbone("bert"), backbone("roberta")):
        tuned(folder, {"method": method, "tokens": 8}, max_length=16)  # of 24
        message = refused(lambda folder=folder: tuned(folder, {"method": method, "tokens": 9}, max_length=16))
        assert message == (
            "tuning.method: 9 virtual tokens and rows of 16 are more than the model's 24 positions; "
            "use task.max_length: 15 or fewer tokens"
        )


def test_ia3_takes_targets_and_which_of_them_are_feed_forward(tuned, backbone):
    how = {"method": "ia3", "targets": ["value", "intermediate.dense"], "feedforward": ["intermediate.dense"]}
    shapes = {name.split(".layer.0.")[-1]: tuple(p.shape) for name, p in trained(tuned(backbone("bert"), how)).items()}
    assert shapes["attention.self.value.ia3_l.default"] == (16, 1)  # of the outputs
    assert shapes["intermediate.dense.ia3_l.default"] == (1, 16)  # of the inputs
    with pytest.raises(ValidationError, match="value is not among targets"):
        tuned(backbone("bert"), {"method": "ia3", "targets": ["key"], "feedforward": ["value"]})


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("LORAA", {}, "tuning.type: peft has no 'LORAA'; did you mean "),
        ("quux", {}, "tuning.type: peft has no 'quux'; it has ADALORA, "),
        ("LOHA", {"rank": 2}, "tuning.config.rank: LoHaConfig has no such field"),
        ("LOHA", {"alpa": 2}, "tuning.config.alpa: LoHaConfig has no such field; did you mean alpha?"),
        ("LOHA", {"task_type": "CAUSAL_LM"}, "tuning.config.task_type: set by raymc"),
        ("LOHA", {"target_modules": ["nonesuch"]}, "tuning.config: No modules were targeted"),
        ("ADALORA", {}, "tuning.config: AdaLoRA does not work when `total_step` is None"),
        ("PROMPT_TUNING", {"tokenizer_name_or_path": "x"}, "tuning.config.tokenizer_name_or_path: a file's content"),
        ("OSF", {}, "tuning.method: OSF doesn't fit: it changes the frozen weights"),
        ("LILY", {}, "tuning.method: LILY doesn't fit: its router averages over the tokens of a batch"),
        ("TRAINABLE_TOKENS", {"token_indices": [5]}, "tuning.type: TRAINABLE_TOKENS trains no classification head"),
        ("LORA", {"init_lora_weights": "pissa"}, "tuning.config: it changes the frozen bert.encoder.layer.0."),
    ],
)
def test_a_config_that_peft_or_we_refuse(tuned, backbone, kind: str, config: dict[str, Any], said: str):
    message = refused(lambda: tuned(backbone("bert"), {"method": "peft", "type": kind, "config": config}))
    assert message.startswith(said)


def test_modules_that_a_config_names_are_saved_beside_the_head(tuned, backbone):
    how = {"method": "peft", "type": "LOHA", "config": {"r": 2, "modules_to_save": ["word_embeddings"]}}
    names = {name for name in trained(tuned(backbone("mlm"), how)) if "modules_to_save" in name}
    assert {name.split(".modules_to_save")[0].split(".")[-1] for name in names} == {
        "classifier",
        "word_embeddings",
        "dense",  # the pooler's
    }


@pytest.mark.parametrize("how", [DRAWN[0], DRAWN[1], DRAWN[2]], ids=lambda how: how["method"])
def test_a_state_that_was_gathered_is_what_is_saved(trial, store, backbone, tmp_path: Path, how):
    """Not the model's own tensors, which are shards under FSDP."""
    one = trial(backbone("bert"), tuning=how)
    model = tuning.apply(load_model(one, LABELS, store), one)
    state = {name: torch.full_like(tensor, 2.0) for name, tensor in model.state_dict().items()}
    tuning.save(model, one, tmp_path, state)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert len(saved) > 2
    assert all((tensor == 2.0).all() for tensor in saved.values())


def test_an_adapters_folder_names_its_backbone(trial, store, backbone, tmp_path: Path):
    one = trial(backbone("bert"), tuning={"method": "lora"})
    model = tuning.apply(load_model(one, LABELS, store), one)
    tuning.save(model, one, tmp_path, model.state_dict())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(backbone("bert"))
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_an_existing_minimum_is_not_trained(trial, store, backbone):
    one = trial(backbone("classifier"), tuning={"method": "existing"})
    message = refused(lambda: tuning.apply(load_model(one, LABELS, store), one))
    assert message == "tuning.method: a minimum that exists already is not trained"
