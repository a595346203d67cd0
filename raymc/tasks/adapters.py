"""Methods that peft has: their configs, their modules on a loaded model, and their folders."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from pathlib import Path
from typing import Any

import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import ModulesToSaveWrapper

from raymc.specs.errors import RaymcError, TrainingFault, first_line
from raymc.specs.methods import PREFIXES
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import Ia3Tuning, LoraTuning, PeftTuning, PrefixTuning, PromptTuning
from raymc.tasks.backbones import HEADS, derived_seed

TASKS = {"classifier": "SEQ_CLS", "seq2seq": "SEQ_2_SEQ_LM", "causal": "CAUSAL_LM"}
_PROMPT = "prompt_encoder.default.embedding.weight"
_OURS = {"peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"}


def attach(model: Any, trial: TrialSpec) -> Any:
    """The model under peft, with new modules from seeds.init; torch's global random state is left as it was.

    A head and other new modules train whole, and are saved. Raises RaymcError for a config that peft refuses, and
    TrainingFault where the model lacks what it asks for.
    """
    import peft

    config = peft_config(trial, whole_modules(model))
    before = _sums(model) if isinstance(trial.tuning, PeftTuning) else {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own, of what transformers deprecates
        torch.manual_seed(derived_seed(trial.tuning.method, trial.seeds.init))
        try:
            tuned = peft.get_peft_model(model, config, revision=getattr(model.config, "_commit_hash", None))
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise TrainingFault(f"tuning.{_field(trial)}: {first_line(error)}") from error
    for name, parameter in tuned.named_parameters():
        if before.pop(plain_name(name), None) not in (None, float(parameter.detach().double().sum())):
            raise TrainingFault(f"tuning.config: it changes the frozen {plain_name(name)}, which its folder can't hold")
    if "word_embeddings" in tuned._modules:  # a second name of the backbone's table: shards can't be restored by both
        object.__setattr__(tuned, "word_embeddings", tuned._modules.pop("word_embeddings"))
    if not any(parameter.requires_grad for parameter in tuned.parameters()):
        raise TrainingFault(f"tuning.{_field(trial)}: nothing of the model trains")
    return tuned


def whole_modules(model: Any) -> list[str]:
    """Names of the modules that train whole under every method: a classification head, and what else is new."""
    heads = [name for name, _ in model.named_children() if name in HEADS]
    return [*heads, *model.new_modules]


def save(model: Any, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a PEFT folder of a model whose whole state, by name, is `state`."""
    if model.peft_config["default"].is_prompt_learning:
        # peft would make it from the model's own parameters, which are shards under FSDP
        model.get_prompt_embedding_to_save = lambda adapter_name: _prompt(model, state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
    model.__dict__.pop("get_prompt_embedding_to_save", None)
    (folder / "README.md").unlink(missing_ok=True)  # a card of placeholders


def load(base: Any, folder: Path) -> Any:
    """A PEFT folder on its backbone, with the parameters that make its point requiring gradients."""
    import peft

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # A prompt can't be opened to train: peft would draw it anew.
        config = peft.PeftConfig.from_pretrained(str(folder))
        model = peft.PeftModel.from_pretrained(base, str(folder), is_trainable=not config.is_prompt_learning)
    missing = next((str(one.message) for one in said if "missing adapter keys" in str(one.message)), None)
    if missing is not None:
        raise RaymcError(f"{folder}: {first_line(ValueError(missing))}")
    if config.is_prompt_learning:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("prompt_encoder.") or ".modules_to_save." in name)
    return model


def file_names(model: Any) -> dict[str, str]:
    """Name in a folder of this method: name of the parameter that it is; {} where a file holds other things too."""
    import peft

    config = model.peft_config["default"]
    if config.is_prompt_learning and not _is_plain_prompt(config):
        return {}  # the file has what a network makes of its parameters
    state = model.state_dict(keep_vars=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = peft.get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {name: known.get(id(tensor), "") for name, tensor in saved.items()}
    if config.is_prompt_learning:
        names["prompt_embeddings"] = _PROMPT
    return names if all(names.values()) else {}


def merge(model: Any, folder: Path) -> Any:
    """The backbone with the adapter's change merged into its weights, under its own parameter names."""
    import peft

    if not isinstance(model, peft.PeftModel) or not hasattr(model.base_model, "merge_and_unload"):
        raise RaymcError(f"{folder.name} can't be merged into the weights; use connectivity.space: factors")
    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # some methods of peft would leave those, or fall over them
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.modules_to_save["default"])
    try:
        return model.merge_and_unload()  # type: ignore[operator]
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise RaymcError(f"{folder.name} can't be merged into the weights: {first_line(error)}") from error


