"""Where a tuning method fits, as far as a trial's spec and a look at a local config.json tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raymc.specs.content import backbone_folder, positions, read_config
from raymc.specs.errors import RaymcError
from raymc.specs.model import GrammarBackbone, ModelSpec
from raymc.specs.taken import existing_peft
from raymc.specs.text import TextBackbone
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import PrefixTuning, PromptTuning

# Architectures without biases; DeepSpeed-style options that add some (attention_bias) are looked up in the config.
BIASLESS = frozenset({"t5", "mt5", "umt5", "llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen3"})
ENCODERS = frozenset(
    {
        *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "albert", "electra", "mpnet", "deberta"),
        *("deberta-v2", "modernbert"),
    }
)
ENCODER_DECODERS = frozenset({"t5", "mt5", "umt5", "bart", "mbart", "pegasus", "longt5"})
DECODERS = frozenset(
    {
        *("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "llama", "mistral", "mixtral", "qwen2", "qwen3"),
        *("gemma", "gemma2", "gemma3_text", "phi", "phi3", "falcon", "olmo", "olmo2", "smollm3"),
    }
)
# peft types that prepend trained tokens: to the input's embeddings, or to every layer's keys and values
PROMPTS = frozenset({"PROMPT_TUNING", "P_TUNING"})
PREFIXES = frozenset({"PREFIX_TUNING", "CARTRIDGE"})
# peft types that the loop can't train, and why
UNFIT_PEFT: dict[str, str] = {
    "MULTITASK_PROMPT_TUNING": "it needs task ids with every batch",
    "POLY": "it needs task ids with every batch",
    "CPT": "it needs a template of tokens with every batch",
    "XLORA": "it mixes adapters that exist already",
    "ADAPTION_PROMPT": "its adapters are no part of the model's modules; use type PREFIX_TUNING",
    "LILY": "its router averages over the tokens of a batch, so padding changes its outputs",
    "OSF": "it changes the frozen weights, so its file alone isn't the minimum",
}


def peft_type(trial: TrialSpec) -> str | None:
    """The type of a trial's PEFT folder, upper case; None where it is saved whole. Raises RaymcError."""
    tuning = trial.tuning
    if tuning.method == "existing":
        return existing_peft(trial.model) if isinstance(trial.model.backbone, str) else None
    if tuning.method == "peft":
        return tuning.type.upper()
    known = {"lora": "LORA", "houlsby": "HOULSBY", "prefix": "PREFIX_TUNING", "prompt": "PROMPT_TUNING", "ia3": "IA3"}
    return known.get(tuning.method)


def virtual_tokens(trial: TrialSpec) -> int:
    """How many trained tokens stand before every row's own."""
    tuning = trial.tuning
    if isinstance(tuning, PrefixTuning | PromptTuning):
        return tuning.tokens
    if tuning.method == "peft" and tuning.type.upper() in PROMPTS | PREFIXES:
        count = tuning.config.get("num_virtual_tokens")
        return count if isinstance(count, int) else 0
    return 0


def method_fault(trial: TrialSpec) -> str | None:
    """Why a trial's tuning method can't go with its model, in a line; None where nothing is known against it."""
    tuning = trial.tuning
    if tuning.method == "existing":
        if not isinstance(trial.model.backbone, str):
            return "existing: model.backbone must be a finished minimum, a Hugging Face or PEFT folder or hub id"
        what = peft_type(trial) if backbone_folder(trial.model) is not None else None
        return f"{what} doesn't fit: {UNFIT_PEFT[what]}" if what in UNFIT_PEFT else None
    kind, config = trial.model.kind, _config(trial.model)
    fault = architecture_fault(trial, kind, config)
    if fault is not None:
        return fault
    count, limit = virtual_tokens(trial), positions(trial.model)
    return positions_fault(trial, limit) if count and limit is not None else None


def model_faults(model: ModelSpec) -> Iterator[tuple[str, str]]:
    """(field of the model, what is wrong) where its kind and its head don't fit it, as far as a look at it tells."""
    if model.kind != "classifier":
        for field in ("head", "head_std"):
            if getattr(model, field) != ModelSpec.model_fields[field].default:
                yield field, f"a {model.kind} model has no classification head; leave it out"
    elif model.head == "backbone" and model.head_std is not None:
        yield "head_std", "the head is the backbone's; head_std is for head: new"
    config = _config(model)
    family = config.get("model_type")
    if model.kind == "seq2seq" and family in ENCODERS | DECODERS:
        yield "kind", f"seq2seq needs an encoder and a decoder, as T5 has, and the backbone is of type {family}"
    elif model.kind == "causal" and family in ENCODERS | ENCODER_DECODERS and not config.get("is_decoder"):
        yield (
            "kind",
            f"causal needs a decoder alone, as GPT-2, Llama and Qwen are, and the backbone is of type {family}",
        )


def architecture_fault(trial: TrialSpec, kind: str, config: dict[str, Any]) -> str | None:
    """As `method_fault`, of a model kind and a config's entries (model_type and what else is known)."""
    method, family = trial.tuning.method, config.get("model_type")
    what = peft_type(trial)
    if what in UNFIT_PEFT:
        return f"{what} doesn't fit: {UNFIT_PEFT[what]}"
    if method == "bitfit" and family in BIASLESS and not config.get("attention_bias") and not config.get("mlp_bias"):
        return f"bitfit doesn't fit {family}: it has no biases; use ia3 or lora"
    if what in PROMPTS | PREFIXES and kind == "classifier" and family in ENCODER_DECODERS:
        return (
            f"{method} doesn't fit a classifier on {family}: peft puts no tokens before an encoder-decoder that "
            "classifies; use kind: seq2seq, or ia3, lora or houlsby"
        )
    if what in PROMPTS and kind == "classifier" and family in DECODERS:
        return (
            f"{method} doesn't fit a classifier on {family}: it is read at the last token, which padding hides behind "
            "embeddings; use prefix, or kind: causal"
        )
    return None


def positions_fault(trial: TrialSpec, limit: int) -> str | None:
    """What is wrong where virtual tokens and the longest row need more positions than a model's `limit`."""
    count, length = virtual_tokens(trial), trial.task.max_length
    if count and count + length > limit:
        return (
            f"{count} virtual tokens and rows of {length} are more than the model's {limit} positions; "
            f"use task.max_length: {max(limit - count, 2)} or fewer tokens"
        )
    return None


def _config(model: ModelSpec) -> dict[str, Any]:
    """A backbone's config.json as far as it is at hand: {} for one on the hub or one that can't be read."""
    backbone = model.backbone
    if isinstance(backbone, GrammarBackbone):
        return {"model_type": "bert"}
    if isinstance(backbone, TextBackbone):
        if backbone.start is None:
            return backbone.architecture
        return _config(ModelSpec(backbone=backbone.start))
    try:
        folder = backbone_folder(model)
    except RaymcError:  # said elsewhere
        return {}
    return {} if folder is None else read_config(folder) or {}
