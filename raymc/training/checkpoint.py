"""Checkpoints of a training in progress: safetensors and JSON in the store, no pickle; resuming is exact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from raymc.specs.errors import CorruptArtefact
from raymc.store import layout
from raymc.store.store import Store
from raymc.training.parallel import Group

_FULL = StateDictOptions(full_state_dict=True, strict=False, ignore_frozen_params=True)
_FULL_ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one trial, in STORAGE/checkpoints/KEY/step-N."""

    store: Store
    key: str
    every: int

    @property
    def folder(self) -> Path:
        return self.store.root / layout.CHECKPOINTS / self.key

    def save(self, model: Any, optimizer: Any, step: int, curve: list[dict[str, float]], group: Group) -> None:
        """All workers call it; the first writes. Older checkpoints are removed once this one is whole."""
        weights = get_model_state_dict(model, options=_FULL_ON_CPU)
        state = get_optimizer_state_dict(model, optimizer, options=_FULL_ON_CPU)

        def write() -> None:  # on other workers both are empty
            name = f"{self.key}/step-{step:09d}"
            if not self.store.has(layout.CHECKPOINTS, name):
                tensors = {f"model:{k}": cast(torch.Tensor, v) for k, v in weights.items()}
                moments = cast(dict[str, dict[str, Any]], state["state"])
                kept = {f"{part}:{k}": value for k, v in moments.items() for part, value in v.items()}
                tensors |= {label: value for label, value in kept.items() if isinstance(value, torch.Tensor)}
                values = {label: value for label, value in kept.items() if label not in tensors}
                with self.store.create(layout.CHECKPOINTS, name) as folder:
                    save_file(
                        {k: v.contiguous().clone() for k, v in tensors.items()},
                        folder / "state.safetensors",
                        {"values": json.dumps(values)},  # Adafactor counts its steps in plain integers
                    )
                    (folder / "curve.json").write_text(json.dumps(curve))
            for older in self._steps():
                if older < step:
                    self.store.discard(layout.CHECKPOINTS, f"{self.key}/step-{older:09d}")

        group.first(write)

    def restore(self, model: Any, optimizer: Any, group: Group, before: int) -> tuple[int, list[dict[str, float]]]:
        """Load the newest whole checkpoint of a step below `before`; (steps done, curve so far), (0, []) for none."""
        step = group.agreed(self._newest(before) if group.rank == 0 else 0)  # all resume from the same
        if not step:
            return 0, []
        folder = self.store.folder(layout.CHECKPOINTS, f"{self.key}/step-{step:09d}")
        with safe_open(folder / "state.safetensors", "pt") as file:
            saved: dict[str, Any] = {label: file.get_tensor(label) for label in file.keys()}  # noqa: SIM118
            saved |= json.loads((file.metadata() or {}).get("values", "{}"))
        state = get_optimizer_state_dict(model, optimizer, options=_FULL)
        parts: dict[str, dict[str, Any]] = {}
        for label, value in saved.items():
            part, _, name = label.partition(":")
            parts.setdefault(name, {})[part] = value
        weights: dict[str, Any] = {name: entry.pop("model") for name, entry in parts.items() if "model" in entry}
        state["state"] = {name: entry for name, entry in parts.items() if entry}  # type: ignore[assignment]
        set_model_state_dict(model, weights, options=_FULL)
        if state["state"]:  # SGD without momentum keeps none
            set_optimizer_state_dict(model, optimizer, state, options=_FULL)
        return step, json.loads((folder / "curve.json").read_text())

    def _newest(self, before: int) -> int:
        """The step of the newest whole checkpoint below `before`, 0 for none; those that are damaged are set aside."""
        for step in sorted((step for step in self._steps() if step < before), reverse=True):
            name = f"{self.key}/step-{step:09d}"
            try:
                self.store.verify(layout.CHECKPOINTS, name, deep=True)
            except CorruptArtefact:
                self.store.set_aside(layout.CHECKPOINTS, name)
                continue
            return step
        return 0

    def clear(self) -> None:
        self.store.discard(layout.CHECKPOINTS, self.key)

    def _steps(self) -> list[int]:
        below = self.store.below(layout.CHECKPOINTS, self.key)
        return [int(name[5:]) for name in below if name.startswith("step-")]