@torch.no_grad()
def _prompt(model: Any, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a prompt's encoder gives with its parameters taken from a state: tokens x width."""
    config, encoder, tokens = (
        model.peft_config["default"],
        model.prompt_encoder["default"],
        model.prompt_tokens["default"],
    )
    if config.peft_type in PREFIXES:  # peft keeps twice as many for an encoder-decoder
        tokens = tokens[: config.num_virtual_tokens]
    inside = "prompt_encoder.default."
    own = {name.removeprefix(inside): tensor.cpu() for name, tensor in state.items() if name.startswith(inside)}
    training = encoder.training
    try:
        return torch.func.functional_call(encoder.eval(), own, (tokens.cpu()[None],))[0]
    finally:
        encoder.train(training)


def _is_plain_prompt(config: Any) -> bool:
    """Whether a folder holds the trained tokens as they are, and not what a network makes of them."""
    plain = config.peft_type in ("PROMPT_TUNING", "PREFIX_TUNING")
    return plain and not getattr(config, "prefix_projection", False)


def plain_name(name: str) -> str:
    """A parameter's name in the backbone: without what peft puts around it."""
    parts = name.removeprefix("base_model.").removeprefix("model.") if name.startswith("base_model.") else name
    for inner in (".modules_to_save.default", ".original_module", ".base_layer"):
        parts = parts.replace(inner, "")
    return parts


def peft_config(trial: TrialSpec, whole: list[str]) -> Any:
    """The peft config of a trial; `whole`: modules that train whole beside it.

    Raises RaymcError (`dotted.field: what is wrong`) where peft has no such type, field or value.
    """
    import peft

    spec, task = trial.tuning, TASKS[trial.model.kind]
    # peft adds classifier and score itself
    common: dict[str, Any] = {
        "task_type": task,
        "modules_to_save": [name for name in whole if name not in ("classifier", "score")] or None,
    }
    if task == "SEQ_CLS":
        common["modules_to_save"] = common["modules_to_save"] or []
    if isinstance(spec, LoraTuning):
        return peft.LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,  # type: ignore[arg-type]  # peft divides it by r: any number will do
            lora_dropout=spec.dropout,
            target_modules=list(spec.targets) or None,
            use_rslora=spec.rslora,
            **common,
        )
    if isinstance(spec, Ia3Tuning):
        feedforward = list(spec.feedforward) if spec.targets else None
        targets = list(spec.targets) or None
        try:
            return peft.IA3Config(target_modules=targets, feedforward_modules=feedforward, **common)
        except ValueError as error:
            raise RaymcError(f"tuning.feedforward: {first_line(error)}") from error
    if isinstance(spec, PrefixTuning):
        return peft.PrefixTuningConfig(num_virtual_tokens=spec.tokens, **common)
    if isinstance(spec, PromptTuning):  # started at tokens of the vocabulary, as Lester et al. 2021 found to be better
        init = peft.PromptTuningInit.SAMPLE_VOCAB
        # one set of tokens, before the encoder's input: peft's second set for a decoder goes nowhere
        return peft.PromptTuningConfig(
            num_virtual_tokens=spec.tokens, prompt_tuning_init=init, num_transformer_submodules=1, **common
        )
    assert isinstance(spec, PeftTuning)
    return _passed_through(spec, common)


def _passed_through(spec: PeftTuning, common: dict[str, Any]) -> Any:
    known = {str(kind.value): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    cls = known.get(spec.type.upper())
    if cls is None:
        near = difflib.get_close_matches(spec.type.upper(), known, 1)
        raise RaymcError(
            f"tuning.type: peft has no {spec.type!r}; "
            + (f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}")
        )
    fields = {field.name for field in dataclasses.fields(cls)}
    if common["modules_to_save"] is not None and "modules_to_save" not in fields:
        raise RaymcError(f"tuning.type: {spec.type} trains no classification head beside its own; use another kind")
    for name in spec.config:
        if name in _OURS:
            raise RaymcError(f"tuning.config.{name}: set by raymc")
        if name not in fields:
            near = difflib.get_close_matches(name, fields - _OURS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RaymcError(f"tuning.config.{name}: {cls.__name__} has no such field{hint}")
        if name.endswith(("_path", "_file")):
            raise RaymcError(f"tuning.config.{name}: a file's content is no part of a minimum's key, so none is read")
    settings = {**common, **spec.config}
    if spec.config.get("modules_to_save"):
        settings["modules_to_save"] = [*(common["modules_to_save"] or []), *spec.config["modules_to_save"]]
    try:
        return cls(**{name: value for name, value in settings.items() if name in fields})
    except (ValueError, TypeError, ImportError) as error:
        raise RaymcError(f"tuning.config: {first_line(error)}") from error


def _field(trial: TrialSpec) -> str:
    named = {"lora": "targets", "ia3": "targets", "prefix": "tokens", "prompt": "tokens"}
    return named.get(trial.tuning.method, "config")


def _sums(model: Any) -> dict[str, float]:
    """What shows a change of a tensor: of a method that we don't know, the frozen weights must stay what they are."""
    return {name: float(parameter.detach().double().sum()) for name, parameter in model.named_parameters()}
