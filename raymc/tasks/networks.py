"""Networks to pre-train: built new from an architecture, or a checkpoint to go on from; with their tokenizers."""

from __future__ import annotations

import difflib
import inspect
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto import modeling_auto, tokenization_auto

from raymc.specs.content import backbone_folder, hub_commit
from raymc.specs.errors import RaymcError
from raymc.specs.model import ModelSpec
from raymc.specs.text import TextBackbone, TrainedTokenizer
from raymc.tasks import backbones
from raymc.tasks.text_tokenizers import train_tokenizer

_AUTO: dict[str, Any] = {
    "masked": AutoModelForMaskedLM,
    "span": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
}
_KINDS = {
    "masked": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "span": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
}
_TYPICAL = {"masked": "bert, roberta, distilbert", "span": "t5", "causal": "gpt2, llama, qwen2"}
_OURS = {
    "vocab_size": "the vocabulary is the tokenizer's",
    "dtype": "weights are fp32",
    "torch_dtype": "weights are fp32",
    "is_decoder": "pretrain decides it",
    "is_encoder_decoder": "pretrain decides it",
}
_POSITIONS = ("max_position_embeddings", "n_positions")
_FAULTS = (*backbones.UNREADABLE, TypeError, AttributeError, AssertionError, ZeroDivisionError)  # of config and model


def checkpoint(name: str) -> tuple[str, str | None]:
    """What from_pretrained takes for a folder, package:NAME/FOLDER or hub id, and the hub commit. Raises RaymcError."""
    folder = backbone_folder(ModelSpec(backbone=name))
    return (name, hub_commit(name, None, "model")) if folder is None else (str(folder), None)


def tokenizer_of(backbone: TextBackbone, texts: list[str]) -> Any:
    """The tokenizer of a backbone: given, that of its start, or trained on texts. Raises RaymcError."""
    given = backbone.start or backbone.tokenizer
    if isinstance(given, str):
        return backbones.load_tokenizer(*checkpoint(given))
    spec = given or TrainedTokenizer()
    return train_tokenizer(texts, spec, backbone.pretrain, max_length=backbone.max_length)


def network_of(backbone: TextBackbone, tokenizer: Any) -> Any:
    """The network at update 0, in fp32; new tensors come from `backbone.seed`, torch's random state stays as it was.

    Raises RaymcError where it can't be built or loaded, doesn't fit the objective, or is too small for the tokenizer
    or the sequences.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the load report's
        torch.manual_seed(backbones.derived_seed("pretraining", backbone.seed, "init"))
        model = _new(backbone, tokenizer) if backbone.start is None else _loaded(backbone)
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise RaymcError(f"start: it has {known} embeddings, and its tokenizer {len(tokenizer)} tokens")
    if (limit := backbones.position_limit(model)) < backbone.max_length:
        raise RaymcError(f"max_length: {backbone.max_length} is more than the network's {limit} positions")
    _fit_tokenizer(tokenizer, model, limit)
    return model


def check_reload(tokenizer: Any, model: Any, texts: list[str]) -> None:
    """Raises RaymcError where AutoTokenizer would make another tokenizer of it in a folder of this network."""
    with tempfile.TemporaryDirectory(prefix="raymc-") as folder:
        tokenizer.save_pretrained(folder)
        model.config.save_pretrained(folder)
        again = backbones.load_tokenizer(folder)
    encoded, after = (one(texts, verbose=False)["input_ids"] for one in (tokenizer, again))
    if encoded != after or tokenizer.get_vocab() != again.get_vocab():
        kind = model.config.model_type
        raise RaymcError(f"tokenizer: transformers reads it as a {type(again).__name__} in a folder of type {kind}")


def architecture_faults(backbone: TextBackbone) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) with `architecture`, as far as can be told without a tokenizer or any weights."""
    kind = backbone.architecture["model_type"]
    if fault := misfit(kind, backbone.pretrain):
        yield "architecture.model_type", fault
        return
    faults = list(_field_faults(backbone.architecture))
    if not isinstance(backbone.tokenizer, str) and (one := _own_tokenizer(kind)):
        reads = f"transformers reads every tokenizer of a {kind} folder as a {one}"
        faults.append(("architecture.model_type", f"{reads}; give such a tokenizer, or take another type"))
    yield from faults
    if faults:
        return
    ids: dict[str, int | None] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    try:
        config = _config(backbone, TrainedTokenizer().vocab_size, ids)
        with torch.device("meta"):
            model = _AUTO[backbone.pretrain].from_config(config)
    except _FAULTS as error:
        yield "architecture", _line(error)
        return
    if (limit := backbones.position_limit(model)) < backbone.max_length:
        yield "max_length", f"{backbone.max_length} is more than the {limit} positions of the architecture"


def _own_tokenizer(kind: str) -> str | None:
    """The class that AutoTokenizer takes for a model type whatever its folder says; None where it minds that."""
    wrong = getattr(tokenization_auto, "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS", ())
    name = getattr(tokenization_auto, "TOKENIZER_MAPPING_NAMES", {}).get(kind) if kind in wrong else None
    return None if name in (None, "TokenizersBackend", "PreTrainedTokenizerFast") else name


