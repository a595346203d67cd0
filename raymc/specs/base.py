"""The base of every spec: frozen, unknown keys refused, no silent coercion between kinds of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without what was derived of the fields before (a sweep's points, a trial's key)."""
        copy = super().model_copy(update=update, deep=deep)
        known = vars(copy)
        for name in known.keys() - type(self).model_fields.keys():
            del known[name]
        return copy


Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
Positive = Annotated[float, Field(strict=True, gt=0.0)]
NonNegative = Annotated[float, Field(strict=True, ge=0.0)]
BelowOne = Annotated[float, Field(strict=True, ge=0.0, lt=1.0)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]


def variant_of(value: Any, kinds: Mapping[str, str], otherwise: str) -> str | None:
    """The variant of a union that a mapping is meant to be, by the one of `kinds` (key: variant) that it has.

    None where it has none of them or several; `otherwise` for what is no mapping.
    """
    if isinstance(value, dict):
        found = [variant for key, variant in kinds.items() if key in value]
        return found[0] if len(found) == 1 else None
    return type(value).__name__ if isinstance(value, Spec) else otherwise


def within_steps(value: int | None, info: ValidationInfo) -> int | None:
    """A snapshot of a run of `steps` updates, a field before it. Raises ValueError for one past the end."""
    steps = info.data.get("steps")
    if value is not None and steps is not None and value > steps:
        raise ValueError(f"{value} is past the end of the run, {steps} steps")
    return value
