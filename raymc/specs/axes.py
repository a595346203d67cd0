"""Axes of a sweep: values, ranges and seeded random samples over any field of a trial."""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from raymc.specs.base import Count, Number, Seed, Spec


class RangeAxis(Spec):
    """Evenly spaced values from `low` to `high`, both counted: by `step`, or `count` of them."""

    low: Number
    high: Number
    step: Number | None = None
    count: Count | None = None
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _one_way(self) -> RangeAxis:
        if (self.step is None) == (self.count is None):
            raise ValueError("give either step or count")
        if self.high < self.low:
            raise ValueError("high is below low")
        if self.step is not None and (self.step <= 0 or self.scale == "log"):
            raise ValueError("step must be above 0 and goes with scale: linear only")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a log scale needs low above 0")
        return self

    def values(self) -> list[Any]:
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            return [_whole(self.low + i * self.step, self.low, self.step) for i in range(count)]
        assert self.count is not None
        if self.count == 1:
            return [_whole(self.low, self.low)]
        shares = [i / (self.count - 1) for i in range(self.count)]
        if self.scale == "log":
            inner = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            inner = [self.low + share * (self.high - self.low) for share in shares]
        inner[0], inner[-1] = self.low, self.high
        return [_whole(value, *inner) for value in inner]


class SampleAxis(Spec):
    """`count` random draws; the same seed gives the same draws everywhere."""

    sample: Literal["uniform", "loguniform", "integers"]
    low: Number
    high: Number
    count: Count
    seed: Seed = 0

    @model_validator(mode="after")
    def _bounds(self) -> SampleAxis:
        if self.high <= self.low:
            raise ValueError("high must be above low")
        if self.sample == "loguniform" and self.low <= 0:
            raise ValueError("loguniform needs low above 0")
        if self.sample == "integers" and self.count > int(self.high) - int(self.low) + 1:
            raise ValueError("fewer integers between low and high than count")
        return self

    def values(self) -> list[Any]:
        stream = random.Random(f"{self.sample}:{self.seed}")
        if self.sample == "integers":
            return stream.sample(range(int(self.low), int(self.high) + 1), self.count)
        if self.sample == "uniform":
            return [stream.uniform(self.low, self.high) for _ in range(self.count)]
        return [math.exp(stream.uniform(math.log(self.low), math.log(self.high))) for _ in range(self.count)]


def _whole(value: float, *basis: float) -> float | int:
    """An int where everything it came from is whole (a range of seeds, say), else the float itself."""
    return int(value) if all(float(b).is_integer() for b in (value, *basis)) else value


def _axis_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "SampleAxis" if "sample" in value else "RangeAxis"
    return type(value).__name__ if isinstance(value, Spec) else "values"


Axis = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Tag("values")]
    | Annotated[RangeAxis, Tag("RangeAxis")]
    | Annotated[SampleAxis, Tag("SampleAxis")],
    Discriminator(_axis_kind),
]


def axis_values(axis: Any) -> list[Any]:
    """The values an axis stands for, in order."""
    return axis.values() if isinstance(axis, (RangeAxis, SampleAxis)) else list(axis)
