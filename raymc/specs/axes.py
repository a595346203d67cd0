"""Axes of a sweep: values, ranges and seeded random samples over any field of a trial."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from raymc.specs.base import Number, Seed, Spec

MAX_VALUES = 100_000  # on one axis
Length = Annotated[int, Field(strict=True, ge=1, le=MAX_VALUES)]


class RangeAxis(Spec):
    """Evenly spaced values from `low` to `high`, both counted: by `step`, or `count` of them.

    They are the numbers that one would write by hand (0.3, not 0.30000000000000004), so that a list and a range of the
    same values have the same keys.
    """

    low: Number = Field(description="the first value")
    high: Number = Field(description="the last value")
    step: Number | None = Field(default=None, description="between values; or `count`")
    count: Length | None = Field(default=None, description="of values; or `step`")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="evenly spaced as they are or by their logarithms"
    )

    @model_validator(mode="after")
    def _one_way(self) -> RangeAxis:
        if (self.step is None) == (self.count is None):
            raise ValueError("give either step or count")
        if self.high < self.low:
            raise ValueError("high is below low")
        if self.step is not None and (self.step <= 0 or self.scale == "log"):
            raise ValueError("step must be above 0 and goes with scale: linear only")
        if self.step is not None and (_exact(self.high) - _exact(self.low)) / _exact(self.step) >= MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a log scale needs low above 0")
        return self

    def values(self) -> list[Any]:
        low, high = _exact(self.low), _exact(self.high)
        if self.step is not None:
            step = _exact(self.step)
            return _plain([low + i * step for i in range(math.floor((high - low) / step) + 1)])
        assert self.count is not None
        if self.count == 1:
            return _plain([low])
        shares = [Fraction(i, self.count - 1) for i in range(self.count)]
        if self.scale == "linear":
            return _plain([low + share * (high - low) for share in shares])
        start, width = math.log(self.low), math.log(self.high) - math.log(self.low)
        inner = [_exact(_exp(start + float(share) * width, self.low, self.high)) for share in shares[1:-1]]
        return _plain([low, *inner, high])


class SampleAxis(Spec):
    """`count` random draws; the same axis and seed give the same draws everywhere, and a higher count adds to them."""

    sample: Literal["uniform", "loguniform", "integers"] = Field(description="distribution")
    low: Number = Field(description="the least value")
    high: Number = Field(description="the greatest value")
    count: Length = Field(description="of draws")
    seed: Seed = Field(default=0, description="of the draws")

    @model_validator(mode="after")
    def _bounds(self) -> SampleAxis:
        if self.high <= self.low:
            raise ValueError("high must be above low")
        if not math.isfinite(self.high - self.low):
            raise ValueError("high is too far from low")
        if self.sample == "loguniform" and self.low <= 0:
            raise ValueError("loguniform needs low above 0")
        if self.sample == "integers" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("integers needs whole numbers as low and high")
        if self.sample == "integers" and self.count > self.high - self.low + 1:
            raise ValueError("there are fewer integers from low to high than count")
        return self

    def values(self, name: str) -> list[Any]:
        """The draws on the axis `name`: axes that are zipped together draw independently."""
        stream = random.Random(f"{name}:{self.sample}:{self.seed}")
        if self.sample == "integers":
            return _distinct(stream, int(self.low), int(self.high), self.count)
        if self.sample == "uniform":
            return [stream.uniform(self.low, self.high) for _ in range(self.count)]
        low, high = math.log(self.low), math.log(self.high)
        return [_exp(stream.uniform(low, high), self.low, self.high) for _ in range(self.count)]


def _exact(value: float) -> Fraction:
    """The decimal that a float is written as."""
    return Fraction(repr(value))


def _plain(values: list[Fraction]) -> list[Any]:
    """Ints where all are whole (a range of seeds, say), else floats."""
    kind = int if all(value.denominator == 1 for value in values) else float
    return [kind(value) for value in values]


def _exp(log: float, low: float, high: float) -> float:
    """Twelve digits, within bounds: math libraries differ in the last ones, and keys mustn't."""
    return min(max(float(f"{math.exp(log):.12g}"), low), high)


def _distinct(stream: random.Random, low: int, high: int, count: int) -> list[int]:
    """The first `count` of a random order of low, ..., high (Fisher-Yates, keeping only what moved)."""
    moved: dict[int, int] = {}
    drawn = []
    for i in range(count):
        j = i + int(stream.random() * (high - low + 1 - i))
        drawn.append(low + moved.get(j, j))
        moved[j] = moved.get(i, i)
    return drawn


def _axis_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "SampleAxis" if "sample" in value else "RangeAxis"
    return type(value).__name__ if isinstance(value, Spec) else "values"


def _as_data(value: Any) -> Any:
    """A spec among an axis's values, as it would be written in a file."""
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, Spec) else value


Axis = Annotated[
    Annotated[tuple[Annotated[Any, BeforeValidator(_as_data)], ...], Field(min_length=1), Tag("values")]
    | Annotated[RangeAxis, Tag("RangeAxis")]
    | Annotated[SampleAxis, Tag("SampleAxis")],
    Discriminator(_axis_kind),
]


def axis_values(axis: Any, name: str) -> list[Any]:
    """The values that the axis `name` stands for, in order."""
    if isinstance(axis, SampleAxis):
        return axis.values(name)
    return axis.values() if isinstance(axis, RangeAxis) else list(axis)
