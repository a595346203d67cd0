"""What a sweep yields: evaluations of endpoints and profiles of paths, as they are stored."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.content import dataset_content
from raymc.specs.keys import EVALUATION_VERSION, PROFILE_VERSION, key_of
from raymc.specs.task import TaskSpec

METRICS = ("accuracy", "f1_macro")  # of classification, in the order of the tables' columns


class Evaluation(Spec):
    """One endpoint on one split: mean cross-entropy in nats per example, and metrics as fractions."""

    minimum: str
    weights: str = Field(description="digest of the minimum's files that were evaluated")
    split: str
    rows: int
    tokens: int = Field(description="real tokens of one pass (no padding)")
    loss: float
    metrics: dict[str, float]
    seconds: float
    device: str


class Profile(Spec):
    """One path on one split: `t`, `loss` and each of `metrics` have the same length; t[0] = 0 is a, t[-1] = 1 is b."""

    a: str
    b: str
    a_weights: str
    b_weights: str
    curve: str
    space: str = Field(description="what was interpolated: weights, delta_w or factors")
    split: str
    rows: int
    tokens: int
    t: tuple[float, ...]
    loss: tuple[float, ...]
    metrics: dict[str, tuple[float, ...]]
    distance_l2: float = Field(description="Euclidean distance of the two points in that space")
    cosine: float = Field(description="cosine of the two points as vectors from the origin")
    seconds: float
    device: str


class EvaluationSpec(Spec):
    """How one split is scored: everything that decides an Evaluation but the endpoint."""

    task: TaskSpec
    split: str
    space: str
    precision: str

    @property
    def content(self) -> dict[str, Any]:
        body = self.task.model_dump(mode="json", exclude_defaults=True, exclude={"dataset", "train_split", "labels"})
        rows = dataset_content(self.task.dataset, self.split)
        return {
            "kind": "evaluation",
            "version": EVALUATION_VERSION,
            **body,
            "labels": list(self.task.labels or ()) or dataset_content(self.task.dataset, self.task.train_split),
            "rows": rows,
            "space": self.space,
            "precision": self.precision,
        }

    def key(self) -> str:
        return key_of(self.content)

    def profile_key(self, curve: str, points: int) -> str:
        """Key of all profiles made alike; one pair's profile is this key and the two minima's."""
        return key_of({**self.content, "kind": "profile", "profile": PROFILE_VERSION, "curve": curve, "points": points})


def space_of(tuning_method: str, spec: ConnectivitySpec) -> str:
    """The space in which minima of a tuning method are joined: `weights` for full ones."""
    if tuning_method == "full":
        return "weights"
    return "delta_w" if spec.space == "auto" else spec.space
