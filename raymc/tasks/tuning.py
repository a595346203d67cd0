"""Tuning methods: which parameters train, and so make a minimum's point in parameter space.

A method is one entry of METHODS (and of raymc.specs.spaces.SPACES): how it changes a loaded model before training,
what of the model makes its point, and which folder it is saved as and reopened from (raymc.tasks.folders).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raymc.specs.errors import RaymcError, TrainingFault
from raymc.specs.methods import architecture_fault, positions_fault
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import ExistingTuning, HoulsbyTuning
from raymc.tasks import adapters, folders, houlsby
from raymc.tasks.backbones import position_limit


@dataclass(frozen=True)
class Method:
    """How a minimum is tuned, and what it is."""

    prepare: Callable[[Any, TrialSpec], Any]
    """A loaded model made ready to train: parameters that don't train need no gradient. New tensors are drawn from
    seeds.init alone, and torch's global random state is left as it was."""
    point: Literal["state", "trained"]
    """What is interpolated in its own space: the whole state, or what trains, on a base that stays."""
    folder: Literal["whole", "peft", "houlsby"] | None
    """The format of its folder; None: that of the folder that it was taken from."""
    kinds: tuple[str, ...] = ("classifier", "seq2seq", "causal")
    """Of raymc.specs.model.ModelSpec. Architectures that it doesn't fit are told by raymc.specs.methods."""


def _everything(model: Any, trial: TrialSpec) -> Any:
    return model


def _biases(model: Any, trial: TrialSpec) -> Any:
    """Biases train, and what is new (Ben Zaken et al. 2022)."""
    whole = tuple(f"{name}." for name in adapters.whole_modules(model))
    found = False
    for name, parameter in model.named_parameters():
        bias = name.endswith(".bias")
        found = found or (bias and not name.startswith(whole))
        parameter.requires_grad_(bias or name.startswith(whole))
    if not found:
        raise TrainingFault(f"tuning.method: {model.config.model_type} has no biases for bitfit; use ia3 or lora")
    return model


def _bottlenecks(model: Any, trial: TrialSpec) -> Any:
    assert isinstance(trial.tuning, HoulsbyTuning)
    return houlsby.attach(model, trial.tuning, trial.seeds.init, adapters.whole_modules(model))


def _nothing(model: Any, trial: TrialSpec) -> Any:
    raise RaymcError("tuning.method: a minimum that exists already is not trained")


METHODS: dict[str, Method] = {
    "full": Method(_everything, "state", "whole"),
    "bitfit": Method(_biases, "state", "whole"),
    "lora": Method(adapters.attach, "trained", "peft"),
    "houlsby": Method(_bottlenecks, "trained", "houlsby"),
    "prefix": Method(adapters.attach, "trained", "peft"),
    "prompt": Method(adapters.attach, "trained", "peft"),
    "ia3": Method(adapters.attach, "trained", "peft"),
    "peft": Method(adapters.attach, "trained", "peft"),
    "existing": Method(_nothing, "state", None),
}


def apply(model: Any, trial: TrialSpec) -> Any:
    """A model of raymc.tasks.backbones.load_model made ready to train by the trial's method.

    Raises TrainingFault or RaymcError, in a line, where the method doesn't fit the model.
    """
    method = METHODS[trial.tuning.method]
    if trial.model.kind not in method.kinds:
        raise RaymcError(f"tuning.method: {trial.tuning.method} fits {', '.join(method.kinds)} alone")
    fault = architecture_fault(trial, trial.model.kind, model.config.to_dict())
    fault = fault or positions_fault(trial, position_limit(model))
    if fault is not None:
        raise RaymcError(f"tuning.method: {fault}")
    return method.prepare(model, trial)


def save(model: Any, trial: TrialSpec, folder: Path, state: Mapping[str, Any]) -> None:
    """Write a tuned model into a folder in its method's format.

    `state`: the whole state by name, as gathered from the workers (torch's get_model_state_dict).
    """
    if isinstance(trial.tuning, ExistingTuning) and trial.tuning.base is not None and hasattr(model, "peft_config"):
        model.peft_config["default"].base_model_name_or_path = trial.tuning.base
    folders.save(model, folder, dict(state))
