"""What a sweep yields: evaluations of endpoints and profiles of paths, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.content import dataset_content
from raymc.specs.keys import ADAPTIVE_VERSION, EVALUATION_VERSION, PLANE_VERSION, PROFILE_VERSION, key_of
from raymc.specs.task import TaskSpec

# By the model's kind, in the order of the tables' columns. The first is the accuracy of Frankle's barrier.
_RANKED = ("likelihood_accuracy", "likelihood_f1_macro")  # the label whose text is likeliest
METRICS: dict[str, tuple[str, ...]] = {
    "classifier": ("accuracy", "f1_macro"),
    "causal": _RANKED,
    "seq2seq": (*_RANKED, "generation_accuracy", "generation_f1_macro"),  # the text that is generated, matched exactly
}
# How well a model knows what it knows: of endpoints and points of paths.
DIAGNOSTICS = ("calibration_error",)
# What its predictions share with those of the ends: of points of paths alone.
PATH_DIAGNOSTICS = ("agreement_a", "agreement_b", "jensen_shannon_a", "jensen_shannon_b")
LEVEL = 0.95  # of the intervals in tables


class Evaluation(Spec):
    """One endpoint on one split: mean cross-entropy in nats per example (text targets: token); metrics as fractions."""

    minimum: str
    weights: str = Field(description="digest of the minimum's files that were evaluated")
    split: str
    rows: int
    tokens: int = Field(description="real tokens of one pass (no padding)")
    loss: float
    metrics: dict[str, float]
    seconds: float
    device: str
    precision: str = Field(default="fp32", description="what the pass computed in")
    row_file: str = Field(description="SHA-256 of the file with its losses and probabilities row by row")


class Profile(Spec):
    """One path on one split: `t`, `loss` and each of `metrics` have the same length; t[0] = 0 is a, t[-1] = 1 is b."""

    a: str
    b: str
    a_weights: str
    b_weights: str
    curve: str
    space: str = Field(description="what was interpolated: weights, delta_w or factors")
    split: str
    head: str = Field(default="path", description="path: interpolated; else the key of the end whose head is used")
    rows: int
    tokens: int
    precision: str = Field(default="fp32", description="what the passes computed in")
    t: tuple[float, ...]
    loss: tuple[float, ...]
    metrics: dict[str, tuple[float, ...]]
    evaluated: tuple[float, ...] = Field(
        default=(),
        description="adaptive: the t whose rows were all scored, which need be none of `t`; empty: all of `t`",
    )
    passes: float = Field(default=0.0, description="over the row set that it took, parts of one counted by their rows")
    bound: float = Field(
        default=0.0, description="nats: how far `loss` may be from an exhaustive profile's at any t; 0: it is one"
    )
    length: tuple[float, ...] = Field(description="of the path from a to each t, in parameter units")
    fit: str = Field(default="", description="digest of the fitted curve's weights; empty: its ends alone decide it")
    chosen_on: str = Field(default="", description="split that the fitted curve's state was chosen on; empty: none")
    intervals: dict[str, tuple[float, float]] = Field(
        default={}, description="of the barriers, by column: 95 % over evaluation rows, by a paired bootstrap"
    )
    p_value: float = Field(description="of the hypothesis that the loss is nowhere above the chord between the ends")
    row_file: str = Field(default="", description="SHA-256 of the file with losses and predictions row by row, if kept")
    distance_l2: float = Field(description="Euclidean distance of the two points in that space")
    cosine: float = Field(description="cosine of the two points as vectors from the origin")
    seconds: float
    device: str


_OF_TRAINING = {"dataset", "train_split", "labels", "subset", "label_noise", "noise_seed"}


class EvaluationSpec(Spec):
    """How one split is scored: everything that decides an Evaluation but the endpoint."""

    task: TaskSpec
    split: str
    space: str
    precision: str
    head: str = Field(default="path", description="path: interpolated; own: that of the end tuned on the labels")

    @property
    def content(self) -> dict[str, Any]:
        body = self.task.model_dump(mode="json", exclude_defaults=True, exclude=_OF_TRAINING)
        rows = dataset_content(self.task.dataset, self.split)
        return {
            "kind": "evaluation",
            "version": EVALUATION_VERSION,
            **body,
            "labels": list(self.task.labels or ()) or dataset_content(self.task.dataset, self.task.train_split),
            "rows": rows,
            "space": self.space,
            "precision": "bf16, logits fp32" if self.precision == "bf16" else self.precision,
            **({"head": self.head} if self.head != "path" else {}),
        }

    def key(self) -> str:
        return key_of(self.content)

    def profile_key(self, curve: Mapping[str, Any], points: int, tolerance: float | None = None) -> str:
        """Key of all profiles made alike; one pair's profile is this key and the two minima's.

        `curve`: the content of the kind of path, with that of the rows that a fitted one is fitted on. `tolerance`: of
        an adaptive profile.
        """
        content = {
            **self.content,
            "kind": "profile",
            "profile": PROFILE_VERSION,
            "curve": dict(curve),
            "points": points,
        }
        if tolerance is not None:
            content |= {"adaptive": ADAPTIVE_VERSION, "tolerance": tolerance}
        return key_of(content)

    def plane_key(self, points: int, margin: float) -> str:
        """Key of all planes made alike; one plane's is this key and the three minima's."""
        return key_of({**self.content, "kind": "plane", "plane": PLANE_VERSION, "points": points, "margin": margin})
