"""How exactly profiles are taken: at which points, in which precision, on how many rows; with what stated bound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from raymc.specs.base import Positive, Spec

PointCount = Annotated[int, Field(strict=True, ge=3, le=10_001)]


class Adaptive(Spec):
    """Few passes over all rows, placed where the profile needs them; the rest is interpolated within a bound."""

    tolerance: Positive = Field(
        default=1e-3,
        description="nats: the mean loss at every point lies within it; a profile that doesn't settle is taken whole",
    )
    points: PointCount = Field(default=26, description="evenly spaced values of t of the profile that is returned")


class AdaptivePoints(Spec):
    adaptive: Adaptive = Field(default=Adaptive(), description="how few points, within which bound")


def _points_variant(value: Any) -> str:
    return "adaptive" if isinstance(value, (dict, AdaptivePoints)) else "number"


Points = Annotated[
    Annotated[PointCount, Tag("number")] | Annotated[AdaptivePoints, Tag("adaptive")],
    Discriminator(_points_variant),
]


class AutoPrecision(Spec):
    """bfloat16 where the hardware computes it faster and the loss stays within a tolerance of fp32's; else fp32."""

    tolerance: Positive = Field(
        default=1e-3, description="nats: how far the mean loss of a sample of the matrix may be from that in fp32"
    )


class Auto(Spec):
    auto: AutoPrecision = Field(default=AutoPrecision(), description="the choice by measured drift")


def _precision_variant(value: Any) -> str:
    return "auto" if isinstance(value, (dict, Auto)) else "name"


Precision = Annotated[
    Annotated[Literal["auto", "fp32", "bf16"], Tag("name")] | Annotated[Auto, Tag("auto")],
    Discriminator(_precision_variant),
]
Computed = Literal["fp32", "bf16"]  # what a pass computes in, once it is decided
