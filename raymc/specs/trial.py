"""One resolved point of a sweep: everything that decides a minimum, and the key that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from raymc.specs.base import Spec
from raymc.specs.content import backbone_content, dataset_content
from raymc.specs.keys import MINIMUM_VERSION, key_of
from raymc.specs.model import ModelSpec
from raymc.specs.taken import existing_content
from raymc.specs.task import TaskSpec
from raymc.specs.tuning import ExistingTuning, FullTuning, Seeds, TrainSpec, Tuning


class TrialSpec(Spec):
    """What one fine-tuning is made of. Two trials of the same content have the same key, wherever their files lie."""

    model: ModelSpec
    task: TaskSpec
    tuning: Tuning = FullTuning(method="full")
    train: TrainSpec = TrainSpec()
    seeds: Seeds = Seeds()

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the key hashes: fields that are not at their default, with files by hash instead of by path."""
        body = self.model_dump(mode="json", exclude_defaults=True)
        for name in ("backbone", "revision"):
            body["model"].pop(name, None)
        for name in ("dataset", "train_split"):
            body["task"].pop(name, None)
        if self.train.steps is not None:  # then epochs say nothing, and a snapshot at the end is the end
            body["train"].pop("epochs", None)
            if self.train.snapshot == self.train.steps:
                body["train"].pop("snapshot")
        if isinstance(self.tuning, ExistingTuning):  # what it is tells all
            what = existing_content(self.model, self.tuning.base)
            return {"kind": "minimum", "version": MINIMUM_VERSION, "model": body["model"], **what}
        task = self.task
        body["backbone"] = _once(self.model, "backbone_content", lambda: backbone_content(self.model))
        body["rows"] = _once(task, "rows_content", lambda: dataset_content(task.dataset, task.train_split))
        return {"kind": "minimum", "version": MINIMUM_VERSION, **body}

    @cached_property
    def trajectory(self) -> str:
        """Key of the run that passes through the minimum: the same for all snapshots of it."""
        if self.train.snapshot is None:
            return self.key
        parts = {name: getattr(self, name) for name in TrialSpec.model_fields}
        return TrialSpec(**{**parts, "train": self.train.model_copy(update={"snapshot": None})}).key

    @cached_property
    def key(self) -> str:
        """Content key of the minimum. Raises RaymcError where a file that it hashes is missing."""
        return key_of(self.content)


def _once(section: Spec, name: str, find: Callable[[], Any]) -> Any:
    """Kept beside a section's fields, as it looks at files: trials of a sweep share the sections that are alike."""
    known = vars(section)
    if name not in known:
        known[name] = find()
    return known[name]
