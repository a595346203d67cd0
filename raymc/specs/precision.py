"""What precision a matrix is computed in, how that was decided, and for which part of it a decision holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from raymc.specs.base import Spec
from raymc.specs.content import backbone_folder, is_folder, read_config
from raymc.specs.exactness import Computed
from raymc.specs.keys import PRECISION_VERSION, canonical, key_of
from raymc.specs.model import GrammarBackbone
from raymc.specs.results import EvaluationSpec
from raymc.specs.task import TaskSpec
from raymc.specs.text import TextBackbone
from raymc.specs.trial import TrialSpec


class SamplePoint(Spec):
    """One point of a path on rows of one split, scored in both precisions. Losses: mean cross-entropy, nats."""

    a: str
    b: str
    curve: str
    split: str
    t: float
    rows: int
    fp32: float
    bf16: float
    error: float = Field(
        description="nats: standard deviation of the rows' loss differences over the root of the rows' number"
    )
    accuracy: float = Field(description="difference, bf16 less fp32, of the first metric, a fraction")

    @property
    def drift(self) -> float:
        return abs(self.bf16 - self.fp32)


class Decision(Spec):
    """What a matrix, or a part of it, computes in.

    `drift` is the largest |difference of the mean loss| at a point of the sample. `bound` is what is held against the
    tolerance: the drift, and two of the largest standard error of a mean difference beside it. It allows for rows that
    weren't sampled, and for points that weren't as far as rounding errors of rows are independent; it is a statement
    about the spread that was seen, no proof. A barrier adds up the drifts of a point and of its ends.
    """

    precision: Computed
    reason: str
    tolerance: float | None = Field(default=None, description="nats; left out: the spec names the precision")
    drift: float | None = Field(default=None, description="nats; left out: none was measured")
    bound: float | None = Field(default=None, description="nats")
    accuracy_drift: float | None = Field(default=None, description="largest difference of the first metric, a fraction")
    seconds: dict[Computed, float] = Field(
        default={}, description="of a pass over the sample's rows, the median: processor time on a CPU, else wall time"
    )
    device: str = ""
    sample: tuple[SamplePoint, ...] = ()

    @property
    def speed(self) -> float | None:
        """How many times faster bf16 is."""
        return self.seconds["fp32"] / self.seconds["bf16"] if self.seconds.get("bf16") else None

    @property
    def told(self) -> str:
        """In one line: `bf16 (drift at most 2.4e-04 nats ...)`."""
        return f"{self.precision} ({self.reason})" if self.reason else self.precision

    @property
    def of_content(self) -> bool:
        """Whether it was measured to hold (or not to hold) for this content, whatever the work and the machine."""
        return self.bound is not None and (self.precision == "bf16" or self.bound > (self.tolerance or 0.0))


def together(decisions: Sequence[Decision]) -> Decision:
    """One decision for a matrix whose parts have these: fp32 where one part needs it, and the largest drift of all."""
    first = min(decisions, key=lambda one: (one.precision != "fp32", -(one.bound or 0.0)))
    measured = [one for one in decisions if one.drift is not None]
    if not measured or len(decisions) == 1:
        return first
    return first.model_copy(
        update={
            "drift": max(one.drift or 0.0 for one in measured),
            "bound": max(one.bound or 0.0 for one in measured),
            "accuracy_drift": max(one.accuracy_drift or 0.0 for one in measured),
            "sample": tuple(point for one in measured for point in one.sample),
        }
    )


def part_key(network: str, task: TaskSpec, split: str, space: str, tolerance: float) -> str:
    """Key of a part of a matrix that one decision holds for: minima of one network, on one row set, in one space.

    `network`: as `network_of` gives it; `space`: as it is asked for. Seeds, data and training are no part of it, so
    that a sweep that grows by them keeps its decision. Raises RaymcError where a file of the rows is missing.
    """
    content = EvaluationSpec(task=task, split=split, space=space, precision="any").content
    content |= {"kind": "precision", "decision": PRECISION_VERSION, "tolerance": tolerance}
    return key_of({**content, "network": network})


_SIZES = (  # entries of a config that say how much is computed
    *("model_type", "hidden_size", "d_model", "n_embd", "dim", "num_hidden_layers", "num_layers", "n_layer"),
    *("n_layers", "intermediate_size", "d_ff", "n_inner", "hidden_dim", "num_attention_heads", "num_heads", "n_head"),
)


def network_of(trial: TrialSpec) -> str:
    """What computes, as text: the sizes of the backbone (of one on the hub, its name), and the method of tuning."""
    backbone = trial.model.backbone
    if isinstance(backbone, GrammarBackbone):
        sizes: Any = backbone.model_dump(include={"hidden_size", "layers", "heads", "intermediate_size"})
    elif isinstance(backbone, TextBackbone):
        sizes = {"start": backbone.start} if backbone.start else dict(backbone.architecture)
    else:
        folder = backbone_folder(trial.model)
        config = read_config(folder) if folder is not None and is_folder(folder) else None
        sizes = {name: config[name] for name in _SIZES if name in config} if config else backbone
    return canonical({"kind": trial.model.kind, "sizes": sizes, "method": trial.tuning.method})