def misfit(kind: str, objective: str) -> str | None:
    """Why an objective can't pre-train a model type; None where it can."""
    known = {name for names in _KINDS.values() for name in names}
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 1)
        return f"no language model of transformers is called {kind!r}" + (f"; did you mean {near[0]}?" if near else "")
    # Many encoders pass for decoders in transformers, and would see the token that they are to predict.
    fits = kind in _KINDS[objective] and not (objective == "causal" and (kind in _KINDS["masked"] | _KINDS["span"]))
    if objective == "masked" and kind in _KINDS["span"]:
        fits = False
    return None if fits else f"{kind} is not for pretrain: {objective} (such as {_TYPICAL[objective]} are)"


def _field_faults(architecture: dict[str, Any]) -> Iterator[tuple[str, str]]:
    plain = AutoConfig.for_model(architecture["model_type"])
    known = {*plain.to_dict(), *plain.attribute_map, *inspect.signature(type(plain).__init__).parameters}
    known -= {"self", "kwargs", "_name_or_path", "transformers_version", "architectures"}
    for name in architecture:
        if name in _OURS or name.endswith("_token_id"):
            yield f"architecture.{name}", _OURS.get(name, "the token ids are the tokenizer's")
        elif name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"architecture.{name}", f"no field of the config of {plain.model_type}{hint}"


def _config(backbone: TextBackbone, vocabulary: int, ids: dict[str, int | None]) -> Any:
    """The config of a new network; `ids` are pad_token_id, bos_token_id and eos_token_id."""
    fields = dict(backbone.architecture)
    kind = fields.pop("model_type")
    plain = AutoConfig.for_model(kind)
    if not any(name in fields for name in _POSITIONS) and hasattr(plain, _POSITIONS[0]):
        # The RoBERTa kinds count positions from the padding id onwards.
        behind = (ids["pad_token_id"] or 0) + 1 if _counts_from_padding(kind) else 0
        fields[_POSITIONS[0]] = backbone.max_length + behind
    if plain.is_encoder_decoder:
        ids = {**ids, "decoder_start_token_id": ids["pad_token_id"]}
        if getattr(plain, "forced_eos_token_id", None) is not None:
            ids["forced_eos_token_id"] = ids["eos_token_id"]
    config = AutoConfig.for_model(kind, **fields, **ids, vocab_size=vocabulary)
    if backbone.dropout is not None:
        backbones._set_dropout(config, backbone.dropout)
    return config


def _counts_from_padding(kind: str) -> bool:
    return "roberta" in kind or kind in ("camembert", "xmod", "ibert", "data2vec-text", "longformer", "mpnet", "luke")


def _new(backbone: TextBackbone, tokenizer: Any) -> Any:
    for field, message in _first_faults(backbone):
        raise RaymcError(f"{field}: {message}")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    try:
        config = _config(backbone, len(tokenizer), ids)
        return _AUTO[backbone.pretrain].from_config(config, dtype=torch.float32)
    except _FAULTS as error:
        raise RaymcError(f"architecture: {_line(error)}") from error


def _first_faults(backbone: TextBackbone) -> Iterator[tuple[str, str]]:
    if fault := misfit(backbone.architecture["model_type"], backbone.pretrain):
        yield "architecture.model_type", fault
    else:
        yield from _field_faults(backbone.architecture)


def _loaded(backbone: TextBackbone) -> Any:
    assert backbone.start is not None
    place, commit = checkpoint(backbone.start)
    try:
        config = AutoConfig.from_pretrained(place, revision=commit)
    except backbones.UNREADABLE as error:
        raise RaymcError(f"start: {place} is no checkpoint: {_line(error)}") from error
    if fault := misfit(config.model_type, backbone.pretrain):
        raise RaymcError(f"start: {fault}")
    if backbone.dropout is not None:
        backbones._set_dropout(config, backbone.dropout)
    try:
        model, report = _AUTO[backbone.pretrain].from_pretrained(
            place, config=config, revision=commit, dtype=torch.float32, output_loading_info=True, use_safetensors=True
        )
    except backbones.UNREADABLE as error:
        raise RaymcError(f"start: {place} can't be loaded: {_line(error)}") from error
    body = f"{model.base_model_prefix}."
    lacking = sorted(str(name) for name in report["missing_keys"] if str(name).startswith(body))
    if lacking:
        raise RaymcError(f"start: {place} has no {lacking[0]}")
    return model


def _fit_tokenizer(tokenizer: Any, model: Any, limit: int) -> None:
    """Let the tokenizer make what the network reads: token types only where it has two, and not too many tokens."""
    if getattr(model.config, "type_vocab_size", 0) < 2 or "token_type_ids" not in _inputs(model):
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names
    if limit < tokenizer.model_max_length:
        tokenizer.model_max_length = limit


def _inputs(model: Any) -> Any:
    return inspect.signature(model.forward).parameters


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
