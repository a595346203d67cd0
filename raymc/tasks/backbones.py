"""Pre-trained starts: found, loaded, and given a fresh or a matched head, with every new tensor from a named seed."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from raymc.specs.content import backbone_folder, backbone_key, hub_commit
from raymc.specs.errors import RaymcError, first_line
from raymc.specs.keys import canonical
from raymc.specs.model import GrammarBackbone, ModelSpec
from raymc.specs.text import TextBackbone
from raymc.specs.trial import TrialSpec
from raymc.store import layout
from raymc.store.store import Store
from raymc.tasks.perturbation import perturb

CLASSES: dict[str, Any] = {
    "classifier": AutoModelForSequenceClassification,
    "seq2seq": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
}
HEADS = ("classifier", "score", "classification_head", "sequence_summary", "logits_proj", "pooler_head")
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError)  # of from_pretrained


def quiet() -> None:
    """Keep transformers' progress bars and load reports out of the output; warnings of ours still show."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from parts, the same in every process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def source(model: ModelSpec, store: Store) -> tuple[str, str | None]:
    """What from_pretrained takes: a folder or hub id, and the hub commit. Raises RaymcError."""
    if isinstance(model.backbone, GrammarBackbone | TextBackbone):
        key = backbone_key(model.backbone)
        if not store.has(layout.BACKBONES, key):
            raise RaymcError(f"the pre-trained backbone {key} is not in the store {store.uri}")
        return str(store.folder(layout.BACKBONES, key)), None
    folder = backbone_folder(model)
    if folder is not None:
        return str(folder), None
    return model.backbone, hub_commit(model.backbone, model.revision, "model")


def load_tokenizer(place: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A tokenizer that pads, with its end-of-text token if it has no other. Raises RaymcError where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers raises no other where its file can't be read
        raise RaymcError(f"no tokenizer in {place}: {first_line(error)}") from error
    if set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
        raise RaymcError(f"no tokenizer in {place}: its vocabulary is empty")  # transformers makes one from nothing
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(trial: TrialSpec, labels: tuple[str, ...], store: Store) -> Any:
    """The trial's backbone as a model of its kind, in fp32 and training mode; a classifier has a head for `labels`.

    New tensors come from seeds.head (the head) and seeds.init (the pooler or what else lies between the checkpoint
    and the head); all else is the checkpoint's, with the noise of model.perturbation. torch's global random state is
    left as it was. `new_modules` of the model names what seeds.init drew. Raises RaymcError where the checkpoint
    can't be read, lacks weights of the network itself, is of an architecture that model.kind doesn't fit, or (head:
    backbone) lacks a label.
    """
    spec = trial.model
    place, commit = source(spec, store)
    options: dict[str, Any] = {"revision": commit, "trust_remote_code": spec.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(place, **options)
    except UNREADABLE as error:
        raise RaymcError(f"model.backbone: {place} is no checkpoint: {first_line(error)}") from error
    _check_kind(spec, config, place)
    keep, classifies = spec.head == "backbone", spec.kind == "classifier"
    order = _head_order(config, labels, place) if keep else None
    if classifies and not keep:
        config.num_labels = len(labels)
    if trial.train.dropout is not None:
        _set_dropout(config, trial.train.dropout)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the load report's
        torch.manual_seed(0)
        try:
            model, report = CLASSES[spec.kind].from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                ignore_mismatched_sizes=not keep,
                **options,
            )
        except UNREADABLE as error:
            raise RaymcError(f"model.backbone: {place} can't be loaded: {first_line(error)}") from error
        new = {str(name) for name in report["missing_keys"]}
        new |= {str(entry[0]) for entry in report["mismatched_keys"]}
        inner = f"{model.base_model_prefix}." if classifies else ""
        lacking = sorted(name for name in new if name.startswith(inner) and not (classifies and "pooler" in name))
        if lacking:
            raise RaymcError(f"model.backbone: {place} has no {lacking[0]} of the shape that its config.json says")
        if keep and any(_is_head(name) for name in new):
            raise RaymcError(f"model.head: {place} carries no classification head; use head: new")
        if classifies and not keep:  # a head that the checkpoint carries is for its own labels
            new |= {name for name, _ in model.named_parameters() if _is_head(name)}
        _initialize(model, new, trial)
    if spec.perturbation is not None:
        perturb(model, spec.perturbation, lambda seed, name: derived_seed("perturbation", seed, name), new)
    model.new_modules = tuple(sorted({name.rpartition(".")[0] for name in new if not _is_head(name)}))
    if trial.task.max_length > (limit := position_limit(model)):
        raise RaymcError(f"task.max_length: {trial.task.max_length} is more than the model's {limit} positions")
    if order is not None:
        _reorder_head(model, order)
    if classifies:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: i for i, name in enumerate(labels)}
        model.config.problem_type = "single_label_classification"
    if model.config.pad_token_id is None or (classifies and _ends_by_padding(config)):
        model.config.pad_token_id = load_tokenizer(place, commit, spec.trust_remote_code).pad_token_id
        if model.config.pad_token_id is None:
            raise RaymcError(f"model.backbone: neither the model nor the tokenizer of {place} names a padding token")
    if classifies and getattr(model.config, "is_encoder_decoder", False):
        _check_end(spec, model.config, place, commit)
    if spec.kind == "seq2seq" and getattr(model.config, "decoder_start_token_id", None) is None:
        model.config.decoder_start_token_id = model.config.pad_token_id  # T5's rule
    return model.train()


