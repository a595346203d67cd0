"""One fit of one curve between two minima: everything that decides it, and the key that stands for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.content import dataset_content
from raymc.specs.curves import FitSpec, NamedCurve
from raymc.specs.keys import CURVE_VERSION, key_of
from raymc.specs.task import TaskSpec
from raymc.specs.trial import TrialSpec


class Fitting(Spec):
    """What one fitted curve is made of; a < b are keys of minima."""

    a: str
    b: str
    space: str = Field(description="weights, delta_w or factors")
    curve: NamedCurve
    task: TaskSpec = Field(description="whose training rows are used")
    kind: str = Field(description="of the model: classifier, seq2seq or causal")
    trials: dict[str, TrialSpec] = Field(
        default={}, description="of ends that stand on a backbone outside their folder, by key: it may have moved since"
    )

    @property
    def fit(self) -> FitSpec:
        assert self.curve.fitted is not None
        return self.curve.fitted

    @cached_property
    def key(self) -> str:
        """Content key of the curve. Raises RaymcError where a file that it hashes is missing."""
        return fit_key(self.a, self.b, self.space, fit_content(self.curve, self.task))


def fit_key(a: str, b: str, space: str, content: Mapping[str, Any]) -> str:
    """Key of the fitted curve between two minima; `content`: of its kind, by `fit_content`, which looks at files."""
    return key_of({"kind": "curve", "version": CURVE_VERSION, "a": a, "b": b, "space": space, **content})


def fit_content(curve: NamedCurve, task: TaskSpec) -> dict[str, Any]:
    """The content of a kind of path: its settings and, where it is fitted, the rows that it is fitted and chosen on."""
    if curve.fitted is None:
        return {"curve": curve.content}
    body = task.model_dump(mode="json", exclude_defaults=True, exclude={"dataset", "train_split"})
    select = curve.fitted.select
    chosen = {"select_rows": dataset_content(task.dataset, select)} if select else {}
    return {
        "curve": curve.content,
        "task": body,
        "rows": dataset_content(task.dataset, task.train_split),
        **chosen,
    }
