"""How pairs of minima are joined and where along the path they are scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from raymc.specs.base import Spec

CurveName = Literal["linear"]
Space = Literal["auto", "delta_w", "factors"]


class ConnectivitySpec(Spec):
    curves: tuple[CurveName, ...] = Field(default=("linear",), min_length=1)
    points: Annotated[int, Field(strict=True, ge=3, le=10_001)] = Field(
        default=26, description="evenly spaced values of t in [0, 1], both ends counted (the paper: 24 plus the ends)"
    )
    splits: tuple[str, ...] = Field(default=("validation",), min_length=1)
    space: Space = Field(
        default="auto",
        description="of LoRA minima: delta_w (merged weights; free of the gauge of A and B) or factors (A and B "
        "themselves); auto: delta_w. Full minima have one space only",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the forward pass; interpolation, logits' loss and sums stay fp32 or wider"
    )

    @field_validator("curves", "splits")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names the same one twice")
        return value
