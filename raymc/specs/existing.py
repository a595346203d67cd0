"""Minima that exist already: Hugging Face or PEFT folders and hub ids, beside the ones that a sweep trains."""

from __future__ import annotations

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.model import ModelSpec
from raymc.specs.task import TaskSpec
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import ExistingTuning


class ExistingMinimum(Spec):
    """A finished checkpoint that takes part in a sweep as it is. It is copied into the store, in fp32."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="its name in the tables")
    uri: str = Field(min_length=1, description="Hugging Face or PEFT folder, or hub id")
    revision: str | None = Field(default=None, description="hub revision: branch, tag or commit")
    base: str | None = Field(
        default=None,
        min_length=1,
        description="of a PEFT folder: its backbone; left out: the one that adapter_config.json names",
    )

    def trial(self, model: ModelSpec, task: TaskSpec) -> TrialSpec:
        """The trial that stands for it: nothing trains, and labels are matched by name."""
        return TrialSpec(
            model=ModelSpec(
                kind=model.kind,
                backbone=self.uri,
                revision=self.revision,
                head="backbone",
                trust_remote_code=model.trust_remote_code,
            ),
            task=task,
            tuning=ExistingTuning(method="existing", base=self.base),
        )
