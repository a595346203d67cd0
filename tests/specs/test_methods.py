"""Which methods a spec alone shows not to fit, with no weights at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raymc.specs.methods import UNFIT_PEFT, method_fault, peft_type, virtual_tokens
from raymc.specs.trial import TrialSpec

BITFIT = {"method": "bitfit"}
PREFIX = {"method": "prefix", "tokens": 8}
PROMPT = {"method": "prompt", "tokens": 8}
BUILT_IN = {"builtin": "grammar-bert"}


def trial(tuning: dict[str, Any], backbone: Any, kind: str = "classifier", max_length: int = 16) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "model": {"kind": kind, "backbone": backbone},
            "task": {"dataset": {"builtin": "grammar"}, "max_length": max_length},
            "tuning": tuning,
        }
    )


@pytest.fixture
def folder(tmp_path: Path):
    def make(**config: Any) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    return make


@pytest.mark.parametrize(
    ("tuning", "config", "kind", "said"),
    [
        (BITFIT, {"model_type": "t5"}, "seq2seq", "bitfit doesn't fit t5: it has no biases; use ia3 or lora"),
        (BITFIT, {"model_type": "llama"}, "causal", "bitfit doesn't fit llama: it has no biases; use ia3 or lora"),
        (BITFIT, {"model_type": "llama", "attention_bias": True}, "causal", None),
        (BITFIT, {"model_type": "qwen2"}, "causal", None),
        (BITFIT, {"model_type": "bert"}, "classifier", None),
        (PREFIX, {"model_type": "t5"}, "classifier", "prefix doesn't fit a classifier on t5: "),
        (PREFIX, {"model_type": "t5"}, "seq2seq", None),
        (PROMPT, {"model_type": "gpt2"}, "classifier", "prompt doesn't fit a classifier on gpt2: "),
        (PROMPT, {"model_type": "gpt2"}, "causal", None),
        (PREFIX, {"model_type": "gpt2"}, "classifier", None),
        ({"method": "peft", "type": "poly"}, {}, "causal", "POLY doesn't fit: it needs task ids with every batch"),
    ],
)
def test_an_architecture_is_known_by_its_config(folder, tuning, config, kind: str, said: str | None):
    fault = method_fault(trial(tuning, folder(**config), kind))
    assert fault is None if said is None else fault is not None and fault.startswith(said)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 23}, 23),
        ({"model_type": "gpt2", "n_positions": 23}, 23),
        ({"model_type": "roberta", "max_position_embeddings": 25, "pad_token_id": 1}, 23),
        ({"model_type": "bert", "max_position_embeddings": 24}, None),
        ({"model_type": "t5"}, None),
    ],
)
def test_virtual_tokens_are_counted_with_the_longest_row(folder, config, limit: int | None):
    fault = method_fault(trial(PREFIX, folder(**config), "seq2seq" if config["model_type"] == "t5" else "classifier"))
    expected = (
        f"8 virtual tokens and rows of 16 are more than the model's {limit} positions; "
        "use task.max_length: 15 or fewer tokens"
    )
    assert fault == (None if limit is None else expected)


def test_backbones_of_our_own_are_known_too():
    assert "more than the model's 32 positions" in (method_fault(trial(PROMPT, BUILT_IN, max_length=25)) or "")
    assert method_fault(trial(PROMPT, BUILT_IN, max_length=24)) is None
    assert method_fault(trial(BITFIT, BUILT_IN)) is None
    text = {"pretrain": "span", "text": {"path": "/texts"}, "architecture": {"model_type": "t5"}}
    assert (method_fault(trial(BITFIT, text, "seq2seq")) or "").startswith("bitfit doesn't fit t5")


def test_what_is_not_at_hand_is_no_fault():
    for backbone in ("someone/t5", "/no/such/folder", "package:no_such_package/x"):
        assert method_fault(trial(BITFIT, backbone, "seq2seq")) is None


def test_an_existing_minimum_needs_a_folder():
    assert method_fault(trial({"method": "existing"}, "/somewhere")) is None
    assert (method_fault(trial({"method": "existing"}, BUILT_IN)) or "").startswith("existing: model.backbone must be")


def test_the_type_of_a_methods_folder(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "vera"}))
    assert peft_type(trial({"method": "existing"}, str(tmp_path))) == "VERA"
    assert peft_type(trial({"method": "peft", "type": "loha"}, BUILT_IN)) == "LOHA"
    assert peft_type(trial({"method": "houlsby"}, BUILT_IN)) == "HOULSBY"
    assert peft_type(trial(BITFIT, BUILT_IN)) is None


def test_virtual_tokens_of_a_type_that_is_passed_through():
    how = {"method": "peft", "type": "P_TUNING", "config": {"num_virtual_tokens": 7}}
    assert virtual_tokens(trial(how, BUILT_IN)) == 7
    assert virtual_tokens(trial({"method": "lora"}, BUILT_IN)) == 0


def test_the_room_is_light_and_names_types_that_peft_has():
    """`raymc validate` waits for no torch."""
    code = "import sys, raymc.specs.methods; assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    import peft

    assert set(UNFIT_PEFT) <= {kind.value for kind in peft.PeftType}