def tokenizer_digest(folder: Path) -> str:
    """A hash of what decides token ids: paths between minima make sense only where it is the same.

    Of tokenizer.json without the truncation and padding that it was last used with.
    """
    names = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return ""
    content = path.read_bytes()
    if path.suffix == ".json":
        body = json.loads(content)
        content = canonical(
            {name: part for name, part in body.items() if name not in ("truncation", "padding")}
        ).encode()
    return hashlib.sha256(content).hexdigest()[:20]


def _check_kind(spec: ModelSpec, config: Any, place: str) -> None:
    """Raises RaymcError where a kind and an architecture don't fit; some that don't, transformers loads in silence."""
    if spec.kind == "classifier":
        if spec.head == "backbone" and spec.head_std is not None:
            raise RaymcError("model.head_std: the head is the backbone's; head_std is for head: new")
        return
    if spec.head == "backbone" or spec.head_std is not None:
        field = "head" if spec.head == "backbone" else "head_std"
        raise RaymcError(f"model.{field}: a {spec.kind} model has no classification head; leave it out")
    two = bool(getattr(config, "is_encoder_decoder", False))
    bidirectional = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if spec.kind == "seq2seq" and not two:
        needs = "an encoder and a decoder, as T5 has"
    elif spec.kind == "causal" and (two or bidirectional):
        needs = "a decoder alone, as GPT-2, Llama and Qwen are"
    else:
        return
    raise RaymcError(f"model.kind: {spec.kind} needs {needs}, and {place} is of type {config.model_type}")


def _check_end(spec: ModelSpec, config: Any, place: str, commit: str | None) -> None:
    """Raises RaymcError where rows don't end with the token whose state T5 and its kin classify by."""
    tokenizer = load_tokenizer(place, commit, spec.trust_remote_code)
    if tokenizer("a")["input_ids"][-1:] != [config.eos_token_id]:
        raise RaymcError(
            f"model.kind: a classifier of type {config.model_type} reads a row's end-of-text token, which the "
            f"tokenizer of {place} doesn't put there; use seq2seq"
        )


def _ends_by_padding(config: Any) -> bool:
    """Whether a classifier finds a row's last token as the last that isn't padding by its config, as decoders do."""
    return type(config) not in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_encoder_decoder", False)


def _is_head(name: str) -> bool:
    return name.split(".")[0] in HEADS


def position_limit(model: Any) -> int:
    """The most tokens that a row can have: RoBERTa and its kin keep their first positions for padding."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return 1 << 30
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = getattr(next(tables, None), "padding_idx", None)
    return limit if padding is None else limit - padding - 1


def _initialize(model: Any, names: set[str], trial: TrialSpec) -> None:
    """Draw new tensors as the architecture does, each module from its own stream.

    Weights of a head with `head_std` are that stream's first normal draws, so another deviation scales them.
    """
    for owner in sorted({name.rpartition(".")[0] for name in names}):
        module = model.get_submodule(owner)
        seed = derived_seed("module", trial.seeds.head if _is_head(owner + ".") else trial.seeds.init, owner)
        torch.manual_seed(seed)
        for part in module.modules():
            part._is_hf_initialized = False
        for tensor in module.parameters():
            if hasattr(tensor, "_is_hf_initialized"):
                del tensor._is_hf_initialized
        model._init_weights(module)
        if trial.model.head_std is not None and _is_head(owner + "."):
            torch.manual_seed(seed)
            for tensor in (tensor for tensor in module.parameters(recurse=False) if tensor.ndim > 1):
                torch.nn.init.normal_(tensor, std=trial.model.head_std)


def _head_order(config: Any, labels: tuple[str, ...], place: str) -> list[int] | None:
    known = {str(name): i for i, name in sorted(config.id2label.items())}
    missing = [label for label in labels if label not in known]
    if missing:
        raise RaymcError(f"model.head: label {missing[0]!r} is not among the labels of {place} ({', '.join(known)})")
    if len(labels) != len(known):
        raise RaymcError(f"model.head: {place} has {len(known)} labels, the task {len(labels)}")
    order = [known[label] for label in labels]
    return None if order == sorted(order) else order


@torch.no_grad()
def _reorder_head(model: Any, order: list[int]) -> None:
    """Put the output rows of the head into the task's label order."""
    index = torch.tensor(order)
    for name, tensor in model.named_parameters():
        if _is_head(name) and tensor.shape[0] == len(order) and ".dense." not in name:
            tensor.copy_(tensor[index].clone())


def _set_dropout(config: Any, rate: float) -> None:
    names = [name for name in vars(config) if "dropout" in name or name.endswith("pdrop") or name == "layerdrop"]
    for name in names:
        value = getattr(config, name)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            setattr(config, name, rate)


def config_labels(folder: Path) -> tuple[str, ...]:
    """Label names of a saved classifier, in the order of its logits; LABEL_0, LABEL_1, ... where its config names none.

    Raises RaymcError where there is no config.json that can be read.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise RaymcError(f"{folder} is no checkpoint: {first_line(error)}") from error
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(config.get("num_labels") or 2)}
    return tuple(str(names[i]) for i in sorted(names, key=int))
